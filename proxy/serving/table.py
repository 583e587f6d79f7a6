"""What is remembered of what was asked before? Bounded; of a table by bytes, and the oldest go first."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Table(Generic[T]):
    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._known: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self.size = 0

    def get(self, key: Hashable) -> T | None:
        found = self._known.get(key)
        return found[0] if found is not None else None

    def put(self, key: Hashable, value: T, size: int) -> None:
        self.drop(key)
        self._known[key] = (value, size)
        self.size += size
        while self.size > self.max_bytes:
            self.size -= self._known.popitem(last=False)[1][1]

    def drop(self, key: Hashable) -> None:
        found = self._known.pop(key, None)
        if found is not None:
            self.size -= found[1]


class Seen:
    """Whether something came before, of which most comes once: only what comes again is worth a place."""

    __slots__ = ("_hashes", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._hashes: set[int] = set()

    def __len__(self) -> int:
        return len(self._hashes)

    def again(self, key: Hashable) -> bool:
        """Whether it did; from now on it has. Where there are `most` of them, all are forgotten."""
        seen = hash(key)
        if seen in self._hashes:
            return True
        if len(self._hashes) >= self._most:
            self._hashes.clear()
        self._hashes.add(seen)
        return False
