"""What does the store hold, for people who look? Keys page by page, and one entry, whatever the rules say of it now.

The store holds more than entries: only what can be the key of one is told, and read.
"""

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple

from proxy.cache import record
from proxy.cache.record import Rejection
from proxy.cache.seal import Sealer
from proxy.cache.tiers import THREAD_BYTES
from proxy.policy.entry import Entry
from proxy.rules.values import RESERVED_NAMES
from proxy.stores.base import Store

MAX_SECONDS = 1.0  # that one page may take; it is shorter then, and says where to go on
MAX_ROUNDS = 20
_SPARSE = 1000  # names looked at in a round where few of them are wanted

_KEY = re.compile(r"(?:tenant:([A-Za-z0-9_-]{1,64})|shared):([a-z0-9-]+):[!-~]+", re.ASCII)


class Keys(NamedTuple):
    """Some keys, in no order. `next` "": that was all."""

    keys: list[str]
    next: str


class Stored:
    """The second tier alone. StoreError when it does not answer."""

    def __init__(self, store: Store, sealer: Sealer, *, max_body: int, clock: Callable[[], float]) -> None:
        """`max_body`: as of the first tier. `clock` is for how long looking takes."""
        self._store = store
        self._sealer = sealer
        self._max_body = max_body
        self._clock = clock

    async def keys(self, prefix: str, cursor: str, count: int) -> Keys:
        """About `count` keys that begin so; fewer, or none, where looking for them took long."""
        until = self._clock() + MAX_SECONDS
        found: dict[str, None] = {}
        step = count
        for _ in range(MAX_ROUNDS):
            page = await self._store.names(prefix, cursor, step)
            keys = [name for name in page.names if tenant_of(name) is not None]
            found.update(dict.fromkeys(keys))
            cursor = page.next
            if not cursor or len(found) >= count or self._clock() >= until:
                break
            if 2 * len(keys) < step:
                step = _SPARSE
        return Keys(list(found), cursor)

    async def look(self, key: str) -> Entry | Rejection | None:
        """The entry under this key, or what is wrong with what is there."""
        tenant = tenant_of(key)
        if tenant is None:
            return None
        (data,) = await self._store.get((key,))
        if data is None:
            return None
        if record.unpacked_size(data) > THREAD_BYTES:
            return await asyncio.to_thread(self._decoded, data, key, tenant)
        return self._decoded(data, key, tenant)

    def _decoded(self, data: bytes, key: str, tenant: str) -> Entry | Rejection:
        return record.decode(data, self._sealer, key=key, tenant=tenant, request=None, max_body=self._max_body)


def tenant_of(key: str) -> str | None:
    """Whose entry a key can be of; "" for public ones, None: of no entry."""
    found = _KEY.fullmatch(key) if len(key) < 250 else None
    if found is None or found[2] in RESERVED_NAMES:
        return None
    return found[1] or ""
