"""How is everything put together, started and ended? The only place that names concrete classes and makes the clock."""

import asyncio
import gc
import hashlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from proxy import __version__, figures
from proxy.addresses import Address
from proxy.admin.access import Gate
from proxy.admin.api import application
from proxy.admin.audit import opened
from proxy.admin.health import Health
from proxy.admin.surface import Parts, endpoints
from proxy.bypasses import Bypasses
from proxy.cache.background import Background
from proxy.cache.coalesce import Flights
from proxy.cache.epochs import Epochs
from proxy.cache.lease import Leases
from proxy.cache.purges import Purges
from proxy.cache.seal import Sealer
from proxy.cache.tiers import Cache
from proxy.errors import StoreError
from proxy.links import link_of
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.policy.message import Request
from proxy.policy.outcome import Outcome
from proxy.serving.accepting import SharedSite
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
from proxy.session_parts import SessionParts
from proxy.settings import Settings
from proxy.signals import on_signals
from proxy.stores.base import Store
from proxy.stores.breaker import Guarded
from proxy.stores.commands import CommandStore
from proxy.stores.memory import MemoryStore
from proxy.telemetry.logs import Logger, logger
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.traffic import Traffic
from proxy.workers.listening import cannot_listen
from proxy.workers.seat import Seat

if TYPE_CHECKING:
    from proxy.stores.redis import RedisLink
    from proxy.stores.upstash import UpstashLink

# Parts of the drain time: still accepting, so that load balancers notice that we are no longer ready; then finishing
# requests. What is left is for the work that they leave behind.
_LEAVING = 0.1
_FINISHING = 0.8

_PREPARED_SHARE = 4  # answers ready to be written may take this part of the first tier's bytes on top of them

_ADMIN_LEAVES = 1.0  # seconds for answers of the admin port that are under way

# What anybody's request may cause: the counter tells.
_COUNTED = frozenset({"unmatched-write", "logout-of-nobody"})

# Reports of a change for the better.
_GOOD_NEWS = frozenset(
    "store-available doorbell-works rules-loaded jwks-available jwks-changed upstream-reachable "
    "auth0-events-heard".split()
)


@dataclass(frozen=True, slots=True)
class Running:
    """A started sidecar: the ports it really has."""

    data_port: int
    admin_port: int


