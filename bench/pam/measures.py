"""What was measured, and how it is told: bench/results/pam.jsonl and the tables of bench/README.md."""

import statistics

from told import machine, publish, table

from harness.places import say

FLOOR = "floor"
SYSTEMS = (FLOOR, "gpuhub", "nslcd", "sssd")
PEERS = ("nslcd", "sssd")
MODES = ("plain", "starttls", "ldaps")
MODE_NAMES = {"plain": "Without TLS", "starttls": "StartTLS", "ldaps": "LDAPS"}
CASES = ("right:one", "right:many", "wrong:one", "wrong:many")
CLIENTS = (1, 4)
FAULTS = ("before: a known name", "hung: a known name", "hung: an unknown name", "hung: an unknown name, later",
          "hung: a login, the first", "hung: a login afterwards, at worst", "back: logins", "back: new names")


class Measures:
    """The values of each measure, one a round; what failed is told beside them."""

    def __init__(self, rounds: int):
        self.rounds = rounds
        self.turns = 0
        self.values: dict[tuple, list[float]] = {}
        self.endings: dict[tuple[str, str], str] = {}
        self.failures: list[tuple[str, str, str]] = []

    def note(self, system: str, case: str, metric: str, unit: str, value: float, clients: int = 1) -> None:
        self.values.setdefault((system, case, clients, metric, unit), []).append(value)

    def ended(self, system: str, case: str, how: str) -> None:
        self.endings[system, case] = how

    def failed(self, system: str, where: str, why: object) -> None:
        text = " ".join(str(why).split())[:300]
        say(f"FAILED: {system}, {where}: {text}")
        self.failures.append((system, where, text))

    def is_out(self, system: str, mode: str) -> bool:
        """Whether it did not even start so."""
        return any((system, mode) == failure[:2] for failure in self.failures)

    def value(self, system: str, case: str, metric: str, clients: int = 1) -> float | None:
        for (s, c, n, m, _), values in self.values.items():
            if (s, c, n, m) == (system, case, clients, metric):
                return statistics.median(values)
        return None

    def write(self) -> None:
        publish("pam", [{"system": system, "case": case, "threads": clients, "metric": metric, "unit": unit,
                         "value": round(statistics.median(values), 3)}
                        for (system, case, clients, metric, unit), values in self.values.items()], self.tables())

    # ---- tables ----------------------------------------------------------------------------------

    def tables(self) -> str:
        out = [machine(self.rounds)]
        for mode in reversed(MODES):
            out.append(f"**{MODE_NAMES[mode]}**: p50 / p99 in ms, and logins a second; then gpuhub's p50 beside the "
                       "floor's, and the peers' beside gpuhub's:\n")
            rows = [self.row(mode, case, clients) for case in CASES for clients in CLIENTS]
            out.append(table(["", *SYSTEMS, "gpuhub / floor", *(f"{peer} / gpuhub" for peer in PEERS)], rows))
        out.append("**slapd under SIGSTOP**, over LDAPS, in ms, with what came of it (a login: PAM's code, 0 is success):\n")
        out.append(table(["", *SYSTEMS[1:]], [[case, *(self.fault(s, case) for s in SYSTEMS[1:])] for case in FAULTS]))
        out.append("**Aims**\n")
        out.append(table(["aim", "measured", ""], self.aims()))
        if self.failures:
            out.append("**What did not work**\n")
            out.append(table(["system", "where", "why"], [[cell.replace("|", "/") for cell in f] for f in self.failures]))
        return "\n".join(out)

    def row(self, mode: str, case: str, clients: int) -> list[str]:
        password, users = case.split(":")
        head = f"{password}, {users} user{'s' if users == 'many' else ''}, {clients} client{'s' if clients > 1 else ''}"
        cells, p50 = [], {}
        for system in SYSTEMS:
            median, p99, rate = (self.value(system, f"{mode}:{case}", m, clients) for m in ("p50", "p99", "rate"))
            p50[system] = median
            cells.append("-" if median is None else f"{median / 1e6:.3g} / {p99 / 1e6:.3g}, {rate:,.0f}/s")
        return [head, *cells, ratio(p50["gpuhub"], p50[FLOOR]), *(ratio(p50[peer], p50["gpuhub"]) for peer in PEERS)]

    def fault(self, system: str, case: str) -> str:
        value = self.value(system, case, "time")
        how = self.endings.get((system, case), "")
        return "-" if value is None else f"{value:,.1f} {how}".rstrip()

    def aims(self) -> list[list[str]]:
        right, wrong = "ldaps:right:many", "ldaps:wrong:many"
        p50 = {s: self.value(s, right, "p50") for s in SYSTEMS}
        ours_wrong = self.value("gpuhub", wrong, "p50")
        rate = self.value("gpuhub", right, "rate", clients=4)
        known = [self.value("gpuhub", case, "time") for case in FAULTS[:2]]
        # What it is, and whether it is met.
        aims: list[tuple[str, str, bool | None]] = []

        def aim(what: str, value: float | None, unit: str, met) -> None:
            aims.append((what, "-" if value is None else f"{value:,.2f} {unit}".rstrip(), value is not None and met(value)))

        def of(a: float | None, b: float | None) -> float | None:
            return None if a is None or b is None else a / b

        aim("LDAPS, many users: p50 under 1 ms", of(p50["gpuhub"], 1e6), "ms", lambda v: v < 1)
        aim("LDAPS, many users: pam_ldap's p50 is at least 8 times that", of(p50["nslcd"], p50["gpuhub"]), "", lambda v: v >= 8)
        aim("LDAPS, many users, 4 clients: 2,000 logins/s", rate, "1/s", lambda v: v >= 2000)
        aim("LDAPS, many users: a wrong password's p50 beside a right one's, at most 1", of(ours_wrong, p50["gpuhub"]), "",
            lambda v: v <= 1)
        aim("hung: a known name as fast as before (times, at most 1.5)", of(known[1], known[0]), "", lambda v: v <= 1.5)
        is_unavailable = self.endings.get(("gpuhub", FAULTS[2])) not in ("found", "absent")
        aim("hung: an unknown name is \"unavailable\" within 350 ms", self.value("gpuhub", FAULTS[2], "time"), "ms",
            lambda v: v <= 350 and is_unavailable)
        aim("hung: the first login fails within 3 s", self.value("gpuhub", FAULTS[4], "time"), "ms", lambda v: v <= 3000)
        aim("hung: a login afterwards fails within 100 ms", self.value("gpuhub", FAULTS[5], "time"), "ms", lambda v: v <= 100)
        for case in FAULTS[6:]:
            aim(f"{case} within 2 s", self.value("gpuhub", case, "time"), "ms", lambda v: v <= 2000)
        return [[what, value, "met" if met else "**missed**"] for what, value, met in aims]


def ratio(a: float | None, b: float | None) -> str:
    return "-" if a is None or b is None else f"{a / b:.3g}"
