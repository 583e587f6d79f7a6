"""Both tiers over a real store that can fail, wait and be tampered with."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from proxy.cache import record
from proxy.cache.background import Background
from proxy.cache.epochs import TRUSTED_SECONDS, Epochs
from proxy.cache.record import Rejection
from proxy.cache.seal import Sealer
from proxy.cache.stamp import Stamp
from proxy.cache.tiers import Cache, Found, Missing, Standing
from proxy.credentials import EncryptionKey
from proxy.policy.entry import Entry
from proxy.policy.key import Key
from proxy.policy.outcome import Reason
from proxy.stores.memory import MemoryStore
from tests import builders
from tests.builders import NOW
from tests.doubles import FakeClock, StoreDouble, counted, settle

KEY = "tenant:org_a:jobs:77"
TAGS = ("jobs", "jobs:77")
POLICY = b"rule"
SECRET = b"n" * 32
OLD, NEW = EncryptionKey("k1", bytes(range(32))), EncryptionKey("k2", bytes(range(1, 33)))


@dataclass
class World:
    """One store, and replicas over it. Their clock is the wall's and the epochs' at once."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    raised: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = StoreDouble(MemoryStore(64 << 20, self.clock))
        self.background = Background(self.raised.append)
        self.random = counted()
        self.cache, self.epochs = self.replica()

    def replica(
        self, l1_bytes: int = 32 << 20, keys: Sequence[EncryptionKey] = (), *, sole: bool = False
    ) -> tuple[Cache, Epochs]:
        sealer = Sealer(SECRET, keys)
        epochs = Epochs(self.store, self.clock, self.random, self.background, sole=sole, sleep=self.clock.sleep)
        cache = Cache(
            self.store, epochs, l1_bytes=l1_bytes, clock=self.clock, sealer=sealer, background=self.background
        )
        return cache, epochs

    async def find(
        self, cache: Cache | None = None, *, key: str = KEY, policy: bytes = POLICY, strict: bool = False
    ) -> Found | Missing:
        return await (cache or self.cache).find(key_of(key), policy, strict=strict)

    async def fill(self, key: str = KEY, *, cache: Cache | None = None, **more: Any) -> Entry:
        """What the exchange does on a miss: find, fetch, put."""
        tags = more.pop("tags", TAGS)
        missing = await self.find(cache, key=key)
        assert missing.stamp is not None
        stamp = missing.stamp.of(tags)
        assert stamp is not None
        entry = builders.entry(key=key, tags=tags, epochs_hard=stamp.hard, epochs_soft=stamp.soft, **more)
        assert (cache or self.cache).put(entry, quota=None) is None
        await self.background.drain(1)  # it is in the store as well
        return entry


def key_of(full: str, space: str = "org_a", request: str = "GET /api/jobs") -> Key:
    return Key(full, "", space, TAGS, request, "/api/jobs")


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.epochs.close()
    await made.background.drain(1)
    assert made.raised == []


def body_of(found: Found | Missing) -> bytes:
    assert isinstance(found, Found)
    return found.entry.body


# Found and missing


async def test_what_was_never_stored_is_cold_and_may_be_stored(world):
    missing = await world.find()
    assert missing.reason is Reason.COLD
    assert isinstance(missing.stamp, Stamp)


async def test_what_was_put_is_found_without_asking_the_store(world):
    await world.fill(body=b"77")
    world.store.calls.clear()
    found = await world.find()
    assert body_of(found) == b"77"
    assert found.standing is Standing.VALID
    assert found.stamp.hard == found.entry.epochs_hard
    assert world.store.calls == []
    short = world.cache.find_in_memory(key_of(KEY), POLICY)
    assert short is not None
    assert short.entry.body == b"77"


async def test_another_replica_finds_it_in_the_store_and_keeps_it(world):
    await world.fill(body=b"77" * 2000, etag='"1"')
    cache, _ = world.replica()
    found = await world.find(cache)
    assert body_of(found) == b"77" * 2000
    assert found.entry.etag == '"1"'
    world.store.calls.clear()
    assert body_of(await world.find(cache)) == b"77" * 2000
    assert world.store.calls == []


