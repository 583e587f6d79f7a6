"""What do clients see of a store that is killed, paused, slowed, cut or lied for, and of a doorbell that is held?"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis import RedisError

from soak.crowd import Crowd, Watched, Wrong
from soak.judged import Judged
from soak.sidecars import Sidecar, over, running, surroundings
from tests import servers
from tests.chaos import Chaos
from tests.portal import RULES, Portal

METHOD = (
    "two replicas (processes) and clients that verify tenant, path, version and checksum of every answer, 5 % writes, "
    "over one redis-server behind a proxy that misbehaves; each fault for {seconds} s"
)
RECOVERY = 10.0  # seconds from the end of a fault to hits: a probe a second, a connection, room for a busy machine
_SETTLED = 2.0  # seconds after that in which a replica may still hear of what another could not tell before


@dataclass
class Fault:
    name: str
    begin: Callable[[], object]
    end: Callable[[], object]
    excuses: bool = True  # a writer cannot tell the others meanwhile (SPEC 2, not promised)


@dataclass
class World:
    server: servers.Server
    chaos: Chaos
    holding: "asyncio.Task[None] | None" = None
    windows: list[tuple[float, float]] = field(default_factory=list)

    def faults(self) -> list[Fault]:
        server, chaos = self.server, self.chaos
        return [
            Fault("killed, restarted empty", server.kill, lambda: server.start().wait()),
            Fault("paused", server.pause, server.resume),
            Fault("slow by 600 ms", lambda: setattr(chaos, "delay", lambda: 0.6), self.calm),
            Fault("hanging connections", chaos.hang, self.calm),
            Fault("reset, again and again", lambda: self.again(chaos.reset), self.calm),
            Fault("replies cut", lambda: self.again(self.cut), self.calm),
            Fault("replies of garbage", lambda: setattr(chaos, "rewrite", garbage), self.calm),
            Fault("stray replies", lambda: self.again(self.stray), self.calm),
            Fault("doorbell cut", lambda: self.again(self.deaf), self.calm, excuses=False),
        ]

    async def calm(self) -> None:
        if self.holding is not None:
            self.holding.cancel()
            await asyncio.wait((self.holding,))
            self.holding = None
        self.chaos.delay = lambda: 0.0
        self.chaos.rewrite = self.chaos.cut_after = None
        self.chaos.go_on()

    def again(self, step: Callable[[], Awaitable[None] | None]) -> None:
        """Every tenth of a second."""

        async def repeat() -> None:
            while True:
                if isinstance(doing := step(), Awaitable):
                    await doing
                await asyncio.sleep(0.1)

        self.holding = asyncio.ensure_future(repeat())

    def cut(self) -> None:
        self.chaos.cut_after = 700

    async def stray(self) -> None:
        with suppress(OSError):
            await self.chaos.stray(b"$5\r\nstray\r\n")

    def deaf(self) -> None:
        with suppress(RedisError):
            self.server.admin.client_kill_filter(_type="pubsub")


def garbage(said: bytes) -> bytes:
    return b"\xff\x00!" + said[3:]


def excused(found: list[Wrong], windows: list[tuple[float, float]]) -> tuple[list[Wrong], list[Wrong]]:
    """Those within, and those outside of these times."""
    within = [each for each in found if any(low <= each.at <= high for low, high in windows)]
    return within, [each for each in found if each not in within]


async def run(folder: Path, *, short: bool) -> Judged:
    seconds = 1.0 if short else 5.0
    judged = Judged("store faults", METHOD.format(seconds=seconds))
    portal = Portal()
    async with AsyncExitStack() as stack:
        server, upstream = await stack.enter_async_context(surroundings(portal))
        chaos = await stack.enter_async_context(Chaos("127.0.0.1", server.port))
        replicas = [Sidecar(folder / f"{n}", upstream.port, RULES, **over(chaos.port)) for n in range(2)]
        await stack.enter_async_context(running(*replicas))
        history = Watched(portal, [each.port for each in replicas])
        crowd, world = Crowd(history), World(server, chaos)
        async with crowd.asking():
            await crowd.hits_again()
            for fault in world.faults()[:: 4 if short else 1]:
                await endure(fault, seconds, crowd, world, judged)
        judge(judged, crowd, world, replicas)
        server.resume()
    return judged


async def endure(fault: Fault, seconds: float, crowd: Crowd, world: World, judged: Judged) -> None:
    history, began = crowd.history, time.monotonic()
    before, slowest = history.operations, history.slowest
    history.slowest = 0.0
    if isinstance(
        doing := await asyncio.to_thread(fault.begin) if fault.name == "killed" else fault.begin(), Awaitable
    ):
        await doing
    await asyncio.sleep(seconds)
    answered = history.operations - before
    if isinstance(doing := fault.end(), Awaitable):
        await doing
    recovered = await crowd.hits_again()
    judged.at_most(f"{fault.name}: hits of both replicas after its end", recovered, RECOVERY)
    judged.figures[f"{fault.name}: answers meanwhile"] = answered
    judged.figures[f"{fault.name}: slowest answer, s"] = round(history.slowest, 3)
    history.slowest = max(slowest, history.slowest)
    await asyncio.sleep(_SETTLED)
    if fault.excuses:
        world.windows.append((began, time.monotonic()))


def judge(judged: Judged, crowd: Crowd, world: World, replicas: list[Sidecar]) -> None:
    history = crowd.history
    judged.figures |= {"answers": history.operations, "hits": history.hits}
    judged.at_least("answers that were verified", history.operations, 500)
    told = [f"{each.kind} {each.told}" for each in history.of("C1", "C2")]
    judged.none("answers of another tenant, path or time, or broken", told)
    judged.none("reads older than a write acknowledged by that replica", [e.told for e in history.of("C3 same")])
    within, outside = excused(history.of("C3 other", "C5"), world.windows)
    judged.none("stale by more than a second while the store could be reached", [each.told for each in outside])
    judged.none("answers that were not 200", [each.told for each in history.of("C7")])
    judged.none("requests without an answer", crowd.examples)
    judged.none("alarming lines in the logs", [line for each in replicas for line in each.alarming()])
    if within:
        judged.losses.append(
            f"{len(within)} of {history.operations} reads were older than a write that the other replica had "
            "acknowledged while it could not reach the store (not promised)"
        )
