# JupyterHub beside gpuhub: see Dockerfile.jupyterhub. The PAM service of its own keeps what
# /etc/gpuhub/gpuhub.toml says about it apart from other services ([services], jupyterhub).
c = get_config()  # noqa: F821

c.JupyterHub.authenticator_class = "pam"
c.PAMAuthenticator.service = "jupyterhub"
# Sessions are in the audit lines, and a missing home is made.
c.PAMAuthenticator.open_sessions = True
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
# Who may log in is gpuhub's decision ([access] in gpuhub.toml).
c.Authenticator.allow_all = True
c.JupyterHub.db_url = "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/var/lib/jupyterhub/cookie_secret"
