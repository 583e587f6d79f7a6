"""How is everything put together, started and ended? The only place that names concrete classes and makes the clock."""

import asyncio
import gc
import hashlib
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from proxy import __version__
from proxy.addresses import Address
from proxy.admin.api import application
from proxy.admin.health import Health
from proxy.cache.background import Background
from proxy.cache.coalesce import Flights
from proxy.cache.epochs import Epochs
from proxy.cache.lease import Leases
from proxy.cache.seal import Sealer
from proxy.cache.tiers import Cache
from proxy.errors import ConfigError, StoreError
from proxy.identity.jwks import Jwks, fetch_document
from proxy.identity.sources import IdentityResolver
from proxy.identity.tokens import TokenVerifier
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.policy.message import Request
from proxy.policy.outcome import Outcome
from proxy.serving.exchange import Exchange, Hosts
from proxy.serving.fetch import Fetcher
from proxy.serving.hits import Hits, RequestOf, ServingEpoch
from proxy.serving.listener import Listener, require_c_parser
from proxy.serving.naming import Naming
from proxy.serving.reachability import Watched
from proxy.serving.reply import Reply
from proxy.serving.reserved import Reserved
from proxy.serving.upgrade import UpgradeBridge
from proxy.serving.upstream import HttpUpstream, Timeouts
from proxy.settings import Settings
from proxy.stores.access import Access
from proxy.stores.base import Store
from proxy.stores.breaker import Guarded
from proxy.stores.commands import CommandStore
from proxy.stores.iam import IamTokens
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisLink, Report
from proxy.telemetry.logs import Logger, logger
from proxy.telemetry.metrics import Metrics, Sample

if TYPE_CHECKING:
    from proxy.stores.upstash import UpstashLink

# Parts of the drain time: still accepting, so that load balancers notice that we are no longer ready; then finishing
# requests. What is left is for the work that they leave behind.
_LEAVING = 0.1
_FINISHING = 0.8

_PREPARED_SHARE = 4  # answers ready to be written may take this part of the first tier's bytes on top of them

# Reports of a change for the better.
_GOOD_NEWS = frozenset({"store-available", "rules-loaded", "jwks-available", "jwks-changed", "upstream-reachable"})


@dataclass(frozen=True, slots=True)
class Running:
    """A started sidecar: the ports it really has."""

    data_port: int
    admin_port: int


