"""How much CPU time did a server use, with all of its processes and threads?"""

import os
import time
from pathlib import Path


def tree(pid: int) -> list[int]:
    """This process and everything below it that lives."""
    found, at = [pid], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue  # a thread that ended meanwhile
        at += 1
    return found


def seconds(pids: list[int]) -> float:
    """CPU seconds, user and system, of these processes, their ended threads included.

    The kernel's clock of a process counts nanoseconds; /proc/PID/stat has the same in ticks of 10 ms.
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def core_busy_seconds(core: int) -> float:
    """Seconds in which this core ran anything at all, since the machine was started."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _waiting, irq, softirq, steal = (int(tick) for tick in ticks[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise ValueError(f"/proc/stat knows no core {core}")


def resident_mib(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024
