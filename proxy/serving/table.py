"""What is remembered by the bytes that ask for it? Bounded by bytes; the oldest go first."""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Table(Generic[T]):
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[bytes, tuple[T, int]] = OrderedDict()
        self.size = 0

    def get(self, key: bytes) -> T | None:
        found = self._known.get(key)
        return found[0] if found is not None else None

    def put(self, key: bytes, value: T, size: int) -> None:
        self.drop(key)
        self._known[key] = (value, size)
        self.size += size
        while self.size > self._max_bytes:
            self.size -= self._known.popitem(last=False)[1][1]

    def drop(self, key: bytes) -> None:
        found = self._known.pop(key, None)
        if found is not None:
            self.size -= found[1]
