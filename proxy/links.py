"""Which store is that of these settings, and how is it reached? Of the links, the one that is asked for is loaded."""

import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.settings import Settings
from proxy.stores.access import Access
from proxy.stores.base import Store
from proxy.stores.breaker import Guarded
from proxy.stores.commands import CommandStore
from proxy.stores.iam import IamTokens
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisLink, Report

if TYPE_CHECKING:
    from proxy.stores.upstash import UpstashLink


def store_of(settings: Settings, background: Background, stack: AsyncExitStack, report: Report) -> Store:
    """The store; it is not reached yet, and need not be. Watched until `stack` is closed."""
    if settings.provider == "memory":
        return MemoryStore(settings.l1_bytes, time.time)
    link = link_of(settings, report)
    guarded = Guarded(CommandStore(link), timeout=settings.store_timeout, clock=time.monotonic, report=report)
    watching = background.start(_watched(link, guarded), lasting=True)
    stack.callback(watching.cancel)
    return guarded


async def _watched(link: "RedisLink | UpstashLink", store: Guarded) -> None:
    with suppress(StoreError):  # the watch tells what is the matter
        await link.warm()
    await store.watch()


def link_of(settings: Settings, report: Report) -> "RedisLink | UpstashLink":
    """The link to a store outside this process; not connected yet."""
    return _upstash(settings) if settings.provider == "upstash" else _redis(settings, report)


def _redis(settings: Settings, report: Report) -> RedisLink:
    address = settings.redis
    assert address is not None, "the settings of this provider have an address"
    credentials = None
    if settings.redis_iam_auth is not None:
        credentials = IamTokens(settings.redis_iam_auth, settings.redis_username or "", clock=time.monotonic)
    access = Access(
        address.host, address.port, username=settings.redis_username, password=settings.redis_password,
        credentials=credentials, tls=settings.redis_tls,
        tls_ca=str(settings.redis_tls_ca) if settings.redis_tls_ca is not None else None,
        connect_timeout=settings.connect_timeout,
    )  # fmt: skip
    return RedisLink(
        access, clock=time.monotonic, cluster=settings.redis_cluster, pool_size=settings.pool_size, report=report
    )


def _upstash(settings: Settings) -> "UpstashLink":
    from proxy.stores.upstash import UpstashLink  # here: it loads a second HTTP client, which nobody else needs

    assert settings.upstash_url is not None
    assert settings.upstash_token is not None
    return UpstashLink(
        settings.upstash_url, settings.upstash_token, pool_size=settings.pool_size, timeout=1.0,
        connect_timeout=settings.connect_timeout,
    )  # fmt: skip
