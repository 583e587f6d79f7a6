"""A sidecar's request path on a real socket, with the short way for hits or without: all else is alike."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from proxy.cache.binding import SHARED, hash_of
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome
from proxy.serving.forwarding import Forwarding
from proxy.serving.hits import Hits
from proxy.serving.listener import Listener
from proxy.serving.misses import Misses
from proxy.serving.outgoing import Limits
from proxy.serving.reachability import Watched
from proxy.serving.relay import Relays
from proxy.serving.reply import Reply
from proxy.serving.reserved import Reserved
from proxy.serving.serving_epoch import ServingEpoch
from proxy.serving.under_way import UnderWay
from proxy.serving.unread import Choices
from proxy.serving.upstream import HttpUpstream
from proxy.telemetry.exposition import exposition
from proxy.telemetry.metrics import Metrics
from tests.serving.test_listener import NoBridge
from tests.serving.world import RULES, World, answered, compiled, unsigned
from tests.wire import LIMIT, Client, connect

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


def dated(body: Any = b"{}", status: int = 200, **headers: str) -> Any:
    return answered(body, status, **{"date": DATE, **headers})


@dataclass
class Served:
    world: World
    serving: ServingEpoch
    metrics: Metrics
    listener: Listener
    logged: list[Request]
    events: list[str]  # of the upstream
    noted: list[Request]  # hits that were decided anew

    @property
    def port(self) -> int:
        return self.listener.port

    @property
    def hits(self) -> Hits:
        assert self.listener._hits is not None
        return self.listener._hits

    @property
    def forwarding(self) -> Forwarding:
        assert self.listener.forwarding is not None
        return self.listener.forwarding

    @property
    def forwarded(self) -> tuple[int, int, int]:
        """Requests forwarded as the same head, as one of the same shape, and decided anew."""
        return self.forwarding.repeated, self.forwarding.alike, self.forwarding.decided

    @property
    def fetched(self) -> tuple[int, int]:
        """Misses that were begun without a task, and those answered so."""
        assert self.listener.misses is not None
        return self.listener.misses.begun, self.listener.misses.answered

    @property
    def counts(self) -> tuple[int, int, int]:
        """Hits by the same head, by the same choice, decided anew."""
        return self.hits.repeated, self.hits.chosen, self.hits.decided

    @property
    def short(self) -> int:
        return sum(self.counts) if self.listener._hits is not None else 0

    def counted(self) -> list[str]:
        """The counters of requests, as they are scraped."""
        lines = exposition(self.metrics.collected()).decode().splitlines()
        return sorted(
            line
            for line in lines
            if line.startswith(("sidecache_requests_", "sidecache_request_seconds_c", "sidecache_hit_"))
        )

    def reload(self, rules: str) -> None:
        self.world.rules = compiled(rules)
        self.serving.advance()

    async def settle(self) -> None:
        """Let what replies leave behind end: fills, purges, refreshes."""
        async with asyncio.timeout(LIMIT):
            while len(self.world.background):  # noqa: ASYNC110
                await asyncio.sleep(0)


# What an answer that was prepared does not outlive.
SPOILED: dict[str, Callable[[Served, Any], object]] = {
    "other rules": lambda made, prepared: made.serving.advance(),
    "a clock set back": lambda made, prepared: made.world.clock.advance(-1),
    "another peer": lambda made, prepared: setattr(prepared, "trusted", True),
    "another entry": lambda made, prepared: setattr(prepared.resident, "meta", bytes([*prepared.meta])),
    "a purge": lambda made, prepared: made.world.epochs._copies.drop(SHARED, ["*"]),
    "a purge of its tenant": lambda made, prepared: made.world.epochs._copies.drop(hash_of("org_a"), ["jobs"]),
    "doubt": lambda made, prepared: made.world.epochs._copies.distrust(),
    "no such encoding": lambda made, prepared: setattr(prepared, "coding", "zstd"),
}


@asynccontextmanager
async def served(
    rules: str = RULES, *, short: bool = True, made: Callable[..., Hits] = Hits, trusts: bool = False,
    limits: Limits | None = None, logs: bool = False, max_bytes: int = 1 << 20, drain: float = 2.0,
    sole: bool = True, through: HttpUpstream | None = None, forwards: bool = False, fetches: bool = False,
    forwarded_bytes: int = 1 << 20, **more: Any,
) -> AsyncIterator[Served]:  # fmt: skip
    """`through`: a real upstream; `forwards`, `fetches`: by the short ways as well, where they can.

    `trusts`: this machine's clients are trusted peers. `logs`: each request is told of. `sole`: no other replica
    purges, so that epochs once read are trusted for ever."""
    world = World(rules, **more)
    events: list[str] = []
    reach = Watched(through or world.upstream, "http://upstream.test", lambda event, details: events.append(event))
    if through is not None:
        world.exchange._upstream = world.exchange._fetcher._leading._upstream = reach  # type: ignore[assignment]
    if sole:
        world.epochs._copies._trusted, world.epochs._copies._half = float("inf"), 0.0
    serving, metrics, logged = ServingEpoch(), Metrics(), []
    took = metrics.took("hit").observe
    noted: list[Request] = []
    world.serving = serving

    def told(request: Request, reply: Reply) -> None:
        logged.append(request)

    def finished(request: Request, reply: Reply, seconds: float) -> None:
        saved = len(reply.body) if reply.outcome.hit and isinstance(reply.body, bytes) else 0
        metrics.count(reply.outcome, seconds, saved)
        if logs:
            told(request, reply)

    def hits(request_of: Any, is_own: Any) -> Hits:
        return made(
            world.cache, world.epochs, prompt=world.exchange.prompt, request_of=request_of, is_own=is_own,
            cell_of=metrics.cell, took=took,
            logged=told if logs else None, serving=serving, clock=world.clock, max_bytes=max_bytes,
            noted=lambda request, reply: noted.append(request),
        )  # fmt: skip

    def forwarding(request_of: Any, under_way: UnderWay) -> Forwarding:
        assert through is not None
        return Forwarding(
            Relays(through, reach, under_way, finished),
            passes=world.exchange.prompt.passes, has_no_rule=world.exchange.prompt.has_no_rule,
            is_reserved=lambda path: reserved(path) is not None, request_of=request_of, choices=Choices(),
            told_of=told_of, serving=serving, max_bytes=forwarded_bytes,
        )  # fmt: skip

    def misses() -> Misses:
        assert through is not None
        return Misses(
            world.exchange, through, reach, world.background, world.clock, tells=lambda: world.exchange._telling.on,
            choices=Choices(), finished=lambda reading, reply, seconds: finished(reading.request, reply, seconds),
        )  # fmt: skip

    def told_of(request: Request, outcome: Outcome) -> Callable[[int, float], None]:
        def passed(status: int, seconds: float) -> None:
            finished(request, Reply(status, Fields(), b"", outcome), seconds)

        return passed

    reserved = Reserved("/.sidecache", lambda: "ready", lambda: True)
    listener = Listener(
        world.exchange.handle, reserved,
        trusted_peers=(ipaddress.ip_network("127.0.0.0/8"),) if trusts else (), drain=drain, finished=finished,
        upgrade=NoBridge(), hits=hits if short else None,
        forwarding=forwarding if forwards else None, misses=misses if fetches else None, limits=limits or Limits(),
    )  # fmt: skip
    await listener.open("127.0.0.1", 0)
    try:
        yield Served(world, serving, metrics, listener, logged, events, noted)
    finally:
        await listener.close()
        await world.background.drain(2.0)


async def prompt(port: int, **more: Any) -> Client:
    """A client whose every piece is sent at once."""
    client = await connect(port, **more)
    client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


async def turns() -> None:
    """Let what was sent be read, apart from what is sent next."""
    for _ in range(6):
        await asyncio.sleep(0)


def head(target: str = "/api/jobs", *lines: str, method: str = "GET", token: str | None = None) -> bytes:
    """The bytes of a head; `token` "": without credentials."""
    credentials = [] if token == "" else [f"Authorization: Bearer {token if token is not None else unsigned()}"]
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: portal.test", *credentials, *lines, "", ""]).encode(
        "latin-1"
    )
