"""Who of all replicas fetches? One request to the upstream for one entry, by a lease in the store (P5).

A lease only saves requests; nothing depends on there being one holder. A replica that cannot ask for it, or has waited
long enough, fetches for itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import TypeVar

from proxy.cache.background import Background
from proxy.cache.stamp import Stamp
from proxy.errors import StoreError
from proxy.policy.key import Key
from proxy.stores.base import Store

Entry = TypeVar("Entry")

TTL = 5.0  # seconds after which a holder that died, or is very slow, no longer holds others back
WAIT = 5.0  # seconds a replica waits for another's fetch
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


class Lease:
    """The right to fetch, until `until`."""

    __slots__ = ("name", "until")

    def __init__(self, name: str, until: float) -> None:
        self.name = name
        self.until = until


class Leases:
    """The leases of this replica. Without other replicas there is nobody to agree with."""

    def __init__(
        self,
        store: Store,
        background: Background,
        clock: Callable[[], float],
        *,
        others: bool,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._background = background
        self._clock = clock
        self.others = others
        self._sleep = sleep

    async def take(
        self, key: Key, stamp: Stamp, arrived: Callable[[], Awaitable[Entry | None]]
    ) -> Lease | Entry | None:
        """The lease; or what `arrived` gives once another replica has fetched; or None: fetch without one.

        Its name holds the epochs: who reads after a purge never waits for a fetch that began before it.
        """
        if not self.others or stamp.local:
            return None
        name = _name(key, stamp)
        return await asyncio.shield(self._background.start(self._take(name, arrived)))

    def release(self, lease: Lease, *, after: asyncio.Task[None] | None) -> None:
        """Give it back, once what was fetched is on its place in the store."""
        _ = self._background.start(self._release(lease, after))

    async def _take(self, name: str, arrived: Callable[[], Awaitable[Entry | None]]) -> Lease | Entry | None:
        now = self._clock()
        try:
            if await self._store.claim(name, b"1", TTL):
                return Lease(name, now + TTL)
            pause = _FIRST_PAUSE
            while self._clock() < now + WAIT:
                await self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                # the entry is stored before its lease is given back: in this order none is overlooked
                (held,) = await self._store.get((name,))
                found = await arrived()
                if found is not None or held is None:
                    return found
        except StoreError:
            return None
        return None

    async def _release(self, lease: Lease, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait((after,))
        if self._clock() >= lease.until:
            return  # by now it may be another's
        try:
            await self._store.delete((lease.name,))
        except StoreError:
            return  # it ends by itself


def _name(key: Key, stamp: Stamp) -> str:
    digest = blake2b(key.full.encode() + b"\0" + stamp.hard, digest_size=16).hexdigest()
    return f"tenant:{key.space}:leases:{digest}" if key.space else f"shared:leases:{digest}"
