"""Epochs against a real store: what binds an entry, whom a copy is trusted for, and what a purge does when it fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from proxy.cache.background import Background
from proxy.cache.binding import ANY_GROUP, SHARED, group_fields, hash_of, slot
from proxy.cache.epochs import TRUSTED_SECONDS, Epochs
from proxy.cache.stamp import Stamp
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, HeldBack, StoreDouble, counted, settle

TAGS = ("jobs", "jobs:77")
LIST = ("jobs", "jobs:list")
ORG_A = "tenant:org_a:epochs"


@dataclass
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    raised: list[BaseException] = field(default_factory=list)
    options: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = StoreDouble(MemoryStore(1 << 20, self.clock))
        self.background = HeldBack(self.raised.append)
        self.random = counted()
        self.replicas: list[Epochs] = []
        self.epochs = self.replica()

    def replica(self) -> Epochs:
        made = Epochs(self.store, self.clock, self.random, self.background, sleep=self.clock.sleep, **self.options)
        self.replicas.append(made)
        return made

    async def stamp(self, space: str = "org_a", tags: tuple[str, ...] = TAGS, *, strict: bool = False) -> Stamp:
        return await self.epochs.current(space, tags, strict=strict)


@pytest.fixture
async def world():
    made = World()
    yield made
    for replica in made.replicas:
        await replica.close()
    await made.background.drain(1)
    assert made.raised == []


# Reading


async def test_the_first_read_makes_the_epochs_and_the_next_finds_the_same(world):
    first = await world.stamp()
    world.clock.advance(10)
    assert await world.stamp() == first
    assert await world.replica().current("org_a", TAGS) == first


@pytest.mark.parametrize("down", [False, True])
async def test_however_many_need_the_same_epochs_they_are_created_once(world, down):
    world.store.down = {"create_epochs"} if down else set()
    world.store.held = {"create_epochs"}
    reading = asyncio.gather(*(world.stamp() for _ in range(50)))
    await settle()
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    stamps = await reading
    assert world.store.count("create_epochs") == 2  # of the tenant's hash, and of everybody's
    assert len(set(map(str, stamps))) == 1
    assert {stamp.local for stamp in stamps} == {down}


async def test_two_creators_agree(world):
    world.store.held = {"create_epochs"}
    one, other = (asyncio.ensure_future(world.replica().current("", TAGS)) for _ in range(2))
    await settle()
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate(-1)
        await settle()
    assert await one == await other
    assert isinstance(await one, Stamp)


@pytest.mark.isolation
async def test_other_tenants_and_other_items_have_other_stamps(world):
    stamps = [
        await world.stamp("org_a", TAGS),
        await world.stamp("org_b", TAGS),
        await world.stamp("", TAGS),
        await world.stamp("org_a", ("jobs", "jobs:78")),
        await world.stamp("org_a", ("jobs",)),
    ]
    assert len({stamp.hard for stamp in stamps}) == len(stamps)


async def test_the_stamp_of_a_negative_entry_comes_out_of_the_same_read(world):
    stamp = await world.stamp()
    negative = stamp.of((*TAGS, "jobs:list"))
    assert negative == await world.stamp("org_a", (*TAGS, "jobs:list"))
    assert negative is not None
    assert negative.hard != stamp.hard
    assert stamp.of(TAGS) is stamp


async def test_there_is_no_stamp_of_tags_that_were_not_read(world):
    assert (await world.stamp()).of((*TAGS, "search")) is None


async def test_a_narrowed_stamp_keeps_the_epochs_of_its_read(world):
    stamp = await world.stamp()
    before = stamp.of((*TAGS, "jobs:list"))
    await world.epochs.advance({"org_a": ["jobs:list"]})
    assert stamp.of((*TAGS, "jobs:list")) == before


async def test_nothing_is_known_before_the_first_read(world):
    assert world.epochs.peek("org_a", TAGS) is None
    await world.stamp("")
    assert world.epochs.peek("org_a", TAGS) is None
    await world.stamp("org_a", LIST)
    assert world.epochs.peek("org_a", TAGS) is None


async def test_copies_are_trusted_for_800_ms_after_their_read_was_sent(world):
    stamp = await world.stamp()
    reads = world.store.count("epochs")
    world.clock.advance(TRUSTED_SECONDS - 0.01)
    assert world.epochs.peek("org_a", TAGS) == stamp
    assert world.epochs.peek("org_a", TAGS) is world.epochs.peek("org_a", TAGS)
    assert await world.stamp() == stamp
    assert world.store.count("epochs") == reads
    world.clock.advance(0.02)
    assert world.epochs.peek("org_a", TAGS) is None
    assert await world.stamp() == stamp
    assert world.store.count("epochs") > reads


async def test_the_time_of_a_slow_read_counts_from_when_it_was_sent(world):
    await world.stamp()
    world.clock.advance(1)
    world.store.held = {"epochs"}
    reading = asyncio.ensure_future(world.stamp())
    await settle()
    world.clock.advance(0.7)
    while not reading.done():
        world.store.open_gate()
        await settle()
    assert world.epochs.peek("org_a", TAGS) is not None
    world.clock.advance(0.11)
    assert world.epochs.peek("org_a", TAGS) is None


async def test_a_renewed_copy_extends_what_is_known(world):
    await world.stamp()
    world.clock.advance(0.5)
    await world.stamp(strict=True)
    world.clock.advance(0.5)
    assert world.epochs.peek("org_a", TAGS) is not None


async def test_only_the_hash_that_is_not_trusted_is_read(world):
    await world.stamp("org_a")
    world.store.calls.clear()
    await world.stamp("org_b")
    assert {names[0] for operation, names in world.store.calls if operation == "epochs"} == {hash_of("org_b")}


async def test_strict_asks_the_store_each_time_and_sees_another_replica_s_purge_at_once(world):
    before = await world.stamp()
    await world.replica().advance({"org_a": ["jobs:77"]})
    assert await world.stamp() == before  # within 800 ms
    assert (await world.stamp(strict=True)).hard != before.hard
    assert (await world.stamp()).hard != before.hard


async def test_another_replica_s_purge_is_seen_after_800_ms_at_the_latest(world):
    before = await world.stamp()
    await world.replica().advance({"org_a": ["jobs:77"]})
    world.clock.advance(TRUSTED_SECONDS)
    assert (await world.stamp()).hard != before.hard


async def test_a_store_that_does_not_answer_gives_a_local_stamp(world):
    await world.stamp()
    world.store.down = {"epochs"}
    assert isinstance(await world.epochs.current("org_a", TAGS), Stamp)
    world.clock.advance(1)
    assert (await world.epochs.current("org_a", TAGS)).local
    world.store.down = set()
    assert isinstance(await world.epochs.current("org_a", TAGS), Stamp)


async def test_a_store_that_cannot_make_epochs_gives_a_local_stamp(world):
    world.store.down = {"create_epochs"}
    assert (await world.epochs.current("org_a", TAGS)).local


async def test_a_caller_that_leaves_does_not_end_the_read(world):
    world.store.held = {"epochs"}
    reading = asyncio.ensure_future(world.epochs.current("org_a", TAGS))
    await settle()
    reading.cancel()
    await settle()
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert reading.cancelled()
    assert world.epochs.peek("org_a", TAGS) is not None


async def test_epochs_that_the_store_has_lost_are_new_and_never_the_old_ones(world):
    before = await world.stamp()
    world.store.inner = MemoryStore(1 << 20, world.clock)
    world.clock.advance(1)
    assert (await world.stamp()).hard != before.hard


async def test_an_answer_that_was_overtaken_by_a_later_read_is_not_kept(world):
    await world.stamp("")
    world.clock.advance(1)
    world.store.held = {"epochs"}
    early = asyncio.ensure_future(world.stamp("", strict=True))
    await settle()
    world.store.open_gate()  # it has been answered with the old epoch, and its answer is on its way
    await settle()
    await world.replica().advance({"": ["jobs:77"]})
    world.clock.advance(0.1)
    late = asyncio.ensure_future(world.stamp("", strict=True))
    await settle()
    world.store.open_gate(1)
    await settle()
    world.store.open_gate(1)
    new = await late
    world.store.held = set()
    world.store.open_gate()
    assert (await early).hard == new.hard
    assert world.epochs.peek("", TAGS) == new


# Purging


@pytest.mark.parametrize(
    ("purge", "hit"),
    [
        ({"org_a": ["jobs:77"]}, {"org_a 77"}),  # realistic: one item
        ({"org_a": ["jobs"]}, {"org_a 77", "org_a list"}),  # realistic: a feature of one tenant
        ({"org_a": ["*"]}, {"org_a 77", "org_a list", "org_a search"}),  # realistic: a tenant
        (
            {"org_a": ["jobs:77", "search"], "org_b": ["jobs:list"]},
            {"org_a 77", "org_a search", "org_b list"},
        ),  # realistic
        ({"": ["jobs"]}, {"org_a 77", "org_a list", "org_b list", "public"}),  # realistic: a feature of everyone
        ({"": ["jobs:77"]}, {"public"}),  # realistic: a public item
        ({"": ["*"]}, {"org_a 77", "org_a list", "org_a search", "org_b list", "public"}),  # realistic: all there is
        ({}, set()),  # pathological
        ({"org_a": []}, set()),  # pathological
        ({"org_c": ["*"]}, set()),  # pathological: nobody's
    ],
)
@pytest.mark.parametrize("soft", [False, True])
async def test_a_purge_changes_exactly_what_it_names(world, purge, hit, soft):
    bound = {
        "org_a 77": ("org_a", TAGS),
        "org_a list": ("org_a", LIST),
        "org_a search": ("org_a", ("search", "search:list")),
        "org_b list": ("org_b", LIST),
        "public": ("", TAGS),
    }
    before = {name: await world.stamp(*of) for name, of in bound.items()}
    assert await world.epochs.advance(purge, soft=soft)
    after = {name: await world.stamp(*of) for name, of in bound.items()}
    assert {name for name in bound if after[name].hard != before[name].hard} == (set() if soft else hit)
    assert {name for name in bound if after[name].soft != before[name].soft} == (hit if soft else set())


async def test_a_purge_is_one_write_per_space(world):
    await world.epochs.advance({"org_a": ["jobs", "jobs:77", "search"], "": ["news"]})
    written = [names for operation, names in world.store.calls if operation == "advance_epochs"]
    assert sorted(written) == [(SHARED, "news"), (ORG_A, "jobs", slot("org_a", "jobs:77"), "search")]


async def test_after_a_purge_this_replica_trusts_no_copy_of_what_it_purged(world):
    await world.stamp()
    await world.stamp("org_b")
    await world.epochs.advance({"org_a": ["jobs:77"]})
    assert world.epochs.peek("org_a", TAGS) is None
    assert world.epochs.peek("org_b", TAGS) is not None


async def test_a_soft_purge_never_brings_back_a_hard_epoch_that_another_replica_replaced(world):
    before = await world.stamp()
    await world.replica().advance({"org_a": ["jobs:77"]})
    await world.epochs.advance({"org_a": ["jobs:77"]}, soft=True)
    assert (await world.stamp()).hard != before.hard


async def test_a_read_sent_before_a_purge_arrived_is_discarded(world):
    before = await world.stamp("")
    world.clock.advance(1)
    world.store.held = {"epochs"}
    reading = asyncio.ensure_future(world.stamp(""))
    await settle()
    world.store.open_gate()  # it has read the old epochs; its answer is on its way
    await settle()
    await world.epochs.advance({"": ["jobs:77"]})
    world.store.open_gate()
    await settle()
    assert world.epochs.peek("", TAGS) is None
    world.store.held = set()
    world.store.open_gate()
    assert (await reading).hard != before.hard


async def test_a_read_that_purges_overtake_again_and_again_ends_in_a_local_stamp(world):
    await world.stamp("")
    world.clock.advance(1)
    world.store.held = {"epochs"}
    reading = asyncio.ensure_future(world.epochs.current("", TAGS))
    await settle()
    for _ in range(3):
        await world.epochs.advance({"": ["jobs:77"]})
        world.store.open_gate()
        await settle()
        world.store.open_gate()
        await settle()
    assert (await reading).local


async def test_a_purge_voids_what_the_same_request_has_read_from_the_other_hash(world):
    before = await world.stamp()
    world.clock.advance(1)
    world.store.delayed = {"epochs"}
    reading = asyncio.ensure_future(world.stamp())
    await settle()
    world.store.open_gate(0)  # the shared hash has answered, the tenant's answer is on its way
    await settle()
    await world.epochs.advance({"": ["*"]})
    world.store.delayed = set()
    world.store.open_gate()
    assert (await reading).hard != before.hard


async def test_a_refused_purge_is_distrusted_until_the_store_accepts_it(world):
    before = await world.stamp()
    other = await world.stamp("org_a", ("search", "search:list"))
    world.store.down = {"advance_epochs"}
    assert await world.epochs.advance({"org_a": ["jobs:77"]}) is False
    assert world.epochs.pending == 1
    assert world.epochs.peek("org_a", TAGS) is None
    assert (await world.epochs.current("org_a", TAGS)).local
    assert (await world.epochs.current("org_a", TAGS, strict=True)).local
    assert (await world.stamp("org_a", ("search", "search:list"))).hard == other.hard
    world.store.down = set()
    await settle()
    assert world.epochs.pending == 0
    assert (await world.stamp()).hard != before.hard


async def test_a_purge_whose_answer_was_lost_is_repeated_with_other_epochs(world):
    await world.stamp()
    world.store.lost = {"advance_epochs"}
    assert await world.epochs.advance({"org_a": ["jobs:77"]}) is False
    lost = await world.store.inner.epochs(ORG_A, [slot("org_a", "jobs:77")])
    world.store.lost = set()
    await settle()
    assert world.epochs.pending == 0
    assert await world.store.inner.epochs(ORG_A, [slot("org_a", "jobs:77")]) != lost


@pytest.mark.parametrize("turns", range(4))
async def test_a_read_that_a_refused_purge_comes_just_before_is_distrusted_too(world, turns):
    """Between the decision to read and the read itself a loop's turn passes: that is enough for a purge to fail."""
    await world.stamp()
    world.clock.advance(2 * TRUSTED_SECONDS)
    world.epochs._sleep = lambda seconds: asyncio.sleep(0)  # repeats while hardly any time passes
    world.store.down = {"advance_epochs"}
    purging = asyncio.ensure_future(world.epochs.advance({"": ["jobs"]}))
    for _ in range(turns):
        await asyncio.sleep(0)
    reading = asyncio.ensure_future(world.epochs.current("org_a", TAGS))
    assert not await purging
    await reading

    assert world.epochs.pending == 1
    assert world.epochs.peek("org_a", TAGS) is None
    assert (await world.epochs.current("org_a", TAGS)).local


