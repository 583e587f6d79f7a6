"""How is everything put together, started and ended? The only place that names concrete classes and makes the clock."""

import asyncio
import gc
import hashlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from proxy.admin.api import application
from proxy.admin.health import Health
from proxy.cache.background import Background
from proxy.cache.coalesce import Flights
from proxy.cache.epochs import Epochs
from proxy.cache.tiers import Cache
from proxy.errors import ConfigError
from proxy.identity.jwks import Jwks, fetch_document
from proxy.identity.sources import IdentityResolver
from proxy.identity.tokens import TokenVerifier
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.policy.message import Request
from proxy.policy.outcome import Outcome
from proxy.serving.exchange import Exchange, Hosts
from proxy.serving.fetch import Fetcher
from proxy.serving.listener import Listener, require_c_parser
from proxy.serving.reserved import Reserved
from proxy.serving.upstream import HttpUpstream, Timeouts
from proxy.serving.websocket import WebSocketBridge
from proxy.settings import Address, Settings
from proxy.stores.memory import MemoryStore
from proxy.telemetry.logs import Logger, logger
from proxy.telemetry.metrics import Metrics

# The embedded store keeps compressed records behind the first tier: it holds more than its size says.
EMBEDDED_STORE_SHARE = 1.0
_LEAVING = 0.1  # of the drain time: still accepting, so that load balancers notice that we are no longer ready


@dataclass(frozen=True, slots=True)
class Running:
    """A started sidecar: the ports it really has, and how to tell it to stop."""

    data_port: int
    admin_port: int
    stop: asyncio.Event


