"""A second real provider, Django OAuth Toolkit: its device grant gives no ID token."""

import json
import subprocess

import requests

from . import roots
from .box import Box, wait_until
from .ca import Authority
from .lan import HOSTS, Lan
from .oidc import ACCOUNTS, browser, checked, submit, text_of
from .places import FIXTURES

HOST = "dot.test"
PORT = 4600
ISSUER = f"https://{HOST}:{PORT}/o"


class DjangoProvider:
    """Listens on https://dot.test:4600/o; one public client, `gpuhub`; the accounts of `oidc.ACCOUNTS`."""

    issuer = ISSUER

    def __init__(self, lan: Lan, authority: Authority):
        self.authority = authority
        self.box = Box(lan, roots.DJANGO.stack(), "dot", address=HOSTS[HOST])
        certificate, key = authority.issue(HOST, HOSTS[HOST])
        self.box.write_file("/run/idp/server.pem", certificate)
        self.box.write_file("/run/idp/server.key", key, mode=0o600)
        self.box.write_file("/run/idp/accounts.json", json.dumps(ACCOUNTS))
        self.box.write_file("/run/idp/provider.py", (FIXTURES / "django" / "provider.py").read_text())
        self._process: subprocess.Popen = self.box.popen(
            ["/opt/django/bin/python", "-B", "/run/idp/provider.py"], log="provider", env={
                "ISSUER": ISSUER, "ADDRESS": HOSTS[HOST], "PORT": str(PORT), "TLS_CERT": "/run/idp/server.pem",
                "TLS_KEY": "/run/idp/server.key", "ACCOUNTS": "/run/idp/accounts.json", "DATABASE": "/run/idp/db.sqlite3"})
        wait_until(self._answers, "Django OAuth Toolkit to answer", timeout=60, process=self._process,
                   log=self.box.log("provider"))

    def _answers(self) -> bool:
        try:
            return browser(self.authority).get(f"{ISSUER}/.well-known/openid-configuration", timeout=5).ok
        except requests.RequestException:
            return False

    def approve(self, code: str, account: str) -> str:
        """Signs in, enters the code and presses Accept; returns the text of the last page."""
        page = self._decide(code, account, "accept")
        if "Authorized" not in page:
            raise AssertionError(f"the device page did not end well: {page}")
        return page

    def deny(self, code: str, account: str) -> str:
        """The same, and presses Deny."""
        return self._decide(code, account, "deny")

    def _decide(self, code: str, account: str, action: str) -> str:
        person = browser(self.authority)
        page = checked(person.get(f"{ISSUER}/device/", timeout=20))
        page = submit(person, page, {"username": account, "password": ACCOUNTS[account]["password"]})
        page = submit(person, page, {"user_code": code})
        # Two buttons of one name: which is pressed is in the value.
        return text_of(submit(person, page, {}, ("action", action)))
