"""A real OpenID provider, and the part that a person plays in the device flow."""

import html.parser
import json
import signal
import subprocess
import urllib.parse

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from . import roots
from .box import Box, wait_until
from .ca import Authority
from .lan import HOSTS, Lan
from .places import FIXTURES

HOST = "sso.test"
PORT = 4400
ISSUER = f"https://{HOST}:{PORT}"
CLIENT = "gpuhub"
CONFIDENTIAL = "gpuhub-confidential"
READER = "gpuhub-directory"       # has a token of its own, for what stands beside the provider (keycloak.py)
SECRET = "a-secret-that-both-sides-know-0001"

ACCOUNTS = {
    "dave": {"password": "dave-pw", "email": "dave@example.org", "email_verified": True, "name": "Dave Dunn",
             "preferred_username": "dave", "groups": ["gpu-users", "vision"]},
    "erin": {"password": "erin-pw", "email": "erin@example.org", "email_verified": True, "name": "Erin Eze",
             "preferred_username": "erin", "groups": ["gpu-users"]},
    "frank": {"password": "frank-pw", "email": "frank@elsewhere.test", "email_verified": True, "name": "Frank Foo",
              "preferred_username": "frank", "groups": ["visitors"]},
}
_ACCOUNTS_FILE = "/run/idp/accounts.json"
_KEYS_FILE = "/run/idp/keys.json"


