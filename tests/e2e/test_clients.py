"""Device logins by other clients than OpenSSH's: PuTTY's plink, paramiko and asyncssh."""

import asyncio
import re

import asyncssh
import pexpect
import pytest

from harness import roots
from harness.box import Box
from harness.product import OIDC
from harness.ssh import DEVICE_PROMPT, SOURCE

# What paramiko's own demo does: shows what the server says, and types what the person types.
PARAMIKO = """
import socket, sys, paramiko
address, port, user = sys.argv[1:]
transport = paramiko.Transport(socket.create_connection((address, int(port))))
transport.start_client()
def answer(title, instructions, prompts):
    print(title, instructions, sep="\\n")
    return [input(text) for text, echo in prompts]
transport.auth_interactive(user, answer)
channel = transport.open_session()
channel.exec_command("id -un; echo ended")
print(channel.makefile().read().decode())
"""


@pytest.fixture
def box(make_gpubox, oidc):
    return make_gpubox(OIDC)


@pytest.fixture(scope="module")
def laptop(lan):
    box = Box(lan, roots.CLIENTS.stack(), "clients", address="127.0.9.10")
    yield box
    box.close()


def is_as_it_should_be(text):
    """In a screen reader's order, and nothing that a terminal of 80 columns would break."""
    plain = text.replace("\r", "")
    code = re.search(r"Code:\s*([A-Z0-9]{4}-[A-Z0-9]{4})", plain)[1]
    places = [plain.index(part) for part in ("Box:", "Sign in as dave", "/device", f"Code: {code}", "\u2588")]
    assert places == sorted(places), plain
    assert plain.rindex(f"Code: {code}") > plain.rindex("\u2588"), "and once more behind the picture"
    assert "The code is good for" in plain
    assert all(len(line) <= 80 for line in plain.split("\n")), plain
    return code


def test_plink(box, oidc, laptop):
    child = laptop.spawn(["plink", "-ssh", "-no-antispoof", "-P", str(box.port), f"dave@{box.address}", "id -un; echo ended"],
                         timeout=30)
    assert child.expect([r"\(y/n, Return cancels connection", pexpect.EOF]) == 0, child.before
    child.sendline("n")     # goes on, and keeps no key
    assert child.expect([DEVICE_PROMPT, pexpect.EOF]) == 0, child.before
    oidc.device.approve(is_as_it_should_be(child.before), "dave")
    child.sendline("")
    child.expect(pexpect.EOF)
    assert re.search(r"dave\s+ended", child.before), child.before


def test_paramiko(box, oidc, laptop):
    child = laptop.spawn(["python3", "-c", PARAMIKO, box.address, str(box.port), "dave"], timeout=30)
    assert child.expect([DEVICE_PROMPT, pexpect.EOF]) == 0, child.before
    oidc.device.approve(is_as_it_should_be(child.before), "dave")
    child.sendline("")
    child.expect(pexpect.EOF)
    assert re.search(r"dave\s+ended", child.before), child.before


def test_asyncssh(box, oidc):
    class Client(asyncssh.SSHClient):
        def kbdint_auth_requested(self):
            return ""

        async def kbdint_challenge_received(self, name, instructions, lang, prompts):
            if not prompts:
                return []
            [(text, echo)] = prompts
            assert echo, "there is nothing to hide"
            code = is_as_it_should_be("\n".join([name, instructions, text]))
            await asyncio.to_thread(oidc.device.approve, code, "dave")
            return [""]

    async def visit():
        options = {"username": "dave", "known_hosts": None, "config": None, "client_keys": None, "agent_path": None,
                   "preferred_auth": "keyboard-interactive", "local_addr": (SOURCE, 0)}
        async with asyncssh.connect(box.address, box.port, client_factory=Client, **options) as connection:
            return (await connection.run("id -un")).stdout.strip()

    assert asyncio.run(visit()) == "dave"
