"""Events of one process, or of several on one store, without a socket; time passes when a test says so."""

import asyncio
import json
from typing import Any

from proxy.cache.background import Background
from proxy.cache.seal import Sealer
from proxy.events.audience import Reader
from proxy.events.event import Codec, Event
from proxy.events.feed import Feeds
from proxy.events.mailbox import Mailboxes
from proxy.events.poll import Polls
from proxy.events.publish import Publisher
from proxy.events.repair import Repairs
from proxy.events.stream import Limits, Start, Stream, Streams
from proxy.policy.identity import Identity
from proxy.stores.memory import MemoryStore
from tests.builders import KEYS
from tests.doubles import FakeClock, StoreDouble, counted, settle

ORG = "org_a"
ADA = Identity(ORG, "ada", frozenset({"read:applications"}))


def event(number: int, to: str = "tenant", name: str = "job.created", **data: Any) -> Event:
    return Event(f"{number:012}", name, to, 1.7e9 + number, json.dumps({"n": number, **data}).encode())


class Place:
    """What one client has got, as frames."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.writes = 0
        self.unsent = 0
        self.taken = True

    def write(self, frame: Any) -> None:
        self.writes += 1
        for block in frame.plain.decode().split("\n\n")[:-1]:
            said: dict[str, Any] = {}
            for line in block.splitlines():
                key, _, value = line.partition(": ")
                if key:
                    said[key] = json.loads(value) if key == "data" else value
            self.frames.append(said)

    @property
    def names(self) -> list[str]:
        return [each["event"] for each in self.frames if "event" in each]

    @property
    def numbers(self) -> list[int]:
        return [each["data"]["n"] for each in self.frames if "n" in each.get("data", {})]

    @property
    def hello(self) -> dict[str, Any]:
        return next(each["data"] for each in self.frames if each.get("event") == "hello")

    @property
    def last(self) -> str:
        """What the client would resume from."""
        return next(each["id"] for each in reversed(self.frames) if "id" in each)


class World:
    """One process. `beside`: another one on the same store."""

    def __init__(self, beside: "World | None" = None, *, limits: Limits | None = None, **mailbox: Any) -> None:
        self.clock = FakeClock() if beside is None else beside.clock
        self.failures: list[BaseException] = []
        self.noted: list[tuple[str, dict[str, str]]] = []
        self.background = Background(self.failures.append)
        self.inner = MemoryStore(64 << 20, self.clock) if beside is None else beside.inner
        self.store = StoreDouble(self.inner)
        self.random = counted() if beside is None else beside.random
        codec = Codec(Sealer(b"n" * 32), 3600.0, self.clock)
        self.mailboxes = Mailboxes(
            self.store, codec, KEYS.digest, self.clock, random=self.random, noted=self._note, **mailbox
        )
        self.feeds = Feeds(self.mailboxes, self.store.listen, self.background, sleep=self.clock.sleep)
        self.repairs = Repairs(self.mailboxes, self.feeds, self.background, self.clock, sleep=self.clock.sleep)
        self.store.on_disturbance(self.repairs.disturbed)
        self.publisher = Publisher(
            self.mailboxes, self.feeds, self.repairs, self.background, noted=self._note, clock=self.clock,
            sleep=self.clock.sleep,
        )  # fmt: skip
        self.streams = Streams(
            self.mailboxes, self.feeds, self.background, self.clock, limits=limits, sleep=self.clock.sleep,
            random=lambda: 0.5,
        )  # fmt: skip
        self.polls = Polls(self.mailboxes, self.feeds, self.streams)
        self._tasks: list[asyncio.Task[None]] = []

    def _note(self, name: str, details: Any) -> None:
        self.noted.append((name, dict(details)))

    async def publish(self, *events: Event, tenant: str = ORG) -> None:
        for each in events:
            await self.publisher.publish(tenant, each)
        await settle()

    async def read(
        self, after: str | None = None, identity: Identity = ADA, topics: tuple[str, ...] = ()
    ) -> tuple[Place, Stream]:
        """A stream that has begun."""
        reader = Reader.of(identity, topics)
        assert reader is not None
        stream = self.streams.admit(reader, identity, Start(after))
        assert isinstance(stream, Stream), stream
        place = Place()
        self._tasks.append(asyncio.get_running_loop().create_task(stream.run(place)))
        await settle(30)
        return place, stream

    async def close(self) -> None:
        self.streams.end(lambda identity: True)
        await settle()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for opened in self.streams._open:
            opened.lost()
        await self.background.drain(0.0)
