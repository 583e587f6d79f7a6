"""What is stored for this key, and may it still be used? The first tier in this process over the store they share."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from proxy.cache import record
from proxy.cache.background import Background
from proxy.cache.epochs import Doubt, Epochs, Stamp
from proxy.cache.memory import Memory
from proxy.cache.record import Rejection
from proxy.cache.seal import Sealer
from proxy.errors import StoreError
from proxy.policy.entry import Entry
from proxy.policy.key import Key
from proxy.policy.outcome import Reason
from proxy.stores.base import Store

THREAD_BYTES = 256 << 10  # packing and unpacking more than this would hold up the loop


class Found(NamedTuple):
    """A usable entry. A tuple, because every hit makes one. `stamp` is for a fill that replaces it."""

    entry: Entry
    stamp: Stamp
    soft_purged: bool  # to be served as stale while one request refreshes it


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing usable. `stamp` None: the epochs are in doubt, so the response may be fetched but not stored.

    `stamp` is that of the request's own tags; `stamp.of(tags)` gives the one of a negative entry's, which are more.
    """

    reason: Reason
    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class Stats:
    entries: int
    size: int
    max_size: int
    evictions: int
    rejected: Mapping[Rejection, int]  # records from the store that were not what was asked for
    store_failures: int
    tenants: Mapping[str, int]  # bytes in the first tier; "" holds what is public
    features: Mapping[tuple[str, str], int]  # the same, by tenant and feature


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
        self._sealer = sealer
        self._background = background
        self._rejected: Counter[Rejection] = Counter()
        self._store_failures = 0

    def find_in_memory(self, key: Key, policy: bytes) -> Found | None:
        """The short way: from the first tier, under epochs that are trusted now. None: take the long one."""
        entry = self._memory.get(key.full)
        if entry is None:
            return None
        stamp = self._epochs.peek(key.space, key.tags)
        if stamp is None:
            return None
        verdict = _judge(entry, key, policy, stamp, self._clock())
        return verdict if isinstance(verdict, Found) else None

    async def find(self, key: Key, policy: bytes, *, strict: bool = False) -> Found | Missing:
        """The entry under this key, if it was stored under this policy and under the epochs of now."""
        if not strict and (found := self.find_in_memory(key, policy)) is not None:
            return found
        held = self._memory.get(key.full)
        if held is None:
            known = None if strict else self._epochs.peek(key.space, key.tags)
            if known is not None:
                return self._concluded(Reason.COLD, await self._load(key), key, policy, known)
            # both at once; the epochs are read during this request either way, and that is all a hit needs
            stamp, loaded = await asyncio.gather(
                self._epochs.current(key.space, key.tags, strict=strict), self._load(key)
            )
            return self._concluded(Reason.COLD, loaded, key, policy, stamp)
        stamp = await self._epochs.current(key.space, key.tags, strict=strict)
        if isinstance(stamp, Doubt):
            return Missing(stamp.reason, None)
        verdict = _judge(held, key, policy, stamp, self._clock())
        if isinstance(verdict, Found):
            return verdict
        if verdict is Reason.EXPIRED:
            self._memory.drop(key.full)
        # another replica may have filled it again since
        return self._concluded(verdict, await self._load(key), key, policy, stamp)

    def put(self, entry: Entry, *, quota: int | None) -> Reason | None:
        """Store an entry; why not, otherwise. It is in the first tier at once and in the store soon after."""
        now = self._clock()
        until = entry.kept_until()
        if until <= now:
            return Reason.NOT_FRESH
        stamp = self._epochs.peek(entry.tenant, entry.tags)
        if stamp is not None and stamp.hard != entry.epochs_hard:
            # while it was on its way: nobody may be served it, and it must not replace a newer one
            return Reason.PURGED
        refusal = self._memory.put(entry, until=until, quota=quota, now=now)
        # what is confidential is for the store only when it can be encrypted
        if refusal is None and (self._sealer.writer is not None or not entry.confidential):
            _ = self._background.start(self._save(entry, until - now))
        return refusal

    def grew(self, entry: Entry) -> None:
        """`entry.encodings` has grown: count it."""
        self._memory.grew(entry)

    async def drop(self, full_key: str) -> None:
        """Forget one key in both tiers. Not a purge: another replica's first tier keeps it."""
        self._memory.drop(full_key)
        await asyncio.shield(self._background.start(self._delete(full_key)))

    def stats(self) -> Stats:
        accounts = self._memory.accounts()
        tenants: Counter[str] = Counter()
        for account in accounts:
            tenants[account.tenant] += account.size
        return Stats(
            entries=len(self._memory),
            size=self._memory.size,
            max_size=self._max_bytes,
            evictions=self._memory.evictions,
            rejected=MappingProxyType(dict(self._rejected)),
            store_failures=self._store_failures,
            tenants=MappingProxyType(dict(tenants)),
            features=MappingProxyType({(account.tenant, account.feature): account.size for account in accounts}),
        )

    def _concluded(
        self,
        otherwise: Reason,
        loaded: Entry | Reason | None,
        key: Key,
        policy: bytes,
        stamp: Stamp | Doubt,
    ) -> Found | Missing:
        """What the store's answer and the epochs of now come to; `otherwise` is why there is nothing without it."""
        if isinstance(stamp, Doubt):
            return Missing(stamp.reason, None)
        if loaded is None:
            return Missing(otherwise, stamp)
        if isinstance(loaded, Reason):
            return Missing(loaded, stamp)
        now = self._clock()
        verdict = _judge(loaded, key, policy, stamp, now)
        if not isinstance(verdict, Found):
            return Missing(verdict, stamp)
        loaded.policy = policy  # equal, and one object for all entries of a route
        # a limit of the first tier in the way makes it no less usable
        _ = self._memory.put(loaded, until=loaded.kept_until(), quota=None, now=now)
        return verdict

    async def _load(self, key: Key) -> Entry | Reason | None:
        return await asyncio.shield(self._background.start(self._loaded(key)))

    async def _loaded(self, key: Key) -> Entry | Reason | None:
        try:
            (data,) = await self._store.get((key.full,))
        except StoreError:
            self._store_failures += 1
            return Reason.STORE_UNAVAILABLE
        if data is None:
            return None
        if record.unpacked_size(data) > THREAD_BYTES:
            entry = await asyncio.to_thread(self._decoded, data, key)
        else:
            entry = self._decoded(data, key)
        if isinstance(entry, Rejection):
            self._rejected[entry] += 1
            return None
        return entry

    def _decoded(self, data: bytes, key: Key) -> Entry | Rejection:
        return record.decode(
            data, self._sealer, key=key.full, tenant=key.space, request=key.request, max_body=self._memory.max_entry
        )

    async def _save(self, entry: Entry, ttl: float) -> None:
        if len(entry.body) > THREAD_BYTES:
            data = await asyncio.to_thread(record.encode, entry, self._sealer)
        else:
            data = record.encode(entry, self._sealer)
        try:
            await self._store.set(entry.key, data, ttl)
        except StoreError:
            self._store_failures += 1

    async def _delete(self, full_key: str) -> None:
        try:
            await self._store.delete((full_key,))
        except StoreError:
            self._store_failures += 1


def _judge(entry: Entry, key: Key, policy: bytes, stamp: Stamp, now: float) -> Found | Reason:
    """May this entry be used by a request with this key and `policy`, under the epochs in `stamp`?"""
    if entry.request != key.request:
        return Reason.COLD  # keys are made so that this cannot be; were it to happen, it must not be served
    if entry.policy != policy:
        return Reason.RULES_CHANGED
    # an entry is held to the epochs of its own tags: a negative one is bound to its list as well
    bound = stamp if entry.tags == key.tags else stamp.of(entry.tags)
    if bound is None:
        return Reason.RULES_CHANGED
    if bound.hard != entry.epochs_hard:
        return Reason.PURGED
    if entry.fresh_until <= now and entry.kept_until() <= now:
        return Reason.EXPIRED
    return Found(entry, stamp, bound.soft != entry.epochs_soft)
