"""Which figures does this machine give? Each measurement in a process of its own: a table here, JSON in bench/results.

make bench            the short set, less than five minutes
make bench-full       all workloads beside the peers, the shared store, and the plots of docs/benchmarks.md
python -m bench NAME  one
"""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

# what docs/benchmarks.md holds, in its order
SHORT = ("versus", "start_and_memory", "match_cost", "decide", "counting", "analytics", "entry_overhead", "streaming")
LONG = ("store", "coherence", "sessions", "events")  # with real stores
MEASUREMENTS = (*SHORT, *LONG)
MAX_SECONDS = 600
MAX_SECONDS_FULL = 3600


def main(arguments: list[str]) -> int:
    full = "--full" in arguments
    names = [argument for argument in arguments if argument != "--full"]
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        print(f"bench: no measurement called {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
        return 2
    RESULTS.mkdir(exist_ok=True)
    failed = 0
    for name in names or (MEASUREMENTS if full else SHORT):
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", "--json", str(RESULTS / f"{name}.json")]
        command += ["--full"] if full and name == "versus" else []
        timeout = MAX_SECONDS_FULL if full else MAX_SECONDS
        failed += subprocess.run(command, timeout=timeout, check=False).returncode != 0
    if full:
        failed += subprocess.run([sys.executable, "-m", "bench.plots"], check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