async def test_what_was_fetched_here_while_the_store_was_asked_is_not_replaced_by_an_older_one(world):
    """Both were fetched under the same epochs, by two replicas: one of them before, one after the upstream changed."""
    await world.fill(body=b"older")
    cache, _ = world.replica()
    missing = await world.find(cache, key="tenant:org_a:jobs:other")
    world.store.delayed = {"get"}
    finding = asyncio.ensure_future(world.find(cache))
    await settle()
    newer = builders.entry(
        key=KEY, tags=TAGS, body=b"newer", stored_at=NOW + 1, epochs_hard=missing.stamp.hard,
        epochs_soft=missing.stamp.soft,
    )  # fmt: skip
    assert cache.put(newer, quota=None) is None
    world.store.delayed = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert body_of(await finding) == b"newer"
    assert body_of(await world.find(cache)) == b"newer"


async def test_what_is_fetched_here_while_epochs_are_read_is_what_is_found(world):
    """An answer from what was there before would be fetched once more where that had ended."""
    await world.fill(body=b"older")
    stamp = (await world.find()).stamp
    world.clock.advance(TRUSTED_SECONDS)
    world.store.held = {"epochs"}
    finding = asyncio.ensure_future(world.find())
    await settle()
    newer = builders.entry(
        key=KEY, tags=TAGS, body=b"newer", stored_at=NOW + 1, epochs_hard=stamp.hard, epochs_soft=stamp.soft,
    )  # fmt: skip
    assert world.cache.put(newer, quota=None) is None
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert body_of(await finding) == b"newer"


async def test_the_short_way_is_not_taken_when_copies_are_not_trusted(world):
    await world.fill()
    world.clock.advance(0.9)
    assert world.cache.find_in_memory(key_of(KEY), POLICY) is None
    assert isinstance(await world.find(), Found)
    assert world.cache.find_in_memory(key_of(KEY), POLICY) is not None


async def test_strict_asks_the_store_for_epochs_on_a_hit_in_memory(world):
    await world.fill()
    _, other = world.replica()
    await other.advance({"org_a": ["jobs:77"]})
    assert isinstance(await world.find(), Found)
    assert (await world.find(strict=True)).reason is Reason.PURGED


async def test_strict_works_on_what_only_the_store_has(world):
    await world.fill()
    cache, _ = world.replica()
    assert isinstance(await world.find(cache, strict=True), Found)


async def test_another_policy_is_a_miss_in_both_tiers(world):
    await world.fill()
    cache, _ = world.replica()
    assert (await world.find(policy=b"tightened")).reason is Reason.RULES_CHANGED
    assert (await world.find(cache, policy=b"tightened")).reason is Reason.RULES_CHANGED


async def test_an_entry_bound_to_tags_the_request_does_not_cover_is_not_used(world):
    entry = await world.fill()
    entry.tags = ("search", "search:list")
    world.cache.put(entry, quota=None)
    await settle()
    assert (await world.find()).reason is Reason.RULES_CHANGED


async def test_a_purge_makes_it_a_miss_in_both_tiers(world):
    await world.fill()
    cache, _ = world.replica()
    await world.epochs.advance({"org_a": ["jobs:77"]})
    assert (await world.find()).reason is Reason.PURGED
    assert (await world.find(cache)).reason is Reason.PURGED


async def test_after_a_purge_what_another_replica_filled_since_is_found(world):
    await world.fill(body=b"old")
    await world.epochs.advance({"org_a": ["jobs:77"]})
    cache, _ = world.replica()
    await world.fill(cache=cache, body=b"new")
    assert body_of(await world.find()) == b"new"


async def test_a_soft_purge_leaves_it_usable_and_says_so(world):
    await world.fill()
    await world.epochs.advance({"org_a": ["jobs:77"]}, soft=True)
    found = await world.find()
    assert isinstance(found, Found)
    assert found.standing is Standing.SOFT_PURGED
    assert found.stamp.soft != found.entry.epochs_soft


async def test_an_entry_is_usable_until_its_last_window_ends_and_then_dropped(world):
    await world.fill(fresh_until=NOW + 10, grace_until=NOW + 30, error_until=NOW + 20)
    world.clock.advance(29)
    assert isinstance(await world.find(), Found)
    world.clock.advance(1)
    assert (await world.find()).reason is Reason.EXPIRED
    assert world.cache.stats().entries == 0
    assert (await world.find()).reason is Reason.COLD


