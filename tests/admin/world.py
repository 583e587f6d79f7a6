"""An admin port over a real cache on a memory store: everything but the data port, which is played by `keep`."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from proxy.admin.access import Gate
from proxy.admin.api import application
from proxy.admin.audit import Audit, is_asked_for
from proxy.admin.health import Health
from proxy.admin.lately import Lately
from proxy.admin.ledger import Ledger
from proxy.admin.sessions import Sessions
from proxy.admin.sight import Sight
from proxy.admin.surface import Parts, endpoints
from proxy.admin.trail import Trail
from proxy.bypasses import Bypasses
from proxy.cache.background import Background
from proxy.cache.epochs import Epochs
from proxy.cache.purges import Purges
from proxy.cache.seal import Sealer
from proxy.cache.stored import Stored
from proxy.cache.tiers import Cache, Found, Standing
from proxy.credentials import AdminToken, new_admin_token, read_admin_tokens
from proxy.identity.sources import AllGood
from proxy.live_rules import LiveRules
from proxy.policy.entry import Entry, pack_head
from proxy.policy.identity import Identity
from proxy.policy.key import Key, derive
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome
from proxy.sessions.record import Records
from proxy.stores.memory import MemoryStore
from proxy.telemetry.course import Course, State
from proxy.telemetry.exposition import exposition
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent import Recent
from proxy.telemetry.traffic import Traffic
from tests.builders import KEYS
from tests.doubles import FakeClock, StoreDouble, counted
from tests.events.world import World as Events

RULES = """
version: 1
identity: {tenant: [jwt.org_id], user: jwt.sub, roles: jwt.permissions}
features:
  jobs:
    ttl: 15m
    grace: 2m
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs, "PUT /api/jobs/{job-id}"]
  secrets:
    ttl: 5m
    sensitive: true
    read: ["GET /api/secrets/{secret-id}"]
  countries:
    scope: public
    ttl: 1h
    read: [GET /api/countries]
  feed:
    ttl: origin
    read: [GET /api/feed]