async def serve(settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. ConfigError when the rules or an address cannot be used."""
    async with running(settings) as sidecar:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, sidecar.stop.set)
        if ready is not None:
            ready()
        await sidecar.stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # a second signal ends the process at once


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A sidecar that accepts requests; drained and closed on the way out."""
    require_c_parser()
    log = logger()
    for warning in settings.warnings:
        log.warning("setting", warning=warning)
    async with AsyncExitStack() as stack:
        sidecar = await _Composition(settings, stack, log).start()
        _freeze_start_up_objects()
        log.info(
            "listening", data=f"{settings.listen.host}:{sidecar.data_port}", admin=f"127.0.0.1:{sidecar.admin_port}",
            upstream=settings.upstream, profile=settings.profile, store=settings.provider,
        )  # fmt: skip
        yield sidecar


class _Composition:
    """Builds the parts from the bottom up; `stack` closes them from the top down."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, log: Logger) -> None:
        self._settings = settings
        self._stack = stack
        self._log = log
        self._metrics = Metrics()
        self._keys = Keyring(hashlib.blake2b(settings.name_key.encode(), digest_size=32).digest())

    async def start(self) -> Running:
        settings, stack = self._settings, self._stack
        rules = LiveRules(settings.rules, settings.profile, time.time, self._report)
        rules.load()
        background = Background(self._lost)
        stack.push_async_callback(background.drain, settings.drain)
        store = MemoryStore(int(settings.l1_bytes * EMBEDDED_STORE_SHARE), time.time)
        stack.push_async_callback(store.close)
        epochs = Epochs(store, time.monotonic, os.urandom, background)
        stack.push_async_callback(epochs.close)
        cache = Cache(
            store, epochs, l1_bytes=settings.l1_bytes, clock=time.time, secret=settings.name_key.encode(),
            background=background,
        )  # fmt: skip
        health = Health(rules, store.ping, time.time)
        listener = await self._listener(rules, cache, epochs, background, health)
        admin_port = await self._admin(health)
        await self._follow(rules)
        self._gauges(cache, listener, background)
        stop = asyncio.Event()
        stack.push_async_callback(self._leave, health, listener)
        return Running(listener.port, admin_port, stop)

    async def _listener(
        self, rules: LiveRules, cache: Cache, epochs: Epochs, background: Background, health: Health
    ) -> Listener:
        settings = self._settings
        timeouts = Timeouts(settings.connect_timeout, settings.first_byte_timeout, settings.idle_timeout)
        upstream = HttpUpstream(settings.upstream, timeouts)
        self._stack.push_async_callback(upstream.close)
        fetcher = Fetcher(
            upstream=upstream, cache=cache, flights=Flights(), background=background, clock=time.time,
            jitter=random.random, noted=self._noted,
        )  # fmt: skip
        exchange = Exchange(
            rules=lambda: rules.current, identity=await self._identity(), cache=cache, epochs=epochs, fetcher=fetcher,
            upstream=upstream, background=background, keys=self._keys, clock=time.time, hosts=Hosts(settings.hosts),
            noted=self._noted,
        )  # fmt: skip
        bridge = WebSocketBridge(upstream, lambda request, outcome: self._finished(request, outcome, 101, 0.0))
        self._stack.push_async_callback(bridge.close)
        listener = Listener(
            exchange.handle,
            Reserved(settings.prefix, health.word, health.ready),
            trusted_peers=settings.trusted_peers,
            drain=settings.drain,
            finished=lambda request, reply, seconds: self._finished(request, reply.outcome, reply.status, seconds),
            websocket=bridge,
        )
        await _bind(listener.open, settings.listen, "--listen")
        return listener

    async def _identity(self) -> IdentityResolver:
        settings = self._settings
        jwks = None
        if settings.jwks_url is not None:
            session = await self._stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            url = settings.jwks_url
            jwks = Jwks(url, lambda address: fetch_document(session, address), time.monotonic, report=self._report)
            self._stack.push_async_callback(jwks.close)
            jwks.start()
        issuer, audience = settings.jwt_issuer or "", settings.jwt_audience or ""
        return IdentityResolver(TokenVerifier(jwks, issuer, audience, allow_unsigned=settings.dev_auth))

    async def _admin(self, health: Health) -> int:
        runner = web.AppRunner(application(health, self._metrics), access_log=None, handle_signals=False)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)

        async def listen(host: str, port: int) -> None:
            await web.TCPSite(runner, host, port).start()

        await _bind(listen, self._settings.admin, "--admin")
        return int(runner.addresses[0][1])

    async def _follow(self, rules: LiveRules) -> None:
        """Reload the rules when their file changes, and on SIGHUP."""
        watching = asyncio.create_task(rules.watch())
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = asyncio.create_task(rules.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)

        async def stop() -> None:
            loop.remove_signal_handler(signal.SIGHUP)
            watching.cancel()
            await asyncio.wait((watching, *reloads))

        self._stack.push_async_callback(stop)

    async def _leave(self, health: Health, listener: Listener) -> None:
        """Unready first, then stop accepting, then finish what is under way."""
        health.draining = True
        listener.leaving()
        if self._settings.profile != "development":
            await asyncio.sleep(self._settings.drain * _LEAVING)
        await listener.close()

    def _gauges(self, cache: Cache, listener: Listener, background: Background) -> None:
        gauge = self._metrics.gauge
        gauge("sidecache_l1_bytes", "Bytes in the first tier.", lambda: cache.stats().size)
        gauge("sidecache_l1_entries", "Entries in the first tier.", lambda: cache.stats().entries)
        gauge("sidecache_l1_evictions", "Entries that made room for others.", lambda: cache.stats().evictions)
        gauge("sidecache_client_connections", "Open client connections.", lambda: listener.connections)
        gauge("sidecache_background_tasks", "Fills, refreshes and purges under way.", lambda: len(background))

    # What the parts report

    def _finished(self, request: Request, outcome: Outcome, status: int, seconds: float) -> None:
        self._metrics.count(outcome, seconds)
        if self._settings.access_log:
            self._log.info(
                "request", method=request.method, path=request.path, status=status, cache=outcome.cache_status(),
                reason=outcome.reason.value, feature=outcome.feature, tenant=outcome.tenant, ms=round(seconds * 1e3, 2),
            )  # fmt: skip

    def _noted(self, event: str, details: Mapping[str, object]) -> None:
        self._metrics.note(event)
        if event != "unmatched-write":  # one a request: the counter tells
            self._log.warning(event, **details)

    def _report(self, event: str, details: Mapping[str, object]) -> None:
        self._metrics.note(event)
        self._log.warning(event, **details)

    def _lost(self, error: BaseException) -> None:
        self._metrics.note("background-failed")
        self._log.error("background-failed", error=type(error).__name__, detail=str(error))


async def _bind(listen: Callable[[str, int], object], address: Address, flag: str) -> None:
    try:
        await listen(address.host, address.port)  # type: ignore[misc]
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"{flag}: cannot listen on {address}: {reason.lower()}; choose another with {flag}") from None


def _freeze_start_up_objects() -> None:
    """What lives as long as the process need not be looked at by the garbage collector again."""
    gc.collect()
    gc.freeze()
