"""What do open event streams cost, how fast is one event with all of them, and what does a write pay for its event?

The sidecar has a core of its own; readers (in C), store, upstream and publishers share the other.

python -m bench.events [--json FILE] [--streams N]
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import uvloop

from bench.machine import Cores, NotAvailable, compiled
from tests import servers, wire
from tests.cli.process import MODULE, environment
from tests.faults.scene import plain, reached_at
from tests.serving.world import unsigned

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
events: [note]
features:
  notes:
    ttl: 10m
    read: [GET /hit]
    write:
      - POST /quiet
      - route: POST /told
        publish: {event: note, to: tenant, data: {id: response.id, n: request.n}}
"""
OF_TENANT, OF_USER = 500, 10
BURST = 100  # events for each tenant
BOUNDS = {
    "memory per open stream": (16.0, "KiB"),
    "messages per second, from the first publish to the last frame": (50_000.0, "/s"),
    "messages per second of the sidecar's CPU": (50_000.0, "/s"),
    "added to a write by its event, median": (5.0, "ms"),
    "added to a write by its event, p99": (5.0, "ms"),
    "p99 of a hit beside broadcasts to 2,000 streams, times that without": (2.0, "x"),
}
BROADCASTS = 4  # tenants of OF_TENANT readers each, to which something is told every BETWEEN seconds
BETWEEN = 0.1