async def serve(settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. ConfigError when the rules or an address cannot be used."""
    stop = asyncio.Event()
    with _on_signals(stop.set):
        async with running(settings):
            _freeze_start_up_objects()
            if ready is not None:
                ready()
            await stop.wait()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A sidecar that accepts requests; drained and closed on the way out."""
    require_c_parser()
    log = logger()
    for warning in settings.warnings:
        log.warning("setting", warning=warning)
    async with AsyncExitStack() as stack:
        sidecar = await _Composition(settings, stack, log).start()
        log.info(
            "listening",
            data=str(Address(settings.listen.host, sidecar.data_port)),
            admin=str(Address(settings.admin.host, sidecar.admin_port)),
            upstream=settings.upstream, profile=settings.profile, store=settings.provider, version=__version__,
        )  # fmt: skip
        yield sidecar


class _Composition:
    """Builds the parts from the bottom up; `stack` closes them from the top down."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, log: Logger) -> None:
        self._settings = settings
        self._stack = stack
        self._log = log
        self._metrics = Metrics()
        self._background = Background(self._lost)
        self._serving = ServingEpoch()
        self._sealer = Sealer(settings.name_key.encode(), settings.encryption_keys)
        self._rules = LiveRules(
            settings.rules, settings.profile, time.time, self._report,
            has_encryption_key=bool(settings.encryption_keys),
        )  # fmt: skip
        self._drained_by = float("inf")  # of the loop's clock, once we are leaving

    async def start(self) -> Running:
        settings, stack = self._settings, self._stack
        self._rules.load()
        self._warn_of_strict()
        store = self._store()
        stack.push_async_callback(store.close)
        sole = settings.sole_replica
        epochs = Epochs(store, time.monotonic, os.urandom, self._background, sole=sole)
        stack.push_async_callback(epochs.close)
        epochs.start()
        leases = Leases(store, self._background, time.monotonic, others=not sole)
        cache = Cache(
            store, epochs, l1_bytes=settings.l1_bytes, clock=time.time, sealer=self._sealer,
            background=self._background,
        )  # fmt: skip
        health = Health(self._rules, store.ping, time.monotonic)
        upstream = HttpUpstream(
            settings.upstream,
            Timeouts(settings.connect_timeout, settings.first_byte_timeout, settings.idle_timeout),
        )
        stack.push_async_callback(upstream.close)
        exchange = await self._exchange(cache, epochs, leases, upstream)
        admin_port = await self._admin(health)
        stack.push_async_callback(self._finish_background)
        self._follow()
        listener = await self._listener(exchange, cache, epochs, upstream, health)
        self._metrics.watch(lambda: self._figures(cache, epochs, listener))
        stack.push_async_callback(self._leave, health, listener)
        return Running(listener.port, admin_port)

    def _store(self) -> Store:
        """The store of these settings; none of them is reached yet, and none need be."""
        settings = self._settings
        if settings.provider == "memory":
            return MemoryStore(settings.l1_bytes, time.time)
        link = _upstash(settings) if settings.provider == "upstash" else _redis(settings, self._report)
        guarded = Guarded(CommandStore(link), timeout=settings.store_timeout, clock=time.monotonic, report=self._report)
        self._metrics.watch(lambda: _store_figures(guarded))
        watching = self._background.start(self._watched(link, guarded), lasting=True)
        self._stack.callback(watching.cancel)
        return guarded

    async def _watched(self, link: "RedisLink | UpstashLink", store: Guarded) -> None:
        with suppress(StoreError):  # the watch tells what is the matter
            await link.warm()
        await store.watch()

    def _warn_of_strict(self) -> None:
        """Upstash answers from replicas that lag: there `consistency: strict` is as strict as sync tokens make it."""
        strict = sorted({route.feature for route in self._rules.current.routes if route.strict})
        if strict and self._settings.provider == "upstash":
            self._log.warning(
                "strict-best-effort", features=strict,
                why="Upstash may answer from a replica; for a bound of 0 use REDIS_PROVIDER=elasticache",
            )  # fmt: skip

    async def _exchange(self, cache: Cache, epochs: Epochs, leases: Leases, upstream: HttpUpstream) -> Exchange:
        settings, background = self._settings, self._background
        watched = Watched(upstream, settings.upstream, self._report)
        keys, hosts = (
            Keyring(hashlib.blake2b(settings.name_key.encode(), digest_size=32).digest()),
            Hosts(settings.hosts),
        )
        naming = Naming(keys, hosts.home)
        fetcher = Fetcher(
            upstream=watched, cache=cache, epochs=epochs, flights=Flights(), naming=naming, leases=leases,
            background=background, clock=time.time, jitter=random.random, noted=self._noted,
        )  # fmt: skip
        return Exchange(
            rules=lambda: self._rules.current, identity=await self._identity(), cache=cache, epochs=epochs,
            fetcher=fetcher, upstream=watched, background=background,
            keys=keys, naming=naming, clock=time.time, random=random.random, hosts=hosts, noted=self._noted,
        )  # fmt: skip

    async def _identity(self) -> IdentityResolver:
        settings = self._settings
        jwks = None
        if settings.jwks_url is not None:
            session = await self._stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            jwks = Jwks(
                settings.jwks_url,
                lambda url: fetch_document(session, url),
                time.monotonic,
                report=self._report,
                changed=self._serving.advance,
            )
            self._stack.push_async_callback(jwks.close)
            jwks.start()
        issuer, audience = settings.jwt_issuer or "", settings.jwt_audience or ""
        return IdentityResolver(TokenVerifier(jwks, issuer, audience, allow_unsigned=settings.dev_auth))

    def _hits(self, exchange: Exchange, cache: Cache, epochs: Epochs, request_of: RequestOf) -> Hits:
        def logged(request: Request, reply: Reply) -> None:
            self._log_request(request, reply.outcome, reply.status, 0.0)

        return Hits(
            cache, epochs, at_once=exchange.at_once, request_of=request_of, cell_of=self._metrics.cell,
            logged=logged if self._settings.access_log else None, serving=self._serving, clock=time.time,
            max_bytes=self._settings.l1_bytes // _PREPARED_SHARE,
        )  # fmt: skip

    async def _listener(
        self, exchange: Exchange, cache: Cache, epochs: Epochs, upstream: HttpUpstream, health: Health
    ) -> Listener:
        settings = self._settings
        bridge = UpgradeBridge(
            upstream,
            lambda request, outcome, status: self._finished(request, outcome, status, 0.0),
            exchange.is_write,
        )
        listener = Listener(
            exchange.handle,
            Reserved(settings.prefix, health.word, health.ready),
            trusted_peers=settings.trusted_peers,
            drain=settings.drain * _FINISHING,
            finished=lambda request, reply, seconds: self._finished(request, reply.outcome, reply.status, seconds),
            upgrade=bridge,
            hits=lambda request_of: self._hits(exchange, cache, epochs, request_of),
        )
        self._stack.push_async_callback(listener.close)
        await _bind(listener.open, settings.listen, "--listen")
        return listener

    async def _admin(self, health: Health) -> int:
        runner = web.AppRunner(application(health, self._metrics), access_log=None, handle_signals=False)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)

        async def listen(host: str, port: int) -> None:
            await web.TCPSite(runner, host, port).start()

        await _bind(listen, self._settings.admin, "--admin")
        return int(runner.addresses[0][1])

    def _follow(self) -> None:
        """Reload the rules when their file changes, and on SIGHUP."""
        watching = self._background.start(self._rules.watch())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._background.start(self._rules.reload()))

        async def stop() -> None:
            loop.remove_signal_handler(signal.SIGHUP)
            watching.cancel()
            await asyncio.wait((watching,))

        self._stack.push_async_callback(stop)

    async def _leave(self, health: Health, listener: Listener) -> None:
        """Unready first; the listener, which is closed next, then accepts no more and finishes what is under way."""
        self._drained_by = asyncio.get_running_loop().time() + self._settings.drain
        health.draining = True
        listener.leaving()
        if self._settings.profile != "development":
            await asyncio.sleep(self._settings.drain * _LEAVING)

    async def _finish_background(self) -> None:
        """Fills and purges end before what they use is closed: in what is left of the drain time."""
        left = self._drained_by - asyncio.get_running_loop().time()
        share = self._settings.drain * (1 - _LEAVING - _FINISHING)
        await self._background.drain(share if left == float("inf") else max(left, share))

    def _figures(self, cache: Cache, epochs: Epochs, listener: Listener) -> Iterator[Sample]:
        stats, rules = cache.stats(), self._rules
        yield Sample("sidecache_build_info", "The version that runs.", {__version__: 1}, "version")
        yield Sample("sidecache_l1_bytes", "Bytes in the first tier.", stats.size)
        yield Sample("sidecache_l1_max_bytes", "Bytes the first tier may hold.", stats.max_size)
        yield Sample("sidecache_l1_entries", "Entries in the first tier.", stats.entries)
        yield Sample(
            "sidecache_l1_evictions_total", "Entries that made room for others.", stats.evictions, counter=True
        )
        yield Sample(
            "sidecache_records_rejected_total", "Records of the store that were not what was asked for.",
            {reason.value: count for reason, count in stats.rejected.items()}, "reason", counter=True,
        )  # fmt: skip
        uses = self._sealer.uses()
        yield Sample(
            "sidecache_records_sealed_total", "Records encrypted for the store.",
            {key_id: use.sealed for key_id, use in uses.items()}, "key_id", counter=True,
        )  # fmt: skip
        yield Sample(
            "sidecache_records_opened_total", "Encrypted records of the store that were used.",
            {key_id: use.opened for key_id, use in uses.items()}, "key_id", counter=True,
        )  # fmt: skip
        yield Sample(
            "sidecache_encryption_key_needed_seconds",
            "Until the last record that this process has written or read with this key is of no more use.",
            {key_id: max(0.0, use.needed_until - time.time()) for key_id, use in uses.items()}, "key_id",
        )  # fmt: skip
        yield Sample("sidecache_store_failures_total", "Failed operations.", stats.store_failures, counter=True)
        figures, doorbell = epochs.figures, epochs.doorbell
        yield Sample(
            "sidecache_epochs_pending", "Purges that the store has not accepted yet; they hold here.", epochs.pending
        )
        yield Sample(
            "sidecache_epochs_total", "What became of epochs, and of what is told of them.",
            {
                "local": figures.local, "renewed": figures.renewals, "disturbed": figures.disturbances,
                "refused": figures.refused, "rung": doorbell.rung, "answered": doorbell.answered,
            },
            "event", counter=True,
        )  # fmt: skip
        if (hits := listener.hits) is not None:
            yield Sample(
                "sidecache_hits_at_once_total", "Hits answered in the call that brought their bytes, by how alike.",
                {"same-head": hits.repeated, "same-choice": hits.chosen, "decided": hits.decided}, "way", counter=True,
            )  # fmt: skip
            yield Sample("sidecache_prepared_bytes", "Bytes of answers that are ready to be written.", hits.size)
        yield Sample("sidecache_client_connections", "Open client connections.", listener.connections)
        yield Sample(
            "sidecache_background_tasks",
            "Work under way beside requests, the watch on the rules included.",
            len(self._background),
        )
        yield Sample("sidecache_rules_valid", "1 when the rules file as it is now is in force.", not rules.problems)
        yield Sample("sidecache_rules_loaded_timestamp_seconds", "When the rules in force came.", rules.loaded_at)

    # What the parts report

    def _finished(self, request: Request, outcome: Outcome, status: int, seconds: float) -> None:
        self._metrics.count(outcome, seconds)
        if self._settings.access_log:
            self._log_request(request, outcome, status, seconds)

    def _log_request(self, request: Request, outcome: Outcome, status: int, seconds: float) -> None:
        self._log.info(
            "request", method=request.method, path=request.path, status=status, cache=outcome.cache_status(),
            reason=outcome.reason.value, feature=outcome.feature, tenant=outcome.tenant, ms=round(seconds * 1e3, 2),
        )  # fmt: skip

    def _noted(self, event: str, details: Mapping[str, object]) -> None:
        self._metrics.note(event)
        if event != "unmatched-write":  # one a request: the counter tells
            self._log.warning(event, **details)

    def _report(self, event: str, details: Mapping[str, object]) -> None:
        self._serving.advance()  # whatever it is: these are rare, and each may change an answer
        self._metrics.note(event)
        (self._log.info if event in _GOOD_NEWS else self._log.warning)(event, **details)
        if event == "rules-loaded":
            self._warn_of_strict()

    def _lost(self, error: BaseException) -> None:
        self._metrics.note("background-failed")
        self._log.error("background-failed", error=type(error).__name__, detail=str(error))


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


def _store_figures(store: Guarded) -> Iterator[Sample]:
    yield Sample(
        "sidecache_store_up", "1 while the store is asked, 0 while the breaker is open.", store.state == "closed"
    )
    yield Sample(
        "sidecache_store_rejected_total", "Operations not tried: the breaker was open.", store.rejected, counter=True
    )
    calls = store.calls
    yield Sample(
        "sidecache_store_operations_total", "Operations by kind.",
        {kind: sum(each.buckets) for kind, each in calls.items()}, "operation", counter=True,
    )  # fmt: skip
    yield Sample(
        "sidecache_store_operations_failed_total", "Operations that failed, by kind.",
        {kind: each.failed for kind, each in calls.items()}, "operation", counter=True,
    )  # fmt: skip
    yield Sample(
        "sidecache_store_operation_seconds_total", "Time spent in operations, by kind.",
        {kind: each.seconds for kind, each in calls.items()}, "operation", counter=True,
    )  # fmt: skip


async def _bind(listen: Callable[[str, int], Awaitable[None]], address: Address, flag: str) -> None:
    try:
        await listen(address.host, address.port)
    except OSError as error:
        # a name that does not resolve has an error number of its own kind
        number = None if isinstance(error, socket.gaierror) else error.errno
        reason = os.strerror(number) if number else error.strerror or str(error)
        raise ConfigError(f"cannot listen on {address}: {reason.lower()}; {flag} HOST:PORT chooses another") from None


@contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT; a second one ends the process at once."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)

    def leave() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    def stopped() -> None:
        leave()
        stop()

    for number in numbers:
        loop.add_signal_handler(number, stopped)
    try:
        yield
    finally:
        leave()


def _freeze_start_up_objects() -> None:
    """What lives as long as the process need not be looked at by the garbage collector again."""
    gc.collect()
    gc.freeze()