async def test_a_read_sent_while_a_purge_was_refused_is_void_when_the_repetition_is_accepted(world):
    before = await world.stamp()
    world.clock.advance(2 * TRUSTED_SECONDS)
    world.epochs._sleep = lambda seconds: asyncio.sleep(0)  # repeats while hardly any time passes
    world.store.down = {"advance_epochs"}
    await world.epochs.advance({"": ["jobs"]})
    world.store.delayed = {"epochs"}
    reading = asyncio.ensure_future(world.epochs._read_hash(SHARED, ["*", "soft:*", "jobs", "soft:jobs"]))
    await settle()
    world.store.down = set()
    await settle(60)
    assert world.epochs.pending == 0
    world.store.delayed = set()
    world.store.open_gate()
    await reading

    assert (await world.stamp()).hard != before.hard


async def test_a_refused_purge_is_repeated_with_longer_and_longer_pauses(world):
    world.store.down = {"advance_epochs"}
    await world.epochs.advance({"org_a": ["jobs:77"]})
    await settle(60)
    assert world.clock.slept[:6] == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8]


async def test_a_purge_that_failed_again_meanwhile_is_not_taken_for_accepted(world):
    world.store.down = {"advance_epochs"}
    await world.epochs.advance({"org_a": ["jobs:77"]})
    world.store.down = set()
    world.store.held = {"advance_epochs"}
    await settle()  # the repetition is on its way
    again = asyncio.ensure_future(world.epochs.advance({"org_a": ["jobs:77"]}))
    await settle()
    world.store.down = {"advance_epochs"}
    world.store.open_gate(1)
    await settle()
    assert await again is False
    world.store.down = set()
    world.store.open_gate()
    await settle()
    world.store.open_gate()
    await settle()
    assert world.epochs.pending == 1
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    await settle()
    assert world.epochs.pending == 0


