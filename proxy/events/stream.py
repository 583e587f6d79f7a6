"""Who reads events right now? Open streams: bounded in number and in what they have unsent, ended when their time is.

A frame is made once and written to all who get it. What a reader has got is a cursor, theirs and their user's.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.events import frames
from proxy.events.audience import Reader
from proxy.events.cursor import BEGIN, Cursor, parsed
from proxy.events.event import Event
from proxy.events.feed import Feed, Feeds
from proxy.events.frames import Batch, Frame
from proxy.events.mailbox import Mailboxes, shown
from proxy.events.window import Entry
from proxy.policy.identity import Identity

K = TypeVar("K")

_BATCH = 50  # cursors that are written at once


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of streams; bytes that one may have unsent; seconds."""

    process: int = 5000
    tenant: int = 500
    user: int = 10
    unsent: int = 64 << 10
    heartbeat: float = 25.0
    lifetime: float = 600.0
    kept: float = 5.0  # between two notes of how far users have read


@dataclass(slots=True)
class Figures:
    """What was counted since the start."""

    delivered: int = 0
    opened: int = 0
    gaps: int = 0  # readers that were told that something may be missing
    # told from the start with 0: an alert sees the first of a kind only if it has seen none before
    refused: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(("process", "tenant", "user"), 0)))
    ended: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(("left", "overflow", "unavailable"), 0)))


class Outlet(Protocol):
    """One client's connection."""

    @property
    def unsent(self) -> int:
        """Bytes that were written and have not left this process."""

    @property
    def taken(self) -> bool:
        """Whether the client's side has everything that was written."""

    def write(self, frame: Frame) -> None: ...


@dataclass(frozen=True, slots=True)
class Start:
    """Where a reader wants to begin. `text` None: where their user has arrived. `strict`: what is no cursor is one."""

    text: str | None = None


class Stream:
    """One reader that stays. `run` is its life; `lost` may end it at any time, as often as one likes."""

    __slots__ = ("_outlet", "_owner", "cursor", "due", "ended", "identity", "kept", "reader", "start", "timer")

    def __init__(self, owner: "Streams", reader: Reader, identity: Identity, start: Start) -> None:
        self._owner = owner
        self._outlet: Outlet | None = None
        self.reader = reader
        self.identity = identity
        self.start = start
        self.cursor: Cursor | None = None
        self.kept: Cursor | None = None  # noted in the store for this user
        self.due = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None

    @property
    def outlet(self) -> Outlet:
        assert self._outlet is not None, "it runs"
        return self._outlet

    @property
    def runs(self) -> bool:
        return self._outlet is not None and not self.ended.done()

    @property
    def watches(self) -> bool:
        return self.reader.watches

    async def run(self, outlet: Outlet) -> None:
        self._outlet = outlet
        await self._owner.serve(self)

    def deliver(self, batch: Batch) -> None:
        if self.ended.done():
            return
        self.cursor = batch.last
        found = batch.of(self.reader)
        if found is not None:
            frame, number = found
            self.outlet.write(frame)
            self._owner.wrote(self, number)

    def lose(self, cursor: Cursor) -> None:
        if not self.ended.done():
            self.cursor = cursor
            self._owner.lose(self)

    def show(self, event: Event) -> None:
        """Only to who has asked for it: it is not what most have come for."""
        if self.reader.topics and not self.ended.done() and self.reader.gets(event.name, event.to):
            self.outlet.write(frames.passing(event))
            self._owner.wrote(self, 1)

    def lost(self) -> None:
        """The client is gone, or its answer was never begun."""
        self._owner.release(self, "left")