async def test_a_negative_entry_is_bound_to_its_list_as_well(world):
    await world.fill(tags=(*TAGS, "jobs:list"), status=404)
    assert isinstance(await world.find(), Found)
    await world.epochs.advance({"org_a": ["jobs:list"]})
    assert (await world.find()).reason is Reason.PURGED


async def test_a_positive_entry_is_not_bound_to_its_list(world):
    await world.fill()
    await world.epochs.advance({"org_a": ["jobs:list"]})
    assert isinstance(await world.find(), Found)


@pytest.mark.isolation
async def test_one_tenant_s_record_under_another_tenant_s_key_is_never_served(world):
    await world.fill(body=b"org_a's")
    (data,) = await world.store.inner.get([KEY])
    other = KEY.replace("org_a", "org_b")
    await world.store.inner.set(other, data, 60)
    missing = await world.cache.find(key_of(other, "org_b"), POLICY)
    assert missing.reason is Reason.COLD
    assert world.cache.stats().rejected == {Rejection.TENANT: 1}


@pytest.mark.isolation
async def test_one_user_s_record_under_another_user_s_key_is_never_served(world):
    await world.fill(KEY + ".u-one", body=b"one's")
    (data,) = await world.store.inner.get([KEY + ".u-one"])
    await world.store.inner.set(KEY + ".u-two", data, 60)
    assert (await world.find(key=KEY + ".u-two")).reason is Reason.COLD
    assert world.cache.stats().rejected == {Rejection.KEY: 1}


@pytest.mark.parametrize("data", [b"", b"garbage", b"SCR\x01" + b"x" * 100], ids=["empty", "garbage", "version"])
async def test_whatever_else_is_in_the_store_is_a_counted_miss(world, data):
    await world.store.set(KEY, data, 60)
    assert (await world.find()).reason is Reason.COLD
    assert sum(world.cache.stats().rejected.values()) == 1


async def test_a_record_signed_by_somebody_else_is_a_counted_miss(world):
    entry = builders.entry(key=KEY, tags=TAGS)
    await world.store.set(KEY, record.encode(entry, Sealer(b"other" * 5)), 60)
    assert (await world.find()).reason is Reason.COLD
    assert world.cache.stats().rejected == {Rejection.MAC: 1}


async def test_a_large_body_goes_through_both_tiers(world):
    body = b'{"id":77},' * 100_000
    await world.fill(body=body)
    (data,) = await world.store.inner.get([KEY])
    assert len(data) < len(body) / 20
    cache, _ = world.replica()
    assert body_of(await world.find(cache)) == body


async def test_what_the_first_tier_has_no_room_for_is_still_served_from_the_store(world):
    for number in range(32):
        await world.fill(f"{KEY}.v-{number}")
    cache, _ = world.replica()
    for number in range(32):
        await world.find(cache, key=f"{KEY}.v-{number}")
    entry = await world.fill(f"{KEY}.v-x", cache=world.replica()[0], body=b"x")
    assert entry.body == b"x"
    assert body_of(await world.find(cache, key=f"{KEY}.v-x")) == b"x"
    assert cache.stats().entries == 32


# Stored and refused


async def test_it_is_in_memory_at_once_and_in_the_store_when_that_takes_it(world):
    missing = await world.find()
    entry = builders.entry(key=KEY, tags=TAGS, epochs_hard=missing.stamp.hard, epochs_soft=missing.stamp.soft)
    world.store.held = {"set"}
    world.cache.put(entry, quota=None)

    assert world.cache.find_in_memory(key_of(KEY), POLICY) is not None
    await settle()
    assert await world.store.inner.get([KEY]) == [None]
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert await world.store.inner.get([KEY]) != [None]


@pytest.mark.isolation
async def test_an_entry_for_another_request_is_not_served_even_under_its_key(world):
    await world.fill()
    assert isinstance(await world.cache.find(key_of(KEY), POLICY), Found)
    mistaken = await world.cache.find(key_of(KEY, request="GET /api/other"), POLICY)

    assert isinstance(mistaken, Missing)
    assert mistaken.reason is Reason.COLD
    assert world.cache.stats().rejected == {Rejection.REQUEST: 1}