async def test_a_second_purge_while_a_space_is_pending_as_a_whole_adds_nothing(world):
    world.store.down = {"advance_epochs"}
    await world.epochs.advance({"org_a": ["*"]})
    await world.epochs.advance({"org_a": ["jobs:77", "search"]})
    assert world.epochs.pending == 1


async def test_too_many_refused_purges_of_a_tenant_distrust_it_as_a_whole(world):
    world.options = {"max_pending": 10}
    world.epochs = world.replica()
    other = await world.stamp("org_b")
    before = await world.stamp("org_a", ("search", "search:list"))
    world.store.down = {"advance_epochs"}
    for number in range(30):
        await world.epochs.advance({"org_a": [f"jobs:{number}"]})
    assert world.epochs.pending <= 10
    assert (await world.epochs.current("org_a", ("search", "search:list"))).local
    assert await world.stamp("org_b") == other
    world.store.down = set()
    await settle(30)
    assert world.epochs.pending == 0
    assert (await world.stamp("org_a", ("search", "search:list"))).hard != before.hard


async def test_refused_purges_of_too_many_tenants_distrust_everything(world):
    world.options = {"max_pending": 10}
    world.epochs = world.replica()
    before = await world.stamp("org_z")
    world.store.down = {"advance_epochs"}
    for number in range(30):
        await world.epochs.advance({f"org_{number}": ["*"]})
    assert world.epochs.pending <= 10
    assert (await world.epochs.current("org_z", TAGS)).local
    world.store.down = set()
    await settle(30)
    assert world.epochs.pending == 0
    assert (await world.stamp("org_z")).hard != before.hard


