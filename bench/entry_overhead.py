"""What does one entry of the first tier cost beyond its key, head and body? (target: at most 600 bytes)

python -m bench.entry_overhead [--entries 20000] [--json FILE]
"""

import argparse
import gc
import json
import os
import sys
import tracemalloc
from pathlib import Path

from proxy.cache.memory import Memory
from proxy.policy.entry import Entry

TARGET = 600
NOW = 1_800_000_000.0
TENANTS = 20
POLICY = os.urandom(16)


def entry(number: int) -> Entry:
    """One job of one tenant; nothing but what real entries share is shared with the others."""
    tenant = f"org_{number % TENANTS:04}"
    job = f"{number:08}"
    stored = NOW + number * 0.001
    return Entry(
        key=f"tenant:{tenant}:jobs:{job}",
        tenant=tenant,
        request=f"GET /api/jobs/{job}",
        policy=POLICY,
        status=200,
        head=os.urandom(150).hex().encode(),
        body=os.urandom(256),
        stored_at=stored,
        age=number * 0.0001,
        fresh_until=stored + 900.5,
        grace_until=stored + 1020.5,
        error_until=stored + 4500.5,
        etag=f'"{number:016x}"',
        last_modified=NOW - number,
        content_type="application/json; charset=utf-8",
        tags=("jobs", f"jobs:{job}"),
        epochs_hard=os.urandom(16),
        epochs_soft=os.urandom(16),
        fetch_seconds=0.04 + number * 1e-6,
    )


def measure(count: int, *, hit: bool) -> dict[str, float]:
    """Bytes per entry: of the payload, beyond it, and what the tier itself accounts beyond it."""
    memory = Memory(1 << 40)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    payload = 0
    made: Entry | None = None
    keys = []
    for number in range(count):
        made = entry(number)
        payload += len(made.key) + len(made.head) + len(made.body)
        assert memory.put(made, until=made.error_until, quota=None, now=NOW) is None
        if hit:
            keys.append(made.key)
    made = None
    for key in keys:
        memory.get(key)
    del keys
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "payload": payload / count,
        "overhead": (after - before - payload) / count,
        "accounted": (memory.size - payload) / count,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = {name: measure(arguments.entries, hit=hit) for name, hit in (("stored", False), ("stored and hit", True))}
    print(f"{'':16}{'payload':>10}{'overhead':>10}{'accounted':>11}   bytes per entry, {arguments.entries} entries")
    for name, row in rows.items():
        print(f"{name:16}{row['payload']:10.0f}{row['overhead']:10.0f}{row['accounted']:11.0f}")
    worst = max(row["overhead"] for row in rows.values())
    met = worst <= TARGET
    print(f"at most {TARGET}: {'met' if met else 'MISSED'}")
    if arguments.json is not None:
        result = {"entries": arguments.entries, "target": TARGET, "overhead": worst, "met": met, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
