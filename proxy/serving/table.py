"""What is remembered of what was asked before? Bounded by bytes; the oldest go first."""

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
