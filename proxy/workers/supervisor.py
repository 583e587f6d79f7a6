"""Who keeps the workers going? Their parent: it owns ports and rules, starts and ends them, and answers nobody."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any

from proxy import __version__
from proxy.addresses import Address
from proxy.admin.ledger import Ledger, opened
from proxy.cache.background import Background
from proxy.errors import SidecacheError
from proxy.live_rules import LiveRules
from proxy.settings import Settings
from proxy.signals import on_signals
from proxy.telemetry import logs
from proxy.telemetry.logs import logger
from proxy.telemetry.metrics import Metrics, Sample
from proxy.workers.channel import Channel, Content, Handler
from proxy.workers.hub import Hub, Member
from proxy.workers.listening import listening
from proxy.workers.process import BOOT, Ports, start
from proxy.workers.seat import packed
from proxy.workers.shares import new_shares

_LONG_ENOUGH = 10.0  # seconds: who ends earlier than that after its start waits before the next
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_AFTER_DRAIN = 5.0  # seconds beyond the drain time before a worker that does not end is killed
_GOOD_NEWS = frozenset({"rules-loaded"})


async def supervise(
    settings: Settings, clock: Callable[[], float], *, boot: str = BOOT, ready: Callable[[], None] | None = None
) -> None:
    """Run all workers until SIGTERM or SIGINT. ConfigError when the rules or an address cannot be used."""
    stop = asyncio.Event()
    with on_signals(stop.set), ExitStack() as sockets:
        supervisor = Supervisor(settings, clock, boot)
        # from the first moment to the last: unheard, it would end the process
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, supervisor.reload)
        supervisor.prepare()
        data = [sockets.enter_context(each) for each in await listening(settings.listen, "--listen")]
        admin = [sockets.enter_context(each) for each in await listening(settings.admin, "--admin")]
        metrics = []
        if settings.metrics is not None:
            found = await listening(settings.metrics, "SIDECACHE_METRICS_LISTEN")
            metrics = [sockets.enter_context(each) for each in found]
        with closing(new_shares(settings.workers)) as shares:
            await supervisor.run(Ports(data, admin, shares, metrics), stop, ready)


def samples(workers: int, restarts: int, audit_lost: int) -> Iterator[Sample]:
    """What the parent counts beside events."""
    yield Sample("sidecache_audit_lost_total", "Audit lines that could not be written.", audit_lost, counter=True)
    yield Sample("sidecache_workers", "Workers that answer requests.", workers)
    yield Sample(
        "sidecache_worker_restarts_total", "Workers started in place of one that ended.", restarts, counter=True
    )


@dataclass(eq=False)
class _Worker:
    member: Member
    process: asyncio.subprocess.Process
    listening: bool = False
    leaving: bool = False


class Supervisor:
    """The parent of `settings.workers` workers."""

    def __init__(self, settings: Settings, clock: Callable[[], float], boot: str) -> None:
        self._settings = settings
        self._boot = boot
        self._log = logger()
        self._metrics = Metrics()
        self._background = Background(self._lost)
        self._hub = Hub(self._silent)
        self._rules = LiveRules(
            settings.rules, settings.profile, clock, self._report,
            has_encryption_key=bool(settings.encryption_keys),
        )  # fmt: skip
        self._ledger: Ledger | None = None  # of all workers: their lines are one chain
        self._workers: list[_Worker] = []
        self._speaker: _Worker | None = None
        self._restarts = 0
        self._leaving = asyncio.Event()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def prepare(self) -> None:
        """What can be found wrong without a worker."""
        for warning in self._settings.warnings:
            self._log.warning("setting", warning=warning)
        self._rules.load()
        ledger = self._ledger = opened(self._settings.audit_log, self._unwritten, form=self._settings.audit_format)
        self._metrics.watch(logs.samples)
        self._metrics.watch(lambda: samples(len(self._hub), self._restarts, ledger.lost))

    async def run(self, ports: Ports, stop: asyncio.Event, ready: Callable[[], None] | None) -> None:
        keepers = [self._background.start(self._keep(number, ports)) for number in range(self._settings.workers)]
        stopping = self._background.start(stop.wait())
        try:
            await asyncio.wait((self._started, stopping), return_when=asyncio.FIRST_COMPLETED)
            if self._started.done():
                self._started.result()
                self._tell_where(ports)
                if ready is not None:
                    ready()
                await self._follow(stopping)
        finally:
            stopping.cancel()
            await self._leave(ports, keepers)

    def _tell_where(self, ports: Ports) -> None:
        settings = self._settings
        (data, admin) = (each[0].getsockname()[1] for each in (ports.data, ports.admin))
        self._log.info(
            "listening", data=str(Address(settings.listen.host, data)), admin=str(Address(settings.admin.host, admin)),
            upstream=settings.upstream, profile=settings.profile, store=settings.provider, version=__version__,
            workers=settings.workers,
            **({"metrics": str(Address(settings.metrics.host, ports.metrics[0].getsockname()[1]))}
               if settings.metrics is not None else {}),
        )  # fmt: skip

    def reload(self) -> None:
        """What SIGHUP asks for."""
        if not self._leaving.is_set():
            _ = self._background.start(self._rules.reload())

    async def _follow(self, stopping: "asyncio.Task[Any]") -> None:
        """Reload the rules when their file changes, until it is time to stop."""
        watching = self._background.start(self._rules.watch(), lasting=True)
        try:
            await stopping
        finally:
            watching.cancel()

    async def _leave(self, ports: Ports, keepers: "list[asyncio.Task[None]]") -> None:
        """All workers drain. The ports are theirs now: the last that closes them takes what waits in them."""
        self._leaving.set()
        ports.close()
        for worker in self._workers:
            _ = worker.member.channel.ask("leave")
        _, left = await asyncio.wait(keepers, timeout=self._settings.drain + _AFTER_DRAIN)
        for worker in list(self._workers) if left else ():
            self._log.warning("worker-did-not-end", worker=worker.member.number, pid=worker.process.pid)
            worker.member.kill()
        await asyncio.wait(keepers)
        await self._background.drain(1.0)
        if self._ledger is not None:
            await self._ledger.close()

    # One worker

    async def _keep(self, number: int, ports: Ports) -> None:
        """There is a worker of this number, until all leave."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while True:
            began = loop.time()
            worker = await self._start(number, ports)
            code = await worker.process.wait()
            ports.shares.of(number).leaves()
            self._ended(worker, code)
            if self._leaving.is_set():
                return
            lived = loop.time() - began
            pause = 0.0 if code == 0 or lived > _LONG_ENOUGH else min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._leaving.wait()
                    return
            self._restarts += 1

    async def _start(self, number: int, ports: Ports) -> _Worker:
        rules = self._rules
        process, ours = await start(number, self._settings, rules.source, rules.former, ports, self._boot)
        handlers: dict[str, Handler] = {}
        channel = Channel(handlers, start=self._background.start, lost=lambda: None)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)

        def kill() -> None:
            with suppress(ProcessLookupError):
                process.kill()

        worker = _Worker(Member(number, channel, kill), process)
        handlers |= self._handlers(worker)
        self._workers.append(worker)
        self._log.info("worker-started", worker=number, pid=process.pid)
        if self._leaving.is_set():
            _ = channel.ask("leave")
        return worker

    def _ended(self, worker: _Worker, code: int) -> None:
        self._workers.remove(worker)
        heard = worker.member in self._hub
        self._hub.remove(worker.member)
        worker.member.channel.close()
        told = self._log.info if code == 0 else self._log.error
        told("worker-ended", worker=worker.member.number, pid=worker.process.pid, code=code)
        if not self._started.done() and not self._leaving.is_set():
            self._started.set_exception(SidecacheError(f"worker {worker.member.number} ended with {code} at its start"))
        if worker is self._speaker:
            self._speaker = None
            self._choose_speaker()
        if heard and code != 0:
            # it may have purged something in the store and not have told yet
            _ = self._background.start(self._hub.tell("doubt", None))

    # What workers say

    def _handlers(self, worker: _Worker) -> Mapping[str, Handler]:
        member = worker.member

        async def join(_: Content) -> Content:
            self._hub.add(member)
            return packed(self._rules)

        async def now_listening(_: Content) -> None:
            worker.listening = True
            self._choose_speaker()
            count = sum(each.listening for each in self._workers)
            if count == self._settings.workers and not self._started.done():
                self._started.set_result(None)

        async def leaving(_: Content) -> None:
            worker.leaving = True
            self._choose_speaker()

        async def reload(accept: Content) -> Content:
            await self._rules.reload(accept)
            return packed(self._rules)

        async def tell(content: Content) -> Content:
            return await self._hub.tell(*content, besides=member)

        async def ask(content: Content) -> Content:
            name, question = content
            answers = await self._hub.ask(name, question, besides=member)
            return [*answers, ["parent", self._metrics.figures()]] if name == "figures" else answers

        async def audit(content: Content) -> Content:
            assert self._ledger is not None, "there is no worker before there is a ledger"
            return await self._ledger.enter(content)

        async def audited(_: Content) -> Content:
            return self._ledger.recent() if self._ledger is not None else []

        return {
            "join": join, "listening": now_listening, "leaving": leaving, "reload": reload, "tell": tell, "ask": ask,
            "audit": audit, "audited": audited,
        }  # fmt: skip

    def _choose_speaker(self) -> None:
        """One worker answers the admin port for all; another when it leaves."""
        if self._leaving.is_set() or (self._speaker is not None and not self._speaker.leaving):
            return
        fit = [worker for worker in self._workers if worker.listening and not worker.leaving]
        if fit:
            self._speaker = fit[0]
            _ = fit[0].member.channel.ask("speak")

    # What is reported

    def _silent(self, member: Member, name: str) -> None:
        self._metrics.note("worker-silent")
        self._log.error("worker-silent", worker=member.number, message=name, what="it is killed and started again")

    def _report(self, event: str, details: Mapping[str, object]) -> None:
        self._metrics.note(event)
        (self._log.info if event in _GOOD_NEWS else self._log.warning)(event, **details)
        if event in ("rules-loaded", "rules-refused", "rules-widening"):
            _ = self._background.start(self._hub.tell("rules", packed(self._rules)))

    def _unwritten(self, why: str) -> None:
        self._metrics.note("audit-unwritten")
        self._log.error("audit-unwritten", detail=why)

    def _lost(self, error: BaseException) -> None:
        self._metrics.note("background-failed")
        self._log.error("background-failed", error=type(error).__name__, detail=str(error))
