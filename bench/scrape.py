"""What does a scrape cost with many features and tenants, and how long does the event loop wait for it?

python -m bench.scrape [--json FILE]
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path

from proxy import figures
from proxy.cache.background import Background
from proxy.cache.epochs import Epochs
from proxy.cache.seal import Sealer
from proxy.cache.tiers import Cache
from proxy.policy.entry import Entry
from proxy.policy.message import Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.stores.memory import MemoryStore
from proxy.telemetry.exposition import exposition
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.traffic import Traffic

FEATURES, TENANTS, ENTRIES = 50, 10_000, 3
ROUNDS = 15
TURN = 0.001  # seconds between two looks at the loop


class _Listener:
    hits = None
    connections = 64


def filled(metrics: Metrics) -> None:
    """As after hours of traffic: every feature with the reasons that it can have, every tenant with a few entries."""
    background = Background(lambda error: None)
    store = MemoryStore(1 << 20, time.time)
    epochs = Epochs(store, time.monotonic, os.urandom, background, sole=True, siblings=None, report=lambda *_: None)
    sealer = Sealer(b"a key of the bench", ())
    cache = Cache(store, epochs, l1_bytes=256 << 20, clock=time.time, sealer=sealer, background=background)
    now = time.time()
    for tenant in range(TENANTS):
        for number in range(ENTRIES):
            name = f"feature-{(tenant + number) % FEATURES}"
            key = f"tenant:org_{tenant}:{name}:{number}"
            entry = Entry(
                key, f"org_{tenant}", "GET /", b"p" * 8, 200, b"", b"x" * 512, now, 0.0, now + 900, now + 960, now,
                tags=(name, f"{name}:{number}"),
            )  # fmt: skip
            cache._memory.put(entry, until=now + 960, quota=None, now=now)
    traffic = Traffic(lambda method, path: None, time.time)
    for tenant in range(TENANTS):
        traffic.note(
            Request("GET", "/api/jobs"), Outcome(Reason.COLD, forward=Forward.URI_MISS, tenant=f"org_{tenant}")
        )
    for feature in range(FEATURES):
        for reason in Reason:
            outcome = Outcome(reason, hit=reason is Reason.FRESH, feature=f"feature-{feature}")
            metrics.count(outcome, 0.002)
    listener: object = _Listener()
    metrics.watch(lambda: figures.of_serving(cache, epochs, listener, sealer, background, time.time()))  # type: ignore[arg-type]
    metrics.watch(lambda: figures.of_traffic(traffic))
    lag = LoopLag()
    metrics.watch(lambda: figures.of_loop(lag))


async def scraped(metrics: Metrics) -> tuple[float, float, float, int]:
    """Seconds of one scrape, those of CPU, the longest that the loop waited meanwhile, and the bytes."""
    worst, running = 0.0, True

    async def watched() -> None:
        nonlocal worst
        while running:
            before = time.perf_counter()
            await asyncio.sleep(TURN)
            worst = max(worst, time.perf_counter() - before - TURN)

    watching = asyncio.create_task(watched())
    await asyncio.sleep(0.01)
    worst, before, cpu = 0.0, time.perf_counter(), time.process_time()
    text = await asyncio.to_thread(exposition, metrics.collected())
    took, cpu = time.perf_counter() - before, time.process_time() - cpu
    running = False
    await watching
    return took, cpu, worst, len(text)


async def measured() -> dict[str, float]:
    metrics = Metrics()
    filled(metrics)
    rounds = [await scraped(metrics) for _ in range(ROUNDS)]
    return {
        "features": FEATURES, "tenants": TENANTS, "bytes": rounds[0][3],
        "scrape_ms": round(statistics.median(took for took, *_ in rounds) * 1e3, 1),
        "cpu_ms": round(statistics.median(cpu for _, cpu, *_ in rounds) * 1e3, 1),
        "loop_waits_ms": round(statistics.median(worst for _, _, worst, _ in rounds) * 1e3, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    file = parser.parse_args().json
    found = asyncio.run(measured())
    print(
        f"{FEATURES} features, {TENANTS} tenants with {ENTRIES} entries each: {found['bytes']} bytes in "
        f"{found['scrape_ms']} ms ({found['cpu_ms']} ms of CPU), the loop waits {found['loop_waits_ms']} ms"
    )
    if file is not None:
        file.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
