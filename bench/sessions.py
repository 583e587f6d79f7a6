"""How soon is a revoked token refused everywhere, and what do sessions cost? Three sidecars, a real Redis.

python -m bench.sessions [--json FILE]
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
import uvloop

from proxy.cache.background import Background
from proxy.cache.doorbell import Doorbell
from proxy.identity.sources import IdentityResolver
from proxy.identity.tokens import TokenVerifier
from proxy.policy.identity import IdentitySources
from proxy.policy.message import Fields, Request
from proxy.sessions.record import Record, Records, name_of
from proxy.sessions.revocation import Revocations
from proxy.stores.memory import MemoryStore
from tests import servers
from tests.chaos import Chaos
from tests.faults.scene import reached_at
from tests.serving.world import unsigned
from tests.sessions.scene import Scene, scene

PUSHED = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n[^\r]*\r\n")
REPLICAS = 3
# what is measured, its bound, and the unit of both
BOUNDS = {
    "revoked on 3 replicas, p99": (100.0, "ms"),
    "revoked on 3 replicas, no messages, p99": (1000.0, "ms"),
    "added to a hit that is decided anew": (2.0, "us"),
    "added to a hit like one before": (0.0, "us"),
    "100,000 sessions in Redis": (60.0, "MB"),
}


async def revoked(folder: Path, server: servers.Server, logouts: int, *, cut: bool) -> float:
    """Milliseconds from the answer to a logout until every replica refuses: the 99th of a hundred."""
    async with AsyncExitStack() as stack:
        ports: list[int | None] = [None] * REPLICAS
        if cut:
            for number in range(REPLICAS):
                chaos = await stack.enter_async_context(Chaos("127.0.0.1", server.port))
                chaos.rewrite = lambda said: PUSHED.sub(b"", said)
                ports[number] = chaos.port
        settings = [reached_at(server) if port is None else reached_at(server, port) for port in ports]
        made = await stack.enter_async_context(scene(folder, *settings))
        claims = made.issuer.verify(await made.token())
        times = []
        for number in range(logouts):
            # a member of its own for each, so that none is revoked before
            token = made.issuer.token(f"auth0|bench{number}", "org_acme", claims["permissions"], now=time.time() - 5)
            for replica in range(REPLICAS):
                await made.ask(replica, "/api/jobs", token)
            await made.ask(number % REPLICAS, "/api/logout", token, method="POST")
            began = time.monotonic()
            await asyncio.gather(*(_refused(made, replica, token) for replica in range(REPLICAS)))
            times.append((time.monotonic() - began) * 1e3)
            await asyncio.sleep(0.013 * (number % 7))  # not in step with the reads
    return statistics.quantiles(times, n=100)[98]


async def _refused(made: Scene, replica: int, token: str) -> None:
    while (await made.ask(replica, "/api/jobs", token))[0] != 401:  # noqa: ASYNC110
        await asyncio.sleep(0.002)


async def upkeep() -> float:
    """Microseconds that judging and touching add to finding out who asks, with 10,000 revocations known."""
    store, background = MemoryStore(1 << 24, time.time), Background(lambda error: None)
    bell = Doorbell(store, "bench", heard=lambda *_: None, deaf=lambda: None, sleep=asyncio.sleep)
    revocations = Revocations(store, bell, time.time, background, applied=lambda news: None)
    await revocations.revoke([revocations.revocation(f"u:{number}", time.time()) for number in range(10_000)])
    records = Records(store, revocations, time.time, background)
    verifier = TokenVerifier(None, "", "", allow_unsigned=True)
    token = unsigned("org_a", "ada", iat=int(time.time()), sid="s1")
    request = Request("GET", "/api/jobs", Fields((("Authorization", f"Bearer {token}"),)))
    plain, kept = IdentityResolver(verifier), IdentityResolver(verifier, revocations, seen=records.seen)
    found = []
    for _ in range(9):
        without, with_both = (_microseconds(resolver, request) for resolver in (plain, kept))
        found.append(with_both - without)
        await asyncio.sleep(0)
    await background.drain(1.0)
    return max(0.0, statistics.median(found))


def _microseconds(resolver: IdentityResolver, request: Request) -> float:
    sources, now = IdentitySources(), time.time()
    resolver.resolve_now(request, {}, sources, now)
    began = time.process_time()
    for _ in range(20_000):
        resolver.resolve_now(request, {}, sources, now)
    return (time.process_time() - began) / 20_000 * 1e6


def memory(server: servers.Server) -> float:
    """Megabytes of 100,000 sessions as Auth0's tokens make them."""
    server.flush()
    before = server.admin.info("memory")["used_memory"]
    pipeline = server.admin.pipeline(transaction=False)
    roles = tuple(f"{verb}:{noun}" for noun in ("jobs", "applications", "companies") for verb in ("read", "write"))
    now = time.time()
    for number in range(100_000):
        user, tenant = f"auth0|{number:024x}", f"org_{number % 1000:016x}"
        record = Record(user, tenant, f"sid{number:030x}", roles, now, now + 86400, now, now)
        pipeline.set(name_of(user, tenant), record.packed(), px=3_600_000)
        if number % 5000 == 4999:
            pipeline.execute()
    return float(server.admin.info("memory")["used_memory"] - before) / 1e6


def measure(logouts: int) -> dict[str, float]:
    found: dict[str, float] = {}
    names = list(BOUNDS)
    with servers.running(servers.redis_server()) as server, structlog.testing.capture_logs():
        for name, cut in zip(names[:2], (False, True), strict=True):
            server.flush()
            with TemporaryDirectory() as folder:
                found[name] = uvloop.run(revoked(Path(folder), server, logouts, cut=cut))
        found[names[2]] = uvloop.run(upkeep())
        found[names[3]] = 0.0  # nothing of it runs: one number is compared, as before
        found[names[4]] = memory(server)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logouts", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.logouts)
    missed = [name for name, value in found.items() if value > BOUNDS[name][0]]
    for name, value in found.items():
        bound, unit = BOUNDS[name]
        print(f"{name:42}{value:10.1f} {unit:3} (<= {bound:g}){'  MISSED' if name in missed else ''}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"met": not missed, "rows": found}, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
