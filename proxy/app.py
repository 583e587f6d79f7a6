"""How is everything put together, started and ended? The only place that names concrete classes and makes the clock."""

import asyncio
import hashlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from proxy import __version__, figures
from proxy.addresses import Address
from proxy.admin.health import Health
from proxy.admin.scrapes import Scrapes
from proxy.admin_port import admin_port
from proxy.auditing import Auditing, auditing
from proxy.bypasses import Bypasses
from proxy.cache.background import Background
from proxy.cache.coalesce import Flights
from proxy.cache.epochs import Epochs
from proxy.cache.lease import Leases
from proxy.cache.purges import Purges
from proxy.cache.seal import Sealer
from proxy.cache.tiers import Cache
from proxy.counting import Counting
from proxy.event_parts import EventParts
from proxy.finished import Finished
from proxy.garbage import freeze_survivors
from proxy.links import store_of
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.reporting import Reports
from proxy.serving.at_once import Hosts
from proxy.serving.cors import Cors
from proxy.serving.exchange import Exchange
from proxy.serving.fetch import Fetcher
from proxy.serving.forwarding import Forwarding
from proxy.serving.hits import Hits, IsOwn, RequestOf
from proxy.serving.listener import Listener, require_c_parser
from proxy.serving.misses import Misses
from proxy.serving.naming import Naming
from proxy.serving.reachability import Watched
from proxy.serving.relay import Relays
from proxy.serving.reserved import Reserved
from proxy.serving.serving_epoch import ServingEpoch
from proxy.serving.traced import TracedUpstream, traced
from proxy.serving.under_way import UnderWay
from proxy.serving.unread import Choices
from proxy.serving.upgrade import UpgradeBridge
from proxy.serving.upstream import HttpUpstream, Timeouts, Upstream
from proxy.session_parts import SessionParts
from proxy.settings import Settings
from proxy.side_ports import SidePorts
from proxy.signals import on_signals
from proxy.stores.base import Store
from proxy.stores.breaker import Guarded
from proxy.telemetry import logs, tracing
from proxy.telemetry.exposition import exposition
from proxy.telemetry.logs import Logger, logger
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent import Recent
from proxy.telemetry.traffic import Traffic
from proxy.workers.listening import bind
from proxy.workers.seat import Seat

# Parts of the drain time: still accepting, so that load balancers notice that we are no longer ready; then finishing
# requests. What is left is for the work that they leave behind.
_LEAVING = 0.1
_FINISHING = 0.8

_PREPARED_SHARE = 4  # answers ready to be written may take this part of the first tier's bytes on top of them
_FORWARDED_SHARE = 16  # the same for heads that are forwarded


@dataclass(frozen=True, slots=True)
class Running:
    """A started sidecar: the ports it really has."""

    data_port: int
    admin_port: int
    metrics_port: int = 0  # there is none


