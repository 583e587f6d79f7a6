"""How much CPU time did a server use, with all of its processes and threads?"""

import os
import time
from pathlib import Path


class Tree:
    """A process and everything below it. What children used that ended meanwhile still counts."""

    def __init__(self, pid: int) -> None:
        self._root = pid
        self._used: dict[int, float] = {}

    def seconds(self) -> float:
        """CPU seconds, user and system, threads that ended included.

        The kernel's clock of a process counts nanoseconds; /proc/PID/stat has the same in ticks of 10 ms.
        """
        for pid in self.pids():
            try:
                self._used[pid] = time.clock_gettime((~pid << 3) | 2)
            except OSError:
                continue  # it ended just now
        return sum(self._used.values())

    def resident_mib(self) -> float:
        total = 0
        for pid in self.pids():
            for line in _lines(Path(f"/proc/{pid}/status")):
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total / 1024

    def pids(self) -> list[int]:
        """Those that live."""
        found, at = [self._root], 0
        while at < len(found):
            for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
                found += [int(child) for line in _lines(task) for child in line.split()]
            at += 1
        return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []  # the process or the thread ended


def core_busy_seconds(core: int) -> float:
    """Seconds in which this core ran anything at all, since the machine was started."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _waiting, irq, softirq, steal = (int(tick) for tick in ticks[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise ValueError(f"/proc/stat knows no core {core}")
