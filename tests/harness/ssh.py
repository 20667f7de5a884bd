"""Logging in over SSH, as people do: OpenSSH's own client on a terminal, and asyncssh for many tries.

The client runs in a box of its own on the same Lan, so that its source address and its files are not
those of the machine that runs the tests.
"""

import asyncio
import re
import time
from dataclasses import dataclass

import asyncssh
import pexpect

from . import roots
from .box import Box
from .lan import Lan

SOURCE = "127.0.9.9"        # where the person sits; `source=` chooses another
# Not quieter than INFO: what PAM says at the end of a refused login comes as a log line of the client.
_QUIET = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=INFO",
          "-oConnectTimeout=10", "-oNumberOfPasswordPrompts=1"]

DEVICE_PROMPT = r"Press Enter when you have signed in: $"
PASSWORD_PROMPT = r"Password: $"


@dataclass
class Session:
    """One finished visit: everything that was on the screen, and ssh's exit status (255: refused)."""

    transcript: str
    status: int
    seconds: float

    @property
    def accepted(self) -> bool:
        return self.status != 255

    def __str__(self) -> str:
        return f"ssh exited {self.status} after {self.seconds:.1f} s; the screen:\n{self.transcript}"


def client_box(lan: Lan) -> Box:
    """The Lan's client box, made when it is first needed."""
    found = [box for box in lan._boxes if box.name == "laptop"]
    return found[0] if found else Box(lan, roots.BOX.stack(), "laptop", address=SOURCE)


def _command(box: Box, user: str, source: str, options: list[str], command: str | None) -> list[str]:
    tail = [command] if command is not None else []
    return ["ssh", "-F", "none", *_QUIET, "-b", source, "-p", str(box.port), *options, f"{user}@{box.address}", *tail]


class Terminal:
    """An ssh in progress: for a test that does something between the prompts."""

    def __init__(self, box: Box, user: str, command: str | None = None, source: str = SOURCE,
                 options: list[str] | None = None, timeout: float = 30):
        self.start = time.monotonic()
        chosen = options or ["-oPreferredAuthentications=keyboard-interactive", "-oPubkeyAuthentication=no"]
        self.client = client_box(box.lan)
        self.child = self.client.spawn(_command(box, user, source, chosen, command), timeout=timeout)
        self.screen = ""

    def expect(self, *patterns: str, timeout: float = -1) -> int:
        """Waits for one of the patterns (regular expressions) and says which came."""
        try:
            which = self.child.expect([*patterns], timeout=timeout)
        except (pexpect.EOF, pexpect.TIMEOUT) as error:
            self.screen += self.child.before if isinstance(self.child.before, str) else ""
            raise AssertionError(f"{type(error).__name__} while waiting for {patterns}; the screen:\n{self.text}") from None
        self.screen += self.child.before + self.child.after
        return which

    def line(self, text: str) -> None:
        """Types a line (pexpect waits a moment first, for the program to turn echo off)."""
        self.child.sendline(text)

    def device_code(self, timeout: float = 20) -> str:
        """Waits for the device prompt and reads the code off it."""
        self.expect(DEVICE_PROMPT, timeout=timeout)
        found = re.findall(r"Code:\s*([A-Z0-9]{4}-[A-Z0-9]{4})", self.text)
        if not found:
            raise AssertionError(f"no code on the screen:\n{self.text}")
        return found[-1]

    @property
    def text(self) -> str:
        screen = self.screen.replace("\r\n", "\n").replace("\r", "")
        return re.sub(r"^Warning: Permanently added .*\n", "", screen, flags=re.M)

    def finish(self, timeout: float = 30) -> Session:
        """Waits for ssh to end."""
        self.child.expect(pexpect.EOF, timeout=timeout)
        self.screen += self.child.before
        return self.close()

    def press_enter(self, timeout: float = 30) -> Session:
        """Presses Enter at each code until ssh ends: one that has expired is followed by a fresh one."""
        while self.child.expect([DEVICE_PROMPT, pexpect.EOF], timeout=timeout) == 0:
            self.screen += self.child.before + self.child.after
            self.line("")
        self.screen += self.child.before
        return self.close()

    def vanish(self) -> None:
        """The client is killed. One that only loses its terminal may still send an empty answer."""
        self.client.stop("ssh", 9)
        self.close()

    def close(self) -> Session:
        """Hangs up, if ssh is still there."""
        self.child.close(force=True)
        status = self.child.exitstatus if self.child.exitstatus is not None else 255
        return Session(self.text, status, time.monotonic() - self.start)