events: [plan.changed]
"""

_numbers = itertools.count(1)


def token(name: str, role: str, tenant: str | None = None) -> AdminToken:
    return new_admin_token(name, role, tenant, lambda size: next(_numbers).to_bytes(2, "big") * (size // 2))


TOKENS = {
    "viewer": token("vera", "viewer"),
    "operator": token("otto", "operator"),
    "inspector": token("ida", "inspector"),
    "backend": token("portal", "backend"),
    "viewer-a": token("vera-a", "viewer", "org_a"),
    "operator-a": token("otto-a", "operator", "org_a"),
    "inspector-a": token("ida-a", "inspector", "org_a"),
    "backend-a": token("portal-a", "backend", "org_a"),
}
ENTRIES = read_admin_tokens(",".join(each.entry for each in TOKENS.values())).entries


def bearer(who: str | None) -> dict[str, str]:
    return {} if who is None else {"Authorization": f"Bearer {TOKENS[who].token}"}


class Ends:
    """Notes whose sessions end; `takes`: the store does as well."""

    def __init__(self) -> None:
        self.ended_now: list[tuple[str, ...]] = []
        self.takes = True

    async def ended(
        self, subjects: Sequence[str], instant: float, *, why: str, tenant: str | None = None, told: bool = True
    ) -> bool:
        self.ended_now.append(tuple(subjects))
        return self.takes


class World:
    """What stands behind the port."""

    def __init__(self, file: Path, profile: str) -> None:
        file.write_text(RULES)
        self.clock = clock = FakeClock()
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append)
        self.store = StoreDouble(MemoryStore(1 << 20, clock))
        self.rules = LiveRules(file, profile, clock, lambda event, details: None, has_encryption_key=True)
        self.rules.load()
        self.epochs = Epochs(self.store, clock, counted(), self.background, sole=True, sleep=clock.sleep)
        self.cache = Cache(
            self.store, self.epochs, l1_bytes=1 << 20, clock=clock, sealer=Sealer(b"k" * 32), background=self.background
        )
        self.purges = Purges(clock)
        self.metrics = Metrics()
        self.traffic = Traffic(lambda method, path: self.rules.current.match(method, path), clock)
        self.switched = 0
        self.told: list[int] = []  # how many switches other processes were told of
        self.bypasses = Bypasses(clock, self._switched)
        self.ends = Ends()
        self.records = Records(self.store, AllGood(), clock, self.background)
        self.unwritten: list[str] = []
        self.ledger = Ledger(None, self.unwritten.append)
        self.trail = Trail(self.store, self.background, self.recent)
        self.audit = Audit(self.ledger.enter, clock, entered=self.trail.add)
        self.others: list[Any] = []  # what other processes answer to `Sight`
        self.sight = Sight(self.cache, self.epochs, self.metrics, self.traffic, self.purges, clock, self.ask_others)
        self.stored = Stored(self.store, self.cache.sealer, max_body=1 << 20, clock=clock)
        self.health = Health(self.rules, self.store.ping, clock)
        self.profile = profile
        self.sessions = Sessions(clock, counted())
        self.gate = Gate(ENTRIES, lenient=profile == "development", session=self.sessions.find)
        self.requests = Recent(clock)
        self.lately = Lately(self.metrics, self.requests)
        self.store_up = True
        self.events = Events()
        self.about_store: dict[str, object] = {"kind": "memory"}
        self.course = Course(self.lately.taken, lambda: State(self.store_up, self.rules.loaded_at), clock)

    def _switched(self) -> None:
        self.switched += 1

    async def recent(self) -> list[dict[str, Any]]:
        return self.ledger.recent()

    async def ask_others(self, question: str, content: Any) -> list[Any]:
        return self.others

    async def exposition(self) -> bytes:
        return exposition(self.metrics.collected())

    async def spread(self) -> None:
        self.told.append(len(self.bypasses.active()))

    def parts(self) -> Parts:
        return Parts(
            self.health, self.rules, self.cache, self.epochs, self.purges, self.traffic, self.bypasses,
            self.audit, self.trail, self.sight, self.stored, KEYS, None, self.profile, True,
            lambda: self.about_store, self.clock, self.exposition, lambda: self.audit.lost, self.spread,
            self.gate, self.sessions, self.records, self.ends, lambda: {"keys": []}, self.course, self.lately,
            self.events.publisher,
        )  # fmt: skip

    def key(self, path: str = "/api/jobs", tenant: str = "org_a") -> Key:
        match = self.rules.current.match("GET", path.partition("?")[0])
        assert match is not None
        found = derive(match, Request("GET", path), Identity(tenant, "u1", frozenset()), KEYS, None)
        assert isinstance(found, Key)
        return found

    async def keep(self, path: str = "/api/jobs", tenant: str = "org_a", body: bytes = b"[]") -> Entry:
        """Store what the upstream would have answered, as a fill does."""
        key = self.key(path, tenant)
        match = self.rules.current.match("GET", path.partition("?")[0])
        assert match is not None
        route, now = match.route, self.clock()
        stamp = await self.epochs.current(key.space, key.tags)
        ttl = route.ttl or 60.0
        kept = Entry(
            key=key.full, tenant=key.space, request=key.request, policy=route.digest, status=200,
            head=pack_head(Fields([("Content-Type", "application/json"), ("X-Internal", "hush")])), body=body,
            stored_at=now, age=0.0, fresh_until=now + ttl, grace_until=now + ttl + route.grace,
            error_until=now + ttl, content_type="application/json", tags=key.tags, epochs_hard=stamp.hard,
            epochs_soft=stamp.soft, sensitive=route.sensitive,
        )  # fmt: skip
        assert self.cache.put(kept, quota=None) is None
        return kept

    async def is_kept(self, path: str = "/api/jobs", tenant: str = "org_a") -> bool:
        """Whether a read would find it, fresh and not purged."""
        match = self.rules.current.match("GET", path)
        assert match is not None
        found = await self.cache.find(self.key(path, tenant), match.route.digest)
        return isinstance(found, Found) and found.standing is Standing.VALID

    def seen(self, method: str, path: str, outcome: Outcome) -> None:
        self.metrics.count(outcome, 0.001)
        self.traffic.note(Request(method, path), outcome)
        self.requests.note(Request(method, path), outcome, 200, 0.001)

    def audited(self, event: str | None = None) -> list[dict[str, Any]]:
        return [line for line in self.ledger.recent() if is_asked_for(line, event=event)]


@asynccontextmanager
async def port(tmp_path: Path, profile: str = "staging") -> AsyncIterator[tuple[World, TestClient]]:
    """The world, and a client of its admin port."""
    world = World(tmp_path / "rules.yaml", profile)
    async with TestClient(TestServer(application(world.gate, world.audit, endpoints(world.parts())))) as client:
        yield world, client
        world.course.close()
    await world.epochs.close()
    await world.background.drain(1.0)
    assert world.failures == []
