"""The doorbell: what is rung is heard by others, and whatever goes wrong ends in distrust, never in trust."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import pytest

from proxy.cache.binding import EVERYTHING
from proxy.cache.doorbell import CHANNEL, Doorbell
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, StoreDouble, settle

ORG_A = "tenant:org_a:epochs"
PURGED = {ORG_A: ("jobs", "slot:07"), "shared:epochs": ("*",)}


@dataclass
class Replica:
    store: StoreDouble
    clock: FakeClock
    writer: str
    heard: list[tuple[str, list[str]]] = field(default_factory=list)
    deaf: int = 0
    reports: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.doorbell = Doorbell(
            self.store, self.writer, heard=self._hear, deaf=self._is_deaf, sleep=self.clock.sleep,
            report=lambda event, details: self.reports.append((event, str(details["way"]))),
        )  # fmt: skip

    def _hear(self, hashed: str, names: Sequence[str]) -> None:
        self.heard.append((hashed, list(names)))

    def _is_deaf(self) -> None:
        self.deaf += 1


@dataclass
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    listening: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inner = MemoryStore(1 << 20, self.clock)
        self.one, self.other = self.replica("one"), self.replica("other")

    def replica(self, writer: str) -> Replica:
        return Replica(StoreDouble(self.inner), self.clock, writer)

    async def listen(self, *replicas: Replica) -> None:
        self.listening += [asyncio.ensure_future(replica.doorbell.listen()) for replica in replicas]
        await settle()

    async def say(self, message: bytes) -> None:
        await self.inner.publish(CHANNEL, message)
        await settle()


@pytest.fixture
async def world():
    made = World()
    yield made
    for task in made.listening:
        task.cancel()
    await asyncio.gather(*made.listening, return_exceptions=True)


async def test_what_one_replica_rings_the_others_hear_and_itself_does_not(world):
    await world.listen(world.one, world.other)
    await world.one.doorbell.ring(PURGED)
    await settle()
    assert world.other.heard == [(ORG_A, ["jobs", "slot:07"]), ("shared:epochs", ["*"])]
    assert world.one.heard == []
    assert (world.one.doorbell.rung, world.other.doorbell.answered, world.one.doorbell.answered) == (1, 1, 0)


async def test_who_begins_to_listen_may_have_missed_something(world):
    await world.listen(world.one)
    assert world.one.deaf == 1


async def test_a_ring_that_the_store_refuses_is_not_an_error(world):
    world.one.store.down = {"publish"}
    await world.one.doorbell.ring(PURGED)
    assert world.one.doorbell.rung == 1


async def test_too_many_fields_of_a_hash_are_told_as_all_of_it(world):
    await world.listen(world.other)
    await world.one.doorbell.ring({ORG_A: [str(number) for number in range(513)]})
    await settle()
    assert world.other.heard == [(ORG_A, [EVERYTHING])]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'"purged"',
        orjson.dumps({"writer": 1, "purged": {}}),
        orjson.dumps({"writer": "x", "purged": []}),
        orjson.dumps({"writer": "x", "purged": {ORG_A: 7}}),
        orjson.dumps({"writer": "x", "purged": {ORG_A: [7]}}),
        orjson.dumps({"writer": "x", "purged": {ORG_A: "jobs"}}),
    ],
)
async def test_what_cannot_be_understood_may_have_meant_anything(world, message):
    await world.listen(world.one)
    await world.say(message)
    assert world.one.deaf == 2
    assert world.one.heard == []
    await world.other.doorbell.ring(PURGED)
    await settle()
    assert len(world.one.heard) == 2


async def test_a_listener_that_is_cut_off_listens_again_and_distrusts_what_it_knew(world):
    await world.listen(world.one)
    world.one.store.down = {"listen"}
    await world.other.doorbell.ring(PURGED)  # it is cut off instead of hearing this
    await settle()
    world.one.store.down = set()
    await settle()
    assert world.one.heard == []
    assert world.one.deaf == 2
    await world.other.doorbell.ring(PURGED)
    await settle()
    assert len(world.one.heard) == 2


async def test_a_store_that_cannot_be_listened_to_is_asked_with_longer_and_longer_pauses(world):
    world.one.store.down = {"listen"}
    await world.listen(world.one)
    await settle(40)
    assert world.clock.slept[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    world.one.store.down = set()
    await settle()
    assert world.one.deaf == 1
    slept = len(world.clock.slept)
    world.one.store.down = {"listen"}
    await world.say(b"")
    await settle()
    assert world.clock.slept[slept] == 0.05


async def test_a_store_that_works_and_cannot_be_listened_to_is_told_of_once_and_again_when_it_can(world):
    world.one.store.down = {"listen"}
    await world.listen(world.one)
    for _ in range(20):
        await settle()
    assert world.one.reports == [("doorbell-lost", "subscribe")]
    world.one.store.down = set()
    for _ in range(20):
        await settle()
    assert world.one.reports == [("doorbell-lost", "subscribe"), ("doorbell-works", "subscribe")]


async def test_rings_that_the_store_refuses_are_told_of_once_and_one_alone_is_not(world):
    world.one.store.down = {"publish"}
    await world.one.doorbell.ring(PURGED)
    assert world.one.reports == []
    for _ in range(3):
        await world.one.doorbell.ring(PURGED)
    assert world.one.reports == [("doorbell-lost", "publish")]
    world.one.store.down = set()
    await world.one.doorbell.ring(PURGED)
    assert world.one.reports == [("doorbell-lost", "publish"), ("doorbell-works", "publish")]


async def test_of_a_store_that_does_not_answer_at_all_the_doorbell_says_nothing(world):
    world.one.store.down = {"publish", "listen", "ping"}
    await world.listen(world.one)
    for _ in range(20):
        await world.one.doorbell.ring(PURGED)
        await settle()
    assert world.one.reports == []


async def test_revocations_ride_along_and_say_themselves_when_they_count(world):
    said: list[object] = []
    world.other.doorbell.revoked = said.append
    world.one.doorbell.revoked = said.append
    await world.listen(world.one, world.other)
    await world.one.doorbell.ring({}, revoked=[["u:1", 1, 2, "ended"]])
    await world.one.doorbell.ring(PURGED)
    await settle()
    assert said == [[["u:1", 1, 2, "ended"]]]
    assert len(world.other.heard) == 2


@pytest.mark.parametrize("revoked", [None, 7, "u:1", {}, [[]]])
async def test_what_is_no_revocation_is_passed_on_for_whoever_reads_it_to_judge(world, revoked):
    said: list[object] = []
    world.other.doorbell.revoked = said.append
    await world.listen(world.other)
    await world.say(orjson.dumps({"writer": "one", "purged": {}, "revoked": revoked}))
    assert said == ([] if revoked is None else [revoked])


async def test_who_asks_for_no_revocations_is_not_troubled_by_them(world):
    await world.listen(world.other)
    await world.one.doorbell.ring({}, revoked=[1])
    await settle()
    assert world.other.deaf == 1  # at its subscription