def ssh_kbdint(box: Box, user: str, answers: list[str], command: str | None = "true", source: str = SOURCE,
               prompt: str = r": $", timeout: float = 30) -> Session:
    """OpenSSH's client by keyboard-interactive, one try: each answer is typed at the next prompt.

    `command=None` asks for a shell; then the answers after the login are for it, and it must end by one.
    Prompts that remain when there are no answers left are hung up on.
    """
    terminal = Terminal(box, user, command, source, timeout=timeout)
    for answer in answers:
        if terminal.child.expect([prompt, pexpect.EOF], timeout=timeout) == 1:
            terminal.screen += terminal.child.before
            return terminal.close()
        terminal.screen += terminal.child.before + terminal.child.after
        terminal.line(answer)
    which = terminal.child.expect([pexpect.EOF, prompt], timeout=timeout)
    terminal.screen += terminal.child.before + (terminal.child.after if which == 1 else "")
    return terminal.close()


def ssh_password(box: Box, user: str, password: str, command: str = "true", source: str = SOURCE) -> Session:
    """The `password` method of SSH, which sshd hands to PAM as well."""
    terminal = Terminal(box, user, command, source, options=[
        "-oPreferredAuthentications=password", "-oPubkeyAuthentication=no", "-oNumberOfPasswordPrompts=1"])
    terminal.expect(r"password: $")
    terminal.line(password)
    return terminal.finish()


def ssh_key(box: Box, user: str, command: str = "true", source: str = SOURCE) -> Session:
    """A login by public key; `authorize_key` puts the key in place."""
    options = ["-i", "/root/.ssh/id_ed25519", "-oPreferredAuthentications=publickey", "-oBatchMode=yes"]
    return Terminal(box, user, command, source, options=options).finish()


def public_key(lan: Lan) -> str:
    """The public key of the person at the laptop."""
    laptop = client_box(lan)
    if not laptop.exists("/root/.ssh/id_ed25519"):
        laptop.run(["mkdir", "-p", "-m", "700", "/root/.ssh"])
        laptop.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519"])
    return laptop.read_file("/root/.ssh/id_ed25519.pub")


def authorize_key(box: Box, user: str, home: str) -> None:
    """Puts the key into the user's home, as an admin or a home on NFS would have it."""
    key = public_key(box.lan)
    uid, gid = box.out(["getent", "passwd", user]).split(":")[2:4]
    box.run(["install", "-d", "-m", "700", "-o", uid, "-g", gid, home, f"{home}/.ssh"])
    box.write_file(f"{home}/.ssh/authorized_keys", key, mode=0o600, owner=f"{uid}:{gid}")


# ---- many tries, without a process for each ------------------------------------------------------

# A stranger's client does not tidy names up before it sends them; neither does ours.
asyncssh.connection.saslprep = lambda text: text


@dataclass
class Try:
    """One try by asyncssh: whether it was let in, the prompts it saw, and how long each answer took."""

    accepted: bool
    prompts: list[str]
    seconds: float      # from the last answer to the server's verdict


class _Client(asyncssh.SSHClient):
    def __init__(self, answers: list[str]):
        self.answers = list(answers)
        self.prompts: list[str] = []
        self.texts: list[str] = []
        self.answered = 0.0

    def kbdint_auth_requested(self) -> str | None:
        return "" if self.answers else None

    def kbdint_challenge_received(self, name, instructions, lang, prompts):
        self.texts += [text for text in (name, instructions) if text]
        self.prompts += [text for text, _ in prompts]
        if prompts and not self.answers:
            return None
        given = [self.answers.pop(0) for _ in prompts]
        self.answered = time.monotonic()
        return given


def quick_try(box: Box, user: str, answers: list[str], source: str = SOURCE) -> Try:
    """One keyboard-interactive login by asyncssh from this process, which must be on the Lan."""
    return asyncio.run(_quick_try(box, user, answers, source))


async def _quick_try(box: Box, user: str, answers: list[str], source: str) -> Try:
    client = _Client(answers)
    try:
        connection = await asyncssh.connect(
            box.address, box.port, username=user, client_factory=lambda: client, known_hosts=None, config=None,
            preferred_auth="keyboard-interactive", local_addr=(source, 0), client_keys=None, agent_path=None)
    except asyncssh.PermissionDenied:
        return Try(False, client.prompts, time.monotonic() - client.answered)
    took = time.monotonic() - client.answered
    connection.close()
    await connection.wait_closed()
    return Try(True, client.prompts, took)
