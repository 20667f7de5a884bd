#!/usr/bin/env python3
"""The licences of what we link.

    licences.py check                 every dependency can be had under a licence of ALLOWED
    licences.py notices PACKAGE...    prints the notices of everything that is linked into these

Reads `cargo metadata` and nothing else: no network, no tool to install. deny.toml says the same for
those who have cargo-deny.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}


def metadata():
    host = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    triple = re.search(r"^host: (.*)$", host, re.M).group(1)
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={triple}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def satisfiable(expression):
    """Whether an SPDX expression can be met with ALLOWED alone. AND binds tighter than OR."""
    # Before SPDX expressions, crates wrote "MIT/Apache-2.0" for OR.
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = single()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = single() and value
        return value

    def single():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            if tokens.pop(0) != ")":
                raise ValueError(expression)
            return value
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token += " WITH " + tokens.pop(0)
        return token in ALLOWED

    try:
        value = either()
    except IndexError:
        raise ValueError(f"not an SPDX expression: {expression}") from None
    if tokens:
        raise ValueError(f"not an SPDX expression: {expression}")
    return value


def check():
    data = metadata()
    resolved = {node["id"] for node in data["resolve"]["nodes"]}
    packages = [p for p in data["packages"] if p["id"] in resolved]
    bad = []
    for package in packages:
        licence = package["license"]
        if not licence or not satisfiable(licence):
            bad.append(f"{package['name']} {package['version']}: {licence or 'says nothing'}")
    for line in bad:
        print(f"licences: not allowed: {line}", file=sys.stderr)
    print(f"licences: {len(packages)} packages, {len(bad)} not allowed")
    return 1 if bad else 0


def linked(data, roots):
    """What ends up in the binaries: normal dependencies, without procedural macros."""
    packages = {p["id"]: p for p in data["packages"]}
    nodes = {n["id"]: n for n in data["resolve"]["nodes"]}
    members = set(data["workspace_members"])
    todo = [i for i in members if packages[i]["name"] in roots]
    if len(todo) != len(roots):
        sys.exit(f"licences: not all in the workspace: {' '.join(roots)}")
    seen = set()
    while todo:
        current = todo.pop()
        kinds = {kind for target in packages[current]["targets"] for kind in target["kind"]}
        if current in seen or "proc-macro" in kinds:
            continue
        seen.add(current)
        for dependency in nodes[current]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return sorted((packages[i] for i in seen - members), key=lambda p: (p["name"], p["version"]))


def texts(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    pattern = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.I)
    found = [f for f in sorted(folder.iterdir()) if f.is_file() and pattern.match(f.name)]
    # Offered "MIT OR Apache-2.0" we take MIT, and its notice is the one to pass on.
    if re.fullmatch(r"(MIT( OR |/)Apache-2\.0|Apache-2\.0( OR |/)MIT)", package["license"]):
        found = [f for f in found if "mit" in f.name.lower()] or found
    return [f.read_text(encoding="utf-8", errors="replace").strip() for f in found]


def notices(roots):
    by_text, without = {}, []
    for package in linked(metadata(), roots):
        found = texts(package)
        if not found:
            without.append(package)
        for text in found:
            digest = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            by_text.setdefault(digest, (text, []))[1].append(package)
    print("gpuhub's programs contain these Rust libraries, under the notices that come with them.")
    for text, packages in by_text.values():
        print("\n" + "-" * 78)
        for package in packages:
            print(f"{package['name']} {package['version']} ({package['license']})")
        print("-" * 78 + "\n\n" + text)
    if without:
        print("\n" + "-" * 78 + "\nThese come without a text of their own:\n" + "-" * 78 + "\n")
        for package in without:
            authors = ", ".join(package["authors"]) or f"the authors at {package['repository']}"
            print(f"{package['name']} {package['version']} ({package['license']}), copyright {authors}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit(check())
    if len(sys.argv) > 2 and sys.argv[1] == "notices":
        sys.exit(notices(sys.argv[2:]))
    sys.exit(__doc__)
