"""`make bench-oidc`: device logins by real sshd and a real provider, from the person's approval to her shell.

The box with the package, and the floor's, which has no gpuhub, run the same sshd; the provider is oidc-provider (npm)
over HTTPS. One login at a time, and many at once, from as many addresses as the caps want. What is measured ends with
the shell's prompt. Then the broker's memory without and with a thousand logins that wait: so many ssh clients would not
fit beside them, so a client of the broker's own protocol begins these, for a thousand names from a hundred addresses.
Results go to bench/results/oidc.jsonl, the tables into bench/README.md between their markers. QUICK=1: less of all.
"""

import concurrent.futures
import os
import pathlib
import resource
import select
import statistics
import sys
import time

BENCH = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "tests"))

import told  # noqa: E402
from harness import layers, oidc, product, roots, wire  # noqa: E402
from harness.box import Box, Failed, wait_until  # noqa: E402
from harness.ca import Authority  # noqa: E402
from harness.lan import Lan  # noqa: E402
from harness.places import say  # noqa: E402
from harness.ssh import DEVICE_PROMPT, PASSWORD_PROMPT, Terminal  # noqa: E402

QUICK = bool(os.environ.get("QUICK"))
SINGLES, CROWD, ROUNDS, WAITING = (3, 50, 1, 1000) if QUICK else (20, 50, 5, 1000)
INTERVAL = 5            # seconds: RFC 8628's own, where a provider names none
NAMES_AT_ONE_ADDRESS = 10
PASSWORD = "pw"
PROMPT = b"$ "          # a shell's

FLOOR, GPUHUB = "floor", "gpuhub"
NEW, KNOWN, LATE = "approved, Enter: first login", "approved, Enter", "Enter, approved"
ALONE = "approved, Enter: the broker alone"
AIM_MS, AIM_MB = 300, 32


