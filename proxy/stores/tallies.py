"""What are numbers and sets of observed values in this process? Hashes of whole numbers, and sketches of sets.

A sketch keeps the values themselves while they are few, and then 16,384 registers (HyperLogLog): the standard error is
1.04 / sqrt(16,384) = 0.81 %, as in Redis.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

from proxy.stores.base import Addition

_INDEX_BITS = 14
_REGISTERS = 1 << _INDEX_BITS
_RANK_BITS = 64 - _INDEX_BITS
_FEW = 1024  # values that are kept as they are: about as many bytes as the registers
_ALPHA = 0.7213 / (1 + 1.079 / _REGISTERS)
_HASH = 300  # what a hash or a sketch costs beside its content
_FIELD = 120
_VALUE = 60

T = TypeVar("T", "_Hash", "_Sketch")


@dataclass(slots=True)
class _Hash:
    expires: float = 0.0
    numbers: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return _HASH + _FIELD * len(self.numbers)


@dataclass(slots=True)
class _Sketch:
    expires: float = 0.0
    few: set[int] = field(default_factory=set)
    registers: bytearray | None = None

    @property
    def bytes(self) -> int:
        return _HASH + (_VALUE * len(self.few) if self.registers is None else _REGISTERS)

    def take(self, hashes: Iterable[int]) -> None:
        if self.registers is None:
            self.few.update(hashes)
            if len(self.few) > _FEW:
                self.registers = bytearray(_REGISTERS)
                _raise(self.registers, self.few)
                self.few = set()
        else:
            _raise(self.registers, hashes)


class Tallies:
    """Those of the embedded store. Over `max_bytes`, whole ones go: those that were added to longest ago."""

    def __init__(self, max_bytes: int, clock: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[str, _Hash | _Sketch] = OrderedDict()
        self.bytes = 0

    def add(self, addition: Addition) -> int:
        kept = self._live(addition.name, _Hash)
        before, numbers = kept.bytes, kept.numbers
        if addition.field not in numbers:
            kept.expires = self._clock() + addition.ttl
        number = numbers[addition.field] = numbers.get(addition.field, 0) + addition.by
        self._grew(kept.bytes - before)
        return number

    def counts(self, name: str) -> Mapping[str, int]:
        kept = self._found(name)
        return dict(kept.numbers) if isinstance(kept, _Hash) else {}

    def observe(self, name: str, values: Sequence[str], ttl: float) -> None:
        kept = self._live(name, _Sketch)
        before = kept.bytes
        kept.take(map(_hashed, values))
        kept.expires = self._clock() + ttl
        self._grew(kept.bytes - before)

    def distinct(self, names: Sequence[str]) -> int:
        union = _Sketch()
        for name in names:
            kept = self._found(name)
            if isinstance(kept, _Sketch):
                _join(union, kept)
        return len(union.few) if union.registers is None else _estimate(union.registers)

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _found(self, name: str) -> _Hash | _Sketch | None:
        kept = self._kept.get(name)
        if kept is not None and kept.expires <= self._clock():
            self._forget(name)
            return None
        return kept

    def _live(self, name: str, kind: type[T]) -> T:
        kept = self._found(name)
        if not isinstance(kept, kind):
            if kept is not None:
                self._forget(name)
            kept = self._kept[name] = kind(expires=float("inf"))
            self.bytes += kept.bytes
        self._kept.move_to_end(name)
        return kept

    def _grew(self, size: int) -> None:
        self.bytes += size
        while self.bytes > self._max_bytes and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, name: str) -> None:
        self.bytes -= self._kept.pop(name).bytes


def _hashed(value: str) -> int:
    return int.from_bytes(blake2b(value.encode(), digest_size=8).digest(), "big")


def _raise(registers: bytearray, hashes: Iterable[int]) -> None:
    for hashed in hashes:
        index, rest = hashed >> _RANK_BITS, hashed & ((1 << _RANK_BITS) - 1)
        rank = _RANK_BITS - rest.bit_length() + 1
        if rank > registers[index]:
            registers[index] = rank


def _join(union: _Sketch, other: _Sketch) -> None:
    if other.registers is None:
        union.take(other.few)
        return
    if union.registers is None:
        union.registers = bytearray(_REGISTERS)
        _raise(union.registers, union.few)
        union.few = set()
    union.registers = bytearray(map(max, union.registers, other.registers))


def _estimate(registers: bytearray) -> int:
    zeros = registers.count(0)
    raw = _ALPHA * _REGISTERS**2 / sum(registers.count(rank) / (1 << rank) for rank in range(_RANK_BITS + 2))
    if raw <= 2.5 * _REGISTERS and zeros:
        return round(_REGISTERS * math.log(_REGISTERS / zeros))  # linear counting
    return round(raw)
