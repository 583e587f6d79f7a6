"""From requests to numbers in the store: all of them, once, whatever the store does."""

import asyncio
import random

import pytest

from proxy.analytics import counters, names
from proxy.analytics.counters import Counters
from proxy.errors import StoreError, StoreRefusedError
from proxy.rules.counting import Counted
from proxy.stores.memory import MemoryStore
from tests.builders import KEYS
from tests.doubles import FakeClock, StoreDouble, settle

AT = 1_767_603_600.0  # 2026-01-05T09:00:00Z
VIEW = Counted("org_a", "views", "77", "u1")


class Refusing(StoreDouble):
    """`down` means here that nothing was done, which is known; some of `refused` names are, too."""

    refused: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()

    async def add(self, additions):
        if "add" in self.down:
            raise StoreRefusedError("the store is not asked for now")
        told = list(await super().add([each for each in additions if each.name not in self.refused]))
        answers = []
        for each in additions:
            answer = StoreRefusedError("no") if each.name in self.refused else told.pop(0)
            answers.append(StoreError("lost") if each.name in self.doubtful else answer)
        return answers


class World:
    def __init__(self, **more) -> None:
        self.clock = FakeClock(AT)
        self.store = Refusing(MemoryStore(64 << 20, self.clock))
        self.counters = self.replica(**more)

    def replica(self, **more) -> Counters:
        return Counters(self.store, self.clock, digest=KEYS.digest, sleep=self.clock.sleep, **more)

    async def hours(self, value="*", name="views", tenant="org_a", at=AT):
        """By the hours of that day, of the five that stand together."""
        (found,) = await self.store.inner.counts([names.by_hour(tenant, name, value, at)])
        before = 24 * int(at % names.DAYS // names.DAY)
        return {str(int(hour) - before): number for hour, number in found.items()}

    async def total(self, *more, **named) -> int:
        return sum((await self.hours(*more, **named)).values())

    async def uniques(self, value="*", at=AT) -> int:
        return await self.store.inner.distinct([names.uniques("org_a", "views", value, at)])


@pytest.fixture
def world():
    return World()


async def test_what_was_counted_is_in_the_store_by_hour_minute_value_and_user(world):
    for _ in range(3):
        world.counters.add(VIEW)
    world.counters.add(VIEW._replace(value="78"))
    world.counters.add(VIEW._replace(who="u2"))
    assert await world.hours() == {}
    assert await world.counters.flush()
    assert await world.hours() == {"9": 5}
    assert await world.hours("77") == {"9": 4}
    assert await world.hours("78") == {"9": 1}
    found = await world.store.inner.counts(
        [names.by_minute("org_a", "views", "77", AT), names.by_value("org_a", "views", AT)]
    )
    assert found == [{"0": 4}, {"77": 4, "78": 1}]
    assert [await world.uniques(value) for value in ("*", "77", "78")] == [2, 2, 1]
    assert world.counters.waiting == 0


async def test_a_rule_without_by_keeps_one_number_and_no_list_of_values(world):
    world.counters.add(Counted("org_a", "views", None, ""))
    await world.counters.flush()
    assert await world.hours() == {"9": 1}
    assert await world.store.inner.counts([names.by_value("org_a", "views", AT)]) == [{}]
    assert world.store.count("observe") == 0


async def test_nothing_counted_asks_the_store_nothing(world):
    assert await world.counters.flush()
    assert world.store.calls == []


async def test_what_was_counted_before_the_hour_ended_is_counted_in_that_hour(world):
    world.clock.advance(3599.5)
    await world.counters.flush()
    world.counters.add(VIEW)
    world.clock.advance(0.6)
    await world.counters.flush()
    world.counters.add(VIEW)
    world.clock.advance(1)
    await world.counters.flush()
    assert await world.hours() == {"9": 1, "10": 1}


async def test_no_name_of_a_user_reaches_the_store(world):
    world.counters.add(VIEW._replace(who="ada@acme.example"))
    seen: list[str] = []
    real = world.store.observe

    async def observe(name, values, ttl):
        seen.extend([name, *values])
        await real(name, values, ttl)

    world.store.observe = observe
    await world.counters.flush()
    assert len(seen) == 4
    assert "ada" not in " ".join(seen)
    assert seen[1] == seen[3] == KEYS.digest("unique", "org_a", "views", "ada@acme.example")


async def test_replicas_add_up_and_a_user_of_both_is_one(world):
    other = world.replica()
    for each in (world.counters, other):
        each.add(VIEW)
        each.add(VIEW)
        await each.flush()
    assert await world.total() == 4
    assert await world.uniques() == 1


# When the store fails


async def test_what_the_store_refused_is_kept_and_sent_again_with_what_followed(world):
    world.store.down = {"add", "observe"}
    for second in range(1, 6):
        world.counters.add(VIEW)
        world.clock.advance(1)
        assert not await world.counters.flush()
        assert world.counters.as_of() == AT, second
    assert world.counters.waiting == 7  # of so many seconds: five numbers, and a user in two sets
    world.store.down = set()
    assert await world.counters.flush()
    assert await world.hours() == {"9": 5}
    assert await world.uniques() == 1
    assert world.counters.waiting == 0
    assert world.counters.as_of() == AT + 5


async def test_each_second_is_counted_in_its_own_hour_however_late_it_is_sent(world):
    world.store.down = {"add"}
    for _ in range(3):
        world.counters.add(VIEW)
        await world.counters.flush()
        world.clock.advance(3600)
        await world.counters.flush()
    world.store.down = set()
    await world.counters.flush()
    assert await world.hours() == {"9": 1, "10": 1, "11": 1}


async def test_what_the_store_did_without_an_answer_is_not_counted_twice(world):
    world.counters.add(VIEW)
    world.store.lost = {"add"}
    assert not await world.counters.flush()
    world.store.lost = set()
    world.counters.add(VIEW)
    assert await world.counters.flush()
    assert await world.total() == 2
    assert world.counters.figures.unanswered == 5


async def test_of_one_batch_only_what_was_refused_is_sent_again(world):
    """As in a cluster of which one node is away, and another one's answer was lost."""
    world.store.refused = frozenset({names.by_hour("org_a", "views", "*", AT)})
    world.store.doubtful = frozenset({names.by_value("org_a", "views", AT)})
    world.counters.add(VIEW)
    assert not await world.counters.flush()
    assert (await world.total(), await world.total("77")) == (0, 1)
    world.store.refused = world.store.doubtful = frozenset()
    assert await world.counters.flush()
    assert (await world.total(), await world.total("77")) == (1, 1)
    assert await world.store.inner.counts([names.by_value("org_a", "views", AT)]) == [{"77": 1}]
    assert (world.counters.figures.added, world.counters.figures.unanswered) == (4, 1)


async def test_users_are_sent_again_until_they_are_known_to_be_there(world):
    world.counters.add(VIEW)
    world.store.lost = {"observe"}
    assert not await world.counters.flush()
    world.store.lost = set()
    assert await world.counters.flush()
    assert await world.uniques() == 1
    assert world.counters.waiting == 0


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_of_failures_loses_nothing_that_was_refused_and_doubles_nothing(world, seed):
    chance = random.Random(seed)
    sent = 0
    for _ in range(60):
        many = chance.randrange(4)
        for _ in range(many):
            world.counters.add(VIEW._replace(value=str(chance.randrange(3)), who=f"u{chance.randrange(9)}"))
        sent += many
        world.store.down = {"add", "observe"} if chance.random() < 0.4 else set()
        world.store.lost = {"add"} if chance.random() < 0.2 else set()
        await world.counters.flush()
        world.clock.advance(1)
    world.store.down = world.store.lost = set()
    await world.counters.flush()
    assert await world.total() == sent
    assert sum([await world.total(str(value)) for value in range(3)]) == sent
    assert world.counters.figures.lost == 0


async def test_a_store_that_is_away_for_long_costs_bounded_memory(world, monkeypatch):
    monkeypatch.setattr(counters, "MOST_KEPT", 50)
    world.store.down = {"add", "observe"}
    for number in range(200):
        world.counters.add(VIEW._replace(value=str(number), who=f"u{number}"))
    await world.counters.flush()
    assert world.counters.waiting <= 50 + 50 + 1
    assert world.counters.figures.lost > 0
    world.store.down = set()
    await world.counters.flush()
    assert await world.total() == 200  # the whole is a number that was there first


async def test_more_different_things_in_a_second_than_are_told_apart_are_still_counted(world, monkeypatch):
    monkeypatch.setattr(counters, "MOST_AT_ONCE", 10)
    for number in range(25):
        world.counters.add(VIEW._replace(value=str(number)))
    world.counters.add(VIEW._replace(name="whole", value=None))
    await world.counters.flush()
    assert await world.total() == 25
    (by_value,) = await world.store.inner.counts([names.by_value("org_a", "views", AT)])
    assert by_value == {**{str(number): 1 for number in range(10)}, names.OTHER: 15}
    assert await world.total(name="whole") == 1


async def test_values_beyond_the_cap_are_in_the_whole_and_among_the_others(world):
    world.counters.values._most = 2
    for number in range(5):
        world.counters.add(VIEW._replace(value=str(number)))
    await world.counters.flush()
    assert await world.total() == 5
    (by_value,) = await world.store.inner.counts([names.by_value("org_a", "views", AT)])
    assert by_value == {"0": 1, "1": 1, names.OTHER: 3}
    assert await world.hours("4") == {}


# From the first second to the last


async def test_it_follows_whole_seconds_until_it_is_closed(monkeypatch):
    """In real time, of which two seconds pass at most."""
    world = World()
    loop = asyncio.get_running_loop()
    began = loop.time()
    flushed = asyncio.Event()
    world.counters._clock = lambda: AT + 0.95 + loop.time() - began
    real = world.counters.flush

    async def flush():
        flushed.set()
        return await real()

    monkeypatch.setattr(world.counters, "flush", flush)
    following = asyncio.ensure_future(world.counters.follow())
    world.counters.add(VIEW)
    await asyncio.wait_for(flushed.wait(), 5)
    await settle(50)
    assert await world.total() == 1
    world.counters.add(VIEW)
    await world.counters.close()
    await asyncio.wait_for(following, 5)
    assert await world.total() == 2


async def test_closing_waits_for_what_is_on_its_way_and_sends_the_rest(world):
    world.store.held = {"add"}
    world.counters.add(VIEW)
    flushing = asyncio.ensure_future(world.counters.flush())
    await settle()
    world.counters.add(VIEW)
    closing = asyncio.ensure_future(world.counters.close())
    await settle()
    assert not closing.done()
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle()
    await asyncio.wait_for(asyncio.gather(flushing, closing), 5)
    assert await world.total() == 2


async def test_closing_tries_again_and_then_tells_what_is_lost(world):
    world.store.down = {"add", "observe"}
    world.counters.add(VIEW)
    await world.counters.close()
    assert world.clock.slept == [0.2, 0.2]
    assert world.counters.figures.lost == 7
    assert world.counters.waiting == 0


# What is watched


async def test_those_who_watch_hear_the_newest_total_of_all_replicas_every_two_seconds():
    heard: list[tuple] = []
    world = World(announce=lambda *told: heard.append(told), is_watched=lambda tenant, name: name == "views")
    other = world.replica()
    for _ in range(4):
        for each in (world.counters, other):
            each.add(VIEW)
            each.add(VIEW._replace(name="unwatched"))
            await each.flush()
        world.counters.tell()
        world.clock.advance(1)
    assert [told[:2] for told in heard] == [("org_a", "views")] * 2
    assert [told[2]["count"] for told in heard] == [1, 5]
    assert heard[1][2] == {"hour": "2026-01-05T09:00:00Z", "count": 5, "as_of": "2026-01-05T09:00:02Z"}


async def test_what_comes_late_of_an_hour_that_is_over_is_not_the_newest():
    heard: list[tuple] = []
    world = World(announce=lambda *told: heard.append(told))
    world.store.down = {"add"}
    for _ in range(3):
        world.counters.add(VIEW)
        await world.counters.flush()
    world.clock.advance(3600)
    await world.counters.flush()
    world.counters.add(VIEW)
    world.store.down = set()
    await world.counters.flush()
    world.counters.tell()
    assert [told[2]["hour"] for told in heard] == ["2026-01-05T10:00:00Z"]
    assert heard[0][2]["count"] == 1
