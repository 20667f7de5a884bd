"""Runs a command several times and prints the median in ms: time_command.py TIMES COMMAND..."""

import statistics
import subprocess
import sys
import time

times = []
for _ in range(int(sys.argv[1])):
    start = time.perf_counter()
    subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, check=True)
    times.append((time.perf_counter() - start) * 1000)
print(statistics.median(times))
