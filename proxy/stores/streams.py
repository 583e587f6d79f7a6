"""What is a stream in this process? Items in the order they were appended, each with an id; the oldest make room.

An id is `{milliseconds}-{number}`, as Redis makes them. `is_id` is for those that come from outside.
"""

import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from proxy.stores.base import Item

MOST_STREAMS = 10_000
_OVERHEAD = 400  # what an item costs beside its bytes: its objects, and its place
_LAST = (1 << 64) - 1
_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")

Position = tuple[int, int]


@dataclass(slots=True)
class _Stream:
    expires: float = 0.0
    last: Position = (0, 0)
    bytes: int = 0
    items: deque[tuple[Position, Item]] = field(default_factory=deque)


class Streams:
    """Those of the embedded store. Over `max_bytes`, whole streams go: those that were appended to longest ago."""

    def __init__(self, max_bytes: int, clock: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self.bytes = 0

    def append(self, name: str, fields: Mapping[str, bytes], max_length: int, ttl: float) -> str:
        now = self._clock()
        stream = self._live(name, now) or self._streams.setdefault(name, _Stream())
        self._streams.move_to_end(name)
        milliseconds = int(now * 1000)
        last = stream.last
        at = (milliseconds, 0) if milliseconds > last[0] else (last[0], last[1] + 1)  # a clock may go back
        item = Item(f"{at[0]}-{at[1]}", dict(fields))
        stream.last, stream.expires = at, now + ttl
        stream.items.append((at, item))
        self._grow(stream, _size(item))
        while len(stream.items) > max_length:
            self._grow(stream, -_size(stream.items.popleft()[1]))
        while self.bytes > self._max_bytes:
            self._forget(next(iter(self._streams)))
        while len(self._streams) > MOST_STREAMS:
            self._forget(next(iter(self._streams)))
        return item.id

    def range(self, name: str, after: str, count: int) -> list[Item]:
        stream = self._live(name, self._clock())
        if stream is None:
            return []
        begin = bisect_right(stream.items, position(after), key=_position) if after else 0
        return [item for _, item in islice(stream.items, begin, begin + count)]

    def latest(self, name: str, before: str, count: int) -> list[Item]:
        stream = self._live(name, self._clock())
        if stream is None:
            return []
        end = bisect_left(stream.items, position(before), key=_position) if before else len(stream.items)
        return [item for _, item in islice(stream.items, max(0, end - count), end)][::-1]

    def clear(self) -> None:
        self._streams.clear()
        self.bytes = 0

    def _live(self, name: str, now: float) -> _Stream | None:
        stream = self._streams.get(name)
        if stream is not None and stream.expires <= now:
            self._forget(name)
            return None
        return stream

    def _grow(self, stream: _Stream, size: int) -> None:
        stream.bytes += size
        self.bytes += size

    def _forget(self, name: str) -> None:
        self.bytes -= self._streams.pop(name).bytes


def is_id(text: str) -> bool:
    """Whether a store can be asked for what comes after or before this."""
    found = _ID.fullmatch(text)
    return found is not None and all(int(part) <= _LAST for part in found.groups())


def position(id: str) -> Position:
    milliseconds, _, number = id.partition("-")
    return int(milliseconds), int(number)


def first_after(id: str) -> str:
    """The first id that can come after this one: every server takes it, whatever it knows of exclusive ranges."""
    milliseconds, number = position(id)
    return f"{milliseconds}-{number + 1}" if number < _LAST else f"{milliseconds + 1}-0"


def last_before(id: str) -> str:
    milliseconds, number = position(id)
    return f"{milliseconds}-{number - 1}" if number else f"{max(0, milliseconds - 1)}-{_LAST if milliseconds else 0}"


def _position(placed: tuple[Position, Item]) -> Position:
    return placed[0]


def _size(item: Item) -> int:
    return _OVERHEAD + sum(len(name) + len(value) for name, value in item.fields.items())
