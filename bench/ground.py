"""How is a workload set up? Start the servers, see that each does the job, fill them, then let them take turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from bench import load
from bench.compare import Comparison, Contestant, Target, interleaved
from bench.filled import ASKED_FOR
from bench.heads import Head
from bench.machine import NotAvailable
from bench.peers import Place, Server, Started
from bench.wire import ask, fetched

Starter = Callable[[Place], Started]


@dataclass(frozen=True, slots=True)
class Ground:
    place: Place
    rounds: int = 5
    seconds: int = 1
    begun: list[Comparison] = field(default_factory=list)

    @contextmanager
    def up(self, comparison: Comparison, *starters: Starter) -> Iterator[list[Server]]:
        """The servers that could be started; why another could not is noted."""
        with ExitStack() as stack:
            servers = []
            for starter in starters:
                name = getattr(getattr(starter, "func", starter), "__name__", "server").partition("_that_")[0]
                try:
                    servers.append(stack.enter_context(starter(self.place.below(name))))
                except NotAvailable as reason:
                    comparison.skipped[name] = str(reason)
            yield servers

    def contestant(
        self,
        server: Server,
        head: Head,
        *,
        series: str = "",
        at: str = "",
        connections: int = load.CONNECTIONS,
        fetches: float = 0.0,
    ) -> Contestant:
        """This server under wrk with this head."""
        script, place, seconds = head.script(self.place.folder), self.place, self.seconds

        def send() -> load.Answered:
            return load.closed_loop(script, server.port, place.cores, seconds=seconds, connections=connections)

        own = fetches if server.name not in _WITHOUT_ORIGIN else 0.0
        return Contestant(series or server.name, server, send, at, own)

    def take_turns(
        self, comparison: Comparison, contestants: Sequence[Contestant], *, warm: bool = False
    ) -> Comparison:
        """`warm`: before each turn a second of the same load that does not count."""
        if warm:
            contestants = [replace(each, prepare=each.send) for each in contestants]
        interleaved(contestants, self.place, self.rounds, comparison)
        return comparison

    def verify(self, servers: Sequence[Server], head: Head, *, status: int = 200, cached: bool = True) -> None:
        """Each answers this head as the origin would, and from its cache when it should. ValueError otherwise."""
        for server in servers:
            ask(server.port, head.filled().replace(b"If-None-Match", b"X-None"))
            request = head.filled()
            answer = ask(server.port, request)
            before = fetched(self.place.origin)
            answer = ask(server.port, request)
            asked = fetched(self.place.origin) - before
            expected = ask(self.place.origin, request).body if status == 200 else b""
            if server.name in _WITHOUT_ORIGIN:
                wrong = answer.status != status or len(answer.body) != len(expected)
            else:
                wrong = answer.status != status or answer.body != expected or asked != (0 if cached else 1)
            if wrong:
                raise ValueError(
                    f"{server.name} does not do the job: {answer.status}, {len(answer.body)} bytes, {asked} fetches\n"
                    + answer.head.decode("latin-1")
                )

    def fill(self, server: Server, head: Head, until: float) -> None:
        """Ask for each key once, and once again: what is timed was there, and met as well. With each token three times
        again: a caller is known by the second time, and what is for a tenant alone prepared by the third.
        """
        many = head.many
        if server.fills_itself and many > 2 * ASKED_FOR:
            self._each(server, head, until, 0, ASKED_FOR)
            self._each(server, head, until, many - 1, many)  # which stands for all between (`bench.filled`)
        else:
            self._each(server, head, until, 0, many)
        for _ in range(3 if head.tokens else 1):
            self._each(server, head, until, 0, many)

    def _each(self, server: Server, head: Head, until: float, first: int, end: int) -> None:
        place, left = self.place, until - time.monotonic()
        done = 0
        if left > 1:
            done = load.each_once(head, server.port, place.cores, place.folder, first=first, end=end, seconds=left)
        if done < end - first:
            raise NotAvailable(f"{done:,} of {end - first:,} were answered before the time for filling was over")

    def comparison(self, workload: str, question: str, *targets: Target) -> Comparison:
        self.begun.append(made := Comparison(workload, question, targets=targets))
        return made


_WITHOUT_ORIGIN = frozenset({"C floor", "aiohttp"})