async def test_a_caller_that_leaves_does_not_end_its_purge(world):
    before = await world.stamp()
    world.store.held = {"advance_epochs"}
    purging = asyncio.ensure_future(world.epochs.advance({"org_a": ["jobs:77"]}))
    await settle()
    purging.cancel()
    await settle()
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert purging.cancelled()
    assert (await world.stamp()).hard != before.hard


async def test_closing_stops_the_repetition(world):
    world.store.down = {"advance_epochs"}
    await world.epochs.advance({"org_a": ["jobs:77"]})
    await world.epochs.close()
    calls = len(world.store.calls)
    await settle(30)
    assert len(world.store.calls) == calls
    assert len(world.background) == 0


async def test_copies_of_the_spaces_read_longest_ago_make_room(world):
    world.options = {"max_copies": 40}
    world.epochs = world.replica()
    stamps = {}
    for number in range(10):
        world.clock.advance(0.01)
        stamps[number] = await world.stamp(f"org_{number}")
        assert world.epochs.peek(f"org_{number}", TAGS) == stamps[number]
    assert world.epochs._copies._count <= 40
    assert world.epochs.peek("org_0", TAGS) is None
    for number, stamp in stamps.items():
        assert await world.stamp(f"org_{number}") == stamp


async def test_a_purge_of_a_space_that_lost_its_copies_holds_at_once(world):
    world.options = {"max_copies": 60}
    world.epochs = world.replica()
    before = await world.stamp()
    assert world.epochs.peek("org_a", TAGS) is not None
    for number in range(4):
        await world.stamp(f"org_{number}")
        await world.stamp("", ("jobs",), strict=True)
    await world.epochs.advance({"org_a": ["jobs:77"]})
    assert world.epochs.peek("org_a", TAGS) is None
    assert (await world.stamp()).hard != before.hard


async def test_the_late_answer_of_an_early_read_does_not_shorten_the_trust_in_a_copy(world):
    await world.stamp("")
    world.store.delayed = {"epochs"}
    early = asyncio.ensure_future(world.stamp("", strict=True))
    await settle()
    world.clock.advance(0.5)
    late = asyncio.ensure_future(world.stamp("", strict=True))
    await settle()
    world.store.open_gate(1)
    await late
    world.store.open_gate()
    await early
    world.clock.advance(0.5)
    assert world.epochs.peek("", TAGS) is not None


async def test_a_purge_holds_when_its_space_lost_its_copies_while_a_read_was_on_its_way(world):
    world.options = {"max_copies": 12}
    world.epochs = world.replica()
    before = await world.stamp("")
    world.clock.advance(1)
    world.store.held = {"epochs"}
    reading = asyncio.ensure_future(world.stamp("", strict=True))
    await settle()
    world.store.open_gate()
    await settle()
    await world.epochs.advance({"": ["jobs:77"]})
    world.store.held = set()
    await world.epochs.advance({"org_b": [f"jobs:{number}" for number in range(40)]})
    assert SHARED not in world.epochs._copies._spaces
    world.store.open_gate()
    assert (await reading).hard != before.hard


async def test_what_is_known_ready_made_is_bounded(world, monkeypatch):
    monkeypatch.setattr("proxy.cache.copies.MAX_KNOWN", 5)
    for number in range(20):
        await world.stamp("org_a", ("jobs", f"jobs:{number}"))
        assert world.epochs.peek("org_a", ("jobs", f"jobs:{number}")) is not None
    assert len(world.epochs._copies._known) <= 5


# Groups

GROUPED = (*TAGS, "@:g", "@:h")


async def test_groups_that_come_with_a_response_are_stamped_as_they_were_before_it(world):
    before = await world.stamp()
    bound = await world.epochs.with_groups(before, GROUPED)
    assert bound == await world.stamp("org_a", GROUPED)
    assert bound.tags == GROUPED
    assert bound.of(TAGS) == before


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("group", ["@:g", "@:of others"])
async def test_groups_cannot_be_told_after_any_group_was_purged(world, group, soft):
    before = await world.stamp()
    await world.replica().advance({"org_a": [group]}, soft=soft)
    assert await world.epochs.with_groups(before, GROUPED) is None


@pytest.mark.parametrize("soft", [False, True])
async def test_a_purge_of_a_group_changes_what_is_in_it_and_nothing_else(world, soft):
    bound = {tags: await world.stamp("org_a", tags) for tags in (GROUPED, TAGS, (*TAGS, "@:h"))}
    await world.epochs.advance({"org_a": ["@:g"]}, soft=soft)
    after = {tags: await world.stamp("org_a", tags) for tags in bound}
    assert {tags for tags in bound if after[tags] != bound[tags]} == {GROUPED}
    assert (after[GROUPED].hard == bound[GROUPED].hard) is soft


async def test_a_purge_of_a_group_after_its_epochs_were_read_changes_them(world):
    bound = await world.epochs.with_groups(await world.stamp(), GROUPED)
    await world.epochs.advance({"org_a": ["@:g"]})
    assert (await world.stamp("org_a", GROUPED)).hard != bound.hard


async def test_an_item_that_shares_its_slot_with_a_group_only_purges_too_much(world):
    twin = next(tag for number in range(9999) if slot("org_a", tag := f"jobs:{number}") == slot("org_a", "@:g"))
    before = await world.stamp()
    await world.epochs.advance({"org_a": [twin]})
    bound = await world.epochs.with_groups(before, GROUPED)
    assert bound == await world.stamp("org_a", GROUPED)
    await world.epochs.advance({"org_a": [twin]})
    assert (await world.stamp("org_a", GROUPED)).hard != bound.hard


