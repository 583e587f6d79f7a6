"""A portal whose every answer says whose and how new it is, clients that remember, and what a history may not be."""

import asyncio
import hashlib
import json
import random
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from tests import wire
from tests.serving.world import unsigned

TENANTS = ("org_a", "org_b")
HOST = "portal.test"
LIST = "/api/jobs"
BOUND = 1.0  # seconds after which a write is seen through every replica (P3)

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 2m, if-error: 1h}
features:
  jobs:
    ttl: 15m
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: ["PUT /api/jobs/{job-id}"]
  prices:
    ttl: 15m
    consistency: strict
    read: ["GET /api/prices/{price-id}"]
    write: ["PUT /api/prices/{price-id}"]
"""

TOKENS = {tenant: unsigned(tenant) for tenant in TENANTS}


def item(number: int) -> str:
    return f"{LIST}/{number}"


def price(number: int) -> str:
    return f"/api/prices/{number}"


def changed_by(path: str) -> tuple[str, ...]:
    """What is another thing after a write to this path: a job changes the list too."""
    return (path, LIST) if path.startswith(LIST) else (path,)


class Portal:
    """The upstream: a number of writes for each (tenant, path), read and written at some moment of a request."""

    def __init__(self, dawdle: Callable[[], float] = lambda: 0.0, tokens: Mapping[str, str] = TOKENS) -> None:
        """`dawdle`: seconds between arrival, the moment that counts, and the answer."""
        self.dawdle = dawdle
        self.tokens = tokens
        self._tenant_of = {f"Bearer {token}": tenant for tenant, token in tokens.items()}
        self.versions: Counter[tuple[str, str]] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.gate: asyncio.Event | None = None  # answers wait for it

    async def answer(self, request: wire.Message, peer: wire.Peer) -> None:
        tenant, path = self._tenant_of[request.get("authorization") or ""], request.target.decode()
        self.asked[tenant, path] += 1
        await self._pause()
        if request.start[0] == b"PUT":
            for each in changed_by(path):
                self.versions[tenant, each] += 1
        said = {"tenant": tenant, "path": path}
        said["versions"] = {each: self.versions[tenant, each] for each in changed_by(path)}
        body = certified(said)
        await self._pause()
        if self.gate is not None:
            await self.gate.wait()
        await peer.send(wire.response(body, "Content-Type: application/json"))

    async def _pause(self) -> None:
        if seconds := self.dawdle():
            await asyncio.sleep(seconds)


def certified(said: dict[str, Any]) -> bytes:
    """A body that tells when bytes of it are another's; its length goes with its version."""
    text = json.dumps({**said, "more": "x" * (37 * max(said["versions"].values()) % 400)})
    return json.dumps({"said": text, "sha": hashlib.sha256(text.encode()).hexdigest()}).encode()


def opened(body: bytes) -> dict[str, Any]:
    whole = json.loads(body)
    assert hashlib.sha256(whole["said"].encode()).hexdigest() == whole["sha"], body
    said: dict[str, Any] = json.loads(whole["said"])
    return said


class User:
    """One client: a connection to each replica, kept as long as it lasts."""

    def __init__(self, ports: list[int], tokens: Mapping[str, str] = TOKENS) -> None:
        self._ports = ports
        self._tokens = tokens
        self._clients: dict[int, wire.Client] = {}

    async def ask(self, replica: int, tenant: str, path: str, method: str = "GET") -> wire.Message:
        client = self._clients.get(replica)
        if client is None:
            client = self._clients[replica] = await wire.connect(self._ports[replica])
        token, body = f"Authorization: Bearer {self._tokens[tenant]}", b"{}" if method == "PUT" else b""
        return await client.ask(path, token, method=method, body=body, host=HOST)

    async def connect(self) -> "User":
        for replica, port in enumerate(self._ports):
            self._clients[replica] = await wire.connect(port)
        return self

    async def close(self) -> None:
        for client in self._clients.values():
            with suppress(OSError):
                await client.close()
        self._clients.clear()


