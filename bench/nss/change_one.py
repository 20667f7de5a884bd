"""What a change of one person costs a running broker, and when another process sees it.

    change_one.py PEOPLE TIMES

Each time somebody else is given another uid (`gpuhub idmap set`, by its request). A process that was there before
looks her up without pause, through the C library. Prints, as medians: ms from the request to the answer that has
the new uid; and, per change, the broker's time on a processor in ms and the bytes it wrote.
"""

import json
import os
import pathlib
import pwd
import random
import socket
import statistics
import sys
import time

people, times = int(sys.argv[1]), int(sys.argv[2])


def broker():
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        if comm.read_text() == "gpuhubd\n":
            return comm.parent
    raise SystemExit("no broker")


def spent(process):
    """ns on a processor of all its threads (proc(5), schedstat), and bytes written."""
    ran = sum(int(f.read_text().split()[0]) for f in process.glob("task/*/schedstat"))
    wrote = next(line for line in (process / "io").read_text().splitlines() if line.startswith("wchar"))
    return ran, int(wrote.split()[1])


def change(name, uid):
    request = {"version": 1, "method": "io.gpuhub.Broker.Idmap",
               "parameters": {"set": {"kind": "user", "name": name, "id": uid}}}
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/gpuhub/broker.sock")
        s.sendall(json.dumps(request).encode() + b"\0")
        reply = b""
        while not reply.endswith(b"\0"):
            reply += s.recv(65536)
    if "changed" not in json.loads(reply[:-1])["parameters"]:
        raise SystemExit(reply)


def watch(orders, answers):
    for line in orders:
        name, uid = line.split()
        while pwd.getpwnam(name).pw_uid != int(uid):
            pass
        answers.write(f"{time.monotonic_ns()}\n")
        answers.flush()


to_read, to_write = os.pipe(), os.pipe()
if os.fork() == 0:
    os.close(to_read[1])
    watch(os.fdopen(to_read[0]), os.fdopen(to_write[1], "w"))
    os._exit(0)
orders, answers = os.fdopen(to_read[1], "w"), os.fdopen(to_write[0])

process = broker()
chosen = random.Random(1).sample(range(people), times)
seen = []
before = spent(process)
for n, who in enumerate(chosen):
    name, uid = "p%07d" % who, 2_100_000_000 + n
    orders.write(f"{name} {uid}\n")
    orders.flush()
    time.sleep(0.002)       # it is at it by now
    start = time.monotonic_ns()
    change(name, uid)
    seen.append((int(answers.readline()) - start) / 1e6)
after = spent(process)
print(statistics.median(seen), max(seen), (after[0] - before[0]) / 1e6 / times, (after[1] - before[1]) / times)
