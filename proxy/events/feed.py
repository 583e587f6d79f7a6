"""What is new in a mailbox that somebody reads here? One copy for all readers of a tenant, followed meanwhile.

The doorbell tells when to look; a look every few seconds makes up for a lost one. Each look begins at the last entry
that is known: is it not there, then the store has lost something, and what is known here is put back.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Protocol

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.events.cursor import Cursor
from proxy.events.event import Event
from proxy.events.frames import Batch
from proxy.events.mailbox import DOORBELL, Mailboxes, Rang
from proxy.events.window import Entry, Window, is_gap
from proxy.stores.base import Heard
from proxy.telemetry.distribution import Distribution

LOOK = 5.0  # seconds after which a mailbox is looked at even when no doorbell has rung
WATCHED_FOR = 4 * LOOK  # seconds for which it counts that somebody watches: one said so every look
LINGER = 30.0  # seconds that a mailbox nobody reads is followed for: those who come back find it here
PATIENCE = (0.0, 0.2, 0.6, 1.2)  # seconds in which what a failover has lost may be put back by another replica
_MOST_BYTES = 64 << 20  # of all windows of this process
_LEAST_BYTES = 16 << 10  # of one
_MOST_WATCHED = 10_000  # tenants
_MOST_TOGETHER = 16 << 10  # bytes of entries
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_DELAYS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)  # seconds

Listen = Callable[[Sequence[str]], AsyncGenerator[Heard | None, None]]


class Subscriber(Protocol):
    """A reader that stays."""

    @property
    def watches(self) -> bool:
        """Whether it waits for figures as they change."""

    def deliver(self, batch: Batch) -> None:
        """What comes behind the last one that was delivered, whether it is for this reader or not."""

    def lose(self, cursor: Cursor) -> None:
        """Something may be missing; at this cursor it goes on."""

    def show(self, event: Event) -> None:
        """Something that is kept nowhere, and has no place."""


class Feed:
    """One tenant's. Whoever subscribes gets everything behind `last`, each entry once, in order."""

    def __init__(self, tenant: str, entries: Sequence[Entry], epoch: str) -> None:
        self.tenant = tenant
        self.window = Window(entries)
        self.epoch = epoch
        self.subscribers: dict[Subscriber, None] = {}
        self.lock = asyncio.Lock()
        self.behind = False  # somebody has rung since the last look began
        self.uses = 0
        self.left_at = 0.0

    @property
    def last(self) -> Cursor:
        assert self.window.last is not None, "a feed begins with a mark at least"
        return self.window.last.cursor


