"""How a benchmark's results are told: bench/results/NAME.jsonl, and its tables between their markers in README.md."""

import json
import os
import pathlib
import time

BENCH = pathlib.Path(__file__).resolve().parent


def publish(name: str, measures: list[dict], tables: str) -> None:
    results = BENCH / "results"
    results.mkdir(exist_ok=True)
    with open(results / f"{name}.jsonl", "w") as out:
        for measure in measures:
            out.write(json.dumps({"bench": name, **measure}) + "\n")
    readme = BENCH / "README.md"
    begin, end = f"<!-- bench-{name} -->\n", f"<!-- /bench-{name} -->"
    head, _, rest = readme.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    readme.write_text(head + begin + tables + end + tail)


def machine(rounds: int) -> str:
    """When and on what it ran."""
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    memory = int(open("/proc/meminfo").readline().split()[1]) // 1024
    return (f"{time.strftime('%Y-%m-%d')}; {cpu}, {os.cpu_count()} cores, {memory} MiB; Linux {os.uname().release}; "
            f"load {os.getloadavg()[0]:.1f} at the end; {rounds} round(s).\n")


def number(value: float) -> str:
    return f"{value:,.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in lines)
