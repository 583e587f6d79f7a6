"""Which figures does this machine give? Each measurement in a process of its own: a table here, JSON in bench/results.

make bench            all of them, about five minutes
python -m bench NAME  one
"""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

# what docs/benchmarks.md holds, in its order
MEASUREMENTS = ("start_and_memory", "match_cost", "decide", "entry_overhead", "streaming", "store", "coherence")
MAX_SECONDS = 600


def main(names: list[str]) -> int:
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        print(f"bench: no measurement called {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
        return 2
    RESULTS.mkdir(exist_ok=True)
    failed = 0
    for name in names or MEASUREMENTS:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", "--json", str(RESULTS / f"{name}.json")]
        failed += subprocess.run(command, timeout=MAX_SECONDS, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