def people(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{n:04}" for n in range(number)]


def address(n: int) -> str:
    """Where the nth person sits."""
    high, low = divmod(n // NAMES_AT_ONE_ADDRESS, 200)
    return f"127.0.{20 + high}.{10 + low}"


class Bench:
    def __init__(self, lan: Lan):
        self.values: dict[tuple[str, str, int], list[float]] = {}
        self.numbers: dict[tuple[str, str], float] = {}
        self.ran: dict[str, list[float]] = {}
        authority = Authority(lan.directory / "ca")
        self.provider = oidc.OidcProvider(lan, authority, interval=INTERVAL, code_ttl=900)
        self.singles, self.crowd = people("s", SINGLES), people("c", CROWD)
        everybody = self.singles + self.crowd
        self.provider.set_accounts({
            name: {"password": PASSWORD, "email": f"{name}@example.org", "email_verified": True, "name": name.title(),
                   "preferred_username": name, "groups": ["gpu-users", "vision"]} for name in everybody})
        self.box = product.GpuBox(lan)
        self.box.configure(product.OIDC, authority)
        self.box.up(sshd=False)
        sshd = {"MaxStartups": "500", "LoginGraceTime": "600"}
        self.box.start_sshd(**sshd)
        self.floor = Box(lan, roots.BOX.stack(), "floor")
        # Of all hashes that Debian compares the cheapest.
        self.floor.run(f"hash=$(openssl passwd -1 {PASSWORD})\n"
                       f"for n in {' '.join(everybody)}; do useradd -m -s /bin/bash -p \"$hash\" $n; done", timeout=300)
        self.floor.start_rsyslog()
        self.floor.start_sshd(KbdInteractiveAuthentication="yes", **sshd)

    # ---- logins ----------------------------------------------------------------------------------

    def logins(self) -> None:
        for system, case in ((FLOOR, KNOWN), (GPUHUB, NEW), (GPUHUB, KNOWN), (GPUHUB, LATE)):
            say(f"{system}: {case}; one at a time")
            for name in self.singles:
                self.measure(system, case, [name])
            for round_ in range(1 if case == NEW else ROUNDS):      # once new is never new again
                say(f"{system}: {case}; {CROWD} at once, round {round_ + 1}")
                self.measure(system, case, self.crowd)

    def measure(self, system: str, case: str, names: list[str]) -> None:
        """These people at once, and how long each waits for her shell after she has done what she has to."""
        box, prompt = (self.floor, PASSWORD_PROMPT) if system == FLOOR else (self.box, DEVICE_PROMPT)
        terminals = [Terminal(box, name, source=address(n), timeout=120) for n, name in enumerate(names)]
        if system == FLOOR:
            for terminal in terminals:
                terminal.expect(prompt)
            begun, ended = self.enter(terminals, PASSWORD), self.shells(terminals)
        else:
            codes = [(terminal.device_code(timeout=120), name) for terminal, name in zip(terminals, names, strict=True)]
            with concurrent.futures.ThreadPoolExecutor(4) as browsers:
                if case == LATE:
                    self.enter(terminals, "")
                    time.sleep(0.5)
                    approvals = browsers.map(self.approve, codes)
                    ended = self.shells(terminals)
                    begun = list(approvals)
                else:
                    list(browsers.map(self.approve, codes))
                    time.sleep(INTERVAL + 2)        # a poll has been, and what it brought is verified
                    before = self.processor()
                    begun, ended = self.enter(terminals, ""), self.shells(terminals)
                    if len(names) == CROWD:
                        self.ran.setdefault(case, []).append((self.processor() - before) / CROWD)
        took = self.values.setdefault((system, case, len(names)), [])
        took += [(end - begin) * 1000 for begin, end in zip(begun, ended, strict=True)]
        for terminal in terminals:
            terminal.line("exit")
        for terminal in terminals:
            terminal.finish()

    def approve(self, code_and_name: tuple[str, str]) -> float:
        """When the browser said that it is done."""
        self.provider.device.approve(*code_and_name, PASSWORD)
        return time.monotonic()

    def processor(self) -> float:
        """What the broker has used of it, in ms."""
        words = self.box.read_file(f"/proc/{self.box.pids('gpuhubd')[0]}/stat").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def enter(terminals: list[Terminal], answer: str) -> list[float]:
        """Presses Enter in each, as fast as one can."""
        begun = []
        for terminal in terminals:
            begun.append(time.monotonic())
            os.write(terminal.child.fileno(), answer.encode() + b"\r")
        return begun

    @staticmethod
    def shells(terminals: list[Terminal]) -> list[float]:
        """When each shell's prompt came."""
        screens = {terminal.child.fileno(): b"" for terminal in terminals}
        ended: dict[int, float] = {}
        until = time.monotonic() + 120
        while len(ended) < len(screens):
            ready = select.select([fd for fd in screens if fd not in ended], [], [], max(until - time.monotonic(), 0))[0]
            if not ready:
                raise Failed(f"{len(screens) - len(ended)} of {len(screens)} got no shell")
            for fd in ready:
                try:
                    screens[fd] += os.read(fd, 65536)
                except OSError:
                    raise Failed(f"refused:\n{screens[fd].decode(errors='replace')}") from None
                if PROMPT in screens[fd]:
                    ended[fd] = time.monotonic()
        return [ended[terminal.child.fileno()] for terminal in terminals]

    def broker_alone(self) -> None:
        """The same without sshd, PAM and shells: from an answer to the broker's word, for all of the crowd at once."""
        for round_ in range(ROUNDS):
            say(f"the broker alone; {CROWD} at once, round {round_ + 1}")
            logins = list(map(self.begin, self.crowd, map(address, range(CROWD))))
            with concurrent.futures.ThreadPoolExecutor(4) as browsers:
                list(browsers.map(self.approve, [(code, name) for (_, code), name in zip(logins, self.crowd, strict=True)]))
            time.sleep(INTERVAL + 2)
            begun = {}
            for connection, _ in logins:
                begun[connection] = time.monotonic()
                connection.send("Answer", {"secret": []})
            while begun:
                for connection in select.select(list(begun), [], [], 60)[0]:
                    told_ = connection.reply()
                    took = (time.monotonic() - begun.pop(connection)) * 1000
                    if told_["parameters"]["next"] != {"done": "success"}:
                        raise Failed(f"the broker says {told_}")
                    self.values.setdefault((GPUHUB, ALONE, CROWD), []).append(took)
                    connection.close()

    # ---- memory ----------------------------------------------------------------------------------

    def memory(self) -> None:
        """Of a broker that has just begun, with nobody waiting, with so many, and when they have gone."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.box.restart_broker()
        # One login, so that what everybody shares is there.
        warm, code = self.begin(self.singles[0], address(0))
        self.approve((code, self.singles[0]))
        time.sleep(INTERVAL + 2)
        warm.call("Answer", {"secret": []})
        warm.close()
        self.numbers["memory, 0 pending", "MB"] = before = self.pss()
        say(f"{WAITING} logins begin")
        names = people("w", WAITING)
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(16) as clients:
            begun = list(clients.map(self.begin, names, map(address, range(WAITING))))
        self.numbers["until all have their codes", "s"] = time.monotonic() - start
        worst, polls, start = 0.0, self.polls(), time.monotonic()
        while time.monotonic() - start < 4 * INTERVAL:
            time.sleep(0.5)
            worst = max(worst, self.pss())
        # Those who wait are still asked for.
        self.numbers["polls", "1/s"] = rate = (self.polls() - polls) / (time.monotonic() - start)
        if rate < 0.7 * WAITING / INTERVAL:
            raise Failed(f"only {rate:.0f} polls a second of {WAITING} logins")
        self.numbers[f"memory, {WAITING} pending", "MB"] = worst
        self.numbers[f"more with {WAITING} pending", "MB"] = worst - before
        self.numbers["file descriptors", ""] = float(self.box.out(
            f"ls /proc/{self.box.pids('gpuhubd')[0]}/fd | wc -l"))
        for connection, _ in begun:
            connection.close()
        wait_until(lambda: len(self.box.audit(event="auth", reason="cancelled")) >= WAITING, "all to be gone", 30)
        time.sleep(INTERVAL)
        self.numbers["memory, all of them gone", "MB"] = self.pss()

    def begin(self, name: str, source: str) -> tuple[wire.Connection, str]:
        """A login as sshd and the module begin it: what it waits on, and its code."""
        with wire.Connection(self.box) as sshd:
            sshd.call("GetUser", {"name": name, "login": True})
        connection = wire.Connection(self.box, timeout=120)
        context = {"user": name, "service": "sshd", "source": source, "tty": "ssh"}
        step = connection.call("Begin", {"purpose": "authenticate", "context": context})
        text = step["parameters"]["next"]["prompt"]["text"]
        return connection, text.rpartition("Code: ")[2].split()[0]

    def pss(self) -> float:
        """The broker's, in MB."""
        text = self.box.run(["cat", f"/proc/{self.box.pids('gpuhubd')[0]}/smaps_rollup"]).stdout
        return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024

    def polls(self) -> int:
        return self.provider.log().count("authorization_pending")

    # ---- what is told ----------------------------------------------------------------------------

    def publish(self) -> str:
        measures, rows = [], []
        for (system, case, at_once), took in self.values.items():
            told_ = {"p50": statistics.median(took), "worst": max(took)}
            measures += [{"system": system, "case": case, "threads": at_once, "metric": metric, "unit": "ms",
                          "value": round(value, 1)} for metric, value in told_.items()]
            rows.append([case, str(at_once), system, *(f"{value:,.0f}" for value in told_.values()), str(len(took))])
        for case, ran in self.ran.items():
            self.numbers[f"broker's processor from Enter to shell, {case}", "ms a login"] = statistics.median(ran)
        measures += [{"system": GPUHUB, "case": case, "threads": 1, "metric": "value", "unit": unit,
                      "value": round(value, 2)} for (case, unit), value in self.numbers.items()]
        tables = "\n".join([
            told.machine(ROUNDS),
            f"**To the shell's prompt**, in ms; the provider wants {INTERVAL} s between polls:\n",
            told.table(["from", "at once", "system", "p50", "worst", "logins"], rows),
            f"**The broker**, with {CROWD} logins at once and with {WAITING:,} that wait\n",
            told.table(["", ""], [[case, f"{value:,.1f} {unit}".rstrip()] for (case, unit), value in self.numbers.items()]),
            "**Aims**\n", told.table(["aim", "measured", ""], self.aims())])
        told.publish("oidc", measures, tables)
        return tables

    def aims(self) -> list[list[str]]:
        rows = []
        for case, at_once in ((KNOWN, 1), (KNOWN, CROWD), (NEW, 1), (NEW, CROWD), (ALONE, CROWD)):
            took = self.values[GPUHUB, case, at_once]
            for metric, value in (("p50", statistics.median(took)), ("worst", max(took))):
                rows.append([f"{case}; {at_once} at once, {metric}: under {AIM_MS} ms", f"{value:,.0f} ms", value < AIM_MS])
        more = self.numbers[f"more with {WAITING} pending", "MB"]
        rows.append([f"{WAITING:,} pending logins: under {AIM_MB} MB more", f"{more:,.1f} MB", more < AIM_MB])
        return [[what, value, "met" if met else "**missed**"] for what, value, met in rows]


def main() -> None:
    # Before the private network, from which nothing can be fetched.
    layers.ensure(product.installed(roots.BOX))
    with Lan() as lan:
        lan.enter()
        say("preparing")
        bench = Bench(lan)
        bench.logins()
        bench.broker_alone()
        bench.memory()
        tables = bench.publish()
    print(tables)


if __name__ == "__main__":
    main()
