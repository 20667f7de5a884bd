"""What was measured, and how it is told: bench/results/nss.jsonl and the tables of bench/README.md."""

import statistics

from told import machine, number, publish, table

OPS = ("pwnam", "pwuid", "grnam", "grgid", "grouplist")
SETS = ("hot", "names", "absent")
COMMANDS = ("id, 50 groups", "ls -l, 1000 owners", "getent passwd", "true")
CHANGES = ("changed: seen", "changed: seen at the latest", "changed: broker's processor", "changed: bytes written",
           "whole file: until seen", "whole file: broker's processor")


class Results:
    """The values of each measure, one a turn."""

    def __init__(self, systems: list, rounds: int):
        self.systems, self.rounds = systems, rounds
        self.values: dict[tuple, list[float]] = {}

    def note(self, system: str, case: str, value: float, unit: str, metric: str = "median", threads: int = 1) -> None:
        self.values.setdefault((system, case, threads, metric, unit), []).append(value)

    def rounds_of(self, system: str, case: str, metric: str = "median", threads: int = 1) -> list[float]:
        return next(v for (s, c, t, m, _), v in self.values.items() if (s, c, t, m) == (system, case, threads, metric))

    def value(self, system: str, case: str, metric: str = "median", threads: int = 1) -> float:
        return statistics.median(self.rounds_of(system, case, metric, threads))

    def write(self) -> None:
        publish("nss", [{"system": system, "case": case, "threads": threads, "metric": metric, "unit": unit,
                         "value": round(statistics.median(values), 1)}
                        for (system, case, threads, metric, unit), values in self.values.items()], self.tables())

    def tables(self) -> str:
        out = [machine(self.rounds)]
        for set_ in SETS:
            rows = [[s.name, *(self.cell(s.name, f"{op}:{set_}") for op in OPS)] for s in self.systems if set_ in s.sets]
            out.append(f"**{set_}**, one thread, ns a call (times the floor):\n")
            out.append(table(["", *OPS], rows))
        rows = []
        for s in self.systems:
            one, two = self.value(s.name, "pwnam:hot"), self.value(s.name, "pwnam:hot", threads=2)
            p99 = self.value(s.name, "pwnam:hot", "p99")
            rows.append([s.name, number(p99), number(self.value(s.name, "pwnam:hot", "p99", 2)), number(two),
                         f"{2 * one / two:.2f}"])
        out.append("**Two threads**, getpwnam hot: p99 of one and of two threads (single calls, the clock's own "
                   "cost included), ns a call of each of two, and calls a second beside one thread's:\n")
        out.append(table(["", "p99, 1", "p99, 2", "ns, 2", "scale"], rows))
        for title, is_of in (("Whole commands", lambda case: case in COMMANDS),
                             ("Memory, start and faults", lambda case: case not in COMMANDS and not is_change(case))):
            picked = [(k, v) for k, v in self.values.items() if k[4] != "ns" and is_of(k[1])]
            out.append(f"**{title}**\n")
            out.append(table(["case", "system", "", ""], sorted(
                [k[1], k[0], f"{statistics.median(v):.1f} {k[4]}", k[3] if k[3] != "median" else ""]
                for k, v in picked)))
        out.append("**One change among many people**, and a whole new file beside it:\n")
        out.append(table(["people", *CHANGES], self.changes()))
        out.append("**Aims** (differences to the floor are taken turn by turn)\n")
        out.append(table(["aim", "measured", ""], self.aims()))
        return "\n".join(out)

    def changes(self) -> list[list[str]]:
        counts = sorted({int(case.split(", ")[1].split()[0]) for (_, case, *_) in self.values if is_change(case)})
        rows = []
        for people in counts:
            cells = []
            for what in CHANGES:
                unit = next(k[4] for k in self.values if k[1] == f"{what}, {people} people")
                cells.append(f"{self.value('gpuhub', f'{what}, {people} people'):,.2f} {unit}")
            rows.append([f"{people:,}", *cells])
        return rows

    def cell(self, system: str, case: str) -> str:
        value, floor = self.value(system, case), self.value("floor", case)
        return f"{number(value)} ({value / floor:.2g})"

    def aims(self) -> list[list[str]]:
        def above(system: str, case: str) -> float:
            return statistics.median(ours - floor for ours, floor in
                                     zip(self.rounds_of(system, case), self.rounds_of("floor", case)))

        aims = []
        for system, limit in (("gpuhub", 250), ("gpuhub-1M", 400)):
            for case in (f"{op}:{set_}" for set_ in ("hot", "absent") for op in OPS):
                aims.append((f"{system} {case} within {limit} ns of the floor", above(system, case), limit, "ns"))
        aims.append(("getgrouplist of 50 groups within 500 ns of the floor", above("gpuhub", "grouplist-50:hot"), 500, "ns"))
        scale = {s: 2 * self.value(s, "pwnam:hot") / self.value(s, "pwnam:hot", threads=2) for s in ("floor", "gpuhub")}
        aims.append(("two threads scale as the floor does: its scale less ours", scale["floor"] - scale["gpuhub"], 0.1, ""))
        for people, memory, start in ((10_000, 10, 20), (100_000, 64, 100)):
            aims.append((f"broker's memory with {people} people", self.value("gpuhub", f"broker's memory, {people} people", "pss"), memory, "MB"))
            aims.append((f"start to first answer with {people} people", self.value("gpuhub", f"start to first answer, {people} people"), start, "ms"))
        aims.append(("a change among 100000 people is seen, at the latest",
                     self.value("gpuhub", "changed: seen at the latest, 100000 people"), 100, "ms"))
        idle, case = self.value("gpuhub", "login, idle"), "10000 lookups/s of nobody"
        aims += [(f"a login's delay ({metric}) by {case}", self.value("gpuhub", f"login, {case}", metric) - idle, 50, "ms")
                 for metric in ("median", "p90", "max")]
        aims.append((f"{case}: of them unanswered", 10_000 - self.value("gpuhub", case, "answered"), 100, "lookups/s"))
        aims.append(("a reader's private memory", self.value("gpuhub", "reader's private memory", "private"), 64, "KiB"))
        return [[what, f"{value:.1f} {unit} (aim {limit})", "met" if value <= limit else "**missed**"]
                for what, value, limit, unit in aims]


def is_change(case: str) -> bool:
    return case.startswith(("changed: ", "whole file: "))
