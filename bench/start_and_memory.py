"""How long does a sidecar take from exec to its first answer, and how much memory does it hold when idle?

python -m bench.start_and_memory [--json FILE]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

STARTS = 7
SETTLED = 3.0  # seconds after which the memory is read
TARGETS = {"start_s": 1.0, "idle_rss_mib": 90.0}
RULES = Path(__file__).parents[1] / "rules.yaml"

# Settings of this machine must not decide, nor a wish to compile the modules anew at each start.
_UNWANTED = ("SIDECACHE_", "REDIS_", "UPSTASH_", "PYTHONDONTWRITEBYTECODE")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(data: int, admin: int) -> subprocess.Popen[bytes]:
    """The command as a user starts it, with nothing but what this needs in its environment."""
    flags = ["--upstream", "http://127.0.0.1:9", "--rules", str(RULES), "--profile", "development"]
    flags += ["--listen", f"127.0.0.1:{data}", "--admin", f"127.0.0.1:{admin}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_UNWANTED)}
    command = Path(sys.executable).with_name("sidecache")
    return subprocess.Popen([str(command), "run", *flags], env=environ, stderr=subprocess.DEVNULL)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            with _OPENER.open(url, timeout=1) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    raise SystemExit(f"the sidecar ended with exit code {process.returncode} instead of answering")


def rss_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def one_start() -> tuple[float, float]:
    """(seconds from exec until /livez answers 200, MiB held a little later) of one process."""
    data, admin = free_port(), free_port()
    began = time.perf_counter()
    process = start(data, admin)
    try:
        wait_for(f"http://127.0.0.1:{admin}/livez", process)
        seconds = time.perf_counter() - began
        time.sleep(SETTLED)
        return seconds, rss_mib(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def measured(starts: int = STARTS) -> dict[str, float]:
    """The medians, by the names of TARGETS."""
    one_start()  # not counted: it leaves the compiled modules that an image or an installed wheel has
    figures = [one_start() for _ in range(starts)]
    seconds, memory = (statistics.median(column) for column in zip(*figures, strict=True))
    return {"start_s": round(seconds, 3), "idle_rss_mib": round(memory, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    figures = measured()
    print(f"{'median of ' + str(STARTS) + ' starts':<28}{'measured':>10}{'target':>10}")
    for name, label in (("start_s", "exec to /livez 200, s"), ("idle_rss_mib", "idle RSS after 3 s, MiB")):
        print(f"{label:<28}{figures[name]:>10}{TARGETS[name]:>10}")
    if asked.json is not None:
        result = {"starts": STARTS, "median": figures, "target": TARGETS}
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
