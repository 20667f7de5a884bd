"""A real JupyterHub in a box, and a person who logs in through its form."""

import subprocess
import time

import requests

from . import roots
from .box import Box, wait_until
from .lan import Lan
from .oidc import submit, text_of
from .places import FIXTURES

# The stack for a service that has no other: the distribution's common files, as people write it.
PAM_SERVICE = """auth include common-auth
account include common-account
session include common-session
"""


class Hub:
    """JupyterHub with its stock PAMAuthenticator at http://ADDRESS:8000."""

    def __init__(self, box: Box, open_sessions: bool = False, pam_service: str | None = PAM_SERVICE,
                 normalize: bool = False):
        self.box = box
        self.url = f"http://{box.address}:8000"
        self.open_sessions = open_sessions
        self.normalize = normalize
        box.write_file("/etc/jupyterhub_config.py", (FIXTURES / "hub" / "jupyterhub_config.py").read_text())
        box.run(["mkdir", "-p", "-m", "700", "/run/jhub"])
        if pam_service and not box.exists("/etc/pam.d/jupyterhub"):
            box.write_file("/etc/pam.d/jupyterhub", pam_service)
        self._process: subprocess.Popen | None = None

    def start(self) -> "Hub":
        env = {"ADDRESS": self.box.address, "OPEN_SESSIONS": "yes" if self.open_sessions else "no",
               "NORMALIZE": "yes" if self.normalize else "no",
               "PATH": "/opt/jhub/bin:/opt/node/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self._process = self.box.popen(["/opt/jhub/bin/jupyterhub", "-f", "/etc/jupyterhub_config.py"], log="hub",
                                       env=env)
        wait_until(self._ready, "JupyterHub to be ready", timeout=90, process=self._process, log=self.box.log("hub"))
        return self

    def _ready(self) -> bool:
        try:
            return visitor().get(f"{self.url}/hub/login", timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        self.box.stop("jupyterhub", timeout=20)

    def log(self) -> str:
        return self.box.log("hub").read_text(errors="replace")

    # ---- a person's way in --------------------------------------------------------------------

    def login(self, user: str, password: str, timeout: float = 60) -> "Visit":
        """Fills in the form on the login page and sends it, _xsrf and all."""
        person = visitor()
        page = person.get(f"{self.url}/hub/login", timeout=10)
        start = time.monotonic()
        page = submit(person, page, {"username": user, "password": password})
        return Visit(self, user, person, page, time.monotonic() - start)

    def responsive(self) -> float:
        """Seconds that the hub takes for its health page: its event loop must never be blocked."""
        start = time.monotonic()
        visitor().get(f"{self.url}/hub/health", timeout=30).raise_for_status()
        return time.monotonic() - start


class Visit:
    """What came of a login: `accepted`, the page that she saw, and from there her notebook server."""

    def __init__(self, hub: Hub, user: str, person: requests.Session, page: requests.Response, seconds: float):
        self.hub, self.user, self.person, self.page, self.seconds = hub, user, person, page, seconds

    @property
    def accepted(self) -> bool:
        return any("jupyterhub-hub-login" in cookie.name for cookie in self.person.cookies)

    @property
    def text(self) -> str:
        return text_of(self.page)

    def spawn_and_wait(self, timeout: float = 90) -> "Notebook":
        """Follows the hub's redirects to her server, which starts it, until it answers."""
        end = time.monotonic() + timeout
        home = f"{self.hub.url}/user/{self.user}/"
        self.person.get(f"{self.hub.url}/hub/spawn/{self.user}", timeout=timeout)
        while True:
            # Any page that wants a login goes round by the hub's OAuth pages and comes back with a
            # cookie, once the server is there (the notebook server's own first page wants none).
            answer = self.person.get(f"{home}files/welcome", timeout=timeout)
            if answer.url.startswith(home) and self.person.get(f"{home}api/status", timeout=20).ok:
                return Notebook(self)
            if time.monotonic() > end:
                raise AssertionError(f"{self.user}'s server is not up after {timeout} s: {answer.status_code} "
                                     f"{answer.url}\n{text_of(answer)}\n{self.hub.log()[-3000:]}")
            time.sleep(0.3)

    def stop_server(self) -> None:
        """Presses "Stop My Server" (its request to the hub's API), and waits until it is gone."""
        home = self.person.get(f"{self.hub.url}/hub/home", timeout=20)
        answer = self.person.delete(f"{self.hub.url}/hub/api/users/{self.user}/server", timeout=30,
                                    headers={"X-XSRFToken": self.xsrf("/hub/"), "Referer": home.url})
        answer.raise_for_status()
        wait_until(lambda: not self.server_pids(), f"{self.user}'s server to stop")

    def xsrf(self, path: str) -> str:
        """The cookie that pages of the hub or of her server want repeated in each change."""
        return next(c.value for c in self.person.cookies if c.name == "_xsrf" and c.path == path)

    def server_pids(self) -> list[int]:
        """The single-user servers of this person, by the box's numbers."""
        found = []
        for pid in self.hub.box.run(["pgrep", "-f", "jupyterhub-singleuser"], check=False).stdout.split():
            environ = self.hub.box.run(f"tr '\\0' '\\n' < /proc/{pid}/environ", check=False).stdout
            if f"JUPYTERHUB_USER={self.user}\n" in environ:
                found.append(int(pid))
        return found


class Notebook:
    """A running single-user server: who it is, by the kernel's own account and by its own API."""

    def __init__(self, visit: Visit):
        self.visit = visit
        self.box = visit.hub.box
        self.pid = visit.server_pids()[0]

    def identity(self) -> dict[str, list[int]]:
        """Uid, Gid and Groups of the server's process, from /proc."""
        lines = self.box.read_file(f"/proc/{self.pid}/status").splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return {"uids": sorted({int(n) for n in values["Uid"].split()}),
                "gids": sorted({int(n) for n in values["Gid"].split()}),
                "groups": sorted(int(n) for n in values["Groups"].split())}

    def directory(self) -> str:
        return self.box.out(["readlink", f"/proc/{self.pid}/cwd"])

    def save(self, name: str, text: str) -> None:
        """Saves a file in her home through the notebook server's contents API."""
        home = f"/user/{self.visit.user}/"
        answer = self.visit.person.put(
            f"{self.visit.hub.url}{home}api/contents/{name}", timeout=20,
            json={"type": "file", "format": "text", "content": text}, headers={"X-XSRFToken": self.visit.xsrf(home)})
        answer.raise_for_status()


def visitor() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def hub_box(lan: Lan, name: str = "hub") -> Box:
    return Box(lan, roots.HUB.stack(), name)