async def serve(settings: Settings, *, seat: Seat | None = None, ready: Callable[[], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. ConfigError when the rules or an address cannot be used. `seat`: as a worker."""
    stop = asyncio.Event()
    with on_signals(stop.set):
        async with running(settings, seat=seat, leave=stop.set):
            if seat is None:
                freeze_survivors()
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
            **_where(settings.metrics, sidecar.metrics_port),
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
        self._serving = ServingEpoch()
        self._reports = Reports(log, self._metrics, self._serving, self._then)
        self._background = Background(self._reports.lost)
        self._sealer = Sealer(settings.name_key.encode(), settings.encryption_keys)
        self._rules = LiveRules(
            settings.rules, settings.profile, time.time, self._reports.changed if seat is None else self._reports.heard,
            has_encryption_key=bool(settings.encryption_keys),
            elsewhere=seat.read_rules if seat is not None else None,
        )  # fmt: skip
        self._traffic = Traffic(lambda method, path: self._rules.current.match(method, path), time.time)
        self._recent = Recent(time.time)
        self._bypasses = Bypasses(time.time, self._serving.advance)
        self._purges = Purges(time.time)
        self._tracing = tracing.opened(__version__, self._traffic.route_of) if settings.tracing else None
        self._keys = Keyring(hashlib.blake2b(settings.name_key.encode(), digest_size=32).digest())
        self._hosts = Hosts(settings.hosts)
        self._drained_by = float("inf")  # of the loop's clock, once we are leaving
        self._side_ports = SidePorts(stack, seat)

    async def start(self, leave: Callable[[], None]) -> Running:
        settings, stack, seat = self._settings, self._stack, self._seat
        if seat is not None:
            await seat.open(self._background, leave)
            stack.callback(seat.close)
        self._rules.load(*((seat.rules, seat.former) if seat is not None else ()))
        self._warn_of_strict()
        if self._tracing is not None:
            stack.push_async_callback(self._tracing.close)
        store, audited = self._kept()
        sole = settings.sole_replica
        epochs = Epochs(
            store, time.monotonic, os.urandom, self._background, sole=sole, siblings=seat, report=self._reports.changed
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
        asked: Upstream = upstream if self._tracing is None else TracedUpstream(upstream, self._tracing)
        watched = Watched(asked, settings.upstream, self._reports.changed)
        sessions = SessionParts(
            settings, store, epochs, self._rules, self._background, time.time, upstream=watched, seat=seat,
            audit=self._audit, changed=self._serving.advance, noted=self._noted, report=self._reports.changed,
        )  # fmt: skip
        self._resolver = await sessions.open(stack, self._metrics)
        exchange = self._exchange(cache, epochs, leases, watched, sessions, store)
        admin_port = await self._admin(health, cache, epochs, store, audited, sessions)
        metrics_port = await self._scraped()
        stack.push_async_callback(self._finish_background)
        if seat is None:
            self._follow()
        listener = self._listener(exchange, cache, epochs, upstream, watched, health, sessions)
        self._watch(cache, epochs, listener)
        if seat is not None:
            freeze_survivors()  # it takes a moment, in which nobody waits yet
            known = sessions.revocations
            seat.hear(epochs, known, self._rules, self._bypasses, self._metrics, self._background)
            await seat.join(epochs, known, self._rules, self._bypasses)
        await bind(
            lambda host, port: listener.open(host, port, *((seat.data, seat.share) if seat is not None else ())),
            settings.listen, "--listen",
        )  # fmt: skip
        stack.push_async_callback(self._leave, health, listener)
        if seat is not None:
            await seat.listening()
        return Running(listener.port, admin_port, metrics_port)

    def _kept(self) -> tuple[Store, Auditing]:
        """The store, and those who keep events and the audit there."""
        settings, stack, seat = self._settings, self._stack, self._seat
        store = store_of(settings, self._background, stack, self._reports.changed)
        if isinstance(store, Guarded):
            self._metrics.watch(partial(figures.of_store, store))
        stack.push_async_callback(store.close)
        audited = auditing(settings, seat, store, self._metrics, self._background, time.time, self._reports.unwritten)
        self._audit = audited.audit
        self._noted = self._reports.noting(audited.audit)
        stack.push_async_callback(audited.close)
        self._events = EventParts(
            settings, store, self._sealer, self._keys, self._background, time.time, self._noted, self._metrics.note
        )
        self._events.start(stack, self._metrics)
        return store, audited

    def _watch(self, cache: Cache, epochs: Epochs, listener: Listener) -> None:
        self._metrics.watch(
            lambda: figures.of_serving(cache, epochs, listener, self._sealer, self._background, time.time())
        )
        self._metrics.watch(lambda: figures.of_rules(self._rules))
        self._metrics.watch(logs.samples)
        self._metrics.watch(lambda: figures.of_traffic(self._traffic))
        lag = LoopLag()
        self._metrics.watch(lambda: figures.of_loop(lag))
        lag.start()
        self._stack.callback(lag.close)

    def _then(self, event: str) -> None:
        if event == "rules-loaded":
            self._warn_of_strict()

    def _warn_of_strict(self) -> None:
        """Upstash answers from replicas that lag: there `consistency: strict` is as strict as sync tokens make it."""
        strict = sorted({route.feature for route in self._rules.current.routes if route.strict})
        if strict and self._settings.provider == "upstash":
            self._log.warning(
                "strict-best-effort", features=strict,
                why="Upstash may answer from a replica; for a bound of 0 use REDIS_PROVIDER=elasticache",
            )  # fmt: skip

    def _exchange(
        self, cache: Cache, epochs: Epochs, leases: Leases, upstream: Watched, sessions: SessionParts, store: Store
    ) -> Exchange:
        background = self._background
        self._counting = Counting(
            store, lambda: self._rules.current, self._resolver, self._keys, background, time.time,
            metrics=self._metrics, failed=self._reports.lost, lost=self._reports.changed,
            announce=self._events.announce, is_watched=self._events.is_watched,
        )  # fmt: skip
        self._stack.push_async_callback(self._counting.close)
        self._finished = Finished(
            self._metrics, self._traffic, self._counting, self._recent, self._audit, self._rules, self._resolver,
            self._keys, time.time, log=self._log if self._settings.access_log else None, spans=self._tracing,
        )  # fmt: skip
        keys, hosts = self._keys, self._hosts
        naming = Naming(keys, hosts.home)
        fetcher = Fetcher(
            upstream=upstream, cache=cache, epochs=epochs, flights=Flights(), naming=naming, leases=leases,
            background=background, clock=time.time, jitter=random.random, noted=self._noted,
            telling=sessions.telling,
        )  # fmt: skip
        return Exchange(
            rules=lambda: self._rules.current, identity=self._resolver, cache=cache, epochs=epochs,
            fetcher=fetcher, upstream=upstream, background=background, keys=keys, naming=naming,
            clock=time.time, random=random.random, hosts=hosts, noted=self._noted, is_off=self._bypasses.covers,
            purged=lambda by, purge, accepted: self._purges.note(by, purge, accepted=accepted),
            sessions=sessions.observer, telling=sessions.telling,
            counts=self._counting.written, events=self._events.publishing,
        )  # fmt: skip

    def _hits(
        self, exchange: Exchange, cache: Cache, epochs: Epochs, request_of: RequestOf, is_own: IsOwn, choices: Choices
    ) -> Hits:
        finished = self._finished
        return Hits(
            cache, epochs, prompt=exchange.prompt, request_of=request_of, is_own=is_own, cell_of=self._metrics.cell,
            logged=finished.hit if finished.logs_hits else None, serving=self._serving, clock=time.time,
            max_bytes=self._settings.l1_bytes // _PREPARED_SHARE, choices=choices,
            noted=lambda request, reply: self._recent.note_hit(request, reply.outcome, reply.status),
            counted_of=self._counting.of, count=self._counting.add, took=self._metrics.took("hit").observe,
            has_room=self._recent.has_room,
        )  # fmt: skip

    def _listener(
        self, exchange: Exchange, cache: Cache, epochs: Epochs, upstream: HttpUpstream, watched: Watched,
        health: Health, sessions: SessionParts,
    ) -> Listener:  # fmt: skip
        settings = self._settings
        finished = self._finished
        cors = Cors(settings.allowed_origins)
        own = self._events.pages(self._resolver, self._rules, sessions, cors)
        pages = {**sessions.pages(), **self._counting.pages(settings.prefix, cors), **own}
        reserved = Reserved(settings.prefix, health.word, health.ready, pages)
        choices = Choices()
        bridge = UpgradeBridge(upstream, finished.ended, exchange.is_write, exchange.admit, sessions.observer.watch)

        def forwarding(request_of: RequestOf, under_way: UnderWay) -> Forwarding:
            relays = Relays(upstream, watched, under_way, finished.replied)
            relays.watch = sessions.watch_head
            return Forwarding(
                relays,
                passes=exchange.prompt.passes,
                has_no_rule=exchange.prompt.has_no_rule,
                is_reserved=lambda path: reserved(path) is not None,
                choices=choices,
                request_of=request_of,
                told_of=finished.told,
                serving=self._serving,
                max_bytes=settings.l1_bytes // _FORWARDED_SHARE,
            )

        def misses() -> Misses:
            return Misses(
                exchange, upstream, watched, self._background, time.time, tells=lambda: sessions.telling.on,
                choices=choices, finished=finished.fetched,
            )  # fmt: skip

        listener = Listener(
            exchange.handle if self._tracing is None else traced(exchange.handle, self._tracing),
            reserved,
            trusted_peers=settings.trusted_peers,
            drain=settings.drain * _FINISHING,
            finished=finished.replied,
            upgrade=bridge,
            hits=lambda request_of, is_own: self._hits(exchange, cache, epochs, request_of, is_own, choices),
            page=reserved.page,
            # it knows no caller, whom the access log names, and leaves no spans
            forwarding=forwarding if self._tracing is None and not settings.access_log else None,
            misses=misses if self._tracing is None else None,
        )
        self._stack.push_async_callback(listener.close)
        return listener

    async def _admin(
        self, health: Health, cache: Cache, epochs: Epochs, store: Store, audited: Auditing, sessions: SessionParts
    ) -> int:
        """The admin port: this process's own, or that of all workers, once this one is to speak for them."""
        settings, seat = self._settings, self._seat
        app, course = admin_port(
            settings, seat, health=health, rules=self._rules, cache=cache, epochs=epochs, store=store,
            sealer=self._sealer, purges=self._purges, traffic=self._traffic, metrics=self._metrics,
            recent=self._recent, bypasses=self._bypasses, audited=audited, keys=self._keys, home=self._hosts.home,
            publisher=self._events.publisher, exposition=self._exposition, spread=self._spread_bypasses, who=sessions,
        )  # fmt: skip

        def begun() -> None:
            _ = self._background.start(course.run(), lasting=True)

        shared = seat.admin if seat is not None else ()
        port = await self._side_ports.open(app, settings.admin, "--admin", shared, begun)
        self._stack.callback(course.close)
        return port

    async def _scraped(self) -> int:
        """The port of the metrics alone; 0 when there is none."""
        settings, seat = self._settings, self._seat
        if settings.metrics is None:
            return 0
        app = Scrapes(self._exposition, time.monotonic).application()
        return await self._side_ports.open(
            app, settings.metrics, "SIDECACHE_METRICS_LISTEN", seat.metrics if seat is not None else ()
        )

    async def _exposition(self) -> bytes:
        found = await self._seat.collected(self._metrics) if self._seat is not None else self._metrics.collected()
        return await asyncio.to_thread(exposition, found)

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
        self._events.streams.drain()

    async def _hand_over(self, seat: Seat) -> None:
        """The other workers stay, and take what comes: nobody need notice that this one leaves."""
        await seat.leaving()
        await self._side_ports.leave()

    async def _finish_background(self) -> None:
        """Fills and purges end before what they use is closed: in what is left of the drain time."""
        left = self._drained_by - asyncio.get_running_loop().time()
        share = self._settings.drain * (1 - _LEAVING - _FINISHING)
        await self._background.drain(share if left == float("inf") else max(left, share))


def _where(metrics: Address | None, port: int) -> dict[str, str]:
    return {} if metrics is None else {"metrics": str(Address(metrics.host, port))}
