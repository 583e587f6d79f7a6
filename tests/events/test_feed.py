"""One copy of a mailbox for all who read it here: followed, put right after a loss, and given up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.errors import StoreError
from proxy.events.cursor import Cursor
from proxy.events.event import Event
from proxy.events.feed import LINGER, LOOK, WATCHED_FOR
from proxy.events.mailbox import DOORBELL
from proxy.events.window import is_gap
from proxy.policy.identity import Identity
from tests.doubles import settle
from tests.events.world import ORG, World, event


class Noting:
    watches = False

    def __init__(self) -> None:
        self.got: list[int] = []
        self.lost: list[Cursor] = []
        self.shown: list[Event] = []

    def deliver(self, batch) -> None:
        self.got += [int(entry.event.id) for entry in batch.entries if entry.shown is not None]

    def lose(self, cursor) -> None:
        self.lost.append(cursor)

    def show(self, event) -> None:
        self.shown.append(event)


@asynccontextmanager
async def reading(world: World) -> AsyncIterator[Noting]:
    """Who is told of what comes for ORG meanwhile."""
    noting = Noting()
    async with world.feeds.open(ORG) as feed:
        feed.subscribers[noting] = None
        yield noting


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[None]:
    """Doorbells are heard meanwhile, and nothing else makes it look."""
    task = world.background.start(world.feeds._answer(), lasting=True)
    await settle()
    yield
    task.cancel()


async def test_who_subscribes_gets_what_comes_once_in_order(world):
    async with reading(world) as noting:
        for number in range(5):
            await world.mailboxes.append(ORG, event(number))
            world.feeds.rung(ORG)
        await settle(30)
    assert noting.got == [0, 1, 2, 3, 4]


async def test_many_who_open_at_once_read_the_store_once(world):
    async def opened() -> int:
        async with world.feeds.open(ORG) as feed:
            return len(feed.window)

    assert set(await asyncio.gather(*(opened() for _ in range(20)))) == {1}
    assert world.store.count("range") <= 2


async def test_while_the_store_is_down_nothing_can_be_opened_and_then_it_can(world):
    world.store.down = {"range"}
    for _ in range(2):
        with pytest.raises(StoreError):
            async with world.feeds.open(ORG):
                pass
    world.store.down = set()
    async with world.feeds.open(ORG):
        pass


async def test_a_look_that_fails_is_made_up_for(world):
    async with reading(world) as noting:
        world.store.down = {"range"}
        await world.mailboxes.append(ORG, event(1))
        world.feeds.rung(ORG)
        await settle()
        assert noting.got == []
        world.store.down = set()
        world.feeds.rung(ORG)
        await settle()
    assert noting.got == [1]


async def test_without_a_doorbell_it_looks_by_itself(world, other):
    world.store.down = {"listen"}
    tasks = world.feeds.start()
    async with reading(world) as noting:
        other.store.down = {"publish"}
        await other.publish(event(1))
        await settle(200)
    for task in tasks:
        task.cancel()
    assert noting.got == [1]
    assert any(LOOK * 0.9 <= slept <= LOOK * 1.1 for slept in world.clock.slept)


async def test_a_doorbell_of_another_process_is_answered(world, other):
    async with listening(world), reading(world) as noting:
        await other.publish(event(1), event(2))
        await settle(30)
    assert noting.got == [1, 2]
    assert world.clock.slept == []


@pytest.mark.isolation
async def test_what_is_shown_reaches_who_reads_now_of_that_tenant_and_is_kept_nowhere(world, other):
    async with listening(world), reading(world) as noting:
        await other.mailboxes.show(ORG, event(1))
        await other.mailboxes.show("org_b", event(2))
        await world.inner.publish(DOORBELL, b"org_a " + b"x" * 50)  # what is no record of ours
        await world.inner.publish(DOORBELL, b"")
        await settle(30)
        assert [each.id for each in noting.shown] == [event(1).id]
        assert len(await world.mailboxes.load(ORG)) == 1
    other.store.down = {"publish"}
    await other.mailboxes.show(ORG, event(3))


async def test_a_mailbox_that_nobody_reads_is_given_up_after_a_while(world, monkeypatch):
    async with world.feeds.open(ORG):
        pass
    assert len(world.feeds) == 1
    feed = world.feeds.get(ORG)
    feed.left_at -= LINGER
    looking = world.background.start(world.feeds._look_around(), lasting=True)
    await settle()
    looking.cancel()
    assert len(world.feeds) == 0
    assert world.feeds.size == 0


async def test_a_quiet_mailbox_is_kept_alive(world):
    async with world.feeds.open(ORG) as feed:
        begun = feed.last
        world.clock.advance(40 * 3600)
        looking = world.background.start(world.feeds._look_around(), lasting=True)
        await settle(60)
        looking.cancel()
        assert feed.last != begun
        assert (await world.feeds.missed(feed, begun)) is not None


async def test_what_has_left_memory_is_read_from_the_store(world):
    entries = [await world.mailboxes.append(ORG, event(number)) for number in range(20)]
    async with world.feeds.open(ORG) as feed:
        feed.window.cut(oldest=0, most_bytes=1, most=2)
        missed = await world.feeds.missed(feed, entries[4].cursor)
        assert [int(each.event.id) for each in missed] == list(range(5, 20))
        assert await world.feeds.missed(feed, Cursor((5, 0), "gone")) is None


async def test_who_was_where_more_was_known_is_waited_for(world, other):
    async with world.feeds.open(ORG) as feed:
        entry = await other.mailboxes.append(ORG, event(1))
        assert await world.feeds.missed(feed, entry.cursor) == []
        assert await world.feeds.missed(feed, Cursor((entry.cursor.at[0] + 5, 0), "lost")) is None
    assert sum(world.clock.slept) == pytest.approx(2.0)


async def test_everything_that_is_kept(world):
    for number in range(3):
        await world.mailboxes.append(ORG, event(number))
    async with world.feeds.open(ORG) as feed:
        await world.mailboxes.append(ORG, event(3))
        assert [int(each.event.id) for each in await world.feeds.all(feed)] == [0, 1, 2, 3]


async def test_what_the_store_has_lost_is_put_back_and_not_delivered_again(world):
    async with reading(world) as noting:
        await world.publish(event(1), event(2))
        world.inner._streams.clear()
        world.feeds.rung(ORG)
        await settle(30)
        assert [each.event.id for each in await world.mailboxes.load(ORG) if each.shown] == [event(1).id, event(2).id]
        await world.publish(event(3))
    assert noting.got == [1, 2, 3]
    assert noting.lost == []


async def test_a_gap_is_told_to_all_who_read(world, other):
    async with reading(world) as noting:
        await world.publish(event(1))
        world.inner._streams.clear()
        world.clock.advance(1)
        await other.mailboxes.append(ORG, event(2))  # somebody who knows nothing comes first
        world.feeds.rung(ORG)
        await settle(30)
    assert len(noting.lost) == 1
    assert noting.got == [1]
    assert not any(is_gap(each) for each in await world.mailboxes.load(ORG))


async def test_a_reader_that_leaves_in_the_midst_gets_no_more(world):
    first, second = Noting(), Noting()
    async with world.feeds.open(ORG) as feed:
        feed.subscribers |= {first: None, second: None}
        first.deliver = lambda entry: feed.subscribers.pop(second, None)
        await world.publish(event(1))
        assert set(feed.subscribers) == {first}
    assert second.got == []


async def test_how_late_an_event_is_counts_once_for_all_who_read_it_and_not_where_nobody_does(world):
    await world.publish(event(1))
    assert world.feeds.delays.counts == [0] * 14
    for user in ("ada", "bob", "eve"):
        await world.read(identity=Identity(ORG, user))
    world.clock.now = 1.7e9 + 5
    await world.publish(event(2))  # of three seconds ago
    assert (sum(world.feeds.delays.counts), world.feeds.delays.total) == (1, 3.0)
    await world.publish(event(9))  # by a clock that is ahead
    assert (sum(world.feeds.delays.counts), world.feeds.delays.total) == (2, 3.0)


async def test_who_watches_figures_is_known_to_every_process_for_a_while(world, other):
    tasks = [*world.feeds.start(), *other.feeds.start()]
    await settle(30)
    await world.read()
    assert not any(each.feeds.is_watched(ORG) for each in (world, other))
    await world.read(topics=("metrics",))
    await settle(30)
    assert all(each.feeds.is_watched(ORG) for each in (world, other))
    assert not other.feeds.is_watched("org_b")
    other.feeds._watched[ORG] -= WATCHED_FOR
    assert not other.feeds.is_watched(ORG)
    await world.feeds.watch(world.feeds.get(ORG))  # as with each look
    await settle(30)
    assert other.feeds.is_watched(ORG)
    for task in tasks:
        task.cancel()


async def test_tenants_that_are_watched_are_bounded(world, monkeypatch):
    monkeypatch.setattr("proxy.events.feed._MOST_WATCHED", 2)
    for tenant in ("org_1", "org_2", "org_3"):
        world.feeds._heard(world.mailboxes.heard(f"{tenant} ?".encode()))
    assert [world.feeds.is_watched(f"org_{number}") for number in (1, 2, 3)] == [False, True, True]


async def test_what_comes_together_is_written_together_as_long_as_it_is_little(world):
    place, _ = await world.read()
    before = place.writes
    for number in range(40):
        await world.mailboxes.append(ORG, event(number))
    await world.feeds.catch_up(world.feeds.get(ORG))
    assert place.numbers == list(range(40))
    assert place.writes == before + 1
    for number in range(40, 44):
        await world.mailboxes.append(ORG, event(number, text="x" * 6000))
    await world.feeds.catch_up(world.feeds.get(ORG))
    assert place.numbers == list(range(44))
    assert place.writes == before + 3
