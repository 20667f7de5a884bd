"""Small C programs of tests/fixtures, compiled here and put into boxes, which have no compiler."""

import functools
import pathlib
import subprocess
import tempfile

from .box import Box
from .places import FIXTURES


def install(box: Box, name: str) -> str:
    """Puts the program into the box and returns its path there."""
    path = f"/usr/local/bin/{name}"
    box.write_file(path, _compiled(name), mode=0o755)
    return path


@functools.cache
def _compiled(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / name
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(out),
                        str(FIXTURES / f"{name}.c")], check=True)
        return out.read_bytes()
