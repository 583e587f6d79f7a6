"""Does anybody read what is older than a write they know of? Two replicas on one Redis, and a naive cache to compare.

python -m bench.coherence [--operations 120000] [--replicas 2] [--json FILE]

The control runs the same workload with entries deleted on a write, in every replica at once, instead of epochs.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import uvloop

from tests import servers
from tests.faults.scene import reached_at
from tests.fleet import delete_on_write, observed
from tests.portal import History


def measure(operations: int, replicas: int, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    with (
        TemporaryDirectory() as folder,
        servers.running(servers.redis_server()) as server,
        structlog.testing.capture_logs() as logged,
    ):
        history = uvloop.run(
            observed(Path(folder), [reached_at(server)] * replicas, operations=operations, seed=seed, progress=_show)
        )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return {
        "operations": history.operations, "hits": history.hits, "stale": history.stale(),
        "wrong": {kind: len(told) for kind, told in history.wrong.items()},
        "examples": {kind: told[:3] for kind, told in history.wrong.items()},
        "events": [line["event"] for line in logged if line["event"] != "listening"],
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _show(history: History) -> None:
    if sys.stderr.isatty():
        print(f"\r{history.operations} operations, {history.stale()} stale", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=120_000)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = {"epochs": measure(arguments.operations, arguments.replicas, arguments.seed)}
    with delete_on_write():
        rows["delete on write"] = measure(arguments.operations // 2, arguments.replicas, arguments.seed)
    print(
        f"{'':18}{'operations':>12}{'hits':>10}{'stale':>8}{'seconds':>10}   {arguments.replicas} replicas, one Redis"
    )
    for name, row in rows.items():
        print(f"{name:18}{row['operations']:12}{row['hits']:10}{row['stale']:8}{row['seconds']:10}")
        for kind, told in row["examples"].items():
            print(f"  {kind}: {row['wrong'][kind]}, as in: {told[0]}")
    met = rows["epochs"]["wrong"] == {} and rows["delete on write"]["stale"] > 0
    print(f"nothing wrong with epochs, something without: {'met' if met else 'MISSED'}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"met": met, "rows": rows}, indent=2) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