async def test_a_purge_of_an_item_that_is_in_a_group_of_the_same_slot_is_not_overlooked(world):
    twin = next(tag for number in range(9999) if slot("org_a", tag := f"jobs:{number}") == slot("org_a", "@:g"))
    before = await world.stamp("org_a", ("jobs", twin))
    await world.epochs.advance({"org_a": [twin]})
    bound = await world.epochs.with_groups(before, ("jobs", twin, "@:g"))
    assert bound.hard != (await world.stamp("org_a", ("jobs", twin, "@:g"))).hard


async def test_groups_cannot_be_told_when_the_store_has_lost_the_word_of_their_purge(world):
    """Who purged a group, and then lost all epochs, reads that no group was ever purged."""
    before = await world.stamp()
    await world.epochs.advance({"org_a": ["@:g"]})
    world.store.inner._spaces.pop(ORG_A)
    assert await world.epochs.with_groups(before, GROUPED) is None


async def test_groups_cannot_be_told_without_the_store(world):
    before = await world.stamp()
    world.store.down = {"epochs"}
    assert await world.epochs.with_groups(before, GROUPED) is None


async def test_groups_of_what_was_fetched_without_the_store_are_held_to_this_process_s_purges(world):
    world.store.down = {"epochs", "advance_epochs"}
    before = await world.stamp()
    bound = await world.epochs.with_groups(before, GROUPED)
    assert bound.local
    assert bound.hard == world.epochs.local("org_a", GROUPED).hard
    await world.epochs.advance({"org_a": ["@:g"]})
    assert bound.hard != world.epochs.local("org_a", GROUPED).hard
    assert await world.epochs.with_groups(before, GROUPED) is None


# The doorbell, and copies in use


async def rung(world) -> tuple[Epochs, Epochs]:
    """Two replicas over one store that hear each other."""
    world.store.shared = True
    pair = world.replica(), world.replica()
    for replica in pair:
        replica.start()
    await settle()
    return pair


async def test_a_replica_that_hears_of_a_purge_believes_it_at_once(world):
    one, other = await rung(world)
    before = await other.current("org_a", TAGS)
    await one.advance({"org_a": ["jobs:77"]})
    await settle()
    assert other.peek("org_a", TAGS) is None
    assert (await other.current("org_a", TAGS)).hard != before.hard


async def test_a_replica_that_hears_nothing_believes_its_copies_no_longer_than_they_are_trusted(world):
    one, other = await rung(world)
    world.store.down = {"publish"}
    before = await other.current("org_a", TAGS)
    await one.advance({"org_a": ["jobs:77"]})
    await settle()
    assert other.peek("org_a", TAGS) == before
    world.clock.advance(TRUSTED_SECONDS)
    assert (await other.current("org_a", TAGS)).hard != before.hard


async def test_a_purge_that_the_store_refused_is_rung_when_it_is_accepted(world):
    one, other = await rung(world)
    await other.current("org_a", TAGS)
    world.store.down = {"advance_epochs"}
    await one.advance({"org_a": ["jobs:77"]})
    await settle()
    assert one.doorbell.rung == 0
    world.store.down = set()
    await settle(30)
    assert one.doorbell.rung == 1
    assert other.peek("org_a", TAGS) is None


async def test_copies_in_use_are_read_again_before_they_run_out(world):
    world.store.shared = True
    epochs = world.replica()
    stamp = await epochs.current("org_a", TAGS)
    for _ in range(6):
        world.clock.advance(0.5)
        assert epochs.peek("org_a", TAGS) == stamp
        await settle()
    assert epochs.figures.renewals == 6


async def test_copies_that_nobody_uses_are_not_read_again(world):
    world.store.shared = True
    epochs = world.replica()
    await epochs.current("org_a", TAGS)
    reads = world.store.count("epochs")
    world.clock.advance(0.5)
    await settle()
    assert world.store.count("epochs") == reads


async def test_a_failed_renewal_lets_copies_run_out_and_the_next_one_is_made(world):
    world.store.shared = True
    epochs = world.replica()
    stamp = await epochs.current("org_a", TAGS)
    world.clock.advance(0.5)
    world.store.down = {"epochs"}
    assert epochs.peek("org_a", TAGS) == stamp
    await settle()
    world.clock.advance(0.5)
    assert epochs.peek("org_a", TAGS) is None
    world.store.down = set()
    assert await epochs.current("org_a", TAGS) == stamp
    world.clock.advance(0.5)
    assert epochs.peek("org_a", TAGS) == stamp
    await settle()
    world.clock.advance(0.5)
    assert epochs.peek("org_a", TAGS) == stamp


async def test_a_renewal_does_not_undo_a_soft_purge_that_the_store_has_lost(world):
    """A lost hash says that nothing was ever softly purged: it must say as well that its `*` is another."""
    world.store.shared = True
    epochs = world.replica()
    before = await epochs.current("org_a", TAGS)
    world.clock.advance(0.5)
    renewing = asyncio.Event()
    epochs._sleep = lambda seconds: renewing.wait()
    epochs.peek("org_a", TAGS)  # in use: about to be renewed
    await epochs.current("org_a", TAGS, strict=True)  # all of it has been read meanwhile
    await epochs.advance({"org_a": ["jobs:77"]}, soft=True)
    world.store.inner._spaces.pop(ORG_A)
    renewing.set()
    await settle()
    assert epochs.figures.renewals == 1
    assert epochs.peek("org_a", TAGS) != before
    assert await epochs.current("org_a", TAGS) != before


# Disturbances


async def failover(world) -> Stamp:
    """A purge, and a new primary that never had it; the stamp from before."""
    before = await world.stamp()
    old = {name: dict(values) for name, values in world.store.inner._spaces.items()}
    await world.epochs.advance({"org_a": ["jobs:77"]})
    for name, values in old.items():
        world.store.inner._spaces[name] = values
    return before


