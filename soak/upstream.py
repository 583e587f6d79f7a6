"""What do clients see of an upstream that fails? Its own errors and no others; what is kept goes on by the rules."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from soak.judged import Judged
from soak.sidecars import Sidecar, running
from tests import wire
from tests.chaos import Chaos
from tests.portal import HOST, TENANTS, TOKENS, certified, is_hit, opened

METHOD = (
    "one sidecar before a portal behind a proxy that misbehaves, each fault for {seconds} s; clients verify tenant, "
    "path and checksum of four kinds of resources: kept and fresh, kept and stale with if-error, kept and stale "
    "without, critical"
)
RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
features:
  jobs: {ttl: 1h, read: ["GET /api/jobs/{job-id}"], write: []}
  notes: {ttl: 1s, if-error: 1h, read: ["GET /api/notes/{note-id}"], write: []}
  bills: {ttl: 1s, if-error: 0s, read: ["GET /api/bills/{bill-id}"], write: []}
  prices: {ttl: 1s, critical: true, read: ["GET /api/prices/{price-id}"], write: []}
"""
FRESH, STALE, ENDED, CRITICAL = KINDS = ("jobs", "notes", "bills", "prices")
ITEMS = 8
TIMEOUTS = {"SIDECACHE_FIRST_BYTE_TIMEOUT_MS": "500", "SIDECACHE_IDLE_TIMEOUT_MS": "500"}
RECOVERY = 5.0
_TOKENS = {tenant: f"Authorization: Bearer {token}" for tenant, token in TOKENS.items()}


class Failing:
    """The portal. `status` other than 200: it answers nothing else."""

    def __init__(self) -> None:
        self.status = 200

    async def answer(self, request: wire.Message, peer: wire.Peer) -> None:
        token = (request.get("authorization") or "").removeprefix("Bearer ")
        tenant = next(tenant for tenant, each in TOKENS.items() if each == token)
        path = request.target.decode()
        said = certified({"tenant": tenant, "path": path, "versions": {path: 1}})
        if self.status == 200:
            await peer.send(wire.response(said, "Content-Type: application/json"))
        else:
            await peer.send(wire.response(b"its own", "Content-Type: text/plain", status=f"{self.status} Its-Own"))


