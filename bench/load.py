"""What does a load generator say? wrk as fast as answers come (closed loop), `pace` at a given rate (open loop)."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.heads import Head
from bench.machine import Cores, NotAvailable, compiled, need

CONNECTIONS = 32
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}
_LATENCY = re.compile(r"^\s+(50|90|99)%\s+([\d.]+)(us|ms|s|m)\s*$", re.MULTILINE)
_TOTAL = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m)")


@dataclass(frozen=True, slots=True)
class Answered:
    """Requests answered, in how many seconds, and the percentiles of their latency in microseconds."""

    requests: int
    seconds: float
    p50: float
    p90: float
    p99: float


def parse(output: str) -> Answered:
    """What `wrk --latency` printed. ValueError when any answer was an error or missing."""
    bad = re.search(r"^\s*(Non-2xx or 3xx responses: \d+|Socket errors: .*)$", output, re.MULTILINE)
    total = _TOTAL.search(output)
    latency = {mark: float(value) * _UNITS[unit] for mark, value, unit in _LATENCY.findall(output)}
    if bad is not None or total is None or len(latency) != 3 or total[1] == "0":
        raise ValueError(f"wrk: {bad[1].strip() if bad else output.strip() or 'said nothing'}")
    return Answered(
        int(total[1]), float(total[2]) * _UNITS[total[3]] / 1e6, *(latency[mark] for mark in ("50", "90", "99"))
    )


def closed_loop(script: Path, port: int, cores: Cores, *, seconds: int = 1, connections: int = CONNECTIONS) -> Answered:
    need("wrk")
    command = ["taskset", "-c", str(cores.load), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "8s"]
    command += ["--latency", "-s", str(script), f"http://127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode != 0:
        raise NotAvailable(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def open_loop(head: Head, port: int, cores: Cores, folder: Path, *, rate: float, seconds: float = 1.0) -> Answered:
    """ValueError when the server does not keep up with the rate."""
    file = folder / "pace.head"
    file.write_bytes(head.filled())
    command = ["taskset", "-c", str(cores.load), str(compiled("pace", folder)), str(port), f"{rate:.0f}"]
    command += [str(seconds), str(CONNECTIONS), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 3 + 10, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    requests, failures, p50, p90, p99, *_ = (float(word) for word in done.stdout.split())
    if failures:
        raise ValueError(f"pace: {failures:.0f} answers were not 200")
    return Answered(int(requests), seconds, p50, p90, p99)


def each_once(head: Head, port: int, cores: Cores, folder: Path, *, first: int, end: int, seconds: float) -> int:
    """How many of these numbers were answered, as keys or tokens of the head; ValueError: not with 200."""
    template, tokens = head.template(folder)
    command = ["taskset", "-c", str(cores.load), str(compiled("fill", folder)), str(port), str(first), str(end)]
    command += [str(CONNECTIONS), str(seconds), str(template), str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    answers, failures = (int(word) for word in done.stdout.split())
    if failures:
        raise ValueError(f"fill: {failures} answers were not 200")
    return answers
