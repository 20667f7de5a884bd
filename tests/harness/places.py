"""Where things are: the checkout, the cache, and the one way to say what is going on."""

import os
import pathlib
import platform
import sys
import threading
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = CHECKOUT / "tests" / "fixtures"
MULTIARCH = f"{platform.machine()}-linux-gnu"

_START = time.monotonic()
_LOCK = threading.Lock()


def cache() -> pathlib.Path:
    """The cache directory; always outside the checkout, so `git clean` never costs an hour."""
    chosen = os.environ.get("GPUHUB_CACHE")
    path = pathlib.Path(chosen) if chosen else pathlib.Path.home() / ".cache" / "gpuhub"
    path = path.absolute()
    if path.is_relative_to(CHECKOUT):
        raise SystemExit(f"GPUHUB_CACHE={path} lies inside the checkout {CHECKOUT}: choose another place")
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(message: str) -> None:
    """One line of progress, with the seconds since the start."""
    with _LOCK:
        print(f"[{time.monotonic() - _START:6.1f}s] {message}", file=sys.stderr, flush=True)


class Missing(RuntimeError):
    """A prerequisite that is not there. Its text names it and says what would bring it."""
