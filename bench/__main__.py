"""Which figures does this machine give? Each measurement in a process of its own: a table here, JSON in bench/results.

make bench            the short set, less than five minutes
make bench-full       all workloads beside the peers, the shared store, and the plots of docs/benchmarks.md
python -m bench NAME  one
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

# what docs/benchmarks.md holds, in its order
SHORT = ("versus", "start_and_memory", "match_cost", "decide", "counting", "analytics", "entry_overhead", "streaming")
LONG = ("store", "coherence", "sessions", "events")  # with real stores
MEASUREMENTS = (*SHORT, *LONG)
MAX_SECONDS = 240  # of one measurement; `versus` keeps to its own
VERSUS_SECONDS = {False: 150, True: 1320}  # workloads that are not begun by then are left out, and say so


def measure(name: str, full: bool) -> bool:
    """Whether it was done; one that hangs does not keep the others from being measured."""
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", f"bench.{name}", "--json", str(RESULTS / f"{name}.json")]
    limit = MAX_SECONDS
    if name == "versus":
        command += ["--within", str(VERSUS_SECONDS[full]), *(["--full"] if full else ["--rounds", "3"])]
        limit += VERSUS_SECONDS[full]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        print(f"{name}: FAILED: not done within {limit} s", flush=True)
        os.killpg(process.pid, signal.SIGTERM)  # with the servers it has started
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        code = 1
    if code:
        print(f"{name}: exit code {code}", flush=True)
    return code == 0


def main(arguments: list[str]) -> int:
    full = "--full" in arguments
    names = [argument for argument in arguments if argument != "--full"]
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        print(f"bench: no measurement called {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
        return 2
    RESULTS.mkdir(exist_ok=True)
    began = time.monotonic()
    wanted = names or list(MEASUREMENTS if full else SHORT)
    missed = [name for name in wanted if not measure(name, full)]
    if full and not names:
        for command in (["bench.plots"], ["bench.report", "--write"]):
            code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
            missed += [command[0]] if code else []
    print(f"{time.monotonic() - began:.0f} s; {'all done' if not missed else 'missed or failed: ' + ', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
