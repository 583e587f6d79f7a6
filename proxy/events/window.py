"""Which events has a reader missed? The entries of one tenant's mailbox in their order, as far as they are here.

Who resumes is answered from here, or told that it cannot be done: never with a part.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from proxy.events.cursor import Cursor
from proxy.events.event import GAP, Event

_OVERHEAD = 350  # what an entry costs beside its data


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `event` None: it could not be read (a wrong MAC, a key that is gone), or it is a second time."""

    cursor: Cursor
    event: Event | None
    sealed: bool = False
    repeated: bool = field(default=False, compare=False)

    @property
    def shown(self) -> Event | None:
        """The event that readers may get."""
        return self.event if self.event is not None and not self.event.is_mark and not self.repeated else None

    @property
    def size(self) -> int:
        return _OVERHEAD + (len(self.event.data) if self.event is not None else 0)


class Window:
    """Entries from some point on. An event that was appended twice counts once: the first time."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._ids: set[str] = set()
        self.size = 0
        self.take(entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Sequence[Entry]:
        return self._entries

    @property
    def last(self) -> Entry | None:
        return self._entries[-1] if self._entries else None

    def take(self, entries: Iterable[Entry]) -> list[Entry]:
        """Add what comes behind; the same entries, those that repeat an event marked so."""
        taken = []
        for each in entries:
            entry = each
            if each.event is not None:
                if each.event.id in self._ids:
                    entry = replace(each, repeated=True)
                self._ids.add(each.event.id)
            self._entries.append(entry)
            self.size += entry.size
            taken.append(entry)
        return taken

    def has(self, event: Event) -> bool:
        return event.id in self._ids

    def holds(self, cursor: Cursor) -> bool:
        """Whether the mailbox is still the one, and reaches back to where, this cursor is of."""
        index = bisect_left(self._entries, cursor.at, key=_at)
        return index < len(self._entries) and self._entries[index].cursor == cursor

    def after(self, cursor: Cursor) -> list[Entry]:
        return self._entries[bisect_right(self._entries, cursor.at, key=_at) :]

    def resume(self, cursor: Cursor) -> list[Entry] | None:
        """What came behind this cursor; None when some of it may be missing."""
        if not self.holds(cursor):
            return None
        behind = self.after(cursor)
        return None if any(is_gap(entry) for entry in behind) else behind

    def lost_by(self, stored: "Window") -> list[Entry]:
        """What is known here, and should be in the store but is not: the end of what there was, or all of it.

        What is older than the store's oldest entry may have been trimmed, and is not asked for.
        """
        first = stored.entries[0].cursor.at if stored.entries else (0, 0)
        return [
            entry
            for entry in self._entries
            if entry.event is not None
            and not entry.repeated
            and entry.cursor.at > first
            and not stored.has(entry.event)
        ]

    def cut(self, *, oldest: float, most_bytes: int, most: int) -> None:
        """Forget entries of before `oldest` (unix seconds), and the first of too many."""
        begin = bisect_left(self._entries, (int(max(0.0, oldest) * 1000), 0), key=_at)
        begin = min(max(begin, len(self._entries) - most), len(self._entries) - 1)  # the last one is a place to be at
        size = self.size - sum(entry.size for entry in self._entries[:begin])
        while begin < len(self._entries) - 1 and size > most_bytes:
            size -= self._entries[begin].size
            begin += 1
        if begin > 0:
            del self._entries[:begin]
            self.size = size
            self._ids = {entry.event.id for entry in self._entries if entry.event is not None}


def is_gap(entry: Entry) -> bool:
    return entry.event is not None and entry.event.is_mark and entry.event.to == GAP


def _at(entry: Entry) -> tuple[int, int]:
    return entry.cursor.at
