"""What is stored for this key, and may it still be used? The first tier in this process over the store they share."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import NamedTuple

from proxy.cache import record
from proxy.cache.background import Background
from proxy.cache.binding import is_group
from proxy.cache.epochs import TRUSTED_SECONDS, Epochs
from proxy.cache.memory import Memory, Resident
from proxy.cache.reads import Reads, Value
from proxy.cache.record import Rejection
from proxy.cache.seal import Sealer
from proxy.cache.stamp import Stamp, is_local
from proxy.errors import StoreError, StoreFullError
from proxy.policy.entry import Entry
from proxy.policy.key import Key
from proxy.policy.outcome import Reason
from proxy.stores.base import Store
from proxy.telemetry.distribution import Distribution

_FULL_FOR = 5.0  # seconds in which a store that had no room is sent no more entries
THREAD_BYTES = 256 << 10  # packing and unpacking more than this would hold up the loop


class Standing(Enum):
    """What the epochs say of an entry that is not purged."""

    VALID = auto()
    SOFT_PURGED = auto()  # to be served as stale while one request refreshes it
    UNPROVEN = auto()  # the store does not tell: good for a validation, or where the upstream fails as well


class Found(NamedTuple):
    """A usable entry. A tuple, because every hit makes one. `stamp` is for a fill that replaces it."""

    entry: Entry
    stamp: Stamp
    standing: Standing


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing usable. `stamp` None: the response may be fetched but not stored.

    `stamp` is that of the request's own tags; `stamp.of(tags)` gives the one of a negative entry's, which are more.
    """

    reason: Reason
    stamp: Stamp | None


Tell = Callable[[Found | Missing | None], object]


@dataclass(frozen=True, slots=True)
class Totals:
    """What is kept and counted at any time."""

    entries: int
    size: int
    max_size: int
    evictions: int
    rejected: Mapping[Rejection, int]  # records from the store that were not what was asked for
    store_failures: int
    tenants: Mapping[str, int]  # bytes in the first tier; "" holds what is public
    by_feature: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stats(Totals):
    """The same, and what takes longer to count."""

    features: Mapping[tuple[str, str], int]  # bytes, by tenant and feature
    counts: Mapping[tuple[str, str], int]  # entries, by tenant and feature