async def test_a_stale_entry_with_a_validator_is_kept_to_be_asked_about(world):
    await world.fill(etag='"v1"', fresh_until=NOW + 1, grace_until=NOW + 1, error_until=NOW + 1)
    world.clock.advance(600)
    assert isinstance(await world.find(), Found)
    world.clock.advance(3600)
    assert (await world.find()).reason is Reason.EXPIRED


@pytest.mark.parametrize("how", [{"sensitive": True}, {"encrypt": True}], ids=str)
async def test_a_confidential_entry_never_reaches_the_store_without_a_key(world, how):
    await world.fill(**how)
    assert isinstance(await world.find(), Found)
    assert world.store.count("set") == 0
    assert await world.store.inner.get([KEY]) == [None]


@pytest.mark.parametrize("how", [{"sensitive": True}, {"encrypt": True}], ids=str)
async def test_with_a_key_a_confidential_entry_is_shared_encrypted(world, how):
    cache, _ = world.replica(keys=[OLD])
    await world.fill(cache=cache, body=b"what nobody may read", **how)
    (data,) = await world.store.inner.get([KEY])
    assert b"what nobody" not in data
    other, _ = world.replica(keys=[OLD])
    assert body_of(await world.find(other)) == b"what nobody may read"


async def test_an_ordinary_entry_stays_plain_beside_a_key(world):
    cache, _ = world.replica(keys=[OLD])
    await world.fill(cache=cache, body=b"of no secrecy")
    (data,) = await world.store.inner.get([KEY])
    assert b"of no secrecy" in data
    assert body_of(await world.find()) == b"of no secrecy"


async def test_a_replica_without_the_key_fetches_for_itself(world):
    cache, _ = world.replica(keys=[OLD])
    await world.fill(cache=cache, sensitive=True)
    for keys in ((), (NEW,)):
        other, _ = world.replica(keys=keys)
        assert (await world.find(other)).reason is Reason.COLD
        assert other.stats().rejected == {Rejection.KEY_ID: 1}


async def test_a_key_that_no_longer_writes_still_reads(world):
    cache, _ = world.replica(keys=[OLD])
    await world.fill(cache=cache, body=b"of old", sensitive=True)
    rotated, _ = world.replica(keys=[NEW, OLD])
    assert body_of(await world.find(rotated)) == b"of old"


@pytest.mark.isolation
@pytest.mark.parametrize("other", [KEY.replace("org_a", "org_b"), KEY + ".u-two"])
async def test_an_encrypted_record_under_another_key_is_never_served(world, other):
    cache, _ = world.replica(keys=[OLD])
    await world.fill(cache=cache, sensitive=True)
    (data,) = await world.store.inner.get([KEY])
    await world.store.inner.set(other, data, 60)
    space = other.split(":")[1]
    assert (await cache.find(key_of(other, space), POLICY)).reason is Reason.COLD
    assert cache.stats().rejected == {Rejection.SEAL: 1}


async def test_what_is_of_no_use_any_more_is_not_stored(world):
    stamp = (await world.find()).stamp
    entry = builders.entry(key=KEY, tags=TAGS, fresh_until=NOW, grace_until=NOW, error_until=NOW)
    entry.epochs_hard, entry.epochs_soft = stamp.hard, stamp.soft
    assert world.cache.put(entry, quota=None) is Reason.NOT_FRESH
    assert world.cache.stats().entries == 0


async def test_a_fill_that_a_purge_overtook_does_not_replace_a_newer_one(world):
    late = (await world.find()).stamp
    await world.epochs.advance({"org_a": ["jobs:77"]})
    await world.fill(body=b"new")
    old = builders.entry(key=KEY, tags=TAGS, body=b"old", epochs_hard=late.hard, epochs_soft=late.soft)
    assert world.cache.put(old, quota=None) is Reason.PURGED
    assert body_of(await world.find()) == b"new"


