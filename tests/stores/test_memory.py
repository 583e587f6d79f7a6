"""What the embedded store promises beyond the contract: its bounds."""

from contextlib import aclosing

import pytest

from proxy.errors import StoreError
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock

ROOM = 100_000


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(clock):
    return MemoryStore(ROOM, clock, max_spaces=3)


async def test_the_values_used_longest_ago_make_room(store):
    for number in range(9):
        await store.set(f"k{number}", b"x" * 10_000, 60)
    await store.get(["k0"])
    await store.set("new", b"x" * 15_000, 60)
    assert store.size <= ROOM
    assert [value is not None for value in await store.get(["k0", "k1", "new"])] == [True, False, True]


async def test_the_bound_holds_whatever_is_set(store):
    for number in range(500):
        await store.set(f"k{number % 70}", b"x" * (number * 37 % 9000), 60)
        assert store.size <= ROOM
    assert len(store) > 5


async def test_a_value_larger_than_the_store_is_not_kept_and_replaces_what_was_there(store):
    await store.set("k", b"old", 60)
    await store.set("other", b"kept", 60)
    await store.set("k", b"x" * (ROOM + 1), 60)
    assert await store.get(["k", "other"]) == [None, b"kept"]


async def test_expired_values_are_removed_by_later_writes_without_being_asked_for(store, clock):
    for number in range(30):
        await store.set(f"k{number}", b"x", 10)
    clock.advance(11)
    await store.set("a", b"1", 60)
    assert len(store) == 30 - 16 + 1  # a write sweeps a bounded number
    await store.set("b", b"1", 60)
    assert len(store) == 2
    assert store.size == 2 * (1 + 1 + 250)


async def test_a_value_that_was_set_again_is_not_swept_at_its_old_time(store, clock):
    await store.set("k", b"old", 10)
    await store.set("k", b"new", 100)
    clock.advance(50)
    await store.set("other", b"1", 60)
    assert await store.get(["k"]) == [b"new"]


async def test_setting_one_name_for_ever_does_not_grow_the_queue_of_expiries(store):
    for _ in range(5000):
        await store.set("k", b"v", 3600)
    assert len(store._expiries) <= 2 + 1024


async def test_values_never_push_epochs_out(store):
    await store.advance_epochs("s", {"a": b"1"})
    for number in range(50):
        await store.set(f"k{number}", b"x" * 20_000, 60)
    assert await store.epochs("s", ["a"]) == [b"1"]


async def test_the_space_used_longest_ago_goes_whole(store):
    for space in "abc":
        await store.create_epochs(space, {"*": b"1", "jobs": b"2"})
    await store.epochs("a", ["*"])
    await store.create_epochs("d", {"*": b"1"})
    assert await store.epochs("b", ["*", "jobs"]) == [None, None]
    assert await store.epochs("a", ["*", "jobs"]) == [b"1", b"2"]


async def test_a_listener_that_falls_far_behind_is_told_to_listen_again():
    store = MemoryStore(ROOM, FakeClock())
    async with aclosing(store.listen(["c"])) as slow, aclosing(store.listen(["c"])) as quick:
        assert [await anext(slow), await anext(quick)] == [None, None]
        for number in range(2000):
            await store.publish("c", b"%d" % number)
            assert await anext(quick) == ("c", b"%d" % number)
        with pytest.raises(StoreError):
            await anext(slow)