class Streams:
    """Those of one process. `clock` gives unix seconds, by which tokens expire."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        feeds: Feeds,
        background: Background,
        clock: Callable[[], float],
        *,
        limits: Limits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._mailboxes = mailboxes
        self._feeds = feeds
        self._background = background
        self._clock = clock
        self.limits = limits or Limits()
        self._sleep = sleep
        self._random = random
        self._open: dict[Stream, None] = {}
        self._of_tenant: Counter[str] = Counter()
        self._of_user: Counter[tuple[str, str]] = Counter()
        self._beats: deque[Stream] = deque()
        self._moved: dict[Stream, None] = {}
        self.draining = False
        self.figures = Figures()

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> list[asyncio.Task[None]]:
        return [
            self._background.start(self._beat(), lasting=True),
            self._background.start(self._keep(), lasting=True),
        ]

    # Coming and going

    def admit(self, reader: Reader, identity: Identity, start: Start) -> "Stream | str":
        """A stream that counts from now on, until `lost`; or which limit is reached: process, tenant or user."""
        limits, user = self.limits, (reader.tenant, reader.user or "")
        full = (
            "process" if len(self._open) >= limits.process
            else "tenant" if self._of_tenant[reader.tenant] >= limits.tenant
            else "user" if self._of_user[user] >= limits.user
            else None
        )  # fmt: skip
        if full is not None:
            self.figures.refused[full] += 1
            return full
        stream = Stream(self, reader, identity, start)
        self._open[stream] = None
        self._of_tenant[reader.tenant] += 1
        self._of_user[user] += 1
        return stream

    def release(self, stream: Stream, why: str) -> None:
        if stream not in self._open:
            return
        del self._open[stream]
        self._moved.pop(stream, None)
        self.figures.ended[why] += 1
        _less(self._of_tenant, stream.reader.tenant)
        _less(self._of_user, (stream.reader.tenant, stream.reader.user or ""))
        if stream.timer is not None:
            stream.timer.cancel()
        if stream.runs:
            self._note_end(stream)
        if not stream.ended.done():
            stream.ended.set_result(None)

    def end(self, matching: Callable[[Identity], bool], why: str = "session.revoked") -> int:
        """End the streams of these callers, who are told why; how many there were."""
        ended = [stream for stream in self._open if matching(stream.identity)]
        for stream in ended:
            self._part(stream, why)
        return len(ended)

    def drain(self) -> None:
        """This process ends: whoever reads here is sent elsewhere, not all at the same moment."""
        self.draining = True
        for stream in list(self._open):
            self._part(stream, "drain")

    def _part(self, stream: Stream, name: str) -> None:
        if stream.runs:
            wait = 1000 + int(self._random() * 9000) if name == "drain" else 500 + int(self._random() * 2500)
            shown_name = "" if name == "lifetime" else name
            stream.outlet.write(frames.parting(shown_name, wait))
        self.release(stream, name)

    # One stream's life

    async def serve(self, stream: Stream) -> None:
        if self.draining:
            self._part(stream, "drain")
            return
        try:
            async with self._feeds.open(stream.reader.tenant) as feed:
                await self._begin(stream, feed)
                try:
                    if stream.watches and not stream.ended.done():
                        await self._feeds.watch(feed)
                    await stream.ended
                finally:
                    feed.subscribers.pop(stream, None)
        except StoreError:
            self._part(stream, "unavailable")
        finally:
            self.release(stream, "left")

    async def _begin(self, stream: Stream, feed: Feed) -> None:
        cursor, missed = await self.resumed(stream.reader, stream.start, feed)
        # from here to the end without waiting: what comes behind `missed` is delivered
        if stream.ended.done():
            return
        self.figures.opened += 1
        recovered = missed is not None
        got = [] if missed is None else [
            (at, event) for at, event in shown(missed) if stream.reader.gets(event.name, event.to)
        ]  # fmt: skip
        begin = cursor if recovered else feed.last
        stream.cursor = begin
        stream.outlet.write(self._hello(feed.epoch, begin, recovered, len(got) if recovered else None))
        for at, event in got:
            stream.outlet.write(frames.of_event(at, event))
        self.figures.delivered += len(got)
        last = missed[-1].cursor if missed else begin
        if last is not None and (not got or got[-1][0] != last) and last != begin:
            stream.outlet.write(frames.place(last))
        stream.cursor = last
        feed.subscribers[stream] = None
        self._moved[stream] = None
        loop = asyncio.get_running_loop()
        stream.due = loop.time() + self.limits.heartbeat
        self._beats.append(stream)
        self._limit(stream, loop)

    def _limit(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        """It ends with its token, and grows no older than others: what has changed is looked at again by then."""
        age = self.limits.lifetime * (0.8 + 0.4 * self._random())
        left = stream.identity.expires - self._clock()
        name = "session.expired" if left <= age else "lifetime"
        stream.timer = loop.call_later(max(0.0, min(age, left)), self._part, stream, name)

    async def resumed(self, reader: Reader, start: Start, feed: Feed) -> tuple[Cursor | None, list[Entry] | None]:
        """Where this reader begins, and what they have missed by now; None: nobody can say."""
        if start.text == BEGIN:
            entries = await self._feeds.all(feed)
            return None, entries
        if start.text is not None:
            cursor = parsed(start.text)
            return (cursor, await self._feeds.missed(feed, cursor)) if cursor is not None else (None, None)
        cursor = await self._mailboxes.arrived(reader.tenant, reader.user) if reader.user is not None else None
        if cursor is not None:
            return cursor, await self._feeds.missed(feed, cursor)
        return feed.last, []  # never seen before: it begins now

    def _hello(self, epoch: str, cursor: Cursor | None, recovered: bool, missed: int | None) -> Frame:
        if not recovered:
            self.figures.gaps += 1
        retry = 2000 + int(self._random() * 2000)
        return frames.hello(cursor, recovered=recovered, epoch=epoch, missed=missed, retry=retry)

    # What streams ask of their owner

    def wrote(self, stream: Stream, events: int) -> None:
        self.figures.delivered += events
        self._moved[stream] = None
        if stream.outlet.unsent > self.limits.unsent:
            self._part(stream, "overflow")

    def lose(self, stream: Stream) -> None:
        feed = self._feeds.get(stream.reader.tenant)
        epoch = feed.epoch if feed is not None else ""
        stream.outlet.write(self._hello(epoch, stream.cursor, False, None))

    # Over time

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._sleep(1.0)
            now = loop.time()
            while self._beats and (self._beats[0].due <= now or self._beats[0].ended.done()):
                stream = self._beats.popleft()
                if stream.runs and stream.cursor is not None:
                    stream.outlet.write(frames.place(stream.cursor))
                    stream.due = now + self.limits.heartbeat
                    self._beats.append(stream)

    async def _keep(self) -> None:
        """Note now and then how far users have read: what their side of the connection has taken."""
        while True:
            await self._sleep(self.limits.kept)
            ready = [stream for stream in self._moved if stream.runs and stream.outlet.taken]
            for at in range(0, len(ready), _BATCH):
                if not all(await asyncio.gather(*(self._arrived(each) for each in ready[at : at + _BATCH]))):
                    break

    async def _arrived(self, stream: Stream) -> bool:
        user, cursor = stream.reader.user, stream.cursor
        if user is None or cursor is None:
            self._moved.pop(stream, None)
            return True
        try:
            await self._mailboxes.arrive(stream.reader.tenant, user, cursor)
        except StoreError:
            return False
        stream.kept = cursor
        if stream.cursor == cursor:
            self._moved.pop(stream, None)
        return True

    def _note_end(self, stream: Stream) -> None:
        if stream.cursor is not None and stream.cursor != stream.kept and stream.outlet.taken:
            _ = self._background.start(self._arrived(stream))


def _less(counts: "Counter[K]", key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def all_shown(reader: Reader, entries: Sequence[Entry]) -> int:
    return sum(reader.gets(event.name, event.to) for _, event in shown(entries))