async def test_a_fill_that_a_purge_overtook_is_never_served(world):
    late = (await world.find()).stamp
    await world.epochs.advance({"org_a": ["jobs:77"]})
    old = builders.entry(key=KEY, tags=TAGS, body=b"old", epochs_hard=late.hard, epochs_soft=late.soft)
    assert world.cache.put(old, quota=None) is None  # no copy is trusted, so it cannot know
    assert (await world.find()).reason is Reason.PURGED


async def test_the_store_forgets_it_when_its_last_window_ends(world):
    await world.fill(fresh_until=NOW + 5, grace_until=NOW + 8, error_until=NOW + 6)
    world.clock.advance(7.9)
    assert await world.store.inner.get([KEY]) != [None]
    world.clock.advance(0.2)
    assert await world.store.inner.get([KEY]) == [None]


async def test_a_refusal_of_the_first_tier_is_the_answer_and_keeps_it_out_of_the_store(world):
    stamp = (await world.find()).stamp
    entry = builders.entry(key=KEY, tags=TAGS, body=bytes(9 << 20), epochs_hard=stamp.hard, epochs_soft=stamp.soft)
    assert world.cache.put(entry, quota=None) is Reason.TOO_LARGE
    assert world.cache.put(replace(entry, body=bytes(1000)), quota=1000) is Reason.QUOTA
    assert world.store.count("set") == 0


async def test_dropping_forgets_it_in_both_tiers(world):
    await world.fill()
    await world.cache.drop(KEY)
    assert (await world.find()).reason is Reason.COLD


async def test_stats_say_who_holds_what(world):
    entry = await world.fill(body=bytes(5000))
    world.cache.put(replace(entry, key="tenant:org_a:search:x", tags=("search", "search:x")), quota=None)
    before = world.cache.stats()
    assert before.entries == 2
    assert before.tenants == {"org_a": before.size}
    assert set(before.features) == {("org_a", "jobs"), ("org_a", "search")}
    assert before.max_size == 32 << 20
    held = world.cache.find_in_memory(key_of(KEY), POLICY)
    held.entry.encodings["gzip"] = bytes(300)
    world.cache.grew(held.entry)
    assert world.cache.stats().size == before.size + 300


# The store fails


async def test_a_store_that_cannot_read_values_is_a_miss_that_may_be_stored(world):
    world.store.down = {"get"}
    missing = await world.find()
    assert missing.reason is Reason.STORE_UNAVAILABLE
    assert missing.stamp is not None
    assert world.cache.stats().store_failures == 1


async def test_without_epochs_an_entry_counts_that_was_fetched_less_than_800_ms_ago_and_only_here(world):
    world.store.down = {"get", "epochs"}
    missing = await world.find()
    assert missing.reason is Reason.STORE_UNAVAILABLE
    assert missing.stamp is not None
    asked_at = world.clock.now
    world.clock.advance(0.3)
    entry = builders.entry(
        key=KEY, tags=TAGS, epochs_hard=missing.stamp.hard, epochs_soft=missing.stamp.soft, body=b"a moment ago"
    )
    assert world.cache.put(entry, quota=None, asked_at=asked_at) is None
    found = await world.find()
    assert body_of(found) == b"a moment ago"
    assert found.entry.fresh_until == found.entry.grace_until == asked_at + TRUSTED_SECONDS
    assert world.store.count("set") == 0
    assert found.entry.error_until > found.entry.fresh_until  # for an upstream that fails as well


async def test_a_sole_replica_need_not_forget_what_it_fetched_while_the_store_was_lost(world):
    world.cache, world.epochs = world.replica(sole=True)
    world.store.down = {"get", "epochs"}
    missing = await world.find()
    entry = builders.entry(key=KEY, tags=TAGS, epochs_hard=missing.stamp.hard, epochs_soft=missing.stamp.soft)
    assert world.cache.put(entry, quota=None, asked_at=world.clock.now) is None
    assert (await world.find()).entry.fresh_until == NOW + 900


async def test_a_purge_while_the_store_is_lost_holds_for_what_was_fetched_meanwhile(world):
    world.store.down = {"get", "epochs", "advance_epochs"}
    stamp = (await world.find()).stamp
    entry = builders.entry(key=KEY, tags=TAGS, epochs_hard=stamp.hard, epochs_soft=stamp.soft)
    assert world.cache.put(entry, quota=None) is None
    await world.epochs.advance({"org_a": ["jobs:77"]})
    assert (await world.find()).reason is Reason.STORE_UNAVAILABLE
    assert world.cache.put(entry, quota=None) is Reason.PURGED


