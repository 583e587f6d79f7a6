"""How much memory do hostile bodies cost? A limit of 256 MiB for a sidecar whose first tier may hold 100 MiB."""

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from soak.judged import Judged
from soak.sidecars import Sidecar, over, running
from tests import servers, wire
from tests.portal import HOST, TENANTS, TOKENS

METHOD = (
    "a sidecar with SIDECACHE_L1_BYTES=104857600 on one redis-server, {place}; for {seconds} s all at once: {readers} "
    "readers that take a few bytes of 8 MiB, 1,500 bodies of 900 KiB of which half compress to nothing, bodies in "
    "chunks of one byte, both ways, heads of 30 KiB and of too many fields, a body without an end, while ordinary "
    "requests go on"
)
RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 2m, if-error: 1h}
features:
  large: {ttl: 1h, read: ["GET /api/large/{large-id}"], write: []}
  jobs: {ttl: 1h, read: ["GET /api/jobs/{job-id}"], write: []}
"""
LIMIT_MIB = 256
READERS = 20
DUST = 5000  # chunks of a byte: what reads and writes them here is slow too
_LARGE = 900 << 10
_CGROUP = Path("/sys/fs/cgroup/memory")  # version 1; of version 2 a delegated subtree would be needed
_noise = random.Random(1).randbytes(2 * _LARGE)


def large(number: int) -> bytes:
    """Half of them compress to nothing, the others not at all; each says which it is."""
    start = number * 4096 % _LARGE
    body = b"\x00" * _LARGE if number % 2 else _noise[start : start + _LARGE]
    return b"%08d" % number + body[8:]


async def answer(request: wire.Message, peer: wire.Peer) -> None:
    path = request.target.decode()
    kind, _, name = path.removeprefix("/api/").partition("/")
    if kind == "large":
        await peer.send(wire.response(large(int(name)), "Content-Type: application/octet-stream"))
    elif kind == "dust":
        await peer.send(wire.chunked([b"x"] * DUST))
    elif kind == "stream":
        await peer.send(wire.response(b"s" * (8 << 20), "Content-Type: text/plain"))
    elif kind == "endless":
        await peer.send(wire.response(length=False))
        while True:
            await peer.send(b"e" * 65536)
    else:
        tenant = next(t for t, token in TOKENS.items() if token in (request.get("authorization") or ""))
        await peer.send(wire.response(f"{tenant} {path}".encode()))


class Hostile:
    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ending = False

    def everybody(self) -> Iterator[Callable[[], Coroutine[None, None, None]]]:
        yield from [self.slow_reader] * READERS
        yield from [self.large_bodies] * 4
        yield from [self.dust, self.dust_sent, self.huge_heads, self.endless, self.ordinary, self.ordinary]

    async def slow_reader(self) -> None:
        client = await wire.connect(self.port, receive_buffer=4096)
        await client.send(f"GET /api/stream/{id(client)} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        while not self.ending:
            self.seen["bytes of a slow reader"] += len(await client.reader.read(512))
            await asyncio.sleep(0.1)
        client.reset()

    async def large_bodies(self) -> None:
        async with await wire.connect(self.port) as client:
            while not self.ending:
                number = self.seen["large"]
                self.seen["large"] += 1
                number %= 1500
                got = await client.ask(f"/api/large/{number}", _token(number), host=HOST)
                if got.status != 200 or zlib.crc32(got.body) != zlib.crc32(large(number)):
                    self.wrong.append(f"{got.status} {number} {got.body[:8]!r}")

    async def dust(self) -> None:
        while not self.ending:
            got = await wire.fetch(self.port, "/api/dust/1", host=HOST)
            self.seen["dust"] += got.body == b"x" * DUST
            await asyncio.sleep(0.5)

    async def dust_sent(self) -> None:
        head = f"POST /api/post HTTP/1.1\r\nHost: {HOST}\r\n{_token(0)}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        while not self.ending:
            async with await wire.connect(self.port) as client:
                with suppress(OSError, wire.Cut):
                    await client.send(head + b"1\r\nx\r\n" * DUST + b"0\r\n\r\n")
                    self.seen[f"dust sent: {(await client.response()).status}"] += 1
            await asyncio.sleep(0.5)

    async def huge_heads(self) -> None:
        for fields in _endlessly(["X-A: " + "a" * 15_000] * 2, ["X-B: b"] * 5000, ["X-C: " + "c" * 200_000]):
            if self.ending:
                return
            with suppress(OSError, wire.Cut):
                got = await wire.fetch(self.port, "/api/jobs/1", _token(0), *fields, host=HOST)
                self.seen[f"huge head: {got.status}"] += 1
            await asyncio.sleep(0.05)

    async def endless(self) -> None:
        client = await wire.connect(self.port)
        await client.send(f"GET /api/endless HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        while not self.ending:
            self.seen["bytes without an end"] += len(await client.reader.read(1 << 16))
            await asyncio.sleep(0.02)
        client.reset()

    async def ordinary(self) -> None:
        async with await wire.connect(self.port) as client:
            number = 0
            while not self.ending:
                number += 1
                tenant, path = TENANTS[number % 2], f"/api/jobs/{number % 5000}"
                got = await client.ask(path, _token(number), host=HOST)
                self.seen["ordinary"] += 1
                if got.status != 200 or got.body != f"{tenant} {path}".encode():
                    self.wrong.append(f"{got.status} {tenant} {path}: {got.body[:80]!r}")
                await asyncio.sleep(0.002)


def _endlessly(*each: list[str]) -> Iterator[list[str]]:
    while True:
        yield from each


def _token(number: int) -> str:
    return f"Authorization: Bearer {TOKENS[TENANTS[number % 2]]}"


@contextmanager
def confined() -> Iterator[Path | None]:
    """A control group that ends what takes more, where one can be made."""
    group = _CGROUP / f"sidecache-soak-{servers.free_port()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_MIB << 20))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


@asynccontextmanager
async def attacked(sidecar: Sidecar) -> AsyncIterator[Hostile]:
    hostile = Hostile(sidecar.port)
    tasks = [asyncio.ensure_future(each()) for each in hostile.everybody()]
    try:
        yield hostile
    finally:
        hostile.ending = True
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, BaseException):
                hostile.wrong.append(f"{type(ended).__name__}: {ended}")


async def run(folder: Path, *, short: bool) -> Judged:
    seconds = 8.0 if short else 40.0
    async with AsyncExitStack() as stack:
        group = stack.enter_context(confined())
        place = "in a control group of 256 MiB" if group is not None else "its peak by the kernel (VmHWM)"
        judged = Judged("hostile bodies", METHOD.format(place=place, seconds=seconds, readers=READERS))
        server = stack.enter_context(servers.running(servers.redis_server("--maxmemory", "200mb")))
        upstream = await stack.enter_async_context(wire.upstream(answer, keeps=False))
        before = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh") if group is not None else ()
        environ = {"SIDECACHE_L1_BYTES": str(100 << 20), **over(server.port)}
        sidecar = Sidecar(folder / "one", upstream.port, RULES, before=before, **environ)
        await stack.enter_async_context(running(sidecar))
        judged.figures["resident at the start, MiB"] = round(sidecar.held()["resident"])
        async with attacked(sidecar) as hostile:
            await asyncio.sleep(seconds)
            metrics = await sidecar.metrics() if sidecar.runs else {}
        judge(judged, sidecar, hostile, metrics, group)
    return judged


def judge(
    judged: Judged, sidecar: Sidecar, hostile: Hostile, metrics: dict[str, float], group: Path | None
) -> None:  # fmt: skip
    judged.figures |= dict(hostile.seen)
    judged.figures["first tier, MiB"] = round(metrics.get("sidecache_l1_bytes", 0) / (1 << 20))
    judged.true("the process is the same and runs", sidecar.runs)
    judged.at_most("peak of resident memory (VmHWM)", sidecar.held()["peak"] if sidecar.runs else 1e9, LIMIT_MIB, "MiB")
    if group is not None:
        refused = int((group / "memory.failcnt").read_text())
        judged.figures["times at the limit of the control group"] = refused
    judged.at_least("large bodies answered", hostile.seen["large"], 30)
    judged.at_least("ordinary answers meanwhile", hostile.seen["ordinary"], 30)
    judged.none("answers that were wrong or missing", hostile.wrong)
    judged.none("alarming lines in the log", sidecar.alarming())
