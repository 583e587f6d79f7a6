"""The store for people who look: bounded in time, and nothing of it but entries."""

import pytest

from proxy.cache import record
from proxy.cache.record import Rejection
from proxy.cache.seal import Sealer
from proxy.cache.stored import MAX_ROUNDS, Stored, tenant_of
from proxy.policy.entry import Entry
from proxy.stores.memory import MemoryStore
from tests.builders import entry
from tests.doubles import FakeClock, StoreDouble


class Slow(StoreDouble):
    """Looking at its names takes a while."""

    clock: FakeClock
    seconds = 0.0

    async def names(self, prefix, cursor, count):
        self.clock.advance(self.seconds)
        return await super().names(prefix, cursor, count)


@pytest.fixture
def store():
    clock = FakeClock()
    made = Slow(MemoryStore(8 << 20, clock))
    made.clock = clock
    return made


@pytest.fixture
def stored(store):
    return Stored(store, Sealer(b"k" * 32), max_body=1 << 20, clock=store.clock)


async def all_keys(stored, prefix="", count=10):
    keys, cursor, pages = [], "", 0
    while True:
        page = await stored.keys(prefix, cursor, count)
        keys += page.keys
        pages += 1
        if not (cursor := page.next):
            return keys, pages


async def test_few_keys_among_many_names_are_found_in_few_questions(store, stored):
    for number in range(5000):
        await store.set(f"tenant:org_{number % 100}:leases:{number}", b"1", 60)
    await store.set("tenant:org_99:jobs:1", b"1", 60)
    assert await all_keys(stored) == (["tenant:org_99:jobs:1"], 1)
    assert store.count("names") < 10


async def test_one_page_takes_a_bounded_number_of_rounds_and_the_next_goes_on(store, stored):
    for number in range(25_000):
        await store.set(f"tenant:a:leases:{number:05}", b"1", 600)
    await store.set("tenant:z:jobs:1", b"1", 600)
    page = await stored.keys("", "", 10)
    assert (page.keys, store.count("names")) == ([], MAX_ROUNDS)
    assert (await stored.keys("", page.next, 10)).keys == ["tenant:z:jobs:1"]


async def test_a_slow_store_makes_a_page_short_not_long(store, stored):
    store.seconds = 0.6
    for number in range(3000):
        await store.set(f"tenant:a:leases:{number:04}", b"1", 600)
    page = await stored.keys("", "", 10)
    assert (page.keys, bool(page.next), store.count("names")) == ([], True, 2)


async def test_an_entry_is_read_whatever_its_request_and_checked_all_the_same(store, stored):
    kept = entry(key="tenant:org_a:jobs:77", tenant="org_a")
    await store.set(kept.key, record.encode(kept, Sealer(b"k" * 32)), 60)
    found = await stored.look(kept.key)
    assert isinstance(found, Entry)
    assert (found.request, found.body, found.tags) == (kept.request, kept.body, kept.tags)
    assert await stored.look("tenant:org_a:jobs:78") is None
    await store.set(kept.key, record.encode(kept, Sealer(b"x" * 32)), 60)
    assert await stored.look(kept.key) is Rejection.MAC
    await store.set("tenant:org_b:jobs:77", record.encode(kept, Sealer(b"k" * 32)), 60)
    assert await stored.look("tenant:org_b:jobs:77") is Rejection.TENANT


@pytest.mark.parametrize(
    ("key", "tenant"),
    [
        ("tenant:org_a:jobs:77", "org_a"), ("shared:countries:list", ""),
        ("tenant:org_a:company-profiles:h-1.v-2", "org_a"),
        ("tenant:org_a:epochs", None), ("tenant:org_a:leases:x", None), ("shared:epochs", None), ("shared:audit", None),
        ("tenant::jobs:1", None), ("session:u1:org_a", None),
        ("tenant:org_a:jobs:", None), ("tenant:org_a:jobs:a b", None),
        ("tenant:org_a:jobs:" + "x" * 250, None), ("tenant:org_a:events:stream", None), ("tenant:org_a:jobs:1\n", None),
    ],
)  # fmt: skip
def test_what_can_be_the_key_of_an_entry(key, tenant):
    assert tenant_of(key) == tenant
