"""Events on their way into mailboxes: in order, once, without making anybody wait, not more than there is room for."""

import asyncio

import pytest

from proxy.events.publish import BURST, QUEUE, Result
from tests.doubles import settle
from tests.events.world import ORG, World, event


async def stored(world, tenant=ORG):
    return [int(each.event.id) for each in await world.mailboxes.load(tenant) if each.shown is not None]


async def test_what_is_published_is_in_the_mailbox(world):
    assert await world.publisher.publish(ORG, event(1)) is Result.STORED
    assert await stored(world) == [1]


async def test_many_at_once_keep_their_order_and_ring_seldom(world):
    results = await asyncio.gather(*(world.publisher.publish(ORG, event(number)) for number in range(100)))
    await settle(30)
    assert set(results) == {Result.STORED}
    assert await stored(world) == list(range(100))
    assert 1 <= world.store.count("publish") < 100


async def test_a_store_that_is_slow_makes_nobody_wait_long(world):
    world.store.held = {"append"}
    assert await world.publisher.publish(ORG, event(1), patience=0.01) is Result.QUEUED
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
    await settle()
    assert await stored(world) == [1]


async def test_a_store_that_is_down_gets_everything_later_in_order(world):
    world.store.down = {"append"}
    for number in range(5):
        assert await world.publisher.publish(ORG, event(number), patience=0.001) is Result.QUEUED
    assert world.publisher.waiting == 5
    world.store.down = set()
    await settle(60)
    assert await stored(world) == [0, 1, 2, 3, 4]
    assert world.publisher.waiting == 0
    assert world.publisher.figures.retried > 0


async def test_a_tenant_whose_store_fails_holds_up_no_other(world):
    world.store.held = {"append"}
    slow = asyncio.ensure_future(world.publisher.publish(ORG, event(1), patience=5))
    await settle()
    world.store.held = set()
    assert await world.publisher.publish("org_b", event(2)) is Result.STORED
    while world.store.gates:
        world.store.open_gate()
        await settle()
    assert await slow is Result.STORED


async def test_an_answer_that_was_lost_leaves_two_copies_of_which_one_is_shown(world):
    world.store.lost = {"append"}
    await world.publisher.publish(ORG, event(1), patience=0.001)
    world.store.lost = set()
    await settle(30)
    assert len(await stored(world)) > 1
    place, _ = await world.read("0")
    assert place.numbers == [1]


async def test_the_same_event_again_is_the_same_event(world, other):
    assert await world.publisher.publish(ORG, event(1)) is Result.STORED
    assert await world.publisher.publish(ORG, event(1)) is Result.REPEATED
    assert await world.publisher.publish("org_b", event(1)) is Result.STORED
    assert await other.publisher.publish(ORG, event(1)) is Result.STORED  # of another process, which cannot know
    place, _ = await world.read("0")
    assert place.numbers == [1]


async def test_more_than_a_tenant_may_is_refused_and_told(world):
    for number in range(int(BURST)):
        await world.publisher.publish(ORG, event(number))
    assert await world.publisher.publish(ORG, event(9999)) is Result.TOO_MANY
    assert await world.publisher.publish("org_b", event(9999)) is Result.STORED
    assert ("event-refused", {"tenant": ORG, "name": "job.created", "why": "too-many"}) in world.noted
    world.clock.advance(1)
    assert await world.publisher.publish(ORG, event(9999)) is Result.STORED


async def test_the_queue_has_an_end(world):
    world.store.held = {"append"}
    for number in range(QUEUE):
        world.publisher._rates._left.clear()
        assert await world.publisher.publish(f"org_{number % 7}", event(number), patience=0) is Result.QUEUED
    world.publisher._rates._left.clear()
    assert await world.publisher.publish(ORG, event(9999), patience=0) is Result.FULL
    assert world.publisher.waiting == QUEUE
    world.store.held = set()
    while world.store.gates:
        world.store.open_gate()
        await settle(3)


async def test_what_waits_when_the_process_ends_is_told():
    world = World()
    world.store.down = {"append"}
    await world.publisher.publish(ORG, event(1), patience=0.001)
    await world.background.drain(0.01)
    assert ("events-not-stored", {"tenant": ORG, "events": "1"}) in world.noted
    assert world.publisher.figures.lost == 1


@pytest.mark.parametrize("operation", ["publish"])
async def test_a_doorbell_that_cannot_be_rung_is_no_failure(world, operation):
    world.store.down = {operation}
    assert await world.publisher.publish(ORG, event(1)) is Result.STORED
    await settle()


async def test_readers_here_need_no_doorbell(world):
    world.store.down = {"publish"}
    place, _ = await world.read()
    await world.publish(event(1))
    assert place.numbers == [1]