@dataclass
class Sidecar:
    port: int
    admin: int
    pid: int

    @property
    def rss(self) -> int:
        """KiB."""
        line = next(each for each in Path(f"/proc/{self.pid}/status").read_text().splitlines() if "VmRSS" in each)
        return int(line.split()[1])

    @property
    def cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def sidecar(folder: Path, upstream: int, **environ: str) -> AsyncIterator[Sidecar]:
    (folder / "rules.yaml").write_text(RULES)
    port, admin = servers.free_port(), servers.free_port()
    words = [
        "run", "--profile", "development", "--upstream", f"http://127.0.0.1:{upstream}", "--rules",
        str(folder / "rules.yaml"), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
    ]  # fmt: skip
    settings = environment(
        SIDECACHE_DEV_AUTH="1", SIDECACHE_AUDIT_LOG="off", SIDECACHE_DRAIN_S="2", SIDECACHE_EVENT_STREAMS="20000",
        SIDECACHE_STORE_TIMEOUT_MS="2000",
        **environ,
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *MODULE, *words, cwd=folder, env=settings, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        await wire.until(lambda: _listens(port))
        yield Sidecar(port, admin, process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    return not await wire.refuses(port)


class Readers:
    """A C program that reads so many streams and counts what comes: it takes what is no part of the figures' cores."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(120):
            said = (await self._process.stdout.readline()).decode().strip()
        if not said:
            raise NotAvailable("the readers ended: were their streams refused?")
        return said

    async def counts_to(self, goal: int) -> None:
        """From now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % goal)
        assert await self.line() == "begun"


def head(name: str, number: int) -> bytes:
    token = unsigned(f"{name}_{number // OF_TENANT}", f"user-{number // OF_USER}", permissions=["read:notes"])
    return f"GET /.sidecache/events HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


@asynccontextmanager
async def readers(program: Path, at: Sidecar, count: int, core: int, name: str = "org") -> AsyncIterator[Readers]:
    heads = program.parent / f"heads-{name}"
    heads.write_bytes(b"".join(head(name, number) for number in range(count)))
    words = [program, str(at.port), heads, "event: note"]
    process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
    os.sched_setaffinity(process.pid, {core})
    made = Readers(process)
    try:
        assert await made.line() == "open"
        yield made
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself, and said why
            process.terminate()
        await process.wait()


async def publish(at: Sidecar, tenants: int) -> None:
    """Through the admin port: BURST events for each tenant, all tenants at once."""

    async def one(tenant: int) -> None:
        async with await wire.connect(at.admin) as client:
            for number in range(BURST):
                body = orjson.dumps(
                    {"tenant": f"org_{tenant}", "event": "note", "data": {"n": number, "job": "job_77"}}
                )
                kind = "Content-Type: application/json"
                answer = await client.ask("/api/events", kind, method="POST", body=body, host=f"127.0.0.1:{at.admin}")
                assert answer.status in (201, 202), answer

    await asyncio.gather(*(one(tenant) for tenant in range(tenants)))


async def streams(at: Sidecar, count: int, program: Path, core: int) -> dict[str, float]:
    async with readers(program, at, OF_USER, core, "first"):  # what the first ones make besides
        pass
    await asyncio.sleep(0.5)
    before = at.rss
    async with readers(program, at, count, core) as reading:
        figures = {"memory per open stream": (at.rss - before) / count}
        tenants = (count + OF_TENANT - 1) // OF_TENANT
        goal = BURST * count
        await reading.counts_to(goal)
        cpu = at.cpu
        publishing = asyncio.ensure_future(publish(at, tenants))
        took = float(await reading.line())
        spent = at.cpu - cpu
        await publishing
        figures |= await hits(at)
    figures["messages per second, from the first publish to the last frame"] = goal / took
    figures["messages per second of the sidecar's CPU"] = goal / spent
    return figures


async def hit(port: int, count: int) -> list[float]:
    """Seconds of each of so many hits, one after the other."""
    auth = f"Authorization: Bearer {unsigned('org_hits')}"
    async with await wire.connect(port) as client:
        times = []
        for number in range(count + 500):
            began = time.perf_counter()
            assert (await client.ask("/hit", auth)).status == 200
            if number >= 500:
                times.append(time.perf_counter() - began)
        return times


async def p99_of_hits(port: int) -> float:
    """Measured in a process of its own: this one is busy with its readers."""
    command = [sys.executable, "-m", "bench.events", "--hits", str(port)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    said, _ = await process.communicate()
    return float(said)


async def hits(at: Sidecar) -> dict[str, float]:
    """While the streams are open that `streams` has opened."""

    async def broadcast() -> None:
        async with await wire.connect(at.admin) as client:
            while True:
                for tenant in range(BROADCASTS):
                    body = orjson.dumps({"tenant": f"org_{tenant}", "event": "note"})
                    kind = "Content-Type: application/json"
                    await client.ask("/api/events", kind, method="POST", body=body, host=f"127.0.0.1:{at.admin}")
                await asyncio.sleep(BETWEEN)

    quiet = await p99_of_hits(at.port)
    telling = asyncio.ensure_future(broadcast())
    beside = await p99_of_hits(at.port)
    telling.cancel()
    await asyncio.wait((telling,))
    return {
        "p99 of a hit beside broadcasts to 2,000 streams, times that without": beside / quiet,
    }


async def writes(at: Sidecar) -> dict[str, float]:
    auth = f"Authorization: Bearer {unsigned('org_writes')}"
    times: dict[str, list[float]] = {"/quiet": [], "/told": []}
    async with await wire.connect(at.port) as client:
        for number in range(1200):
            path = "/told" if number % 2 else "/quiet"
            began = time.perf_counter()
            await client.ask(path, auth, method="POST", body=b'{"n": %d}' % number)
            if number >= 200:
                times[path].append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.006)  # below the limit of events
    return {
        "added to a write by its event, median": statistics.median(times["/told"]) - statistics.median(times["/quiet"]),
        "added to a write by its event, p99": _p99(times["/told"]) - _p99(times["/quiet"]),
    }


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


async def measured(count: int) -> dict[str, float]:
    made = 0

    async def created(request: wire.Message, peer: wire.Peer) -> None:
        nonlocal made
        made += 1
        body = b'{"id": "app_%d"}' % made
        status = "200 OK" if request.start[0] == b"GET" else "201 Created"
        await peer.send(wire.response(body, "Content-Type: application/json", status=status))

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(plain())
        upstream = await stack.enter_async_context(wire.upstream(created))
        at = await stack.enter_async_context(sidecar(folder, upstream.port, **reached_at(server)))
        cores = Cores.chosen()
        os.sched_setaffinity(at.pid, {cores.server})
        os.sched_setaffinity(server.pid, {cores.load})
        os.sched_setaffinity(0, {cores.load})
        return await writes(at) | await streams(at, count, compiled("readers", folder), cores.load)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--hits", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hits is not None:
        print(_p99(uvloop.run(hit(options.hits, 10_000))))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, options.streams + 1000)), hard))
    figures = uvloop.run(measured(options.streams))
    for name, value in figures.items():
        bound, unit = BOUNDS[name]
        print(f"{name:62} {value:12,.2f} {unit:4} bound {bound:,.0f}", file=sys.stdout)
    if options.json is not None:
        options.json.write_text(json.dumps({"streams": options.streams, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
