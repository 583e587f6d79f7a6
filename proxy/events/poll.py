"""What is there for a reader who does not stay? The same as in a stream, as one answer; and how much is unread."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from proxy.events.audience import Reader
from proxy.events.cursor import Cursor, parsed
from proxy.events.event import Event
from proxy.events.feed import Feeds
from proxy.events.frames import Batch
from proxy.events.mailbox import Mailboxes, shown
from proxy.events.stream import Start, Streams
from proxy.events.window import Entry

MOST_WAIT = 30.0  # seconds that an answer may be in coming


@dataclass(frozen=True, slots=True)
class Polled:
    """One answer. `recovered` False: something may be missing, and nothing of it is here."""

    recovered: bool
    epoch: str
    cursor: Cursor | None
    events: list[tuple[Cursor, Event]] = field(default_factory=list)

    def document(self) -> bytes:
        events = [
            {"id": str(at), "event": event.name, "data": orjson.Fragment(event.data)} for at, event in self.events
        ]
        said = {"recovered": self.recovered, "epoch": self.epoch, "missed": len(events) if self.recovered else None}
        return orjson.dumps({**said, "cursor": str(self.cursor) if self.cursor else None, "events": events})


class Polls:
    """Answers for readers that come and go. StoreError: it is not known what there is."""

    def __init__(self, mailboxes: Mailboxes, feeds: Feeds, streams: Streams) -> None:
        self._mailboxes = mailboxes
        self._feeds = feeds
        self._streams = streams

    async def poll(self, reader: Reader, start: Start, wait: float, until: asyncio.Future[None]) -> Polled:
        """What came behind the start; or the first that comes in `wait` seconds, if nobody ends that (`until`)."""
        async with self._feeds.open(reader.tenant) as feed:
            cursor, missed = await self._streams.resumed(reader, start, feed)
            if missed is None:
                return Polled(False, feed.epoch, feed.last)
            if start.text is not None and cursor is not None and reader.user is not None:
                await self._mailboxes.arrive(reader.tenant, reader.user, cursor)  # so much its reader has
            got = _for(reader, missed)
            if got or wait <= 0:
                return Polled(True, feed.epoch, missed[-1].cursor if missed else cursor or feed.last, got)
            waiting = _Waiting(reader)
            feed.subscribers[waiting] = None
            try:
                ends = (waiting.woken, until)
                await asyncio.wait(ends, timeout=min(wait, MOST_WAIT), return_when=asyncio.FIRST_COMPLETED)
            finally:
                del feed.subscribers[waiting]
            if waiting.missing:
                return Polled(False, feed.epoch, feed.last)
            return Polled(True, feed.epoch, waiting.cursor or (missed[-1].cursor if missed else cursor), waiting.got)

    async def unread(self, reader: Reader, start: Start) -> bytes:
        """How many events wait for this reader, and since when; null when nobody can say."""
        async with self._feeds.open(reader.tenant) as feed:
            _, missed = await self._streams.resumed(reader, start, feed)
        got = _for(reader, missed) if missed is not None else None
        count = None if got is None else len(got)
        return orjson.dumps({"count": count, "oldest": got[0][1].at if got else None, "recovered": got is not None})


class _Waiting:
    """A subscriber for its first event."""

    watches = False  # figures are kept nowhere: it would miss them

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.got: list[tuple[Cursor, Event]] = []
        self.cursor: Cursor | None = None
        self.missing = False
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def deliver(self, batch: Batch) -> None:
        self.cursor = batch.last
        found = _for(self.reader, batch.entries)
        self.got += found
        if found:
            self._wake()

    def lose(self, cursor: Cursor) -> None:
        self.missing = True
        self._wake()

    def show(self, event: Event) -> None:
        """Not for who does not stay."""

    def _wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


def _for(reader: Reader, entries: Sequence[Entry]) -> list[tuple[Cursor, Event]]:
    return [(at, event) for at, event in shown(entries) if reader.gets(event.name, event.to)]


def is_cursor(text: str) -> bool:
    return parsed(text) is not None