class OidcProvider:
    """Listens on https://sso.test:4400; clients `gpuhub` (public) and `gpuhub-confidential`."""

    issuer = ISSUER

    def __init__(self, lan: Lan, authority: Authority, interval: int = 1, code_ttl: int = 120):
        self.interval, self.code_ttl = interval, code_ttl
        self.authority = authority
        self.box = Box(lan, roots.SERVERS.stack(), "sso", address=HOSTS[HOST])
        certificate, key = authority.issue(HOST, HOSTS[HOST])
        self.box.write_file("/run/idp/server.pem", certificate)
        self.box.write_file("/run/idp/server.key", key, mode=0o600)
        # Beside its node_modules, where node looks for them.
        self.box.write_file("/opt/oidc/provider.mjs", (FIXTURES / "oidc" / "provider.mjs").read_text())
        self.accounts: dict[str, dict] = {}
        self.set_accounts(ACCOUNTS)
        self._process: subprocess.Popen | None = None
        self.start()
        self.device = DevicePage(authority)

    def start(self) -> None:
        self._process = self.box.popen(["/opt/node/bin/node", "/opt/oidc/provider.mjs"], log="provider", env={
            "ISSUER": ISSUER, "ADDRESS": HOSTS[HOST], "PORT": str(PORT), "ACCOUNTS": _ACCOUNTS_FILE,
            "TLS_CERT": "/run/idp/server.pem", "TLS_KEY": "/run/idp/server.key", "CLIENT_SECRET": SECRET,
            "INTERVAL": str(self.interval), "DC_TTL": str(self.code_ttl), "KEYS": _KEYS_FILE})
        wait_until(self._answers, "the provider to answer", process=self._process, log=self.box.log("provider"))

    def _answers(self) -> bool:
        try:
            return browser(self.authority).get(f"{ISSUER}/.well-known/openid-configuration", timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        self.box.stop("node", signal.SIGKILL)

    def restart(self, **settings: int) -> None:
        """`interval` and `code_ttl` may be changed; codes and sessions of before are forgotten."""
        self.stop()
        for name, value in settings.items():
            setattr(self, name, value)
        self.start()

    def rotate_keys(self) -> None:
        """Signs with a key that nobody has seen, and has no other; the next start without the file has the first again."""
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048)))
        self.box.write_file(_KEYS_FILE, json.dumps({"keys": [{**key, "kid": key["n"][:16], "use": "sig", "alg": "RS256"}]}))
        self.restart()

    def first_keys(self) -> None:
        self.box.run(["rm", "-f", _KEYS_FILE])
        self.restart()

    def suspend(self) -> None:
        self.box.kill("node", signal.SIGSTOP)

    def resume(self) -> None:
        self.box.kill("node", signal.SIGCONT)

    def set_accounts(self, accounts: dict[str, dict]) -> None:
        """Replaces the accounts; takes effect at once."""
        self.accounts = json.loads(json.dumps(accounts))
        self.box.write_file(_ACCOUNTS_FILE, json.dumps(accounts))

    def log(self) -> str:
        return self.box.log("provider").read_text(errors="replace")

    def id_token(self, account: str, client: str = CLIENT) -> str:
        """An ID token for a client of this person's, as automation gets one: by a sign-in of its own."""
        person = browser(self.authority)
        documents = checked(person.get(f"{ISSUER}/.well-known/openid-configuration", timeout=10)).json()
        asked = {"client_id": client, "scope": "openid profile email"}
        grant = checked(person.post(documents["device_authorization_endpoint"], data=asked, timeout=10)).json()
        self.device.approve(grant["user_code"], account)
        polled = {"client_id": client, "device_code": grant["device_code"],
                  "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}
        return checked(person.post(documents["token_endpoint"], data=polled, timeout=10)).json()["id_token"]


class DevicePage:
    """A person with a browser: types the code, sees the confirmation, signs in."""

    def __init__(self, authority: Authority, issuer: str = ISSUER):
        self.authority, self.issuer = authority, issuer

    def approve(self, code: str, account: str, password: str | None = None) -> str:
        """Signs in with the code; returns the text of the last page. Raises if that is not success."""
        person = browser(self.authority)
        page = self._confirm(person, code, button=None)
        page = submit(person, page, {"login": account, "password": password or ACCOUNTS[account]["password"]})
        if "Signed in" not in page.text:
            raise AssertionError(f"the device page did not end well: {page.status_code} {page.text}")
        return text_of(page)

    def deny(self, code: str) -> str:
        """Opens the page and presses Abort."""
        return text_of(self._confirm(browser(self.authority), code, button="abort"))

    def _confirm(self, person: requests.Session, code: str, button: str | None) -> requests.Response:
        page = submit(person, checked(person.get(f"{self.issuer}/device")), {"user_code": code})
        if code not in page.text or "Is this your device?" not in page.text:
            raise AssertionError(f"the provider does not know the code {code}: {text_of(page)}")
        return submit(person, page, {}, button)


def browser(authority: Authority) -> requests.Session:
    """Cookies and the private CA; nothing taken from the environment."""
    session = requests.Session()
    session.trust_env = False
    session.verify = str(authority.file)
    return session


class _Forms(html.parser.HTMLParser):
    """The forms of a page: action, method, their fields, and the named buttons."""

    def __init__(self, text: str):
        super().__init__()
        self.forms: list[dict] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if tag == "form":
            self.forms.append({"action": a.get("action"), "method": a.get("method", "get").lower(),
                               "fields": {}, "buttons": {}})
        elif self.forms and tag == "input" and a.get("name") and a.get("type") != "submit":
            self.forms[-1]["fields"][a["name"]] = a.get("value") or ""
        elif self.forms and tag in ("button", "input") and a.get("name"):
            self.forms[-1]["buttons"][a["name"]] = a.get("value") or ""


def submit(session: requests.Session, page: requests.Response, fields: dict[str, str],
           button: str | tuple[str, str] | None = None) -> requests.Response:
    """Fills in the page's first form and sends it, as a browser does: hidden fields go along.

    `button` is the name of one, or name and value where several have the name."""
    forms = _Forms(page.text).forms
    if not forms:
        raise AssertionError(f"no form on the page {page.url}: {text_of(page)}")
    form = forms[0]
    unknown = set(fields) - set(form["fields"])
    if unknown:
        raise AssertionError(f"the form on {page.url} has no field {unknown}: it has {set(form['fields'])}")
    sent = {**form["fields"], **fields}
    if isinstance(button, tuple):
        sent[button[0]] = button[1]
    elif button:
        sent[button] = form["buttons"][button]
    target = urllib.parse.urljoin(page.url, form["action"] or "")
    return session.request(form["method"], target, data=sent, timeout=20, headers={"Referer": page.url})


def checked(page: requests.Response) -> requests.Response:
    page.raise_for_status()
    return page


class _Text(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.words: list[str] = []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag, _):
        self._hidden = tag in ("title", "script", "style")

    def handle_endtag(self, _):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.words += data.split()


def text_of(page: requests.Response) -> str:
    """What a person reads on the page."""
    return " ".join(_Text(page.text).words)
