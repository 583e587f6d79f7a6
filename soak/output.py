"""What happens when nobody reads what the sidecar writes? Requests go on, the audit waits, the end comes."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from proxy.admin.chain import verify
from soak.crowd import Crowd, Watched
from soak.judged import Judged
from soak.sidecars import Sidecar, over, surroundings
from tests.portal import RULES, Portal

METHOD = (
    "a sidecar whose standard error (with the access log) and standard output (the audit, all features "
    "sensitive) are pipes that nobody reads, for {seconds} s; then both are read again; then not any more, and SIGTERM"
)
SENSITIVE = RULES.replace("    ttl: 15m\n", "    ttl: 15m\n    sensitive: true\n")
_PIPE = 65536  # bytes that one holds


class Pipe:
    """One whose reader stops and goes on."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.got = b""

    async def read(self, seconds: float) -> bytes:
        """All that comes in this time."""
        os.set_blocking(self.reads, False)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                self.got += os.read(self.reads, 1 << 20)
                await asyncio.sleep(0)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        return self.got


@contextmanager
def pipes() -> Iterator[tuple[Pipe, Pipe]]:
    both = Pipe(), Pipe()
    try:
        yield both
    finally:
        for each in both:
            os.close(each.reads)
            os.close(each.writes)


async def run(folder: Path, *, short: bool) -> Judged:
    seconds = 2.0 if short else 8.0
    judged = Judged("output that nobody reads", METHOD.format(seconds=seconds))
    portal = Portal()
    async with AsyncExitStack() as stack:
        server, upstream = await stack.enter_async_context(surroundings(portal))
        environ = {"SIDECACHE_ACCESS_LOG": "1", "SIDECACHE_AUDIT_LOG": "stdout", **over(server.port)}
        sidecar = Sidecar(folder / "one", upstream.port, SENSITIVE, **environ)
        log, audit = stack.enter_context(pipes())
        stack.push_async_callback(sidecar.stop)
        await sidecar.start(stdout=audit.writes, stderr=log.writes)
        crowd = Crowd(Watched(portal, [sidecar.port]))
        async with crowd.asking():
            await asyncio.sleep(seconds)
            stopped = crowd.history.operations
            await asyncio.gather(log.read(1.0), audit.read(1.0))
        metrics = await sidecar.metrics()
        await asyncio.gather(log.read(1.0), audit.read(1.0))
        judge(judged, crowd, stopped, log, audit, metrics)
        again = Crowd(crowd.history)
        async with again.asking():
            await asyncio.sleep(1.0)
        began = time.monotonic()
        sidecar.send(signal.SIGTERM)
        code = await sidecar.ended()
        judged.at_most("SIGTERM to its end with both pipes full", time.monotonic() - began, 15.0)
        judged.true("its exit code is 0", code == 0, str(code))
    return judged


def judge(
    judged: Judged, crowd: Crowd, stopped: int, log: Pipe, audit: Pipe, metrics: dict[str, float]
) -> None:  # fmt: skip
    history = crowd.history
    lost = metrics["sidecache_log_lost_total"]
    judged.figures |= {
        "answers while nobody read": stopped, "log lines read": log.got.count(b"\n"), "log lines lost": lost,
        "audit lines read": audit.got.count(b"\n"), "audit lines lost": metrics["sidecache_audit_lost_total"],
        "slowest answer, s": round(history.slowest, 3),
    }  # fmt: skip
    judged.at_least("answers while nobody read", stopped, 300)
    judged.at_least("bytes of log, more than a pipe holds", len(log.got), _PIPE)
    judged.at_least("bytes of audit, more than a pipe holds", len(audit.got), _PIPE)
    judged.none("answers that were wrong or not 200", [told for told, *_ in history.wrong.values()])
    judged.none("requests without an answer", crowd.examples)
    verdict = verify(audit.got.splitlines())
    judged.true("the chain of the audit is whole", verdict.broken_at is None, f"{verdict.lines} lines")
    accounted = audit.got.count(b"sensitive-access") + metrics["sidecache_audit_lost_total"]
    judged.at_least("accesses that are in the audit or counted as lost", accounted, history.operations)
