"""Is what was stored still valid, as far as purges know? Epochs read, copied for a moment, and advanced (DESIGN 4).

A fill stamps its entry with the epochs read before the upstream was asked; a hit needs equal ones; a purge replaces
them. Which epochs bind what is `proxy.cache.binding`'s to say.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from proxy.cache.background import Background
from proxy.cache.binding import EVERYTHING, SHARED, Field, binding, covering, field_of, hash_of, is_soft, soft_of
from proxy.errors import StoreError
from proxy.policy.outcome import Reason
from proxy.stores.base import EPOCH_BYTES, Store

TRUSTED_SECONDS = 0.8  # a copy counts this long after its read was sent (P3: 1 s, less a slow read's way back)
_NEVER_SOFTLY_PURGED = bytes(EPOCH_BYTES)
_ATTEMPTS = 3  # reads of one request that own purges may overtake before it goes without
_MAX_KNOWN = 8192  # bindings remembered ready-made
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """The epochs that bind (space, tags), as one read gave them: a digest of the hard ones and one of the soft ones.

    `of` gives the stamp of other tags out of the same read. Besides its own tags a read covers the lists of their
    features, which a negative entry is tagged with and nobody knows before the response is there.
    """

    hard: bytes
    soft: bytes
    space: str = field(default="", compare=False, repr=False)
    tags: tuple[str, ...] = field(default=(), compare=False, repr=False)
    values: tuple[bytes, ...] = field(default=(), compare=False, repr=False)  # of `covering(space, tags)`

    def of(self, tags: tuple[str, ...]) -> "Stamp | None":
        """The stamp of these tags; None when their epochs were not part of this read."""
        if tags == self.tags:
            return self
        read = dict(zip(covering(self.space, self.tags), self.values, strict=True))
        values = [read.get(name) for name in binding(self.space, tags)]
        known = [value for value in values if value is not None]
        return Stamp(_digest(known[0::2]), _digest(known[1::2])) if len(known) == len(values) else None


@dataclass(frozen=True, slots=True)
class Doubt:
    """The epochs are not known: nothing stored may be served, and nothing fetched stored."""

    reason: Reason


@dataclass(slots=True, eq=False)
class _Copy:
    """One field as it was last read. `trusted_until` 0 means it must be read again."""

    value: bytes = b""
    trusted_until: float = 0.0
    barrier: int = 0  # reads sent before this one was are older than a purge of ours


@dataclass(slots=True, eq=False)
class _Space:
    """The copies of one hash. `generation` grows when a value changes, is dropped, or this object is given up."""

    copies: dict[str, _Copy] = field(default_factory=dict)
    generation: int = 0


@dataclass(slots=True, eq=False)
class _Known:
    """A ready-made answer for (space, tags): good while neither hash changed and all its copies are trusted."""

    stamp: Stamp
    copies: tuple[_Copy, ...]
    shared: _Space
    shared_generation: int
    own: _Space
    own_generation: int
    trusted_until: float


class Epochs:
    """The epochs of one replica. `clock` must not go backwards: it measures how old a copy is, nothing else."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        background: Background,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_copies: int = 196_608,  # all of the shared hash (131,072, hard and soft) and 65,536 of tenants
        max_pending: int = 4096,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._background = background
        self._sleep = sleep
        self._max_copies = max_copies
        self._max_pending = max_pending
        self._spaces: OrderedDict[str, _Space] = OrderedDict()  # by hash, the least recently read first
        self._copies = 0
        self._known: dict[tuple[str, tuple[str, ...]], _Known] = {}
        self._ticks = 0  # orders reads and purges of this replica
        self._floor = 0  # reads sent before this are void: the barriers they would be held to are gone
        self._pending: dict[str, dict[str, int]] = {}  # purges the store refused: by hash, field and when
        self._repeater: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Fields whose purge the store has not accepted yet."""
        return sum(map(len, self._pending.values()))

    def peek(self, space: str, tags: tuple[str, ...]) -> Stamp | None:
        """The stamp without asking the store, when every copy it needs is trusted."""
        now = self._clock()
        known = self._known.get((space, tags))
        if (
            known is not None
            and known.own.generation == known.own_generation
            and known.shared.generation == known.shared_generation
        ):
            if now < known.trusted_until:
                return known.stamp
            known.trusted_until = min([copy.trusted_until for copy in known.copies])
            return known.stamp if now < known.trusted_until else None
        return self._learn(space, tags, now)

    async def current(self, space: str, tags: tuple[str, ...], *, strict: bool = False) -> Stamp | Doubt:
        """The stamp as of now. `strict` asks the store whatever the copies say."""
        if not strict and (stamp := self.peek(space, tags)) is not None:
            return stamp
        return await asyncio.shield(self._background.start(self._read(space, tags, strict)))

    async def advance(self, purges: Mapping[str, Sequence[str]], *, soft: bool = False) -> bool:
        """Purge tags (`feature`, `feature:identifier` or `*`), by space. True when the store has accepted all of it.

        Otherwise this replica distrusts what it could not purge and repeats until the store accepts; the caller goes
        on. A caller that is cancelled does not cancel the purge.
        """
        fields: dict[str, dict[str, None]] = {}
        for space, tags in purges.items():
            for tag in tags:
                name = field_of(space, tag)
                fields.setdefault(hash_of(space), {})[soft_of(name) if soft else name] = None
        return await asyncio.shield(self._background.start(self._advance_all(fields)))

    async def close(self) -> None:
        """Stop repeating. What is still pending ends with this process; other replicas never knew of it."""
        if self._repeater is not None:
            self._repeater.cancel()
            await asyncio.wait((self._repeater,))

    # -- reading

    def _learn(self, space: str, tags: tuple[str, ...], now: float) -> Stamp | None:
        shared, own = self._spaces.get(SHARED), self._spaces.get(hash_of(space))
        if shared is None or own is None:
            return None
        fields = covering(space, tags)
        copies = [(shared if hashed == SHARED else own).copies.get(name) for hashed, name in fields]
        trusted = tuple([copy for copy in copies if copy is not None and copy.trusted_until > now])
        if len(trusted) < len(fields):
            return None
        stamp = _stamp(space, tags, fields, [copy.value for copy in trusted])
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        until = min([copy.trusted_until for copy in trusted])
        self._known[space, tags] = _Known(stamp, trusted, shared, shared.generation, own, own.generation, until)
        return stamp

    async def _read(self, space: str, tags: tuple[str, ...], strict: bool) -> Stamp | Doubt:
        fields = covering(space, tags)
        by_hash: dict[str, list[str]] = {}
        for hashed, name in fields:
            by_hash.setdefault(hashed, []).append(name)
        fresh: dict[Field, bytes] = {}
        for _ in range(_ATTEMPTS):
            if self._is_pending(by_hash):
                break
            try:
                fresh |= await self._read_hashes(by_hash, fresh, strict)
            except StoreError:
                break
            # what was read before a purge of ours arrived is void by now, whichever hash it came from
            fresh = {name: value for name, value in fresh.items() if self._is_copy(name, value)}
            if len(fresh) == len(fields):
                return _stamp(space, tags, fields, [fresh[name] for name in fields])
        return Doubt(Reason.STORE_UNAVAILABLE)

    async def _read_hashes(
        self, by_hash: Mapping[str, list[str]], fresh: Mapping[Field, bytes], strict: bool
    ) -> dict[Field, bytes]:
        """The fields not in `fresh`: from trusted copies unless `strict`, else from the store, all hashes at once."""
        now = self._clock()
        values: dict[Field, bytes] = {}
        reads = []
        for hashed, names in by_hash.items():
            if all((hashed, name) in fresh for name in names):
                continue
            copies = {} if strict else self._trusted(hashed, names, now)
            if len(copies) == len(names):
                values |= copies
            else:
                reads.append(self._read_hash(hashed, names))
        found = [await reads[0]] if len(reads) == 1 else await asyncio.gather(*reads)
        for part in found:
            values |= part
        return values

    def _trusted(self, hashed: str, names: list[str], now: float) -> dict[Field, bytes]:
        space = self._spaces.get(hashed)
        if space is None:
            return {}
        copies = [(name, space.copies.get(name)) for name in names]
        return {(hashed, name): copy.value for name, copy in copies if copy is not None and copy.trusted_until > now}

    async def _read_hash(self, hashed: str, names: list[str]) -> dict[Field, bytes]:
        """The fields of one hash as the store has them, created where they are missing."""
        sent, ticket = self._sent()
        values = await self._store.epochs(hashed, names)
        missing = [name for name, value in zip(names, values, strict=True) if value is None and not is_soft(name)]
        if missing:
            # "set if absent", and read again: two creators then agree on the first one's
            await self._store.create_epochs(hashed, {name: self._random(EPOCH_BYTES) for name in missing})
            sent, ticket = self._sent()
            values = await self._store.epochs(hashed, names)
        return self._accept(hashed, dict(zip(names, values, strict=True)), ticket, sent + TRUSTED_SECONDS)

    def _sent(self) -> tuple[float, int]:
        self._ticks += 1
        return self._clock(), self._ticks

    def _accept(self, hashed: str, values: Mapping[str, bytes | None], ticket: int, until: float) -> dict[Field, bytes]:
        """Keep copies of what was read, except of fields purged since the read was sent; what may be used of it."""
        accepted: dict[Field, bytes] = {}
        if ticket < self._floor:
            return accepted
        space = self._space(hashed)
        refused = self._pending.get(hashed, {})
        for name, value in values.items():
            if value is None and is_soft(name):
                value = _NEVER_SOFTLY_PURGED
            copy = self._copy(space, name)
            # a purge that the store refused may have come between the decision to read and the read
            if value is None or ticket < copy.barrier or name in refused:
                continue
            if copy.value != value:
                # a later read may have been answered first: the one that was sent last holds
                if until < copy.trusted_until:
                    continue
                space.generation += 1
                copy.value = value
            copy.trusted_until = max(until, copy.trusted_until)
            accepted[hashed, name] = value
        self._make_room()
        return accepted

    def _is_copy(self, name: Field, value: bytes) -> bool:
        space = self._spaces.get(name[0])
        copy = space.copies.get(name[1]) if space is not None else None
        return copy is not None and copy.trusted_until > 0 and copy.value == value

    # -- purging

    async def _advance_all(self, fields: Mapping[str, Mapping[str, None]]) -> bool:
        purges = [self._advance_space(hashed, tuple(names)) for hashed, names in fields.items()]
        return all(await asyncio.gather(*purges))

    async def _advance_space(self, hashed: str, names: tuple[str, ...]) -> bool:
        accepted = await self._attempt(hashed, names)
        if not accepted:
            self._remember(hashed, names)
        self._drop_copies(hashed, names)
        return accepted

    async def _attempt(self, hashed: str, names: Sequence[str]) -> bool:
        """One write with new epochs: a late duplicate of an earlier one must not restore epochs filled under since."""
        try:
            await self._store.advance_epochs(hashed, {name: self._random(EPOCH_BYTES) for name in names})
        except StoreError:
            return False
        return True

    def _drop_copies(self, hashed: str, names: Sequence[str]) -> None:
        self._ticks += 1
        space = self._space(hashed)
        space.generation += 1
        for name in names:
            copy = self._copy(space, name)
            copy.trusted_until = 0.0
            copy.barrier = self._ticks
        self._make_room()

    def _is_pending(self, by_hash: Mapping[str, list[str]]) -> bool:
        if not self._pending:
            return False
        return any(name in self._pending.get(hashed, ()) for hashed, names in by_hash.items() for name in names)

    def _remember(self, hashed: str, names: Sequence[str]) -> None:
        """Every binding holds `*` of its hashes: a pending `*` distrusts, and in the end purges, a hash as a whole."""
        self._ticks += 1
        if EVERYTHING in self._pending.get(hashed, ()):
            names = (EVERYTHING,)
        self._pending.setdefault(hashed, {}).update(dict.fromkeys(names, self._ticks))
        if self.pending > self._max_pending:
            self._pending[hashed] = {EVERYTHING: self._ticks}
            self._drop_copies(hashed, (EVERYTHING,))
        if self.pending > self._max_pending:
            self._pending = {SHARED: {EVERYTHING: self._ticks}}
            self._drop_copies(SHARED, (EVERYTHING,))
        if self._repeater is None:
            self._repeater = self._background.start(self._repeat())

    async def _repeat(self) -> None:
        pause = _FIRST_PAUSE
        while self._pending:
            await self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            for hashed, names in list(self._pending.items()):
                attempted = dict(names)
                if await self._attempt(hashed, tuple(attempted)):
                    self._accepted(hashed, attempted)
        self._repeater = None

    def _accepted(self, hashed: str, attempted: Mapping[str, int]) -> None:
        names = self._pending.get(hashed, {})
        # otherwise a purge failed again after this attempt had begun
        accepted = [name for name, tick in attempted.items() if names.get(name) == tick]
        for name in accepted:
            del names[name]
        self._drop_copies(hashed, accepted)
        if not names:
            self._pending.pop(hashed, None)

    # -- copies

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
            self._copies += 1
        return copy

    def _make_room(self) -> None:
        while self._copies > self._max_copies and len(self._spaces) > 1:
            _, space = self._spaces.popitem(last=False)
            self._copies -= len(space.copies)
            space.generation += 1
            self._floor = max([self._floor, *[copy.barrier for copy in space.copies.values()]])


def _stamp(space: str, tags: tuple[str, ...], fields: tuple[Field, ...], values: Sequence[bytes]) -> Stamp:
    # every epoch has the same length, and hard and soft fields alternate: equal digests are equal epochs
    bound = len(binding(space, tags))
    return Stamp(_digest(values[0:bound:2]), _digest(values[1:bound:2]), space, tags, tuple(values))


def _digest(values: Sequence[bytes]) -> bytes:
    return blake2b(b"".join(values), digest_size=16).digest()