@dataclass
class Seen:
    """Answers by kind and status; those that nothing documented explains."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    unexplained: list[str] = field(default_factory=list)
    cut: int = 0  # responses that had begun, and ended visibly before their end, as the upstream's did
    late: list[str] = field(default_factory=list)  # from the cache, where the rules forbid it

    def note(self, tenant: str, path: str, answer: wire.Message) -> None:
        kind = path.split("/")[2]
        self.answers[f"{kind} {answer.status}"] += 1
        if answer.status != 200:
            self.failed[kind].append(f"{answer.status} {path} {answer.cache}")
            ours = (answer.get("proxy-status") or "").startswith("sidecache; error=")
            if answer.body != b"its own" and not (ours and answer.status in (502, 504)):
                self.unexplained.append(f"{answer.status} {path} {answer.get('proxy-status')}")
            return
        said = opened(answer.body)
        if (said["tenant"], said["path"]) != (tenant, path):
            self.wrong.append(f"{tenant} {path} got {said}")
        if kind in (ENDED, CRITICAL) and is_hit(answer.cache) and "ttl=-" in answer.cache:
            self.late.append(f"{path} {answer.cache}")


class Clients:
    def __init__(self, port: int) -> None:
        self.seen = Seen()
        self.ending = self.cutting = False
        self._port = port

    async def use(self, number: int) -> None:
        client: wire.Client | None = None
        turn = number
        while not self.ending:
            turn += 1
            tenant, kind = TENANTS[turn % 2], KINDS[turn // 2 % len(KINDS)]
            path = f"/api/{kind}/{turn // 8 % ITEMS}"
            try:
                client = client or await wire.connect(self._port)
                self.seen.note(tenant, path, await client.ask(path, _TOKENS[tenant], host=HOST))
            except (OSError, wire.Cut) as error:
                if self.cutting:
                    self.seen.cut += 1
                else:
                    self.seen.failed[kind].append(f"cut off: {path} {error}")
                client = None
            await asyncio.sleep(0.002)
        if client is not None:
            await client.close()

    async def all_again(self) -> float:
        """Seconds until each resource of both tenants is answered with 200."""
        began = time.monotonic()
        for tenant in TENANTS:
            for path in (f"/api/{kind}/{number}" for kind in KINDS for number in range(ITEMS)):
                while await self._status(tenant, path) != 200 and time.monotonic() < began + 4 * RECOVERY:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def _status(self, tenant: str, path: str) -> int:
        with suppress(OSError, wire.Cut):
            return (await wire.fetch(self._port, path, _TOKENS[tenant], host=HOST)).status
        return 0


CUT = "cut within a response"
Faults = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def faults(portal: Failing, chaos: Chaos) -> Faults:
    def calm() -> None:
        chaos.refusing = False
        chaos.rewrite = None
        chaos.cut_after = None
        chaos.delay = lambda: 0.0
        portal.status = 200
        chaos.go_on()

    def gone() -> None:
        chaos.refusing = True
        chaos.reset()

    return {
        "gone": (gone, calm),
        "hanging": (chaos.hang, calm),
        "too slow for its limit": (lambda: setattr(chaos, "delay", lambda: 0.8), calm),
        "errors of its own (500)": (lambda: setattr(portal, "status", 500), calm),
        CUT: (lambda: setattr(chaos, "rewrite", half), calm),
        "garbage": (lambda: setattr(chaos, "rewrite", lambda said: b"\x00" + said), calm),
    }


def half(said: bytes) -> bytes:
    """The length is told, and half of it comes: the rest never does."""
    return said[: len(said) // 2]


async def run(folder: Path, *, short: bool) -> Judged:
    seconds = 1.5 if short else 6.0
    judged = Judged("upstream faults", METHOD.format(seconds=seconds))
    portal = Failing()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(wire.upstream(portal.answer))
        chaos = await stack.enter_async_context(Chaos("127.0.0.1", upstream.port))
        sidecar = Sidecar(folder / "one", chaos.port, RULES, REDIS_PROVIDER="memory", **TIMEOUTS)
        await stack.enter_async_context(running(sidecar))
        clients = Clients(sidecar.port)
        await clients.all_again()
        using = [asyncio.ensure_future(clients.use(2 * number)) for number in range(12)]
        try:
            for name, (begin, end) in list(faults(portal, chaos).items())[:: 2 if short else 1]:
                await endure(name, begin, end, seconds, clients, judged)
        finally:
            clients.ending = True
            await asyncio.gather(*using)
        judge(judged, clients.seen, sidecar)
    return judged


async def endure(
    name: str, begin: Callable[[], object], end: Callable[[], object], seconds: float, clients: Clients, judged: Judged
) -> None:
    seen, before = clients.seen, clients.seen.answers.copy()
    clients.cutting = name == CUT
    begin()
    await asyncio.sleep(seconds)
    meanwhile = seen.answers - before
    end()
    judged.at_most(f"{name}: everything is answered with 200 after its end", await clients.all_again(), RECOVERY)
    judged.figures[f"{name}: meanwhile"] = ", ".join(f"{each} x {count}" for each, count in sorted(meanwhile.items()))


def judge(judged: Judged, seen: Seen, sidecar: Sidecar) -> None:
    judged.at_least("answers that were verified", seen.answers.total(), 200)
    judged.none("answers of another tenant or path, or broken", seen.wrong)
    judged.none("requests for what is kept and fresh that failed", seen.failed[FRESH])
    judged.none("requests for what is kept, stale and has if-error that failed", seen.failed[STALE])
    judged.none("errors that are neither the upstream's own nor said to be about it", seen.unexplained)
    judged.none("stale answers where the rules allow none", seen.late)
    judged.none("alarming lines in the log", sidecar.alarming())
    failed = {kind: len(told) for kind, told in seen.failed.items() if told}
    judged.losses.append(
        f"of {seen.answers.total()} requests, {failed.get(ENDED, 0)} for what was kept without if-error and "
        f"{failed.get(CRITICAL, 0)} for what is critical failed as the upstream did; {seen.cut} responses broke off "
        "within their body, visibly, as the upstream's did"
    )
