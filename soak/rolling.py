"""Does anybody notice rolling restarts? Two replicas behind a balancer of connections, as orchestrators do it."""

import asyncio
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.sidecar import tokens
from soak.judged import Judged
from soak.sidecars import Sidecar, replicas
from tests import wire
from tests.issuer import AUDIENCE
from tests.portal import HOST, TENANTS, Portal, item, opened

METHOD = (
    "two replicas ({workers} worker{s} each, staging profile, RS256 tokens, drain 5 s) behind a TCP balancer that asks "
    "their readyz every 100 ms and opens new connections only to those that are ready; {connections} keep-alive "
    "connections, {rate} requests a second by the clock, every answer verified, none asked again; {restarts} restarts "
    "by SIGTERM in turns, the next when the one before is ready"
)
RATE = 500
CONNECTIONS = 25
_PROBE = 0.1
_JOIN = 0.3  # seconds of both ready before the next is restarted


class Balancer:
    """Passes bytes between a client's connection and that of a replica that is ready; knows no HTTP."""

    def __init__(self, replicas: list[Sidecar]) -> None:
        self.replicas = replicas
        self.ready: set[int] = set()
        self.port = 0
        self.none = 0  # connections for which nobody was ready
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Balancer":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        self._probing = asyncio.ensure_future(self._probe())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._probing.cancel()
        await asyncio.wait({self._probing, *self._tasks}, timeout=5.0)

    async def until_ready(self, *numbers: int) -> None:
        while not self.ready.issuperset(numbers):  # noqa: ASYNC110
            await asyncio.sleep(_PROBE / 4)

    async def _probe(self) -> None:
        while True:
            found = await asyncio.gather(*(each.ready() for each in self.replicas))
            self.ready = {number for number, ready in enumerate(found) if ready}
            await asyncio.sleep(_PROBE)

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        ready = sorted(self.ready)
        if not ready:
            self.none += 1
            to_client.transport.abort()
            return
        self._turn += 1
        replica = self.replicas[ready[self._turn % len(ready)]]
        try:
            from_replica, to_replica = await asyncio.open_connection("127.0.0.1", replica.port)
        except OSError:
            to_client.transport.abort()
            return
        await asyncio.gather(_carry(from_client, to_replica), _carry(from_replica, to_client))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while said := await reader.read(65536):
            writer.write(said)
            await writer.drain()
    writer.close()


@dataclass
class Paced:
    """Requests that are due by the clock, each on one of the connections; none is asked a second time."""

    port: int
    tokens: dict[str, str]
    answers: Counter[int] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    connections: int = 0
    ending: bool = False

    async def use(self, number: int) -> None:
        chance, apart = random.Random(number), CONNECTIONS / RATE
        client: wire.Client | None = None
        due = time.monotonic() + number * apart / CONNECTIONS
        while not self.ending:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                if client is None:
                    self.connections += 1
                    client = await wire.connect(self.port)
                last = await self._ask(client, chance, due)
            except (OSError, wire.Cut) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                last = True
            if last and client is not None:
                await client.close()
                client = None
            due = max(due + apart, time.monotonic() - 1.0)
        if client is not None:
            await client.close()

    async def _ask(self, client: wire.Client, chance: random.Random, due: float) -> bool:
        """Whether it was the connection's last."""
        tenant, path = chance.choice(TENANTS), item(int(40 * chance.random()))
        method = "PUT" if chance.random() < 0.02 else "GET"
        token = f"Authorization: Bearer {self.tokens[tenant]}"
        answer = await client.ask(path, token, method=method, body=b"{}" if method == "PUT" else b"", host=HOST)
        self.slowest = max(self.slowest, time.monotonic() - due)
        self.answers[answer.status] += 1
        if answer.status != 200:
            self.failed.append(f"{answer.status} {path}")
        elif (said := opened(answer.body))["tenant"] != tenant or said["path"] != path:
            self.wrong.append(f"{tenant} {path} got {said}")
        return (answer.get("connection") or "").lower() == "close"


async def run(folder: Path, *, short: bool, workers: int = 1) -> Judged:
    restarts = 2 if short else 10
    method = METHOD.format(
        workers=workers, s="s" * (workers > 1), connections=CONNECTIONS, rate=RATE, restarts=restarts
    )
    judged = Judged("rolling restarts" + (f", {workers} workers" if workers > 1 else ""), method)
    known = {tenant: tokens().of(tenant) for tenant in TENANTS}
    portal = Portal(tokens=known)
    environ = {
        "SIDECACHE_JWT_ISSUER": tokens().issuer.url, "SIDECACHE_JWT_AUDIENCE": AUDIENCE,
        "SIDECACHE_JWKS_URL": tokens().url, "SIDECACHE_WORKERS": str(workers),
    }  # fmt: skip
    async with replicas(folder, portal, count=2, profile="staging", **environ) as both, Balancer(both) as balancer:
        await balancer.until_ready(0, 1)
        clients = Paced(balancer.port, known)
        using = [asyncio.ensure_future(clients.use(number)) for number in range(CONNECTIONS)]
        codes = [await restart(balancer, number % 2) for number in range(restarts)]
        clients.ending = True
        await asyncio.gather(*using)
        judge(judged, clients, balancer, codes)
    return judged


async def restart(balancer: Balancer, number: int) -> int:
    """Its exit code."""
    replica = balancer.replicas[number]
    replica.send(signal.SIGTERM)
    code = await replica.ended()
    await replica.start()
    await balancer.until_ready(0, 1)
    await asyncio.sleep(_JOIN)
    return code


def judge(judged: Judged, clients: Paced, balancer: Balancer, codes: list[int]) -> None:
    asked = clients.answers.total() + len(clients.failed)
    judged.figures |= {
        "requests": asked, "connections": clients.connections, "slowest, s": round(clients.slowest, 3),
    }  # fmt: skip
    judged.at_least("requests", asked, 5000 if len(codes) >= 10 else 500)
    judged.none("requests that failed", clients.failed)
    judged.none("answers of another tenant or path, or broken", clients.wrong)
    judged.none("moments without a ready replica", balancer.none)
    judged.none("exit codes other than 0", [str(code) for code in codes if code])
    judged.none("alarming lines in the logs", [line for each in balancer.replicas for line in each.alarming()])