async def test_what_a_failover_brought_back_is_never_believed_by_who_purged_it(world):
    before = await failover(world)
    world.store.disturb()
    assert (await world.stamp()).hard != before.hard
    assert world.epochs.last_known("org_a", TAGS) is None
    await settle()
    assert world.epochs.pending == 0
    after = await world.stamp()
    assert not after.local
    assert after.hard != before.hard


async def test_what_a_second_failover_close_behind_brought_back_is_never_believed_either(world):
    before = await failover(world)
    old = {name: dict(values) for name, values in world.store.inner._spaces.items()}
    world.store.disturb()
    await settle()
    for name, values in old.items():
        world.store.inner._spaces[name] = values
    world.clock.advance(0.5)
    world.store.disturb()
    assert world.epochs.figures.disturbances == 1
    assert (await world.stamp()).hard != before.hard
    await settle(20)
    after = await world.stamp()
    assert not after.local
    assert after.hard != before.hard


async def test_after_a_disturbance_recent_purges_are_made_again_at_once_and_twice_later(world):
    await world.epochs.advance({"org_a": ["jobs:77"]})
    await world.epochs.advance({"org_a": ["search"]}, soft=True)
    world.epochs._sleep = lambda seconds: asyncio.Event().wait()
    world.store.disturb()
    await settle()
    assert [seconds for seconds, _ in world.background.delayed] == [2.0, 15.0]
    for _, work in world.background.delayed:
        await work()
    written = [set(names) for operation, names in world.store.calls if operation == "advance_epochs"]
    assert written[2:] == [{ORG_A, slot("org_a", "jobs:77"), "soft:search"}] * 3
    assert world.epochs.pending == 0


async def test_disturbances_that_come_close_are_one(world):
    await world.epochs.advance({"org_a": ["jobs:77"]})
    for _ in range(5):
        world.store.disturb()
    await settle()
    assert len(world.background.delayed) == 2
    world.clock.advance(1)
    world.store.disturb()
    assert len(world.background.delayed) == 4
    assert world.epochs.figures.disturbances == 2


async def test_what_was_purged_long_ago_is_not_purged_again(world):
    await world.epochs.advance({"org_a": ["jobs:77"]})
    world.clock.advance(301)
    world.store.disturb()
    await settle()
    assert world.store.count("advance_epochs") == 1


async def test_a_disturbance_voids_every_copy_and_every_read_under_way(world):
    stamp = await world.stamp()
    world.clock.advance(1)
    world.store.delayed = {"epochs"}
    reading = asyncio.ensure_future(world.stamp())
    await settle()
    reads = world.store.count("epochs")
    world.store.disturb()
    world.store.delayed = set()
    while world.store.gates:
        world.store.open_gate()
    assert await reading == stamp
    assert world.store.count("epochs") > reads


async def test_a_store_that_comes_back_has_the_pending_purges_at_once(world):
    """Whatever pause the repetition had come to: a disturbance is how the store says that it is back."""
    pauses: list[asyncio.Event] = []

    async def sleep(seconds: float) -> None:
        pauses.append(asyncio.Event())
        await pauses[-1].wait()

    world.epochs._sleep = sleep
    world.store.down = {"advance_epochs"}
    await world.epochs.advance({"org_a": ["jobs:77"]})
    await settle()
    world.store.down = set()
    world.store.disturb()
    await settle()
    assert world.epochs.pending == 0


# The only replica


async def test_the_only_replica_believes_its_copies_for_ever_and_its_own_purges_at_once(world):
    sole = Epochs(world.store, world.clock, world.random, world.background, sole=True, sleep=world.clock.sleep)
    before = await sole.current("org_a", TAGS)
    world.clock.advance(1_000_000)
    assert sole.peek("org_a", TAGS) == before
    await sole.advance({"org_a": ["jobs:77"]})
    assert (await sole.current("org_a", TAGS)).hard != before.hard
    assert sole.doorbell.rung == 0


async def test_without_other_replicas_nobody_listens(world):
    world.epochs.start()
    await settle()
    assert world.store.count("listen") == 0


# Every order of two fills, a write with its purge, and a read that begins after the write was answered

Purge = Callable[["Race"], Awaitable[None]]


class Race:
    """One replica, one origin value, one cache slot. Every step that can be late waits at a gate."""

    def __init__(self, purge: Purge, *, stamped_late: bool) -> None:
        self.clock = FakeClock()
        self.inner = MemoryStore(1 << 20, self.clock)
        self.store = StoreDouble(self.inner)
        self.epochs = Epochs(self.store, self.clock, counted(), Background(lambda error: None), sleep=self.clock.sleep)
        self.purge = purge
        self.stamped_late = stamped_late
        self.origin = 0
        self.slot: tuple[bytes, int] | None = None
        self.read: int | None = None

    async def fill(self) -> None:
        stamp = await self.epochs.current("", TAGS)
        await self.store.wait("fetch")
        value = self.origin
        await self.store.wait("fetch")
        if self.stamped_late:
            stamp = await self.epochs.current("", TAGS)
        self.slot = (stamp.hard, value)

    async def write_then_read(self) -> None:
        await self.store.wait("write")
        self.origin = 1
        await self.purge(self)
        # answered: from here on nobody may be served 0
        stamp = await self.epochs.current("", TAGS)
        if self.slot is not None and self.slot[0] == stamp.hard:
            self.read = self.slot[1]

    def actors(self) -> Iterable[Coroutine[Any, Any, None]]:
        return self.fill(), self.fill(), self.write_then_read()

    async def close(self) -> None:
        """Nothing is left of a race over one replica."""

    async def run(self, choices: list[int]) -> list[int]:
        """Let it run in the order of `choices`, then always the first that waits; how many waited at each step."""
        _ = await self.epochs.current("", TAGS)
        self.clock.advance(1)
        self.store.held = {"advance_epochs"}
        self.store.delayed = {"epochs"}
        tasks = [asyncio.ensure_future(actor) for actor in self.actors()]
        widths: list[int] = []
        await settle(8)
        while not all(task.done() for task in tasks):
            place = len(widths)
            widths.append(len(self.store.gates))
            self.store.open_gate(choices[place] if place < len(choices) else 0)
            await settle(8)
        for task in tasks:
            task.result()
        return widths


