"""gpuhub installed in a box: the package, its configuration, its command."""

import os
import pathlib
import subprocess

from . import layers, roots, slapd
from .box import Box
from .lan import Lan
from .layers import Recipe, chroot_layer
from .places import CHECKOUT, Missing

CONFIG = "/etc/gpuhub/gpuhub.toml"
CA = "/etc/gpuhub/ca.pem"

LDAP = f"""
[[provider]]
name = "corp"
kind = "ldap"
urls = ["ldaps://ldap.test"]
ca_file = "{CA}"
base = "{slapd.BASE}"
user_base = "{slapd.PEOPLE}"
group_base = "{slapd.GROUPS}"
bind_dn = "{slapd.READER}"
bind_password_file = "/etc/gpuhub/ldap.secret"
"""

LDAP_STARTTLS = LDAP.replace('urls = ["ldaps://ldap.test"]', 'urls = ["ldap://ldap.test"]\nstart_tls = true')

OIDC = f"""
[[provider]]
name = "sso"
kind = "oidc"
issuer = "https://sso.test:4400"
client_id = "gpuhub"
ca_file = "{CA}"
allowed_domains = ["example.org"]
"""

FAULTY = OIDC.replace("https://sso.test:4400", "https://faulty.test:4500")

# Its RFC 8414 metadata names neither the device endpoint nor userinfo.
OAUTH2 = f"""
[[provider]]
name = "second"
kind = "oauth2"
issuer = "https://dot.test:4600/o"
device_authorization_endpoint = "https://dot.test:4600/o/device-authorization/"
userinfo_endpoint = "https://dot.test:4600/o/userinfo/"
client_id = "gpuhub"
scopes = ["openid", "profile", "email"]
ca_file = "{CA}"
allowed_domains = ["example.org"]
"""


def package() -> pathlib.Path:
    """The .deb under test: $GPUHUB_DEB, or what `make deb` made; if there are two, the newer."""
    chosen = os.environ.get("GPUHUB_DEB")
    found = [pathlib.Path(chosen)] if chosen else sorted(
        (CHECKOUT / "target" / "deb").glob("gpuhub_*.deb"), key=lambda path: path.stat().st_mtime)
    if not found or not found[-1].is_file():
        raise Missing("the package: run `make deb` first, or name one in GPUHUB_DEB")
    return found[-1].resolve()


def installed(root: Recipe) -> Recipe:
    """That root with the package installed by apt, without any network: it may need nothing more."""
    script = "apt-get -q -y install --no-install-recommends /run/build/gpuhub.deb\n"
    return chroot_layer(f"{root.name}-installed", [root], script, files={"gpuhub.deb": package()}, network=False)


# The module alone: its codes are seen as it gives them, before any stack has turned them around.
BARE = "gpuhub-bare"
_BARE_STACK = "".join(f"{kind} required pam_gpuhub.so\n" for kind in ("auth", "account", "password", "session"))

# What pam_strerror(3) says.
PAM_TEXT = {
    "PAM_AUTH_ERR": "Authentication failure",
    "PAM_USER_UNKNOWN": "User not known to the underlying authentication module",
    "PAM_ACCT_EXPIRED": "User account has expired",
    "PAM_PERM_DENIED": "Permission denied",
    "PAM_AUTHINFO_UNAVAIL": "Authentication service cannot retrieve authentication info",
    "PAM_MAXTRIES": "Have exhausted maximum number of retries for service",
    "PAM_NEW_AUTHTOK_REQD": "Authentication token is no longer valid; new one required",
    "PAM_CRED_INSUFFICIENT": "Insufficient credentials to access authentication data",
}


class GpuBox(Box):
    """A box with the package; nothing of it runs until `up()`."""

    def __init__(self, lan: Lan, name: str = "gpu1", root: Recipe = roots.BOX):
        layer = installed(root)
        layers.ensure(layer)
        super().__init__(lan, layer.stack(), name)

    def configure(self, text: str, authority=None) -> None:
        """Writes the configuration and the secrets that it names, as the documentation says."""
        self.write_file(CONFIG, text, mode=0o640, owner="root:gpuhub")
        self.write_file("/etc/gpuhub/ldap.secret", slapd.READER_PASSWORD + "\n", mode=0o640, owner="root:gpuhub")
        if authority:
            self.write_file(CA, authority.certificate)

    def up(self, syslog: bool = True, sshd: bool = True) -> "GpuBox":
        """syslogd, broker and sshd, in that order."""
        if syslog:
            self.start_rsyslog()
        self.broker = self.start_broker()
        if sshd:
            self.start_sshd()
        return self

    def gpuhub(self, *arguments: str, check: bool = True, input: str | None = None,
               user: str | None = None) -> subprocess.CompletedProcess:
        """The command, as root or as `user`."""
        return self.run(["gpuhub", *arguments], check=check, input=input, user=user)

    def add_user(self, name: str, password: str, *options: str) -> None:
        self.gpuhub("user", "add", name, *options, "--password-stdin", input=password + "\n")

    def stop_broker(self, number: int = 15) -> None:
        self.stop("gpuhubd", number)

    def restart_broker(self) -> None:
        if self.pids("gpuhubd"):
            self.stop_broker()
        self.broker = self.start_broker()

    def pam(self, user: str, *operations: str, answers: tuple[str, ...] = (), service: str = BARE,
            source: str | None = None) -> str:
        """Calls PAM by pamtester and returns the code's name: PAM_SUCCESS or one of `PAM_TEXT`."""
        if service == BARE:
            self.write_file(f"/etc/pam.d/{BARE}", _BARE_STACK)
        items = ["-I", f"rhost={source}"] if source else []
        done = self.run(["pamtester", *items, service, user, *(operations or ("authenticate",))], check=False,
                        input="".join(f"{answer}\n" for answer in answers))
        if done.returncode == 0:
            return "PAM_SUCCESS"
        said = done.stderr.strip().rpartition("pamtester: ")[2]
        names = [name for name, text in PAM_TEXT.items() if text == said]
        return names[0] if names else said