def _parts(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """What is written together: little enough to be taken at once, and a gap by itself."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        if part and (is_gap(entry) or is_gap(part[0]) or size + entry.size > _MOST_TOGETHER):
            yield part
            part, size = [], 0
        part.append(entry)
        size += entry.size
    if part:
        yield part


class Feeds:
    """The feeds of one process."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        listen: Listen,
        background: Background,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        turn: int = 50,
    ) -> None:
        """`turn`: deliveries after which others in this process get their turn."""
        self._mailboxes = mailboxes
        self._listen = listen
        self._background = background
        self._sleep = sleep
        self._turn = turn
        self._feeds: dict[str, Feed] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._looking: set[str] = set()
        self._watched: OrderedDict[str, float] = OrderedDict()  # until when, of the loop's clock
        self.delays = Distribution(_DELAYS)  # from a write to the last stream that its event was written to

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def size(self) -> int:
        return sum(feed.window.size for feed in self._feeds.values())

    @property
    def tenants(self) -> Sequence[str]:
        return list(self._feeds)

    def get(self, tenant: str) -> Feed | None:
        return self._feeds.get(tenant)

    def start(self) -> list[asyncio.Task[None]]:
        """Answer the doorbell, and look now and then, until cancelled."""
        return [
            self._background.start(self._answer(), lasting=True),
            self._background.start(self._look_around(), lasting=True),
        ]

    # Reading

    @asynccontextmanager
    async def open(self, tenant: str) -> AsyncIterator[Feed]:
        """The feed of this tenant, followed until it is left. StoreError: it is not here, and the store is silent."""
        while (feed := self._feeds.get(tenant)) is None:
            await self._opened(tenant)
        feed.uses += 1
        try:
            yield feed
        finally:
            feed.uses -= 1
            feed.left_at = asyncio.get_running_loop().time()

    async def _opened(self, tenant: str) -> None:
        task = self._opening.get(tenant)
        if task is None:
            task = self._opening[tenant] = asyncio.get_running_loop().create_task(self._load(tenant))
            task.add_done_callback(lambda _: self._opening.pop(tenant, None))
        try:
            await asyncio.shield(task)
        except StoreError as error:
            raise StoreError(str(error)) from None  # one for each who waits: a traceback grows with every `raise`

    async def _load(self, tenant: str) -> None:
        epoch = await self._mailboxes.epoch(tenant)
        feed = Feed(tenant, await self._mailboxes.begun(tenant), epoch)
        feed.left_at = asyncio.get_running_loop().time()
        self._feeds[tenant] = feed
        self._cut(feed)

    async def all(self, feed: Feed) -> list[Entry]:
        """Everything that is kept."""
        return list((await self._whole(feed)).entries)

    async def missed(self, feed: Feed, cursor: Cursor) -> list[Entry] | None:
        """What came behind this cursor up to now; None when some of it may be missing."""
        if feed.window.holds(cursor):
            return feed.window.resume(cursor)
        if cursor.at < feed.window.entries[0].cursor.at:  # it may have left memory, and yet be in the store
            return (await self._whole(feed)).resume(cursor)
        for pause in PATIENCE:
            if pause:
                await self._sleep(pause)
            await self.catch_up(feed)  # the reader was elsewhere, where more was known
            if feed.window.holds(cursor) or cursor.at <= feed.last.at:
                break
        return feed.window.resume(cursor)

    async def _whole(self, feed: Feed) -> Window:
        """What is in the store, up to where this feed goes on to deliver."""
        stored = Window(await self._mailboxes.load(feed.tenant))
        await self.catch_up(feed)
        stored.take(feed.window.entries if stored.last is None else feed.window.after(stored.last.cursor))
        return stored

    # Following

    def rung(self, tenant: str) -> None:
        """There is something new for this tenant."""
        feed = self._feeds.get(tenant)
        if feed is not None:
            feed.behind = True
            if tenant not in self._looking:
                self._looking.add(tenant)
                _ = self._background.start(self._look(feed))

    async def _look(self, feed: Feed) -> None:
        try:
            while feed.behind:
                await self.catch_up(feed)
        except StoreError:
            pass  # with the next look
        finally:
            self._looking.discard(feed.tenant)

    async def catch_up(self, feed: Feed) -> None:
        """Take in and deliver what is new. StoreError: it is not known what is."""
        async with feed.lock:
            feed.behind = False
            entries = await self._mailboxes.since(feed.tenant, feed.last)
            if not entries or entries[0].cursor != feed.last:
                await self._mended(feed, ())
                return
            await self._deliver(feed, feed.window.take(entries[1:]))
            self._cut(feed)

    async def mend(self, tenant: str, more: Sequence[Entry]) -> bool:
        """The store may have lost something: put back what is known here, and `more`. False: nobody reads it here."""
        feed = self._feeds.get(tenant)
        if feed is None:
            return False
        async with feed.lock:
            await self._mended(feed, more)
        return True

    async def _mended(self, feed: Feed, more: Sequence[Entry]) -> None:
        last, known = feed.last, feed.window
        beyond = [entry for entry in more if entry.cursor.at > last.at]
        feed.epoch = await self._mailboxes.epoch(feed.tenant)
        entries = await self._mailboxes.mend(feed.tenant, Window([*known.entries, *beyond]))
        stored = Window(entries or await self._mailboxes.begun(feed.tenant))
        feed.window = stored
        if stored.holds(last):
            # by what they are, not by where: a new primary's clock may be behind
            await self._deliver(feed, [each for each in stored.entries if each.event and not known.has(each.event)])
        else:
            self._lose(feed, list(feed.subscribers), feed.last)
        self._cut(feed)

    async def _deliver(self, feed: Feed, entries: Sequence[Entry]) -> None:
        readers = list(feed.subscribers)  # whoever comes from now on has read them: the window has them
        count = 0
        for part in _parts(entries):
            if is_gap(part[0]):
                self._lose(feed, readers, part[0].cursor)
            batch = Batch(part)
            for reader in readers:
                if reader in feed.subscribers:
                    reader.deliver(batch)
                count += 1
                if count % self._turn == 0:
                    await asyncio.sleep(0)
            if readers:
                for entry in part:
                    if entry.shown is not None:
                        self.delays.observe(self._mailboxes.age(entry.shown))

    def _lose(self, feed: Feed, readers: Sequence[Subscriber], cursor: Cursor) -> None:
        for reader in readers:
            if reader in feed.subscribers:
                reader.lose(cursor)

    def _cut(self, feed: Feed) -> None:
        share = max(_LEAST_BYTES, _MOST_BYTES // max(1, len(self._feeds)))
        feed.window.cut(oldest=self._mailboxes.oldest, most_bytes=share, most=self._mailboxes.kept)

    # The doorbell, and without it

    async def _answer(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                async with aclosing(self._listen((DOORBELL,))) as heard:
                    async for each in heard:
                        if each is None:
                            pause = _FIRST_PAUSE
                            self._all_rung()  # what was rung before now was not heard
                        else:
                            self._heard(self._mailboxes.heard(each.message))
            except StoreError:
                await self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _heard(self, rang: Rang) -> None:
        if rang.watched:
            self._watched[rang.tenant] = asyncio.get_running_loop().time() + WATCHED_FOR
            self._watched.move_to_end(rang.tenant)
            if len(self._watched) > _MOST_WATCHED:
                self._watched.popitem(last=False)
        elif rang.shown is None:
            self.rung(rang.tenant)
        elif (feed := self._feeds.get(rang.tenant)) is not None:
            for reader in list(feed.subscribers):
                reader.show(rang.shown)

    def is_watched(self, tenant: str) -> bool:
        """Whether somebody, here or at another replica, has lately said so."""
        return self._watched.get(tenant, 0.0) > asyncio.get_running_loop().time()

    async def watch(self, feed: Feed) -> None:
        """Say so to all replicas, this one too, as long as somebody here does."""
        if any(reader.watches for reader in feed.subscribers):
            await self._mailboxes.watch(feed.tenant)

    async def _look_around(self) -> None:
        while True:
            await self._sleep(LOOK * (0.9 + 0.2 * random.random()))
            now = asyncio.get_running_loop().time()
            for feed in list(self._feeds.values()):
                if not feed.uses and now - feed.left_at >= LINGER:
                    del self._feeds[feed.tenant]
                    continue
                self._cut(feed)
                await self._keep_alive(feed)
                await self.watch(feed)
                self.rung(feed.tenant)

    async def _keep_alive(self, feed: Feed) -> None:
        """A mailbox to which nothing is added would be forgotten, and with it where its readers are."""
        if feed.last.at[0] / 1000 < self._mailboxes.oldest + self._mailboxes.kept_for / 2:
            with suppress(StoreError):  # with the next look
                await self._mailboxes.mark(feed.tenant)

    def _all_rung(self) -> None:
        for tenant in self.tenants:
            self.rung(tenant)
