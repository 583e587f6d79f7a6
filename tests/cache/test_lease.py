"""Who of all replicas fetches: who gets the lease, who waits, and that nobody keeps one it does not use."""

import asyncio
from dataclasses import dataclass, field

import pytest

from proxy.cache.background import Background
from proxy.cache.lease import TTL, WAIT, Lease, Leases
from proxy.cache.stamp import Stamp
from proxy.policy.key import Key
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, StoreDouble, settle

STAMP = Stamp(b"h" * 16, b"s" * 16)
KEY = Key("tenant:org_a:jobs:77", "", "org_a", ("jobs", "jobs:77"), "GET /api/jobs/77", "/api/jobs/77")
PUBLIC = Key("shared:jobs:77", "", "", ("jobs", "jobs:77"), "GET /api/jobs/77", "/api/jobs/77")


@dataclass
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    raised: list[BaseException] = field(default_factory=list)
    brought: str | None = None  # what another replica has stored
    looked: int = 0

    def __post_init__(self) -> None:
        self.store = StoreDouble(MemoryStore(1 << 20, self.clock))
        self.background = Background(self.raised.append)

    def replica(self, *, others: bool = True) -> Leases:
        return Leases(self.store, self.background, self.clock, others=others, sleep=self.clock.sleep)

    async def take(self, leases: Leases | None = None, key: Key = KEY, stamp: Stamp = STAMP) -> Lease | str | None:
        return await (leases or self.replica()).take(key, stamp, self.arrived)

    async def arrived(self) -> str | None:
        self.looked += 1
        return self.brought


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.background.drain(1)
    assert made.raised == []


async def test_one_of_two_replicas_gets_the_lease_and_the_other_what_it_brings(world):
    lease = await world.take()
    assert isinstance(lease, Lease)
    waiting = asyncio.ensure_future(world.take())
    await settle(4)
    assert not waiting.done()
    world.brought = "entry"
    assert await waiting == "entry"


async def test_when_the_lease_is_given_back_and_nothing_was_stored_the_other_fetches_without_one(world):
    lease = await world.take()
    waiting = asyncio.ensure_future(world.take())
    await settle(4)
    world.replica().release(lease, after=None)
    assert await waiting is None
    assert isinstance(await world.take(), Lease)


async def test_what_was_stored_before_the_lease_was_given_back_is_not_overlooked(world):
    lease = await world.take()
    world.store.delayed = {"get"}
    waiting = asyncio.ensure_future(world.take())
    await settle(8)
    assert len(world.store.gates) == 1
    # it has read that the lease is held; now the entry is stored and the lease given back
    world.brought = "entry"
    world.replica().release(lease, after=None)
    await settle()
    world.store.delayed = set()
    world.store.open_gate()
    assert await waiting == "entry"


async def test_a_lease_is_given_back_once_the_entry_is_on_its_place(world):
    lease = await world.take()
    saved = asyncio.Event()
    world.replica().release(lease, after=asyncio.ensure_future(saved.wait()))
    await settle()
    assert world.store.count("delete") == 0
    saved.set()
    await settle()
    assert world.store.count("delete") == 1


async def test_a_lease_that_ran_out_is_not_given_back_for_it_may_be_another_s(world):
    lease = await world.take()
    world.clock.advance(TTL)
    other = await world.take()
    assert isinstance(other, Lease)
    world.replica().release(lease, after=None)
    await settle()
    assert world.store.count("delete") == 0


async def test_a_wait_is_bounded(world):
    await world.take()
    began = world.clock.now
    world.store.inner._clock = lambda: began  # for the store its time does not pass
    assert await world.take() is None
    assert WAIT <= world.clock.now - began < WAIT + 0.2
    assert world.looked < 60


@pytest.mark.parametrize("operation", ["claim", "get"])
async def test_a_store_that_fails_holds_nobody_back(world, operation):
    await world.take()
    world.store.down = {operation}
    assert await world.take() is None
    assert world.looked == 0


async def test_a_lease_that_cannot_be_given_back_ends_by_itself(world):
    lease = await world.take()
    world.store.down = {"delete"}
    world.replica().release(lease, after=None)
    await settle()
    world.store.down = set()
    world.clock.advance(TTL)
    assert isinstance(await world.take(), Lease)


async def test_without_others_or_without_the_store_s_epochs_there_is_no_lease(world):
    assert await world.take(world.replica(others=False)) is None
    assert await world.take(stamp=Stamp(b"L" + b"h" * 16, b"L" + b"s" * 16)) is None
    assert world.store.calls == []


async def test_after_a_purge_nobody_waits_for_a_fetch_that_began_before_it(world):
    assert isinstance(await world.take(), Lease)
    assert isinstance(await world.take(stamp=Stamp(b"i" * 16, b"s" * 16)), Lease)


@pytest.mark.isolation
async def test_leases_of_other_keys_are_others_and_lie_in_the_key_space_of_their_tenant(world):
    private, public = await world.take(), await world.take(key=PUBLIC)
    assert private.name.startswith("tenant:org_a:leases:")
    assert public.name.startswith("shared:leases:")


async def test_who_leaves_while_the_store_gives_the_lease_does_not_keep_it(world):
    world.store.held = {"claim"}
    asking = asyncio.ensure_future(world.take())
    await settle()
    asking.cancel()
    await settle()
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert asking.cancelled()
    assert isinstance(await world.take(), Lease)


async def test_who_leaves_while_another_has_the_lease_takes_nothing_from_it(world):
    await world.take()
    world.store.held = {"claim"}
    asking = asyncio.ensure_future(world.take())
    await settle()
    asking.cancel()
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert world.store.count("delete") == 0


async def test_who_leaves_while_it_waits_asks_the_store_no_more(world):
    await world.take()
    asking = asyncio.ensure_future(world.take())
    await settle(4)
    asking.cancel()
    await settle()
    calls = len(world.store.calls)
    await settle(50)
    assert len(world.store.calls) == calls
