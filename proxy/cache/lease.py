"""Who of all replicas fetches? One request to the upstream for one entry, by a lease in the store (P5).

A lease only saves requests; nothing depends on there being one holder. A replica that cannot ask for it, or has waited
long enough, fetches for itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Literal, TypeVar

from proxy.cache.background import Background
from proxy.cache.stamp import Stamp
from proxy.errors import StoreError
from proxy.policy.key import Key
from proxy.stores.base import Store

Arrived = TypeVar("Arrived")

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
        self, key: Key, stamp: Stamp, arrived: Callable[[], Awaitable[Arrived | None]]
    ) -> Lease | Arrived | None:
        """The lease; or what `arrived` gives once another replica has fetched; or None: fetch without one.

        Its name holds the epochs: who reads after a purge never waits for a fetch that began before it.
        """
        if not self.others or stamp.local:
            return None
        name = _name(key, stamp)
        claimed = await self._claimed(name)
        return await self._waited(name, arrived) if claimed is False else claimed

    def release(self, lease: Lease, *, after: asyncio.Task[None] | None) -> None:
        """Give it back, once what was fetched is on its place in the store."""
        _ = self._background.start(self._release(lease, after))

    async def _claimed(self, name: str) -> Lease | Literal[False] | None:
        """The lease; False when it is another's, None when the store does not tell."""
        claiming = self._background.start(self._claim(name))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # whoever wanted it has left, and the store may give it all the same
            claiming.add_done_callback(self._give_back)
            raise

    async def _claim(self, name: str) -> Lease | Literal[False] | None:
        until = self._clock() + TTL
        try:
            return Lease(name, until) if await self._store.claim(name, b"1", TTL) else False
        except StoreError:
            return None

    def _give_back(self, claiming: asyncio.Task[Lease | Literal[False] | None]) -> None:
        if not claiming.cancelled() and claiming.exception() is None and isinstance(lease := claiming.result(), Lease):
            self.release(lease, after=None)

    async def _waited(self, name: str, arrived: Callable[[], Awaitable[Arrived | None]]) -> Arrived | None:
        pause, until = _FIRST_PAUSE, self._clock() + WAIT
        while self._clock() < until:
            await self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            # the entry is stored before its lease is given back: in this order none is overlooked
            held = await asyncio.shield(self._background.start(self._is_held(name)))
            if held is None:
                return None
            found = await arrived()
            if found is not None or not held:
                return found
        return None

    async def _is_held(self, name: str) -> bool | None:
        try:
            (value,) = await self._store.get((name,))
        except StoreError:
            return None
        return value is not None

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