class Cache:
    """Both tiers. No failure of the store leaves here, and no store work ends because a client did."""

    def __init__(
        self,
        store: Store,
        epochs: Epochs,
        *,
        l1_bytes: int,
        clock: Callable[[], float],
        sealer: Sealer,
        background: Background,
    ) -> None:
        self._store = store
        self._epochs = epochs
        self._max_bytes = l1_bytes
        self._memory = Memory(l1_bytes)
        self._clock = clock
        self.sealer = sealer
        self._background = background
        self._reads = Reads(store, background)
        self.ask = self._reads.ask  # for a record as it is, by its name
        self.holds = self._memory.holds  # by the full key
        self.max_unpacked = min(THREAD_BYTES, self._memory.max_entry)
        self._rejected: Counter[Rejection] = Counter()
        self._store_failures = 0
        self._full_until = 0.0
        self._saving: dict[str, asyncio.Task[None]] = {}

    def find_in_memory(self, key: Key, policy: bytes) -> Found | None:
        """The short way: from the first tier, under epochs that are trusted now. None: take the long one."""
        entry = self._memory.get(key.full)
        if entry is None:
            return None
        stamp = self._epochs.peek(key.space, bound(entry, key))
        if stamp is None:
            return None
        verdict = _judge(entry, key, policy, stamp, self._clock())
        return verdict if isinstance(verdict, Found) else None

    async def find(self, key: Key, policy: bytes, *, strict: bool = False, critical: bool = False) -> Found | Missing:
        """The entry under this key, if it was stored under this policy and under the epochs of now.

        `strict`: the store is asked for them each time. While it does not answer, an entry counts that this process
        fetched a moment ago, unless `strict` or `critical`.
        """
        if not strict and (found := self.find_in_memory(key, policy)) is not None:
            return found
        held = self._memory.get(key.full)
        if held is None:
            known = None if strict else self._epochs.peek(key.space, key.tags)
            if known is not None:
                stamp, loaded = known, await self._load(key)
            else:
                # both at once; the epochs are read during this request either way, and that is all a hit needs
                stamp, loaded = await asyncio.gather(
                    self._epochs.current(key.space, key.tags, strict=strict), self._load(key)
                )
        else:
            stamp = await self._epochs.current(key.space, bound(held, key), strict=strict)
            held = self._memory.get(key.full) or held  # it may have been fetched meanwhile
            loaded = None
        if stamp.local and (strict or critical):
            return Missing(Reason.STORE_UNAVAILABLE, None)
        if held is None:
            return await self._concluded(Reason.COLD, loaded, key, policy, stamp, strict=strict)
        verdict = _judge(held, key, policy, stamp, self._clock())
        if stamp.local:
            return self._unproven(held, key, policy, stamp, verdict)
        if isinstance(verdict, Found):
            return verdict
        if verdict is Reason.EXPIRED:
            self._memory.drop(key.full)
        # another replica may have filled it again since
        return await self._concluded(verdict, await self._load(key), key, policy, stamp, strict=strict)

    def seek(self, key: Key, policy: bytes, tell: Tell) -> bool:
        """What `find` would ask the store for, without a task; False: only `find` can tell.

        `tell` hears in a later turn what `find` would have found; None: ask it all the same.
        """
        if self._memory.holds(key.full):
            return False
        stamp = self._epochs.peek(key.space, key.tags)
        if stamp is None:
            return False
        self._reads.ask(key.full, lambda data: self.sought(data, key, policy, stamp, tell))
        return True

    def sought(self, data: Value, key: Key, policy: bytes, stamp: Stamp, tell: Tell) -> None:
        """`tell` hears what `find` would make of this answer of the store."""
        found = None
        try:
            if not _is_large(data):
                found = self._settled(Reason.COLD, self._loaded(data, key), key, policy, stamp)
        finally:
            if found is not None:
                tell(found)
            else:
                _ = self._background.start(self._sought_apart(data, key, policy, stamp, tell))

    async def _sought_apart(self, data: Value, key: Key, policy: bytes, stamp: Stamp, tell: Tell) -> None:
        """What takes longer: a large body is unpacked in a thread, the epochs of an entry's groups are read."""
        found = None
        try:
            loaded = await self._unpacked(data, key)
            found = await self._concluded(Reason.COLD, loaded, key, policy, stamp, strict=False)
        finally:
            tell(found)

    def keep(self, data: bytes, key: Key, policy: bytes, size: int) -> None:
        """A record that was answered with, for the first tier, if its `size` bytes are worth their room there."""
        if self._memory.wants(key.full, size) and isinstance(entry := self._loaded(data, key), Entry):
            entry.policy = policy  # equal, and one object for all entries of a route
            _ = self._memory.put(entry, until=entry.kept_until(), quota=None, now=self._clock())

    async def find_newer(self, key: Key, policy: bytes, stamp: Stamp, than: Entry | None) -> Entry | Reason | None:
        """What another replica has stored meanwhile: fresh, and later than the entry that is here.

        A reason: the store does not tell.
        """
        loaded = await self._load(key)
        if isinstance(loaded, Reason):
            return loaded
        if loaded is None or (than is not None and loaded.stored_at <= than.stored_at):
            return None
        found = await self._concluded(Reason.COLD, loaded, key, policy, stamp, strict=False)
        usable = isinstance(found, Found) and found.standing is Standing.VALID
        return loaded if usable and not loaded.no_cache and self._clock() < loaded.fresh_until else None

    def put(self, entry: Entry, *, quota: int | None, asked_at: float | None = None) -> Reason | None:
        """Store an entry; why not, otherwise. It is in the first tier at once and in the store soon after.

        Under epochs that no store has vouched for it stays here, and is fresh for a moment after `asked_at`, when the
        upstream was asked: the bound on what other replicas may have purged meanwhile (P3).
        """
        now = self._clock()
        local = is_local(entry.epochs_hard)
        if local and not self._epochs.sole:
            until = (now if asked_at is None else asked_at) + TRUSTED_SECONDS
            entry.fresh_until = entry.grace_until = min(entry.fresh_until, until)
        until = entry.kept_until()
        if until <= now:
            return Reason.NOT_FRESH
        tags = entry.tags
        stamp = self._epochs.local(entry.tenant, tags) if local else self._epochs.peek(entry.tenant, tags)
        if stamp is not None and stamp.hard != entry.epochs_hard:
            # while it was on its way: nobody may be served it, and it must not replace a newer one
            return Reason.PURGED
        refusal = self._memory.put(entry, until=until, quota=quota, now=now)
        # what is confidential is for the store only when it can be encrypted
        stored = not local and now >= self._full_until and (self.sealer.writer is not None or not entry.confidential)
        if refusal is None and stored:
            self._saving[entry.key] = task = self._background.start(self._save(entry, until - now))
            task.add_done_callback(lambda task: self._saved(entry.key, task))
        return refusal

    def saving(self, full_key: str) -> asyncio.Task[None] | None:
        """The entry's way to the store, while it is under way."""
        return self._saving.get(full_key)

    def resident(self, entry: Entry) -> Resident | None:
        """What the first tier keeps of this entry: its `meta` is another object as soon as it is another entry."""
        return self._memory.resident(entry)

    def grew(self, entry: Entry) -> None:
        """`entry.encodings` has grown: count it."""
        self._memory.grew(entry)

    def keys(self) -> list[str]:
        """The keys of the first tier, as of now."""
        return self._memory.keys()

    def look(self, full_key: str) -> Entry | None:
        """What the first tier keeps under a key, usable or not, without counting as a use of it."""
        return self._memory.look(full_key)

    async def inspect(self, key: Key, policy: bytes) -> tuple[Entry | None, Standing | Reason]:
        """What is stored under this key in either tier, and what `find` would make of it. Changes nothing."""
        found = self._memory.look(key.full) or await self._load(key)
        if not isinstance(found, Entry):
            return None, Reason.COLD if found is None else found
        stamp = await self._epochs.current(key.space, bound(found, key))
        if stamp.local:
            return found, Reason.STORE_UNAVAILABLE
        verdict = _judge(found, key, policy, stamp, self._clock())
        return found, verdict.standing if isinstance(verdict, Found) else verdict

    async def drop(self, full_key: str) -> None:
        """Forget one key in both tiers. Not a purge: another replica's first tier keeps it."""
        self._memory.drop(full_key)
        await asyncio.shield(self._background.start(self._delete(full_key)))

    def distributions(self) -> tuple[Distribution, Distribution]:
        """Of what was put into the first tier: sizes in bytes, and seconds of freshness."""
        return self._memory.sizes, self._memory.lifetimes

    def totals(self) -> Totals:
        memory = self._memory
        return Totals(
            len(memory), memory.size, self._max_bytes, memory.evictions, MappingProxyType(dict(self._rejected)),
            self._store_failures, MappingProxyType(memory.tenants), MappingProxyType(memory.features),
        )  # fmt: skip

    def stats(self) -> Stats:
        accounts, now = self._memory.accounts(), self.totals()
        return Stats(
            now.entries, now.size, now.max_size, now.evictions, now.rejected, now.store_failures,
            tenants=MappingProxyType(dict(now.tenants)),
            by_feature=MappingProxyType(dict(now.by_feature)),
            features=MappingProxyType({(account.tenant, account.feature): account.size for account in accounts}),
            counts=MappingProxyType({(account.tenant, account.feature): account.entries for account in accounts}),
        )  # fmt: skip

    def _unproven(self, held: Entry, key: Key, policy: bytes, stamp: Stamp, verdict: Found | Reason) -> Found | Missing:
        """What is held, without the store's word: fetched a moment ago, or under the epochs it gave last."""
        now = self._clock()
        if isinstance(verdict, Found) and (self._epochs.sole or now < held.fresh_until):
            return verdict
        own = stamp.of(key.tags)
        known = self._epochs.last_known(key.space, bound(held, key))
        if not isinstance(verdict, Found) and known is not None:
            verdict = _judge(held, key, policy, known, now)
        if not isinstance(verdict, Found) or own is None:
            return Missing(Reason.STORE_UNAVAILABLE, own)
        return Found(held, own, Standing.UNPROVEN)

    async def _concluded(
        self, otherwise: Reason, loaded: Entry | Reason | None, key: Key, policy: bytes, stamp: Stamp, *, strict: bool
    ) -> Found | Missing:
        """What the store's answer and the epochs of now come to; `otherwise` is why there is nothing without it."""
        settled = self._settled(otherwise, loaded, key, policy, stamp)
        if settled is not None:
            return settled
        assert isinstance(loaded, Entry), "only an entry has groups"
        complete = await self._epochs.current(key.space, bound(loaded, key), strict=strict)
        if complete.local:
            return Missing(Reason.STORE_UNAVAILABLE, stamp.of(key.tags))
        return self._judged(loaded, key, policy, complete)

    def _settled(
        self, otherwise: Reason, loaded: Entry | Reason | None, key: Key, policy: bytes, stamp: Stamp
    ) -> Found | Missing | None:
        """The same without waiting; None: the entry has groups whose epochs `stamp` does not cover."""
        if stamp.local:
            # the entry that is held may have brought its groups' epochs as well
            return Missing(Reason.STORE_UNAVAILABLE, stamp.of(key.tags))
        if not isinstance(loaded, Entry):
            return Missing(otherwise if loaded is None else loaded, stamp.of(key.tags))
        tags = bound(loaded, key)
        if tags is not key.tags and tags != stamp.tags:  # its groups were not known before
            return None
        return self._judged(loaded, key, policy, stamp)

    def _judged(self, loaded: Entry, key: Key, policy: bytes, stamp: Stamp) -> Found | Missing:
        """An entry from the store, which the first tier has from now on too, if it is worth its room there."""
        now = self._clock()
        verdict = _judge(loaded, key, policy, stamp, now)
        if not isinstance(verdict, Found):
            return Missing(verdict, stamp.of(key.tags))
        loaded.policy = policy  # equal, and one object for all entries of a route
        held = self._memory.get(key.full)
        if held is None and not self._memory.wants(key.full, loaded.size()):
            return verdict
        if held is None or held.stored_at <= loaded.stored_at:
            # a limit of the first tier in the way makes it no less usable
            _ = self._memory.put(loaded, until=loaded.kept_until(), quota=None, now=now)
            return verdict
        # it was fetched here while the store was asked: whoever has seen it must not see the older one next
        newer = _judge(held, key, policy, stamp, now)
        return newer if isinstance(newer, Found) else verdict

    async def _load(self, key: Key) -> Entry | Reason | None:
        data: Value
        try:
            (data,) = await self._store.get((key.full,))
        except StoreError as error:
            data = error
        return await self._unpacked(data, key)

    async def _unpacked(self, data: Value, key: Key) -> Entry | Reason | None:
        if isinstance(data, bytes) and _is_large(data):
            return self._accepted(await asyncio.to_thread(self._decoded, data, key))
        return self._loaded(data, key)

    def _loaded(self, data: Value, key: Key) -> Entry | Reason | None:
        """What the store gave for this key."""
        if data is None:
            return None
        if isinstance(data, StoreError):
            self._store_failures += 1
            return Reason.STORE_UNAVAILABLE
        return self._accepted(self._decoded(data, key))

    def _decoded(self, data: bytes, key: Key) -> Entry | Rejection:
        return record.decode(
            data, self.sealer, key=key.full, tenant=key.space, request=key.request, tags=key.tags,
            max_body=self._memory.max_entry,
        )  # fmt: skip

    def _accepted(self, entry: Entry | Rejection) -> Entry | None:
        if isinstance(entry, Rejection):
            self._rejected[entry] += 1
            return None
        return entry

    def _saved(self, full_key: str, task: asyncio.Task[None]) -> None:
        if self._saving.get(full_key) is task:
            del self._saving[full_key]

    async def _save(self, entry: Entry, ttl: float) -> None:
        if len(entry.body) > THREAD_BYTES:
            data = await asyncio.to_thread(record.encode, entry, self.sealer)
        else:
            data = record.encode(entry, self.sealer)
        try:
            await self._store.set(entry.key, data, ttl)
        except StoreFullError:
            self._full_until = self._clock() + _FULL_FOR
            self._store_failures += 1
        except StoreError:
            self._store_failures += 1

    async def _delete(self, full_key: str) -> None:
        try:
            await self._store.delete((full_key,))
        except StoreError:
            self._store_failures += 1


