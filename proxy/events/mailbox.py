"""Where are events kept? In one stream of the store for each tenant; a doorbell says that there is something new.

The stream is the mailbox, the doorbell only shortens the wait, and reading is always by range: the same on every store.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from proxy.errors import StoreError
from proxy.events.cursor import Cursor, parsed
from proxy.events.event import BEGINNING, GAP, Codec, Event
from proxy.events.window import Entry, Window
from proxy.stores.base import Item, Store
from proxy.stores.streams import last_before, position

DOORBELL = "shared:events"
KEPT = 500  # entries of a tenant
KEPT_FOR = 72 * 3600.0  # seconds
_CURSORS_KEPT_FOR = 30 * 86400.0  # seconds: so that who comes back late hears that something may be missing
_PAGE = 250
_MORE = 6  # pages beyond those of a full mailbox: some replica may keep more
_TRIMMED = 60.0  # seconds between two removals of what is too old
_REMEMBERED = 10_000  # tenants whose mailbox was trimmed lately
_FIELD = "e"
_WATCHED = b"?"

Noted = Callable[[str, Mapping[str, str]], None]


@dataclass(slots=True)
class Figures:
    """What was counted since the start."""

    appended: int = 0
    restored: int = 0
    gaps: int = 0
    rejected: int = 0  # entries that are no record of their tenant's


class Mailboxes:
    """The mailboxes of all tenants. StoreError: the store did not do it, or nobody knows. `clock`: unix seconds."""

    def __init__(
        self,
        store: Store,
        codec: Codec,
        digest: Callable[..., str],
        clock: Callable[[], float],
        *,
        random: Callable[[int], bytes] = os.urandom,
        noted: Noted = lambda event, details: None,
        kept: int = KEPT,
        kept_for: float = KEPT_FOR,
    ) -> None:
        """`digest` hashes users for the names of what is kept for them."""
        self._store = store
        self._codec = codec
        self._digest = digest
        self._clock = clock
        self._random = random
        self._noted = noted
        self.kept = kept
        self.kept_for = kept_for
        self._ahead = 0.0  # seconds that our clock is ahead of the store's, by which entries are as old as they are
        self._trimmed: OrderedDict[str, float] = OrderedDict()
        self.figures = Figures()

    @property
    def oldest(self) -> float:
        """Unix seconds of the store's clock: what is older than this counts no more."""
        return self._clock() - self._ahead - self.kept_for

    def age(self, event: Event) -> float:
        """Seconds since it came about, by the clocks of two machines perhaps."""
        return max(0.0, self._clock() - event.at)

    # Entries

    async def append(self, tenant: str, event: Event, *, seal: bool = False) -> Entry:
        """Add an event to a mailbox's end. After StoreError it may be there: its second copy is not delivered."""
        fields = {_FIELD: self._codec.pack(tenant, event, seal=seal)}
        id = await self._store.append(_stream(tenant), fields, self.kept, self.kept_for)
        self.figures.appended += 1
        at = position(id)
        self._ahead = max(0.0, self._clock() - at[0] / 1000)  # an id in the future follows others, not a clock
        await self._trim(tenant)
        return Entry(Cursor(at, event.tag), event, seal)

    async def load(self, tenant: str) -> list[Entry]:
        """All there is, the oldest first."""
        oldest = f"{int(max(0.0, self.oldest) * 1000)}-0"
        return await self._read(tenant, last_before(oldest))

    async def since(self, tenant: str, cursor: Cursor) -> list[Entry]:
        """From the entry at this cursor on; it comes first, unless it is not there."""
        at = f"{cursor.at[0]}-{cursor.at[1]}"
        return await self._read(tenant, last_before(at))

    async def begun(self, tenant: str) -> list[Entry]:
        """The same as `load`; where there is nothing, a mark: every reader needs a place to resume from."""
        entries = await self.load(tenant)
        if entries:
            return entries
        await self.mark(tenant)
        return await self.load(tenant)

    async def mark(self, tenant: str) -> None:
        """Add an entry that nobody is shown."""
        await self.append(tenant, Event(self._random(12).hex(), "", BEGINNING, self._clock()))

    async def mend(self, tenant: str, known: Window) -> list[Entry]:
        """Put back, under its own id, what is known here and lost in the store; all there is then.

        What cannot be put back, as others came after it already, leaves a gap that every reader is told of.
        """
        stored = Window(await self.load(tenant))
        lost = known.lost_by(stored)
        if not lost:
            return list(stored.entries)
        for entry in lost:
            assert entry.event is not None, "what could not be read is not known"
            record = self._codec.pack(tenant, entry.event, seal=entry.sealed)
            id = f"{entry.cursor.at[0]}-{entry.cursor.at[1]}"
            if await self._store.restore(_stream(tenant), Item(id, {_FIELD: record}), self.kept_for):
                self.figures.restored += 1
        stored = Window(await self.load(tenant))
        missing = [entry.event.id for entry in known.lost_by(stored) if entry.event is not None]
        mark = Event(_mark_id(GAP, tenant, *missing), "", GAP, self._clock())
        if missing and not stored.has(mark):
            self.figures.gaps += 1
            self._noted("events-lost", {"tenant": tenant, "events": str(len(missing))})
            await self.append(tenant, mark)
            return await self.load(tenant)
        return list(stored.entries)

    async def ring(self, tenant: str) -> None:
        await self._store.publish(DOORBELL, tenant.encode())

    async def show(self, tenant: str, event: Event) -> None:
        """Tell who reads now, and keep nothing. At most once: the next one will be newer."""
        with suppress(StoreError):
            await self._store.publish(DOORBELL, tenant.encode() + b" " + self._codec.pack(tenant, event))

    async def watch(self, tenant: str) -> None:
        """Tell whoever counts that somebody reads this tenant's figures as they change."""
        with suppress(StoreError):
            await self._store.publish(DOORBELL, tenant.encode() + b" " + _WATCHED)

    def heard(self, message: bytes) -> "Rang":
        name, _, record = message.partition(b" ")  # in a tenant's name there is none
        tenant = name.decode("ascii", "replace")
        if record == _WATCHED:
            return Rang(tenant, watched=True)
        return Rang(tenant, self._codec.unpack(tenant, record) if record else None)

    async def _read(self, tenant: str, after: str) -> list[Entry]:
        entries: list[Entry] = []
        for _ in range(self.kept // _PAGE + _MORE):
            items = await self._store.range(_stream(tenant), after, _PAGE)
            entries += [self._entry(tenant, item) for item in items]
            if len(items) < _PAGE:
                break
            after = items[-1].id
        return entries

    def _entry(self, tenant: str, item: Item) -> Entry:
        record = item.fields.get(_FIELD, b"")
        event = self._codec.unpack(tenant, record)
        if event is None:
            self.figures.rejected += 1
        return Entry(Cursor(position(item.id), event.tag if event is not None else "-"), event, Codec.is_sealed(record))

    async def _trim(self, tenant: str) -> None:
        """Space is all that this is about: what is too old is not read either."""
        now = self._clock()
        if now - self._trimmed.get(tenant, now - 2 * _TRIMMED) < _TRIMMED:
            return
        self._trimmed[tenant] = now
        self._trimmed.move_to_end(tenant)
        if len(self._trimmed) > _REMEMBERED:
            self._trimmed.popitem(last=False)
        try:
            await self._store.trim(_stream(tenant), f"{int(max(0.0, self.oldest) * 1000)}-0")
        except StoreError:
            self._trimmed.pop(tenant, None)  # with the next one

    async def epoch(self, tenant: str) -> str:
        """A name for this mailbox; when it has another one, what was kept under the old one is gone."""
        name = f"tenant:{tenant}:events:epoch"
        (kept,) = await self._store.get([name])
        if kept is None:
            made = self._random(6).hex().encode()
            if not await self._store.claim(name, made, _CURSORS_KEPT_FOR):
                (kept,) = await self._store.get([name])
            return (kept or made).decode("ascii", "replace")
        await self._store.set(name, kept, _CURSORS_KEPT_FOR)
        return kept.decode("ascii", "replace")

    # Where users have arrived

    async def arrived(self, tenant: str, user: str) -> Cursor | None:
        """How far this user has read, on whatever device; None: never, as far as anybody remembers."""
        (kept,) = await self._store.get([self._cursor(tenant, user)])
        return parsed(kept.decode("ascii", "replace")) if kept is not None else None

    async def arrive(self, tenant: str, user: str, cursor: Cursor) -> None:
        await self._store.set(self._cursor(tenant, user), str(cursor).encode(), _CURSORS_KEPT_FOR)

    def _cursor(self, tenant: str, user: str) -> str:
        return f"tenant:{tenant}:events:cursor:{self._digest('event cursor', user)}"


class Rang(NamedTuple):
    """Whose mailbox has something new; or what is shown to that tenant and kept nowhere; or that it is watched."""

    tenant: str
    shown: Event | None = None
    watched: bool = False


def _stream(tenant: str) -> str:
    return f"tenant:{tenant}:events:stream"


def _mark_id(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def shown(entries: Sequence[Entry]) -> list[tuple[Cursor, Event]]:
    """Those of them that readers may get."""
    return [(entry.cursor, event) for entry in entries if (event := entry.shown) is not None]