async def by_epochs(race: Race) -> None:
    await race.epochs.advance({"": ["jobs:77"]})


async def by_deleting(race: Race) -> None:
    await race.store.wait("delete")
    race.slot = None
    await race.store.wait("delete")


async def reads_in_every_order(purge: Purge, *, stamped_late: bool = False) -> AsyncIterator[int | None]:
    """What the read was served from the cache, for each order there is."""
    taken: list[int] | None = []
    while taken is not None:
        race = Race(purge, stamped_late=stamped_late)
        widths = await race.run(taken)
        yield race.read
        taken = _next_order(taken, widths)


def _next_order(taken: list[int], widths: list[int]) -> list[int] | None:
    """Depth first over all choices: the last one that can still be another is."""
    taken = taken + [0] * (len(widths) - len(taken))
    while taken and taken[-1] + 1 >= widths[len(taken) - 1]:
        taken.pop()
    return [*taken[:-1], taken[-1] + 1] if taken else None


async def test_no_order_of_two_fills_a_write_and_a_read_gives_a_stale_read():
    reads = [read async for read in reads_in_every_order(by_epochs)]
    assert len(reads) >= 4000
    assert set(reads) == {None, 1}  # hits are among them


async def first_stale(reads: AsyncIterator[int | None]) -> int | None:
    async for read in reads:
        if read == 0:
            return read
    return None


async def test_deleting_on_write_instead_gives_a_stale_read_in_one_of_these_orders():
    assert await first_stale(reads_in_every_order(by_deleting)) == 0


async def test_stamping_after_the_fetch_instead_gives_a_stale_read_in_one_of_these_orders():
    assert await first_stale(reads_in_every_order(by_epochs, stamped_late=True)) == 0


# The same with epochs that the store loses, with a second replica, and with groups


async def every_order(make: Callable[[], Race]) -> AsyncIterator[int | None]:
    taken: list[int] | None = []
    while taken is not None:
        race = make()
        widths = await race.run(taken)
        yield race.read
        await race.close()
        taken = _next_order(taken, widths)


class Losing(Race):
    """One fill, a write and a read, while the store forgets all epochs."""

    def __init__(self) -> None:
        super().__init__(by_epochs, stamped_late=False)

    def actors(self) -> Iterable[Coroutine[Any, Any, None]]:
        return self.fill(), self.write_then_read(), self.lose()

    async def lose(self) -> None:
        await self.store.wait("lose")
        self.inner._spaces.clear()


class Counters(MemoryStore):
    """Epochs that are numbers, and begin at the beginning again."""

    async def create_epochs(self, space, values):
        await super().create_epochs(space, dict.fromkeys(values, bytes(16)))

    async def advance_epochs(self, space, values):
        known = await self.epochs(space, list(values))
        counted = [int.from_bytes(value or b"", "big") + 1 for value in known]
        await super().advance_epochs(
            space, {name: n.to_bytes(16, "big") for name, n in zip(values, counted, strict=True)}
        )


class LosingCounters(Losing):
    def __init__(self) -> None:
        super().__init__()
        self.inner = self.store.inner = Counters(1 << 20, self.clock)


async def test_no_order_with_lost_epochs_gives_a_stale_read():
    reads = [read async for read in every_order(Losing)]
    assert len(reads) >= 280
    assert set(reads) == {None, 1}


async def test_counters_instead_give_a_stale_read_when_they_are_lost():
    assert await first_stale(every_order(LosingCounters)) == 0


class Replicas(Race):
    """A fill through one replica, a write through another, and then a read through the first. `heard`: it has been
    told of the purge; else the time that a copy is trusted has passed."""

    def __init__(self, *, heard: bool, **other: bool) -> None:
        super().__init__(by_epochs, stamped_late=False)
        self.heard = heard
        self.store.shared = True
        random = counted()
        self.background = Background(lambda error: None)
        self.writer, self.epochs = (
            Epochs(self.store, self.clock, random, self.background, sleep=self.clock.sleep, **options)
            for options in ({}, other)
        )
        self.told = asyncio.Event()
        tell = self.epochs.doorbell._heard

        def hear(hashed: str, names: Sequence[str]) -> None:
            tell(hashed, names)
            self.told.set()

        self.epochs.doorbell._heard = hear

    def actors(self) -> Iterable[Coroutine[Any, Any, None]]:
        return self.fill(), self.glance(), self.write_then_read()

    async def glance(self) -> None:
        _ = await self.epochs.current("", TAGS)

    async def write_then_read(self) -> None:
        await self.store.wait("write")
        self.origin = 1
        await self.writer.advance({"": ["jobs:77"]})
        if self.heard:
            await self.told.wait()
        else:
            self.clock.advance(TRUSTED_SECONDS)
        await self.store.wait("read")
        stamp = await self.epochs.current("", TAGS)
        if self.slot is not None and self.slot[0] == stamp.hard:
            self.read = self.slot[1]

    async def run(self, choices: list[int]) -> list[int]:
        if self.heard:
            self.listening = asyncio.ensure_future(self.epochs.doorbell.listen())
            await settle(4)
        return await super().run(choices)

    async def close(self) -> None:
        if self.heard:
            self.listening.cancel()
            await asyncio.wait((self.listening,))
        await self.epochs.close()
        await self.background.drain(1)


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "never heard"])
async def test_no_order_over_two_replicas_gives_a_stale_read(heard):
    reads = [read async for read in every_order(lambda: Replicas(heard=heard))]
    assert len(reads) >= 200
    assert 0 not in reads


async def test_copies_without_a_bound_instead_give_a_stale_read_when_nothing_is_heard():
    assert await first_stale(every_order(lambda: Replicas(heard=False, sole=True))) == 0


class Forgetful(Replicas):
    """Who hears of a purge drops the copy, and takes an answer that was on its way for news."""

    def __init__(self) -> None:
        super().__init__(heard=True)

        def hear(hashed: str, names: Sequence[str]) -> None:
            for name in names:
                self.epochs._copies._spaces[hashed].copies.pop(name, None)
            self.epochs._copies._spaces[hashed].generation += 1
            self.told.set()

        self.epochs.doorbell._heard = hear


