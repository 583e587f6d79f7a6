"""Which figures does this machine give? Each measurement in a process of its own: a table here, JSON in bench/results.

make bench            the short set, less than five minutes
make bench-full       all workloads beside the peers, the shared store, and the plots of docs/benchmarks.md
python -m bench NAME  one
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

SHORT = ("versus", "start_and_memory", "match_cost", "decide", "counting", "entry_overhead")
LONG = ("analytics", "streaming", "store", "coherence", "sessions", "events")  # with real stores, or a GiB
MEASUREMENTS = (*SHORT, *LONG)
# A measurement that hangs, or a machine that is not ours alone, must not make it last for ever: what is not begun when
# the time is over is left out, and says so. The times are those of `make bench` and `make bench-full`.
WITHIN = {False: 290.0, True: 2040.0}
VERSUS = {False: 180.0, True: 1260.0}  # of that, beside the peers
MOST = 330.0  # for one other measurement: coherence takes four minutes


def measure(name: str, full: bool, until: float) -> str:
    """Why there is nothing of it; "" when it was done."""
    left = min(until - time.monotonic(), VERSUS[full] + 60 if name == "versus" else MOST)
    if left < 5:
        return "left out: the time was over"
    print(f"== {name}", flush=True)
    (RESULTS / f"{name}.json").unlink(missing_ok=True)  # an old one is no figure of this run
    command = [sys.executable, "-m", f"bench.{name}", "--json", str(RESULTS / f"{name}.json")]
    if name == "versus":
        command += ["--within", str(VERSUS[full]), *(["--full"] if full else ["--rounds", "3"])]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # with the servers it has started
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return f"not done within {left:.0f} s"
    return "" if code == 0 else f"missed or failed (exit code {code})"


def main(arguments: list[str]) -> int:
    full = "--full" in arguments
    names = [argument for argument in arguments if argument != "--full"]
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        print(f"bench: no measurement called {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
        return 2
    RESULTS.mkdir(exist_ok=True)
    began = time.monotonic()
    missed: dict[str, str] = {}
    for name in names or (MEASUREMENTS if full else SHORT):
        why = measure(name, full, began + WITHIN[full] if not names else math.inf)
        if why:
            missed[name] = why
            print(f"{name}: {why}", flush=True)
    if full and not names:
        (RESULTS / "missed.json").write_text(json.dumps(missed, indent=2) + "\n")
        for command in (["bench.plots"], ["bench.report", "--write"]):
            if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
                missed[command[0]] = "failed"
    print(f"{time.monotonic() - began:.0f} s", *(f"{name}: {why}" for name, why in missed.items()), sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
