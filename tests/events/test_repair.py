"""After the store may have lost something: what this process knows is put back, before anything is added behind it."""

from proxy.events.repair import AGAIN, REMEMBERED_FOR
from tests.doubles import settle
from tests.events.world import ORG, World, event


async def stored(world, tenant=ORG):
    return [int(each.event.id) for each in await world.mailboxes.load(tenant) if each.shown is not None]


async def test_what_was_published_here_is_put_back_though_nobody_reads_it(world):
    await world.publish(event(1), event(2))
    world.inner._streams.clear()
    world.store.disturb()
    await settle(60)
    assert await stored(world) == [1, 2]
    assert world.clock.slept[: len(AGAIN)] == [AGAIN[0], AGAIN[1] - AGAIN[0], AGAIN[2] - AGAIN[1]]


async def test_what_a_second_failover_loses_is_put_back_again(world):
    await world.publish(event(1))
    losses = 0

    async def lose(seconds: float) -> None:
        nonlocal losses
        losses += 1
        world.inner._streams.clear()

    world.repairs._sleep = lose
    world.store.disturb()
    await settle(60)
    assert losses == len(AGAIN)
    assert await stored(world) == [1]


async def test_it_comes_before_what_is_published_next(world):
    await world.publish(event(1))
    world.inner._streams.clear()
    world.store.held = {"range"}  # the repair in the background is under way
    world.store.disturb()
    await settle()
    world.store.held = set()
    await world.publish(event(2))
    while world.store.gates:
        world.store.open_gate()
        await settle(20)
    assert await stored(world) == [1, 2]


async def test_readers_know_what_others_have_published(world, other):
    place, _ = await other.read()
    await world.publish(event(1))
    await other.feeds.catch_up(other.feeds.get(ORG))
    world.repairs._recent.clear()  # whoever published it is gone
    world.inner._streams.clear()
    other.store.disturb()
    await settle(60)
    assert await stored(other) == [1]
    assert place.numbers == [1]


async def test_an_event_that_no_reader_had_yet_is_put_back_and_delivered(world):
    place, _ = await world.read()
    world.store.held = {"range"}
    await world.publish(event(1))
    world.inner._streams.clear()
    world.store.held = set()
    world.store.disturb()
    while world.store.gates:
        world.store.open_gate()
        await settle(20)
    await settle(60)
    assert place.numbers == [1]
    assert await stored(world) == [1]


async def test_a_failed_attempt_is_reason_enough_to_look(world):
    await world.publish(event(1))
    world.store.down = {"append"}
    await world.publisher.publish(ORG, event(2), patience=0.001)
    world.inner._streams.clear()
    world.store.down = set()
    await settle(60)
    assert await stored(world) == [1, 2]


async def test_while_the_store_is_down_it_stays_in_doubt(world):
    await world.publish(event(1))
    world.inner._streams.clear()
    world.store.down = {"range"}
    world.store.disturb()
    await settle(60)
    world.store.down = set()
    await world.publish(event(2))
    assert await stored(world) == [1, 2]


async def test_what_is_remembered_has_an_end():
    world = World()
    entry = await world.mailboxes.append(ORG, event(1, text="x" * 4000))
    for _ in range(5000):
        world.repairs.remember(ORG, entry)
    assert world.repairs._bytes <= 16 << 20
    assert len(world.repairs._recent) * entry.size == world.repairs._bytes
    world.clock.advance(REMEMBERED_FOR + 1)
    world.repairs.remember(ORG, entry)
    assert len(world.repairs._recent) == 1