async def test_what_was_fetched_while_the_store_was_lost_is_not_served_once_it_is_back(world):
    world.store.down = {"get", "epochs"}
    stamp = (await world.find()).stamp
    entry = builders.entry(key=KEY, tags=TAGS, epochs_hard=stamp.hard, epochs_soft=stamp.soft)
    assert world.cache.put(entry, quota=None) is None
    world.store.down = set()
    assert isinstance(await world.find(), Missing)


@pytest.mark.parametrize("promise", ["strict", "critical"])
async def test_strict_and_critical_features_have_no_cache_while_the_store_is_in_doubt(world, promise):
    await world.fill()
    world.store.down = {"get", "epochs"}
    world.clock.advance(1)
    missing = await world.cache.find(key_of(KEY), POLICY, **{promise: True})
    assert missing == Missing(Reason.STORE_UNAVAILABLE, None)


async def test_without_the_store_memory_answers_for_800_ms_and_is_then_unproven(world):
    await world.fill()
    world.store.down = {"get", "epochs", "set", "create_epochs", "advance_epochs"}
    world.clock.advance(0.7)
    assert (await world.find()).standing is Standing.VALID
    world.clock.advance(0.2)
    found = await world.find()
    assert found.standing is Standing.UNPROVEN
    assert found.stamp.local


async def test_what_was_purged_since_the_store_was_lost_is_not_even_unproven(world):
    await world.fill()
    world.store.down = {"get", "epochs", "advance_epochs"}
    await world.epochs.advance({"org_a": ["jobs:77"]})
    world.clock.advance(0.9)
    assert (await world.find()).reason is Reason.STORE_UNAVAILABLE


async def test_a_store_that_cannot_write_still_leaves_the_first_tier(world):
    world.store.down = {"set", "delete"}
    await world.fill()
    assert isinstance(await world.find(), Found)
    await world.cache.drop(KEY)
    assert world.cache.stats().store_failures == 2


async def test_a_refused_purge_is_never_served_from_memory(world):
    await world.fill()
    world.store.down = {"advance_epochs"}
    assert await world.epochs.advance({"org_a": ["jobs:77"]}) is False
    assert (await world.find()).reason is Reason.STORE_UNAVAILABLE
    world.store.down = set()
    await settle()
    assert (await world.find()).reason is Reason.PURGED


async def test_a_caller_that_leaves_while_looking_ends_nothing(world):
    await world.fill()
    cache, epochs = world.replica()
    world.store.held = {"get", "epochs"}
    finding = asyncio.ensure_future(world.find(cache))
    await settle()
    finding.cancel()
    await settle()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert finding.cancelled()
    assert epochs.peek("org_a", TAGS) is not None


# Groups, other replicas, and what nobody vouches for

GROUPED = (*TAGS, "@:g")


async def fill_grouped(world: World, **more: Any) -> Entry:
    """A fill whose response said that it belongs to the group g."""
    missing = await world.find()
    bound = await world.epochs.with_groups(missing.stamp, GROUPED)
    entry = builders.entry(
        key=KEY, tags=GROUPED, epochs_hard=bound.hard, epochs_soft=bound.soft, stored_at=world.clock(), **more
    )
    assert world.cache.put(entry, quota=None) is None
    await world.background.drain(1)
    return entry


async def test_an_entry_is_held_to_the_epochs_of_its_groups(world):
    await fill_grouped(world)
    found = await world.find()
    assert found.standing is Standing.VALID
    assert found.stamp.tags == TAGS
    await world.epochs.advance({"org_a": ["@:g"]}, soft=True)
    assert (await world.find()).standing is Standing.SOFT_PURGED
    await world.epochs.advance({"org_a": ["@:g"]})
    assert (await world.find()).reason is Reason.PURGED


async def test_another_replica_learns_of_groups_from_the_entry(world):
    await fill_grouped(world)
    cache, epochs = world.replica()
    assert (await world.find(cache)).standing is Standing.VALID
    await epochs.advance({"org_a": ["@:g"]})
    cache, _ = world.replica()
    assert (await world.find(cache)).reason is Reason.PURGED