class Versions:
    """Which version was the newest at what time."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._versions: list[int] = []

    def note(self, now: float, version: int) -> None:
        if not self._versions or version > self._versions[-1]:
            self._times.append(now)
            self._versions.append(version)

    def newest(self, before: float) -> int:
        index = bisect_right(self._times, before)
        return self._versions[index - 1] if index else 0


class History:
    """What clients saw of a portal through its replicas, and what of that must not be.

    C1 tenant, path and checksum are those asked for. C2 nothing is newer than what was written. C3 no read is older
    than a write that was acknowledged before it began: through the same replica, and through the others `BOUND` before.
    C5 through one replica no hit is older than a hit before it, nor any read than one that ended `BOUND` before: a
    fetch may bring what is newer than the store's epochs tell as yet. C7 every answer is a 200.
    """

    def __init__(self, portal: Portal, ports: list[int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.portal = portal
        self.ports = ports
        self.operations = self.hits = 0
        self.wrong: dict[str, list[str]] = {}
        self.slowest = 0.0
        self._clock = clock
        self._own: Counter[tuple[int, str, str]] = Counter()  # the newest acknowledged through that replica
        self._hit: Counter[tuple[int, str, str]] = Counter()  # the newest that was a hit there
        self._seen: dict[tuple[int, str, str], Versions] = defaultdict(Versions)
        self._written: dict[tuple[str, str], Versions] = defaultdict(Versions)

    async def read(self, user: User, replica: int, tenant: str, path: str) -> str:
        """One read, checked; its Cache-Status."""
        at, began = (replica, tenant, path), self._clock()
        bound = 0.0 if path.startswith("/api/prices") else BOUND
        own, anybody = self._own[at], self._written[tenant, path].newest(began - bound)
        hit, seen = self._hit[at], self._seen[at].newest(began - BOUND)
        answer = await user.ask(replica, tenant, path)
        self._took(began)
        if not self._answered(answer, tenant, path):
            return answer.cache
        version = opened(answer.body)["versions"][path]
        self._check("C2", version <= self.portal.versions[tenant, path], f"{version} of {path} is from the future")
        floors = {"C3 same": own, "C3 other": anybody, "C5": max(seen, hit) if is_hit(answer.cache) else seen}
        for kind, least in floors.items():
            self._check(kind, version >= least, f"{version} < {least}: {tenant} {path} at {replica}: {answer.cache}")
        self._seen[at].note(self._clock(), version)
        if is_hit(answer.cache):
            self.hits += 1
            self._hit[at] = max(self._hit[at], version)
        return answer.cache

    async def write(self, user: User, replica: int, tenant: str, path: str) -> None:
        began = self._clock()
        answer = await user.ask(replica, tenant, path, "PUT")
        self._took(began)
        if not self._answered(answer, tenant, path):
            return
        now = self._clock()
        for each, version in opened(answer.body)["versions"].items():
            at = (replica, tenant, each)
            self._own[at] = max(self._own[at], version)
            self._written[tenant, each].note(now, version)

    def stale(self) -> int:
        return sum(len(told) for kind, told in self.wrong.items() if kind.startswith(("C3", "C5")))

    def _answered(self, answer: wire.Message, tenant: str, path: str) -> bool:
        self.operations += 1
        if answer.status != 200:
            self._check("C7", False, f"{answer.status} {path} {answer.cache}")
            return False
        said = opened(answer.body)
        self._check("C1", (said["tenant"], said["path"]) == (tenant, path), f"{tenant} {path} got {said}")
        return not self.wrong.get("C1")

    def _took(self, began: float) -> None:
        self.slowest = max(self.slowest, self._clock() - began)

    def _check(self, kind: str, holds: bool, told: str) -> None:
        if not holds:
            self.wrong.setdefault(kind, []).append(told)


def is_hit(cache_status: str) -> bool:
    return cache_status.startswith("sidecache; hit")


def is_vouched_for(cache_status: str) -> bool:
    """A hit on an entry that the store's own epochs let through: what is kept without them is fresh for a moment."""
    _, _, ttl = cache_status.partition("; hit; ttl=")
    return ttl.partition(";")[0].isdigit() and int(ttl.partition(";")[0]) > 100


async def traffic(
    history: History, *, users: int, operations: int, seed: int = 0, writes: float = 0.05, items: int = 20,
    prices: int = 4, until: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Random reads and writes through random replicas: as many operations, or until it is told to end."""
    chance = random.Random(seed)
    left = operations

    async def use() -> None:
        nonlocal left
        user = User(history.ports)
        try:
            while left > 0 and not until():
                left -= 1
                await operate(history, user, chance, writes, items, prices)
        finally:
            await user.close()

    await asyncio.gather(*(use() for _ in range(users)))


async def operate(history: History, user: User, chance: random.Random, writes: float, items: int, prices: int) -> None:
    """One read or write."""
    replica, tenant = chance.randrange(len(history.ports)), chance.choice(TENANTS)
    number = int(items * chance.random() ** 2)  # some are asked for much more often than others
    path = price(number % prices) if prices and chance.random() < 0.1 else item(number)
    if chance.random() < writes:
        await history.write(user, replica, tenant, path)
    else:
        await history.read(user, replica, tenant, LIST if chance.random() < 0.1 else path)