def _is_large(data: Value) -> bool:
    return isinstance(data, bytes) and record.unpacked_size(data) > THREAD_BYTES


def bound(entry: Entry, key: Key) -> tuple[str, ...]:
    """The tags to read epochs for: the request's, and the entry's groups where it has some."""
    return entry.tags if entry.tags and is_group(entry.tags[-1]) else key.tags


def _judge(entry: Entry, key: Key, policy: bytes, stamp: Stamp, now: float) -> Found | Reason:
    """May this entry be used by a request with this key and `policy`, under the epochs in `stamp`?"""
    if entry.request != key.request:
        return Reason.COLD  # keys are made so that this cannot be; were it to happen, it must not be served
    if entry.policy != policy:
        return Reason.RULES_CHANGED
    # an entry is held to the epochs of its own tags: its list binds a negative one as well, its groups any
    own = stamp if stamp.tags == key.tags else stamp.of(key.tags)
    held = stamp if stamp.tags == entry.tags else stamp.of(entry.tags)
    if own is None or held is None or entry.tags[: len(key.tags)] != key.tags:
        return Reason.RULES_CHANGED
    if held.hard != entry.epochs_hard:
        return Reason.PURGED
    if entry.fresh_until <= now and entry.kept_until() <= now:
        return Reason.EXPIRED
    return Found(entry, own, Standing.VALID if held.soft == entry.epochs_soft else Standing.SOFT_PURGED)
