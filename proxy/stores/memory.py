"""What is the store when there is no server? Bytes in this process, bounded, forgotten when it ends."""

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from proxy.errors import StoreError
from proxy.stores.base import Addition, Heard, Item, Names
from proxy.stores.streams import Streams
from proxy.stores.tallies import Tallies

_OVERHEAD = 250  # what a value costs beside its bytes: two objects, a table slot, its place in the queue of expiries
_UNHEARD = 1024  # messages a listener may be behind; beyond that it is told to listen again
_STREAMS_SHARE = 4  # streams may take, beside the values, one part in so many of their bytes
_TALLIES_SHARE = 4  # and numbers and sets as many again
_SWEPT = 16  # expired values that one write removes at most: no write pays for all


class MemoryStore:
    """The embedded store (`REDIS_PROVIDER=memory`). The values used longest ago go first; epochs never make room."""

    name = "memory"
    shared = False

    def __init__(self, max_bytes: int, clock: Callable[[], float], *, max_spaces: int = 50_000) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._max_spaces = max_spaces
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # the least recently used first
        self._expiries: list[tuple[float, str]] = []  # a heap; a replaced value leaves its old place behind
        self._bytes = 0
        self._streams = Streams(max_bytes // _STREAMS_SHARE, clock)
        self._tallies = Tallies(max_bytes // _TALLIES_SHARE, clock)
        self._spaces: OrderedDict[str, dict[str, bytes]] = OrderedDict()
        self._listeners: dict[asyncio.Queue[Heard | None], frozenset[str]] = {}
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes in use, with what each value costs beside its own."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._values)

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        self._check_open()
        now = self._clock()
        return [self._get(name, now) for name in names]

    async def get_each(self, names: Sequence[str]) -> list[bytes | StoreError | None]:
        return [*await self.get(names)]

    async def set(self, name: str, value: bytes, ttl: float) -> None:
        self._check_open()
        now = self._clock()
        self._remove(name)
        size = _size(name, value)
        if size > self._max_bytes:
            return  # "a store may forget earlier"
        self._sweep(now)
        while self._bytes + size > self._max_bytes:
            self._remove(next(iter(self._values)))
        self._values[name] = (value, now + ttl)
        self._bytes += size
        heapq.heappush(self._expiries, (now + ttl, name))

    async def claim(self, name: str, value: bytes, ttl: float) -> bool:
        self._check_open()
        if self._get(name, self._clock()) is not None:
            return False
        await self.set(name, value, ttl)
        return True

    async def replace(self, name: str, value: bytes, ttl: float) -> bool:
        self._check_open()
        if self._get(name, self._clock()) is None:
            return False
        await self.set(name, value, ttl)
        return True

    async def delete(self, names: Sequence[str]) -> int:
        self._check_open()
        now = self._clock()
        return sum(self._get(name, now) is not None and self._remove(name) for name in names)

    async def epochs(self, space: str, fields: Sequence[str]) -> list[bytes | None]:
        self._check_open()
        values = self._spaces.get(space)
        if values is None:
            return [None for _ in fields]
        self._spaces.move_to_end(space)
        return [values.get(field) for field in fields]

    async def create_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        self._check_open()
        kept = self._space(space)
        for field, value in values.items():
            kept.setdefault(field, value)

    async def advance_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        self._check_open()
        self._space(space).update(values)

    async def append(self, stream: str, fields: Mapping[str, bytes], max_length: int, ttl: float) -> str:
        self._check_open()
        return self._streams.append(stream, fields, max_length, ttl)

    async def restore(self, stream: str, item: Item, ttl: float) -> bool:
        self._check_open()
        return self._streams.restore(stream, item, ttl)

    async def trim(self, stream: str, oldest: str) -> None:
        self._check_open()
        self._streams.trim(stream, oldest)

    async def range(self, stream: str, after: str, count: int) -> list[Item]:
        self._check_open()
        return self._streams.range(stream, after, count)

    async def latest(self, stream: str, before: str, count: int) -> list[Item]:
        self._check_open()
        return self._streams.latest(stream, before, count)

    async def add(self, additions: Sequence[Addition]) -> list[int | StoreError]:
        self._check_open()
        return [self._tallies.add(each) for each in additions]

    async def counts(self, names: Sequence[str]) -> list[Mapping[str, int]]:
        self._check_open()
        return [self._tallies.counts(name) for name in names]

    async def observe(self, name: str, values: Sequence[str], ttl: float) -> None:
        self._check_open()
        self._tallies.observe(name, values, ttl)

    async def distinct(self, names: Sequence[str]) -> int:
        self._check_open()
        return self._tallies.distinct(names)

    async def names(self, prefix: str, cursor: str, count: int) -> Names:
        self._check_open()
        now = self._clock()
        # in order of the names, whatever is used, comes and goes meanwhile
        after = heapq.nsmallest(count + 1, (name for name in self._values if name > cursor))
        found = [name for name in after[:count] if name.startswith(prefix) and self._values[name][1] > now]
        return Names(found, after[count - 1] if len(after) > count else "")

    async def publish(self, channel: str, message: bytes) -> None:
        self._check_open()
        for unheard, channels in list(self._listeners.items()):
            if channel in channels:
                if unheard.full():
                    self._dismiss(unheard)
                else:
                    unheard.put_nowait(Heard(channel, message))

    async def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        self._check_open()
        unheard: asyncio.Queue[Heard | None] = asyncio.Queue(_UNHEARD)
        self._listeners[unheard] = frozenset(channels)
        try:
            yield None
            while (heard := await unheard.get()) is not None:
                yield heard
        finally:
            self._listeners.pop(unheard, None)
        raise StoreError("the listener was too slow, or the store is closed")

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        """Never: what this store acknowledged is there until it makes room, and then reads as missing."""

    async def ping(self) -> str:
        self._check_open()
        return "PONG"

    async def close(self) -> None:
        self._closed = True
        for unheard in list(self._listeners):
            self._dismiss(unheard)
        self._values.clear()
        self._expiries.clear()
        self._streams.clear()
        self._tallies.clear()
        self._spaces.clear()
        self._bytes = 0

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")

    def _dismiss(self, unheard: asyncio.Queue[Heard | None]) -> None:
        del self._listeners[unheard]
        while not unheard.empty():
            unheard.get_nowait()
        unheard.put_nowait(None)

    def _get(self, name: str, now: float) -> bytes | None:
        kept = self._values.get(name)
        if kept is None:
            return None
        value, expires = kept
        if expires <= now:
            self._remove(name)
            return None
        self._values.move_to_end(name)
        return value

    def _remove(self, name: str) -> bool:
        kept = self._values.pop(name, None)
        if kept is None:
            return False
        self._bytes -= _size(name, kept[0])
        return True

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEPT):
            if not self._expiries or self._expiries[0][0] > now:
                break
            expires, name = heapq.heappop(self._expiries)
            kept = self._values.get(name)
            if kept is not None and kept[1] == expires:
                self._remove(name)
        if len(self._expiries) > 2 * len(self._values) + 1024:
            self._expiries = [(expires, name) for name, (_, expires) in self._values.items()]
            heapq.heapify(self._expiries)

    def _space(self, space: str) -> dict[str, bytes]:
        values = self._spaces.get(space)
        if values is None:
            if len(self._spaces) >= self._max_spaces:
                # the whole space: its epochs are then created anew, so everything under them is a miss, never stale
                self._spaces.popitem(last=False)
            values = self._spaces[space] = {}
        self._spaces.move_to_end(space)
        return values


def _size(name: str, value: bytes) -> int:
    return len(name) + len(value) + _OVERHEAD
