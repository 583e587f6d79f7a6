"""Which epochs does this process know, and how long may it believe what it knows? Bookkeeping only: nothing is read.

Reads and purges are ordered by tickets. What was read before a purge arrived is void, whoever purged: a doorbell may
overtake the answer of a read, and an answer may overtake another.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar

from proxy.cache.binding import (
    EVERYTHING,
    NEVER_PURGED,
    SHARED,
    Covered,
    Field,
    covered,
    covering,
    hash_of,
    may_be_absent,
)
from proxy.cache.stamp import Stamp, read_stamp, stamp

K = TypeVar("K")

MAX_KNOWN = 16_384  # bindings remembered ready-made


@dataclass(slots=True, eq=False)
class _Copy:
    """One field as it was last read. `trusted_until` 0 means it must be read again."""

    value: bytes = b""
    trusted_until: float = 0.0
    ticket: int = 0  # of the read that brought the value
    barrier: int = 0  # reads sent before this one was are older than a purge


@dataclass(slots=True, eq=False)
class _Space:
    """The copies of one hash. `generation` grows when a value changes, is dropped, or this object is given up."""

    copies: dict[str, _Copy] = field(default_factory=dict)
    generation: int = 0


@dataclass(slots=True, eq=False)
class Known:
    """A ready-made answer for (space, tags): good while neither hash changed and all its copies are trusted."""

    stamp: Stamp
    copies: tuple[_Copy, ...]
    shared: _Space
    shared_generation: int
    own: _Space
    own_generation: int
    good_until: float  # it need not be looked at more closely before then

    def is_good(self, now: float) -> bool:
        """Whether it is known to hold, and none of its copies is to be read again yet."""
        return (
            now < self.good_until
            and self.own.generation == self.own_generation
            and self.shared.generation == self.shared_generation
        )

    def is_of_now(self) -> bool:
        """Whether no value has changed since."""
        return self.own.generation == self.own_generation and self.shared.generation == self.shared_generation


def _remember(table: OrderedDict[K, Known], key: K, known: Known) -> None:
    table[key] = known
    if len(table) > MAX_KNOWN:
        table.popitem(last=False)


class Copies:
    """The copies of one replica, each trusted for `trusted` seconds after its read was sent."""

    def __init__(self, trusted: float, *, max_copies: int) -> None:
        self._trusted = trusted
        self._half = trusted / 2 if trusted < inf else 0.0
        self._max_copies = max_copies
        self._spaces: OrderedDict[str, _Space] = OrderedDict()  # by hash, the least recently read first
        self._count = 0
        self._known: OrderedDict[tuple[str, tuple[str, ...]], Known] = OrderedDict()
        self._alike: OrderedDict[Covered, Known] = OrderedDict()
        self._ticks = 0  # orders reads and purges of this replica
        self._floor = 0  # reads sent before this are void: the barriers they would be held to are gone
        self._distrusted = 0  # copies that were read before this are not trusted, whatever their time
        self.due: dict[tuple[str, tuple[str, ...]], None] = {}  # in use, and half of their time is over

    def __len__(self) -> int:
        return self._count

    def next_ticket(self) -> int:
        """For a read that is sent now."""
        self._ticks += 1
        return self._ticks

    def peek(self, space: str, tags: tuple[str, ...], now: float) -> Stamp | None:
        """The stamp, when every copy it needs is trusted. One that is in use is noted in `due` in good time."""
        known = self._known.get((space, tags))
        if known is None or not known.is_of_now():
            known = self._learn(space, tags, now)
            if known is None:
                return None
        return known.stamp if now < known.good_until or self._is_trusted(known, now) else None

    def known(self, space: str, tags: tuple[str, ...], now: float) -> Known | None:
        """What `peek` answers from, for whoever asks `holds` again and again: one for all tags of the same fields."""
        if self.peek(space, tags, now) is None:
            return None
        alike = self._alike.get(covered(space, tags))
        return alike if alike is not None and self.holds(alike, now) else self._known.get((space, tags))

    def holds(self, known: Known, now: float) -> bool:
        """Whether `peek` would still answer from it."""
        return known.is_of_now() and (now < known.good_until or self._is_trusted(known, now))

    def _is_trusted(self, known: Known, now: float) -> bool:
        trusted_until = min([copy.trusted_until for copy in known.copies])
        known.good_until = trusted_until - self._half
        if now >= trusted_until:
            return False
        if now >= known.good_until:
            self.due[known.stamp.space, known.stamp.tags] = None
        return True

    def take_due(self, now: float) -> dict[str, list[str]]:
        """The fields to read again, by hash, of what was noted; without what another read has renewed since."""
        fields: dict[str, dict[str, None]] = {}
        for space, tags in self.due:
            for hashed, name in covering(space, tags):
                copy = self._find(hashed, name)
                if copy is not None and now >= copy.trusted_until - self._half:
                    # with `*`: of a hash that the store has lost, a field that may be absent says nothing
                    fields.setdefault(hashed, {EVERYTHING: None})[name] = None
        self.due = {}
        return {hashed: list(names) for hashed, names in fields.items()}

    def trusted(self, hashed: str, names: Sequence[str], now: float) -> dict[Field, bytes]:
        copies = [(name, self._find(hashed, name)) for name in names]
        return {(hashed, name): copy.value for name, copy in copies if copy is not None and self._trusts(copy, now)}

    def accept(
        self, hashed: str, values: Mapping[str, bytes | None], ticket: int, sent: float, refused: Iterable[str] = ()
    ) -> dict[Field, bytes]:
        """Keep copies of what a read brought, except of fields purged since it was sent; what may be used of it."""
        accepted: dict[Field, bytes] = {}
        if ticket < self._floor:
            return accepted
        space = self._space(hashed)
        until = sent + self._trusted
        for name, value in values.items():
            if value is None and may_be_absent(name):
                value = NEVER_PURGED
            copy = self._copy(space, name)
            # a purge that the store refused may have come between the decision to read and the read
            if value is None or ticket < copy.barrier or name in refused:
                continue
            if copy.value != value:
                # a later read may have been answered first: the one that was sent last holds
                if ticket < copy.ticket and self._trusts(copy, 0.0):
                    continue
                space.generation += 1
                copy.value = value
            copy.ticket = max(ticket, copy.ticket)
            copy.trusted_until = max(until, copy.trusted_until)
            accepted[hashed, name] = value
        self._make_room()
        return accepted

    def keeps(self, name: Field, value: bytes) -> bool:
        """Whether nothing has replaced this value since it was read."""
        copy = self._find(*name)
        return copy is not None and self._trusts(copy, 0.0) and copy.value == value

    def drop(self, hashed: str, names: Iterable[str]) -> None:
        """These were purged: what was read of them before now is void."""
        self._ticks += 1
        space = self._space(hashed)
        space.generation += 1
        for name in names:
            copy = self._copy(space, name)
            copy.value, copy.trusted_until, copy.barrier = b"", 0.0, self._ticks
        self._make_room()

    def distrust(self) -> None:
        """Anything may have been purged: what was read before now is void."""
        self._ticks += 1
        self._floor = self._distrusted = self._ticks
        shared = self._spaces.get(SHARED)
        if shared is not None:
            shared.generation += 1  # every ready-made answer holds some of it

    def local(self, space: str, tags: tuple[str, ...]) -> Stamp:
        """A stamp of what this process alone knows: when it last heard of a purge of each field."""
        return stamp(space, tags, self.local_values(covering(space, tags)), local=True)

    def local_values(self, fields: Iterable[Field]) -> dict[Field, bytes]:
        copies = [(name, self._find(*name)) for name in fields]
        barriers = [(name, copy.barrier if copy is not None else 0) for name, copy in copies]
        return {name: max(self._floor, barrier).to_bytes(8, "big") for name, barrier in barriers}

    def last_known(self, space: str, tags: tuple[str, ...]) -> Stamp | None:
        """The stamp as it was last read, trusted or not; None when a purge came since, or something was never read."""
        values = {}
        for name in covering(space, tags):
            copy = self._find(*name)
            if copy is None or not copy.value:
                return None
            values[name] = copy.value
        return stamp(space, tags, values)

    def _learn(self, space: str, tags: tuple[str, ...], now: float) -> Known | None:
        binding = covered(space, tags)
        alike = self._alike.get(binding)
        if alike is None or not alike.is_of_now():
            alike = self._learn_anew(space, tags, binding, now)
            if alike is None:
                return None
            _remember(self._alike, binding, alike)
        # of the same fields: only the name is another
        known = Known(
            alike.stamp.named(tags), alike.copies, alike.shared, alike.shared_generation, alike.own,
            alike.own_generation, 0.0,
        )  # fmt: skip
        _remember(self._known, (space, tags), known)
        return known

    def _learn_anew(self, space: str, tags: tuple[str, ...], binding: Covered, now: float) -> Known | None:
        shared, own = self._spaces.get(SHARED), self._spaces.get(hash_of(space))
        if shared is None or own is None:
            return None
        fields, bound = binding
        shared_copies, own_copies = shared.copies, own.copies
        copies = [(shared_copies if hashed is SHARED else own_copies).get(name) for hashed, name in fields]
        trusted = tuple([copy for copy in copies if copy is not None and self._trusts(copy, now)])
        if len(trusted) < len(fields):
            return None
        return Known(
            read_stamp(space, tags, fields, [copy.value for copy in trusted], bound),
            trusted, shared, shared.generation, own, own.generation, 0.0,
        )  # fmt: skip

    def _trusts(self, copy: _Copy, now: float) -> bool:
        return copy.trusted_until > now and copy.ticket >= self._distrusted

    def _find(self, hashed: str, name: str) -> _Copy | None:
        space = self._spaces.get(hashed)
        return space.copies.get(name) if space is not None else None

    def _space(self, hashed: str) -> _Space:
        space = self._spaces.get(hashed)
        if space is None:
            space = self._spaces[hashed] = _Space()
        self._spaces.move_to_end(hashed)
        return space

    def _copy(self, space: _Space, name: str) -> _Copy:
        copy = space.copies.get(name)
        if copy is None:
            copy = space.copies[name] = _Copy()
            self._count += 1
        return copy

    def _make_room(self) -> None:
        while self._count > self._max_copies and len(self._spaces) > 1:
            _, space = self._spaces.popitem(last=False)
            self._count -= len(space.copies)
            space.generation += 1
            self._floor = max([self._floor, *[copy.barrier for copy in space.copies.values()]])
