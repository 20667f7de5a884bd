"""How this machine reaches the registries: read from the machine, never written down here."""

import pathlib
import re
import subprocess

from .places import Missing

SUITE = "bookworm"
_WANTED = re.compile(rf"^{SUITE}(-updates|-security)?$")


def debian_sources(root: pathlib.Path = pathlib.Path("/")) -> list[tuple[str, str]]:
    """The (URI, suite) pairs of Debian's own archive in this machine's apt configuration."""
    apt = root / "etc/apt"
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found: list[tuple[str, str]] = []
    for file in files:
        if not file.is_file():
            continue
        if file.suffix == ".sources":
            found += _deb822(file.read_text())
        elif file.suffix == ".list":
            found += _one_line(file.read_text())
    if not any(suite == SUITE for _, suite in found):
        raise Missing(f"no source of Debian {SUITE} in /etc/apt: the tests build their roots from it")
    return list(dict.fromkeys(found))


def _deb822(text: str) -> list[tuple[str, str]]:
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields: dict[str, str] = {}
        key = ""
        for line in lines:
            if line[:1].isspace():
                fields[key] = fields.get(key, "") + " " + line.strip()
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        if "main" not in fields.get("components", "").split():
            continue
        for uri in fields.get("uris", "").split():
            found += [(uri, suite) for suite in fields.get("suites", "").split() if _WANTED.match(suite)]
    return found


def _one_line(text: str) -> list[tuple[str, str]]:
    found = []
    for line in text.splitlines():
        match = re.match(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", line.strip())
        if match and _WANTED.match(match[2]) and "main" in match[3].split():
            found.append((match[1], match[2]))
    return found


def apt_settings() -> str:
    """This machine's settings for fetching (proxies, time-outs, dates), as apt.conf lines."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    wanted = re.compile(r"^Acquire::(http|https|Retries|Check-Valid-Until|Check-Date|ForceIPv4)\b", re.I)
    return "".join(line + "\n" for line in dump.splitlines() if wanted.match(line))


def npm_environment() -> dict[str, str]:
    """The variables that make another node's npm use this machine's npm configuration."""
    for candidate in ("/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"):
        if pathlib.Path(candidate).is_file():
            return {"npm_config_globalconfig": candidate}
    return {}