async def test_strict_asks_for_the_groups_of_what_only_the_store_has_as_well(world):
    """Their copies may be trusted still, for another entry's sake."""
    await fill_grouped(world)
    cache, epochs = world.replica()
    await epochs.current("org_a", GROUPED)
    await world.epochs.advance({"org_a": ["@:g"]})
    assert isinstance(await world.find(cache, strict=True), Missing)


async def test_a_store_that_fails_between_an_entry_and_its_groups_leaves_a_miss(world):
    await fill_grouped(world)
    cache, epochs = world.replica()
    await epochs.current("org_a", TAGS)
    world.store.down = {"epochs"}
    missing = await world.find(cache)
    assert missing.reason is Reason.STORE_UNAVAILABLE
    assert missing.stamp.tags == TAGS
    assert not missing.stamp.local


async def test_replicas_that_miss_for_different_reasons_have_the_same_stamp(world):
    """Else they would not wait for each other's fetch."""
    await fill_grouped(world)
    await world.epochs.advance({"org_a": ["jobs:77"]})
    await world.store.inner.delete((KEY,))
    cache, _ = world.replica()
    cold, purged = await world.find(cache), await world.find()
    assert (cold.reason, purged.reason) == (Reason.COLD, Reason.PURGED)
    assert cold.stamp == purged.stamp


async def fill_alone(world: World, cache: Cache | None = None, **more: Any) -> Entry:
    """A fill while the store gives nothing."""
    missing = await world.find(cache)
    assert missing.stamp.local
    entry = builders.entry(key=KEY, tags=TAGS, epochs_hard=missing.stamp.hard, epochs_soft=missing.stamp.soft, **more)
    assert (cache or world.cache).put(entry, quota=None, asked_at=world.clock()) is None
    return entry


ALL = {"get", "set", "epochs", "create_epochs", "advance_epochs"}


async def test_without_the_store_what_was_fetched_a_moment_ago_is_served_and_no_longer(world):
    world.store.down = ALL
    await fill_alone(world)
    assert (await world.find()).standing is Standing.VALID
    assert (await world.find(strict=True)).stamp is None
    world.clock.advance(TRUSTED_SECONDS)
    assert (await world.find()).standing is Standing.UNPROVEN
    assert world.store.count("set") == 0


async def test_without_the_store_own_purges_hold(world):
    world.store.down = ALL
    await fill_alone(world)
    await world.epochs.advance({"org_a": ["jobs:77"]})
    assert (await world.find()).reason is Reason.STORE_UNAVAILABLE


async def test_the_only_replica_serves_what_it_fetched_without_the_store_for_as_long_as_it_is_fresh(world):
    cache, epochs = world.replica(sole=True)
    world.store.down = ALL
    await fill_alone(world, cache)
    world.clock.advance(800)
    assert (await world.find(cache)).standing is Standing.VALID
    await epochs.advance({"org_a": ["jobs:77"]})
    assert isinstance(await world.find(cache), Missing)


async def test_what_was_fetched_without_the_store_does_not_count_once_it_is_back(world):
    world.store.down = ALL
    await fill_alone(world)
    world.store.down = set()
    assert isinstance(await world.find(), Missing)


async def test_what_a_purge_overtook_on_its_way_is_not_kept_without_the_store_either(world):
    world.store.down = ALL
    missing = await world.find()
    await world.epochs.advance({"org_a": ["jobs:77"]})
    entry = builders.entry(key=KEY, tags=TAGS, epochs_hard=missing.stamp.hard, epochs_soft=missing.stamp.soft)
    assert world.cache.put(entry, quota=None, asked_at=world.clock()) is Reason.PURGED


async def test_what_was_fetched_too_slowly_without_the_store_is_not_kept(world):
    world.store.down = ALL
    missing = await world.find()
    entry = builders.entry(
        key=KEY, tags=TAGS, epochs_hard=missing.stamp.hard, epochs_soft=missing.stamp.soft, error_until=NOW
    )
    assert world.cache.put(entry, quota=None, asked_at=world.clock() - 1) is Reason.NOT_FRESH