async def serve(settings: Settings, *, seat: Seat | None = None, ready: Callable[[], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. ConfigError when the rules or an address cannot be used. `seat`: as a worker."""
    stop = asyncio.Event()
    with on_signals(stop.set):
        async with running(settings, seat=seat, leave=stop.set):
            if seat is None:
                _freeze_start_up_objects()
            if ready is not None:
                ready()
            await stop.wait()


@asynccontextmanager
async def running(
    settings: Settings, *, seat: Seat | None = None, leave: Callable[[], None] = lambda: None
) -> AsyncIterator[Running]:
    """A sidecar that accepts requests, or one worker of it; drained and closed on the way out."""
    require_c_parser()
    log = logger()
    async with AsyncExitStack() as stack:
        if seat is not None:
            yield await _Composition(settings, stack, log, seat).start(leave)
            return
        for warning in settings.warnings:
            log.warning("setting", warning=warning)
        sidecar = await _Composition(settings, stack, log).start(leave)
        log.info(
            "listening",
            data=str(Address(settings.listen.host, sidecar.data_port)),
            admin=str(Address(settings.admin.host, sidecar.admin_port)),
            upstream=settings.upstream, profile=settings.profile, store=settings.provider, version=__version__,
        )  # fmt: skip
        yield sidecar


class _Composition:
    """Builds the parts from the bottom up; `stack` closes them from the top down."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, log: Logger, seat: Seat | None = None) -> None:
        self._settings = settings
        self._seat = seat
        self._stack = stack
        self._log = log
        self._metrics = Metrics()
        self._background = Background(self._lost)
        self._serving = ServingEpoch()
        self._sealer = Sealer(settings.name_key.encode(), settings.encryption_keys)
        self._rules = LiveRules(
            settings.rules, settings.profile, time.time, self._report if seat is None else self._heard,
            has_encryption_key=bool(settings.encryption_keys),
            elsewhere=seat.read_rules if seat is not None else None,
        )  # fmt: skip
        self._traffic = Traffic(lambda method, path: self._rules.current.match(method, path), time.time)
        self._bypasses = Bypasses(time.time, self._serving.advance)
        self._purges = Purges(time.time)
        self._audit = opened(
            settings.audit_log, time.time, self._unwritten, worker=seat.number if seat is not None else None
        )
        self._keys = Keyring(hashlib.blake2b(settings.name_key.encode(), digest_size=32).digest())
        self._hosts = Hosts(settings.hosts)
        self._drained_by = float("inf")  # of the loop's clock, once we are leaving
        self._sessions: SessionParts | None = None
        self._admin_runner: web.AppRunner | None = None

    async def start(self, leave: Callable[[], None]) -> Running:
        settings, stack, seat = self._settings, self._stack, self._seat
        if seat is not None:
            await seat.open(self._background, leave)
            stack.callback(seat.close)
        self._rules.load(seat.rules if seat is not None else None)
        self._warn_of_strict()
        stack.push_async_callback(self._audit.close)
        store = self._store()
        stack.push_async_callback(store.close)
        sole = settings.sole_replica
        epochs = Epochs(
            store, time.monotonic, os.urandom, self._background, sole=sole, siblings=seat, report=self._report
        )
        stack.push_async_callback(epochs.close)
        epochs.start()
        leases = Leases(store, self._background, time.monotonic, others=not sole or seat is not None)
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
        sessions = await self._session_parts(store, epochs, upstream)
        exchange = await self._exchange(cache, epochs, leases, upstream, sessions)
        admin_port = await self._admin(health, cache, epochs, store, sessions)
        stack.push_async_callback(self._finish_background)
        if seat is None:
            self._follow()
        listener = self._listener(exchange, cache, epochs, upstream, health, sessions)
        self._watch(cache, epochs, listener)
        if seat is not None:
            _freeze_start_up_objects()  # it takes a moment, in which nobody waits yet
            seat.hear(
                epochs, sessions.revocations, self._rules, self._bypasses, self._metrics, self._background
            )  # fmt: skip
            await seat.join(epochs, sessions.revocations, self._rules, self._bypasses)
        await _bind(
            lambda host, port: listener.open(host, port, *((seat.data, seat.share) if seat is not None else ())),
            settings.listen, "--listen",
        )  # fmt: skip
        stack.push_async_callback(self._leave, health, listener)
        if seat is not None:
            await seat.listening()
        return Running(listener.port, admin_port)

    def _watch(self, cache: Cache, epochs: Epochs, listener: Listener) -> None:
        self._metrics.watch(
            lambda: figures.of_serving(cache, epochs, listener, self._sealer, self._background, time.time())
        )
        self._metrics.watch(lambda: figures.of_rules(self._rules))
        lag = LoopLag()
        self._metrics.watch(lambda: figures.of_loop(lag))
        lag.start()
        self._stack.callback(lag.close)

    def _store(self) -> Store:
        """The store of these settings; none of them is reached yet, and none need be."""
        settings = self._settings
        if settings.provider == "memory":
            return MemoryStore(settings.l1_bytes, time.time)
        link = link_of(settings, self._report)
        guarded = Guarded(CommandStore(link), timeout=settings.store_timeout, clock=time.monotonic, report=self._report)
        self._metrics.watch(lambda: figures.of_store(guarded))
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

    async def _session_parts(self, store: Store, epochs: Epochs, upstream: HttpUpstream) -> SessionParts:
        sessions = SessionParts(
            self._settings, store, epochs, self._rules, self._background, time.time, upstream=upstream,
            seat=self._seat, audit=self._audit, changed=self._serving.advance, noted=self._noted, report=self._report,
        )  # fmt: skip
        self._sessions = sessions
        self._stack.push_async_callback(sessions.revocations.close)
        await sessions.revocations.start()
        sessions.watch(self._metrics)
        if (events := sessions.follow_auth0()) is not None:
            self._stack.callback(self._background.start(events.run(), lasting=True).cancel)
        return sessions

    async def _exchange(
        self, cache: Cache, epochs: Epochs, leases: Leases, upstream: HttpUpstream, sessions: SessionParts
    ) -> Exchange:
        settings, background = self._settings, self._background
        watched = Watched(upstream, settings.upstream, self._report)
        keys, hosts = self._keys, self._hosts
        naming = Naming(keys, hosts.home)
        fetcher = Fetcher(
            upstream=watched, cache=cache, epochs=epochs, flights=Flights(), naming=naming, leases=leases,
            background=background, clock=time.time, jitter=random.random, noted=self._noted,
            telling=sessions.telling,
        )  # fmt: skip
        return Exchange(
            rules=lambda: self._rules.current, identity=await sessions.open(self._stack), cache=cache,
            epochs=epochs, fetcher=fetcher, upstream=watched, background=background,
            keys=keys, naming=naming, clock=time.time, random=random.random, hosts=hosts, noted=self._noted,
            is_off=self._bypasses.covers,
            purged=lambda by, purge, accepted: self._purges.note(by, purge, accepted=accepted),
            sessions=sessions.observer, telling=sessions.telling,
        )  # fmt: skip

    def _hits(self, exchange: Exchange, cache: Cache, epochs: Epochs, request_of: RequestOf) -> Hits:
        def logged(request: Request, reply: Reply) -> None:
            self._log_request(request, reply.outcome, reply.status, 0.0)

        return Hits(
            cache, epochs, at_once=exchange.at_once, request_of=request_of, cell_of=self._metrics.cell,
            logged=logged if self._settings.access_log else None, serving=self._serving, clock=time.time,
            max_bytes=self._settings.l1_bytes // _PREPARED_SHARE,
        )  # fmt: skip

    def _listener(
        self, exchange: Exchange, cache: Cache, epochs: Epochs, upstream: HttpUpstream, health: Health,
        sessions: SessionParts,
    ) -> Listener:  # fmt: skip
        settings = self._settings
        bridge = UpgradeBridge(
            upstream,
            lambda request, outcome, status: self._finished(request, outcome, status, 0.0),
            exchange.is_write, exchange.admit, sessions.observer.watch,
        )  # fmt: skip
        reserved = Reserved(settings.prefix, health.word, health.ready, sessions.pages())
        listener = Listener(
            exchange.handle,
            reserved,
            trusted_peers=settings.trusted_peers,
            drain=settings.drain * _FINISHING,
            finished=lambda request, reply, seconds: self._finished(request, reply.outcome, reply.status, seconds),
            upgrade=bridge,
            hits=lambda request_of: self._hits(exchange, cache, epochs, request_of),
            page=reserved.page,
        )
        self._stack.push_async_callback(listener.close)
        return listener

    async def _admin(self, health: Health, cache: Cache, epochs: Epochs, store: Store, sessions: SessionParts) -> int:
        """The admin port: this process's own, or that of all workers, once this one is to speak for them."""
        settings, seat = self._settings, self._seat
        parts = Parts(
            health, self._metrics, self._rules, cache, epochs, self._purges, self._traffic, self._bypasses, self._audit,
            self._keys, self._hosts.home, settings.profile, settings.admin.loopback,
            lambda: figures.about(store), time.time, self._exposition, self._spread_bypasses,
            sessions.records, sessions.observer, sessions.published_keys,
        )  # fmt: skip
        gate = Gate(
            settings.admin_tokens, lenient=settings.profile == "development",
            listens_on_loopback=settings.admin.loopback, allowed=settings.allowed_ips,
        )  # fmt: skip
        admin = application(gate, self._audit, endpoints(parts))
        runner = web.AppRunner(admin, access_log=None, handle_signals=False, shutdown_timeout=_ADMIN_LEAVES)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)

        async def listen(host: str, port: int) -> None:
            await web.TCPSite(runner, host, port).start()

        async def speak() -> None:
            assert seat is not None
            for each in seat.admin:
                await SharedSite(runner, each).start()

        if seat is not None:
            seat.speak(speak)
            self._admin_runner = runner
            return int(seat.admin[0].getsockname()[1])
        await _bind(listen, self._settings.admin, "--admin")
        return int(runner.addresses[0][1])

    async def _exposition(self) -> bytes:
        return await self._seat.exposition(self._metrics) if self._seat is not None else self._metrics.exposition()

    async def _spread_bypasses(self) -> None:
        if self._seat is not None:
            await self._seat.switched(self._bypasses)

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
        if self._seat is not None and not self._seat.all_leave:
            await self._hand_over(self._seat)
        elif self._settings.profile != "development":
            await asyncio.sleep(self._settings.drain * _LEAVING)

    async def _hand_over(self, seat: Seat) -> None:
        """The other workers stay, and take what comes: nobody need notice that this one leaves."""
        await seat.leaving()
        assert self._admin_runner is not None
        for site in list(self._admin_runner.sites):
            await site.stop()

    async def _finish_background(self) -> None:
        """Fills and purges end before what they use is closed: in what is left of the drain time."""
        left = self._drained_by - asyncio.get_running_loop().time()
        share = self._settings.drain * (1 - _LEAVING - _FINISHING)
        await self._background.drain(share if left == float("inf") else max(left, share))

    # What the parts report

    def _finished(self, request: Request, outcome: Outcome, status: int, seconds: float) -> None:
        self._metrics.count(outcome, seconds)
        self._traffic.note(request, outcome)
        if self._settings.access_log:
            self._log_request(request, outcome, status, seconds)

    def _log_request(self, request: Request, outcome: Outcome, status: int, seconds: float) -> None:
        self._log.info(
            "request", method=request.method, path=request.path, status=status, cache=outcome.cache_status(),
            reason=outcome.reason.value, feature=outcome.feature, tenant=outcome.tenant, ms=round(seconds * 1e3, 2),
        )  # fmt: skip

    def _noted(self, event: str, details: Mapping[str, object]) -> None:
        self._metrics.note(event)
        if event == "tenant-conflict":
            self._audit.record(event, result="denied", target=details)
        if event not in _COUNTED:
            self._log.warning(event, **details)

    def _report(self, event: str, details: Mapping[str, object]) -> None:
        self._serving.advance()  # whatever it is: these are rare, and each may change an answer
        self._metrics.note(event)
        (self._log.info if event in _GOOD_NEWS else self._log.warning)(event, **details)
        if event == "rules-loaded":
            self._warn_of_strict()
            if self._sessions is not None:
                self._sessions.follow_rules()

    def _heard(self, event: str, details: Mapping[str, object]) -> None:
        """Of the rules: the parent has reported it."""
        self._serving.advance()
        if self._sessions is not None:
            self._sessions.follow_rules()

    def _unwritten(self, why: str) -> None:
        self._metrics.note("audit-unwritten")
        self._log.error("audit-unwritten", detail=why)

    def _lost(self, error: BaseException) -> None:
        self._metrics.note("background-failed")
        self._log.error("background-failed", error=type(error).__name__, detail=str(error))


async def _bind(listen: Callable[[str, int], Awaitable[None]], address: Address, flag: str) -> None:
    try:
        await listen(address.host, address.port)
    except OSError as error:
        raise cannot_listen(address, error, flag) from None


def _freeze_start_up_objects() -> None:
    """What lives as long as the process need not be looked at by the garbage collector again."""
    gc.collect()
    gc.freeze()
