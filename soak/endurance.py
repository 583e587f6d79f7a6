"""What grows in the long run? Two million requests of all kinds, on a wall clock that runs 144 times faster."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median

from bench.machine import compiled
from proxy.credentials import new_encryption_key
from soak.judged import Judged
from soak.register import Register
from soak.sidecars import Sidecar, over, running
from tests import servers, wire
from tests.cli.process import ROOT
from tests.portal import HOST
from tests.serving.world import unsigned

METHOD = (
    "one sidecar with the shipped rules.yaml and a first tier of 16 MiB on one redis-server (64 MiB), its wall clock "
    "{factor} times faster; {total:,} requests over 16 connections by a client in C that checks tenant, user, path and "
    "version of every answer: hits, misses, writes, searches with new words, a sensitive feature by role, one by user, "
    "counters, published events; beside it event streams that come and go, purges, reports, scrapes of the metrics"
)
FACTOR = 144  # a day in ten minutes
TENANTS = tuple(f"org_{number}" for number in range(12))
USERS = 8
JOBS = 80
PERMISSIONS = "read:jobs read:companies read:analytics read:applications read:members write:jobs".split()
SHORT, LONG = (8_000, 40.0), (2_000_000, 2700.0)  # requests, and seconds that they may take
APART = 1.0  # seconds between samples
_WARM = 0.34  # of the run, before it counts whether something grows
GROWTH = 8.0  # bytes a request: the smallest object that could be forgotten has 48
# gauges of what is held, and how much more than before they may say: they breathe with what is asked for
TABLES = {
    "sidecache_background_tasks": 30, "sidecache_client_connections": 8, "sidecache_open_streams": 4,
    "sidecache_event_streams": 4, "sidecache_counts_waiting": 500, "sidecache_sessions_known": 20,
    "sidecache_revocations_known": 10, "sidecache_epochs_pending": 5, "sidecache_prepared_bytes": 1 << 20,
    "sidecache_forwarding_bytes": 1 << 19, "sidecache_l1_bytes": 2 << 20, "series in the metrics": 20,
}  # fmt: skip


@dataclass
class Samples:
    seconds: list[float] = field(default_factory=list)
    held: list[dict[str, float]] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # of those who ask beside the load

    def settled(self) -> "Samples":
        first = int(len(self.seconds) * _WARM)
        return Samples(self.seconds[first:], self.held[first:], self.metrics[first:])


def token(tenant: str, user: int) -> str:
    return unsigned(tenant, f"auth0|{tenant}-{user}", permissions=PERMISSIONS, exp=4_000_000_000)


def records() -> Iterator[bytes]:
    """What clients ask for, how often, and what must come."""
    for place, tenant in enumerate(TENANTS):
        for job in range(JOBS):
            path, item = f"/api/jobs/{job}", place * JOBS + job
            weight = 60 if job < 10 else 6
            yield _record(weight, item, "r", tenant, job % USERS, "GET", path)
            yield _record(1, item, "w", tenant, 0, "PUT", path, "{}")
        for user in range(USERS):
            yield _record(60, -1, "r", tenant, user, "GET", "/api/me", user=f"user=auth0|{tenant}-{user} ")
            yield _record(15, -1, "r", tenant, user, "GET", "/api/search?q=########&utm_source=########",
                          shown="/api/search?q=########")  # fmt: skip
        yield _record(100, -1, "r", tenant, 0, "GET", "/api/companies/7")
        yield _record(60, -1, "r", tenant, 1, "GET", "/api/jobs/3/applications")
        yield _record(15, -1, "r", tenant, 1, "POST", "/api/jobs/3/applications", "{}")
        yield _record(40, -1, "r", tenant, 2, "GET", "/api/analytics/summary")
        yield _record(30, -1, "r", tenant, 2, "GET", "/api/billing/########")


def _record(
    weight: int, item: int, kind: str, tenant: str, number: int, method: str, path: str, body: str = "",
    *, user: str = "", shown: str = "",
) -> bytes:  # fmt: skip
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token(tenant, number)}\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    request = f"{head}{length}\r\n{body}".encode()
    expected = f"tenant={tenant} {user}path={shown or path} ".encode()
    return b"%d %d %b %d %d\n%b%b" % (weight, item, kind.encode(), len(expected), len(request), expected, request)


async def run(folder: Path, *, short: bool) -> Judged:
    total, seconds = SHORT if short else LONG
    judged = Judged("endurance", METHOD.format(factor=FACTOR, total=total))
    who = {token(t, n).encode(): (t, f"auth0|{t}-{n}") for t in TENANTS for n in range(USERS)}
    async with AsyncExitStack() as stack:
        kept = ("--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru")
        server = stack.enter_context(servers.running(servers.redis_server(*kept)))
        register = await stack.enter_async_context(Register(who))
        environ = {
            "SIDECACHE_L1_BYTES": str(16 << 20), "SIDECACHE_AUDIT_LOG": str(folder / "audit"),
            "SIDECACHE_ENCRYPTION_KEYS": new_encryption_key("soak", os.urandom).entry(), **over(server.port),
        }  # fmt: skip
        rules = await asyncio.to_thread((ROOT / "rules.yaml").read_text)
        command = (sys.executable, "-m", "soak.accelerated", str(FACTOR))
        sidecar = Sidecar(folder / "one", register.port, rules, command=command, **environ)
        await stack.enter_async_context(running(sidecar))
        await asyncio.to_thread((folder / "records").write_bytes, b"".join(records()))
        began = time.monotonic()
        async with beside(sidecar) as (samples, streams):
            line, said = await load(sidecar, folder, total, seconds)
        judged.figures["requests a second"] = round(line[0] / (time.monotonic() - began))
        judge(judged, sidecar, line, said, total)
        judge_growth(judged, samples, short)
        judged.figures |= {"asked of the portal": register.asked, "events read": streams.read}
        judged.none("streams, purges, reports and scrapes that broke off", samples.troubles)
        judged.at_least("published events that a stream has read", streams.read, 5)
    return judged


async def load(sidecar: Sidecar, folder: Path, total: int, seconds: float) -> tuple[list[int], str]:
    program = await asyncio.to_thread(compiled, "mix", folder, Path(__file__).parent / "c")
    words = [str(word) for word in (sidecar.port, 16, total, seconds, folder / "records")]
    process = await asyncio.create_subprocess_exec(
        program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await process.communicate()
    lines = said.decode().splitlines()
    return [int(word) for word in lines[-1].split()] if lines else [0] * 5, complained.decode()


@dataclass
class Streams:
    read: int = 0


@asynccontextmanager
async def beside(sidecar: Sidecar) -> AsyncIterator[tuple[Samples, Streams]]:
    """Samples are taken, streams come and go, things are purged, all the while."""
    samples, streams = Samples(), Streams()
    tasks = [
        asyncio.ensure_future(_sample(sidecar, samples)),
        asyncio.ensure_future(_purge(sidecar)),
        *(asyncio.ensure_future(_listen(sidecar, streams, number)) for number in range(4)),
    ]
    try:
        yield samples, streams
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    samples.troubles = [
        repr(error) for task in tasks if not task.cancelled() and (error := task.exception()) is not None
    ]


async def _sample(sidecar: Sidecar, samples: Samples) -> None:
    began = time.monotonic()
    while True:
        metrics = await sidecar.metrics()
        samples.seconds.append(time.monotonic() - began)
        samples.held.append(sidecar.held())
        samples.metrics.append(metrics)
        await asyncio.sleep(APART)


async def _purge(sidecar: Sidecar) -> None:
    number = 0
    while True:
        number += 1
        tenant = TENANTS[number % len(TENANTS)]
        what = f"tags=jobs:{number % JOBS}" if number % 5 else "feature=jobs&confirm=jobs"
        answer = await wire.fetch(
            sidecar.admin_port, f"/api/cache/invalidate?tenant={tenant}&{what}", method="DELETE", host="127.0.0.1"
        )
        assert answer.status in (200, 202), answer.body
        credentials = f"Authorization: Bearer {token(tenant, 0)}"
        answer = await wire.fetch(sidecar.port, "/.sidecache/reports/job-views", credentials, host=HOST)
        assert answer.status in (200, 503), answer.body  # 503: the store takes its time
        await asyncio.sleep(0.5)


async def _listen(sidecar: Sidecar, streams: Streams, number: int) -> None:
    """One that reads events for some seconds, and comes back."""
    while True:
        async with await wire.connect(sidecar.port) as client:
            credentials = f"Authorization: Bearer {token(TENANTS[number], number)}"
            await client.send(f"GET /.sidecache/events HTTP/1.1\r\nHost: {HOST}\r\n{credentials}\r\n\r\n".encode())
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(3.0):
                    while line := await client.reader.readline():
                        streams.read += line.startswith(b"event: application.submitted")
        await asyncio.sleep(0.2)


def judge(judged: Judged, sidecar: Sidecar, line: list[int], said: str, total: int) -> None:
    answers, refused, wrong, stale, cut = line
    example = f": {said[:400]}" if said else ""
    judged.at_least("requests, each answer verified", answers, total)
    judged.none("answers of another tenant, user or path" + example * bool(wrong), wrong)
    judged.none("answers older than a write acknowledged before they were asked for" + example * bool(stale), stale)
    judged.none("answers that were not 2xx" + example * bool(refused), refused)
    judged.none("requests without an answer", cut)
    judged.true("the process is the same and runs", sidecar.runs)
    judged.none("alarming lines in the log", sidecar.alarming())


def judge_growth(judged: Judged, samples: Samples, short: bool) -> None:
    """Of what is held after the first third, nothing may grow with the requests."""
    kept = samples.settled()
    if len(kept.seconds) < 5:
        judged.true("there were samples enough", False, str(len(kept.seconds)))
        return
    resident, asked = [each["resident"] for each in kept.held], [_asked(each) for each in kept.metrics]
    slope = linear_regression(asked, resident).slope * (1 << 20)
    tenths = " ".join(f"{each:.0f}" for each in _tenths(samples.held))
    judged.figures |= {
        "samples": len(samples.seconds), "hours by its own clock": round(samples.seconds[-1] * FACTOR / 3600, 1),
        "resident by tenths of the run, MiB": tenths, "growth, bytes a request": round(slope, 1),
    }  # fmt: skip
    if not short:  # of half a minute nothing can be told
        judged.at_most("growth of resident memory after the first third", slope, GROWTH, "bytes a request")
    judged.at_most("resident memory at the end", resident[-1], 256, "MiB")
    for what, least in (("descriptors", 16), ("threads", 4)):
        values = [each[what] for each in kept.held]
        judged.at_most(f"{what}: the last fifth beyond the first", _later(values), least, what)
    for name, least in TABLES.items():
        values = [_gauge(each, name) for each in kept.metrics]
        judged.figures[name] = f"{values[0]:g} to {values[-1]:g}"
        if not short:
            judged.at_most(f"{name}: the last fifth beyond the first", _later(values), least, "")


def _tenths(held: list[dict[str, float]]) -> list[float]:
    return [held[len(held) * tenth // 10 - 1]["resident"] for tenth in range(1, 11)]


def _asked(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith("sidecache_requests_total"))


def _gauge(metrics: dict[str, float], name: str) -> float:
    if name == "series in the metrics":
        return len(metrics)
    return sum(value for each, value in metrics.items() if each == name or each.startswith(name + "{"))


def _later(values: list[float]) -> float:
    fifth = max(1, len(values) // 5)
    return median(values[-fifth:]) - median(values[:fifth])