async def test_what_is_held_while_the_store_is_lost_is_only_good_for_a_validation(world):
    await world.fill()
    world.clock.advance(1)
    world.store.down = {"epochs"}
    assert (await world.find()).standing is Standing.UNPROVEN
    assert (await world.cache.find(key_of(KEY), POLICY, critical=True)).stamp is None
    await world.epochs.advance({"org_a": ["jobs:77"]})
    assert (await world.find()).reason is Reason.STORE_UNAVAILABLE


async def test_what_another_replica_has_stored_meanwhile_is_found(world):
    cache, _ = world.replica()
    stamp = (await world.find(cache)).stamp
    assert await cache.find_newer(key_of(KEY), POLICY, stamp, None) is None
    old = await world.fill(body=b"old")
    found = await cache.find_newer(key_of(KEY), POLICY, stamp, None)
    assert found.body == b"old"
    assert await cache.find_newer(key_of(KEY), POLICY, stamp, old) is None
    assert body_of(await world.find(cache)) == b"old"


@pytest.mark.parametrize(
    ("more", "purged"),
    [
        ({"no_cache": True}, None),
        ({"fresh_until": NOW}, None),
        ({"policy": b"another"}, None),
        ({}, False),
        ({}, True),  # softly
    ],
)
async def test_what_may_not_be_used_as_it_is_is_not_newer(world, more, purged):
    cache, epochs = world.replica()
    await world.fill(**more)
    if purged is not None:
        await epochs.advance({"org_a": ["jobs:77"]}, soft=purged)
    stamp = await epochs.current("org_a", TAGS)
    assert await cache.find_newer(key_of(KEY), POLICY, stamp, None) is None


async def test_a_store_that_fails_says_so_where_something_newer_is_looked_for(world):
    stamp = (await world.find()).stamp
    world.store.down = {"get"}
    assert await world.cache.find_newer(key_of(KEY), POLICY, stamp, None) is Reason.STORE_UNAVAILABLE


async def test_an_entry_s_way_to_the_store_can_be_waited_for(world):
    world.store.held = {"set"}
    missing = await world.find()
    entry = builders.entry(key=KEY, tags=TAGS, epochs_hard=missing.stamp.hard, epochs_soft=missing.stamp.soft)
    assert world.cache.saving(KEY) is None
    world.cache.put(entry, quota=None)
    saving = world.cache.saving(KEY)
    assert not saving.done()
    await settle()
    world.store.held = set()
    world.store.open_gate()
    await saving
    await settle()
    assert world.cache.saving(KEY) is None
    assert await world.store.inner.get((KEY,)) != [None]


async def test_to_inspect_tells_what_a_read_would_find_in_either_tier_and_counts_as_no_use(world):
    assert await world.cache.inspect(key_of(KEY), POLICY) == (None, Reason.COLD)
    await world.fill()
    held, standing = await world.cache.inspect(key_of(KEY), POLICY)
    assert (held.key, standing, world.cache.resident(held).touched) == (KEY, Standing.VALID, False)
    assert world.cache.look(KEY).key == KEY
    other, _ = world.replica()
    stored, standing = await other.inspect(key_of(KEY), POLICY)
    assert (stored.key, standing, other.keys(), world.cache.keys()) == (KEY, Standing.VALID, [], [KEY])


async def test_to_inspect_tells_why_what_is_kept_is_of_no_use(world):
    await world.fill()
    assert (await world.cache.inspect(key_of(KEY), b"another"))[1] is Reason.RULES_CHANGED
    await world.epochs.advance({"org_a": ["jobs:77"]}, soft=True)
    assert (await world.cache.inspect(key_of(KEY), POLICY))[1] is Standing.SOFT_PURGED
    await world.epochs.advance({"org_a": ["jobs:77"]})
    held, standing = await world.cache.inspect(key_of(KEY), POLICY)
    assert (held.key, standing) == (KEY, Reason.PURGED)
    world.store.down = {"epochs", "get"}
    world.clock.advance(TRUSTED_SECONDS)
    assert (await world.cache.inspect(key_of(KEY), POLICY))[1] is Reason.STORE_UNAVAILABLE
    world.store.down = set()
