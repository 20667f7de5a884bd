"""The broker's protocol, spoken directly: for measuring without what PAM and sshd add (NUL-ended JSON)."""

import json
import socket
import time
from dataclasses import dataclass

from .box import SOCKET, Box

_NAME = "io.gpuhub.Broker."


class Connection:
    """One connection of uid 0 to the broker of a box."""

    def __init__(self, box: Box, timeout: float = 60):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(box.host_path(SOCKET))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def call(self, method: str, parameters: dict) -> dict:
        self.send(method, parameters)
        return self.reply()

    def send(self, method: str, parameters: dict) -> None:
        request = {"version": 1, "method": _NAME + method, "parameters": parameters}
        self._socket.sendall(json.dumps(request).encode() + b"\0")

    def reply(self) -> dict:
        received = b""
        while not received.endswith(b"\0"):
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError("the broker hung up")
            received += chunk
        return json.loads(received[:-1])


@dataclass
class Timing:
    """How one login went: its code, and the seconds until the prompt and from the answer to the end."""

    code: str
    until_prompt: float
    after_answer: float


def login(box: Box, user: str, password: str, service: str = "sshd") -> Timing:
    """One login by password, as the PAM module would relay it."""
    with Connection(box) as connection:
        start = time.perf_counter()
        step = connection.call("Begin", {"purpose": "authenticate", "context": {"user": user, "service": service}})
        prompted = time.perf_counter()
        if "prompt" not in json.dumps(step).lower():
            raise AssertionError(f"no prompt for {user}: {step}")
        step = connection.call("Answer", {"secret": list(password.encode())})
        ended = time.perf_counter()
        return Timing(json.dumps(step["parameters"]["next"]), prompted - start, ended - prompted)


def whole_login(box: Box, user: str, password: str, service: str = "sshd") -> float:
    """The seconds that the broker takes of one login: sshd's own question, the conversation, the account."""
    start = time.perf_counter()
    with Connection(box) as connection:
        found = connection.call("GetUser", {"name": user, "login": True})
    timing = login(box, user, password, service)
    with Connection(box) as connection:
        verdict = connection.call("Account", {"user": user, "service": service})
    took = time.perf_counter() - start
    if "error" in found or "success" not in timing.code.lower() or verdict["parameters"]["code"] != "success":
        raise AssertionError(f"{user} was not let in: {found} {timing} {verdict}")
    return took
