"""How is a workload set up? Start the servers, see that each does the job, fill them, then let them take turns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import load
from bench.compare import Comparison, Contestant, Target, interleaved
from bench.heads import Head
from bench.machine import NotAvailable
from bench.peers import Place, Server, Started
from bench.wire import ask, fetched

Starter = Callable[[Place], Started]
_FILL_SECONDS = 20
_FILL_LIMIT = 60  # turns of that


@dataclass(frozen=True, slots=True)
class Ground:
    place: Place
    rounds: int = 5
    seconds: int = 1

    @contextmanager
    def up(self, comparison: Comparison, *starters: Starter) -> Iterator[list[Server]]:
        """The servers that could be started; why another could not is noted."""
        with ExitStack() as stack:
            servers = []
            for starter in starters:
                name = getattr(starter, "__name__", "server")
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

    def take_turns(self, comparison: Comparison, contestants: Sequence[Contestant]) -> Comparison:
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

    def fill(self, server: Server, head: Head) -> None:
        """Ask for each key (or with each token) once."""
        wanted, done = max(head.keys, len(head.tokens)), 0
        for _ in range(_FILL_LIMIT):
            script = head.script(self.place.folder, start=max(0, done - 2 * load.CONNECTIONS))
            seconds = 1 if wanted - done < 2000 else _FILL_SECONDS if wanted - done > 200_000 else 5
            done += load.closed_loop(script, server.port, self.place.cores, seconds=seconds).requests
            if done >= wanted + 2 * load.CONNECTIONS:
                return
        raise ValueError(f"{server.name}: {done} of {wanted} keys were filled")

    def comparison(self, workload: str, question: str, *targets: Target) -> Comparison:
        return Comparison(workload, question, targets=targets)


_WITHOUT_ORIGIN = frozenset({"C floor", "aiohttp"})