async def test_taking_an_answer_that_was_sent_before_the_doorbell_instead_gives_a_stale_read():
    assert await first_stale(every_order(Forgetful)) == 0


GroupsOf = Callable[[Epochs, Stamp], Awaitable[Stamp | None]]


class Grouping(Race):
    """A fill that learns of its group from the response, a purge of that group, a read, and lost epochs."""

    def __init__(self, groups: GroupsOf, *, losing: bool = True) -> None:
        super().__init__(by_epochs, stamped_late=False)
        self.groups = groups
        self.losing = losing

    def actors(self) -> Iterable[Coroutine[Any, Any, None]]:
        return self.fill(), self.write_then_read(), *([self.lose()] if self.losing else [])

    async def lose(self) -> None:
        await self.store.wait("lose")
        self.inner._spaces.clear()

    async def fill(self) -> None:
        before = await self.epochs.current("", TAGS)
        value = self.origin
        await self.store.wait("fetch")
        bound = await self.groups(self.epochs, before)
        if bound is not None:
            self.slot = (bound.hard, value)

    async def write_then_read(self) -> None:
        await self.store.wait("write")
        self.origin = 1
        await self.epochs.advance({"": ["@:g"]})
        stamp = await self.epochs.current("", GROUPED)
        if self.slot is not None and self.slot[0] == stamp.hard:
            self.read = self.slot[1]


async def guarded(epochs: Epochs, before: Stamp) -> Stamp | None:
    return await epochs.with_groups(before, GROUPED)


async def unguarded(epochs: Epochs, before: Stamp) -> Stamp | None:
    late = await epochs.current("", GROUPED)
    return replace(before, read={**late.read, **before.read}).of(GROUPED)


async def guarded_by_the_field_alone(epochs: Epochs, before: Stamp) -> Stamp | None:
    read = await epochs._read_hash(SHARED, [ANY_GROUP, *group_fields("", GROUPED)])
    if read.get((SHARED, ANY_GROUP)) != before.read[SHARED, ANY_GROUP]:
        return None
    return replace(before, read={**read, **before.read}).of(GROUPED)


async def test_no_order_of_a_fill_and_the_purge_of_its_group_gives_a_stale_read():
    reads = [read async for read in every_order(lambda: Grouping(guarded))]
    assert len(reads) >= 280
    assert set(reads) == {None, 1}


async def test_groups_without_a_guard_instead_give_a_stale_read():
    assert await first_stale(every_order(lambda: Grouping(unguarded, losing=False))) == 0


async def test_a_guard_that_may_be_absent_alone_gives_a_stale_read_when_epochs_are_lost():
    assert await first_stale(every_order(lambda: Grouping(guarded_by_the_field_alone))) == 0


# Several processes


class Family:
    """Siblings that hear when the test says so."""

    def __init__(self) -> None:
        self.members: list[Epochs] = []
        self.told: list[tuple[dict[str, Sequence[str]], dict[str, Sequence[str]]]] = []
        self.hears = asyncio.Event()
        self.hears.set()

    async def purged(self, accepted, refused) -> None:
        self.told.append((dict(accepted), dict(refused)))
        await self.hears.wait()
        for member in self.members:
            member.told(accepted, refused)


def siblings(world: World) -> tuple[Family, Epochs, Epochs]:
    family = Family()
    world.options = {"siblings": family, "sole": True}  # type: ignore[dict-item]
    one, other = world.replica(), world.replica()
    family.members = [other]
    return family, one, other


async def test_a_purge_is_done_when_siblings_have_heard_of_it(world):
    family, one, other = siblings(world)
    before = await other.current("org_a", TAGS)
    family.hears.clear()
    purging = asyncio.ensure_future(one.advance({"org_a": ["jobs"]}))
    await settle()
    assert not purging.done()
    assert other.peek("org_a", TAGS) == before  # what it does not know yet
    family.hears.set()
    assert await purging
    assert other.peek("org_a", TAGS) is None
    assert await other.current("org_a", TAGS) == await one.current("org_a", TAGS) != before
    assert family.told == [({ORG_A: ["jobs"]}, {})]


async def test_siblings_are_told_after_the_store(world):
    family, one, _ = siblings(world)
    world.store.held = {"advance_epochs"}
    purging = asyncio.ensure_future(one.advance({"org_a": ["jobs"]}))
    await settle()
    assert family.told == []
    world.store.held = set()
    world.store.open_gate(-1)
    assert await purging
    assert len(family.told) == 1


async def test_a_purge_that_the_store_refuses_is_distrusted_and_repeated_by_siblings_too(world):
    family, one, other = siblings(world)
    await other.current("org_a", TAGS)
    world.store.down = {"advance_epochs"}
    assert not await one.advance({"org_a": ["jobs"]})
    assert family.told == [({}, {ORG_A: ["jobs"]})]
    assert other.peek("org_a", TAGS) is None
    assert (await other.current("org_a", TAGS)).local
    assert one.unaccepted() == other.unaccepted() == {ORG_A: ["jobs"]}
    world.store.down = set()
    await one.close()  # whose purge it was
    for _ in range(3):
        world.clock.advance(1)
        await settle()
    assert other.pending == 0
    assert not (await other.current("org_a", TAGS)).local


async def test_what_siblings_purged_is_repeated_after_a_disturbance(world):
    _, one, other = siblings(world)
    await one.advance({"org_a": ["jobs"]})
    await one.close()
    before = await other.current("org_a", TAGS)
    other._disturbed("the store was restarted")
    await settle()
    assert await other.current("org_a", TAGS) != before


async def test_doubt_makes_every_copy_be_read_again(world):
    _, _, other = siblings(world)
    before = await other.current("org_a", TAGS)
    other.distrust()
    assert other.peek("org_a", TAGS) is None
    assert await other.current("org_a", TAGS) == before
