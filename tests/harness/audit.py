"""gpuhub's audit lines, read back: `event="auth" result="denied" user="alice" …`."""

import re

_PAIR = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.S)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def parse(message: str) -> dict[str, str] | None:
    """The pairs of one line, or None if it is not an audit line."""
    pairs = {key: _ESCAPE.sub(_unescape, value) for key, value in _PAIR.findall(message)}
    return pairs if "event" in pairs else None


def _unescape(match: re.Match) -> str:
    code = match[1]
    if code[0] == "x" and len(code) == 3:
        return chr(int(code[1:], 16))
    return _SIMPLE.get(code, code)


def matching(lines: list[dict[str, str]], **wanted: str) -> list[dict[str, str]]:
    """The lines that have all of these values."""
    return [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]
