"""Open streams: what a reader gets from the first frame to the last, how many there may be, and why they end."""

import asyncio

import pytest

from proxy.events.audience import Reader
from proxy.events.stream import Limits, Start
from proxy.policy.identity import Identity
from tests.doubles import settle
from tests.events.world import ADA, ORG, World, event

EVE = Identity(ORG, "eve", frozenset())


async def test_the_first_frame_says_hello_and_then_comes_what_happens(world):
    place, _ = await world.read()
    assert place.names == ["hello"]
    assert place.hello == {"recovered": True, "epoch": await world.mailboxes.epoch(ORG), "missed": 0}
    await world.publish(event(1), event(2))
    assert place.numbers == [1, 2]
    assert place.frames[1]["event"] == "job.created"


async def test_who_comes_back_gets_what_they_missed_once_in_order(world):
    place, stream = await world.read()
    await world.publish(event(1))
    stream.lost()
    await world.publish(event(2), event(3))
    again, _ = await world.read(place.last)
    assert again.hello["missed"] == 2
    await world.publish(event(4))
    assert place.numbers == [1]
    assert again.numbers == [2, 3, 4]


async def test_who_reads_an_empty_mailbox_misses_nothing_either(world):
    place, stream = await world.read()
    stream.lost()
    await world.publish(event(1))
    again, _ = await world.read(place.last)
    assert again.numbers == [1]


async def test_a_user_without_a_place_goes_on_where_they_have_arrived(world, other):
    _, stream = await world.read()
    await world.publish(event(1))
    stream.lost()
    await settle()
    await world.publish(event(2), event(3), event(4))
    again, _ = await other.read()
    assert again.hello["missed"] == 3
    assert again.numbers == [2, 3, 4]


async def test_what_their_side_has_not_taken_comes_again(world):
    place, stream = await world.read()
    keeping = world.background.start(world.streams._keep(), lasting=True)
    await settle(60)
    place.taken = False
    await world.publish(event(1))
    stream.lost()
    keeping.cancel()
    await settle()
    again, _ = await world.read()
    assert again.numbers == [1]


async def test_who_was_never_here_begins_now_and_0_is_the_beginning(world):
    await world.publish(event(1))
    new, _ = await world.read()
    assert (new.hello["recovered"], new.hello["missed"], new.numbers) == (True, 0, [])
    whole, _ = await world.read("0")
    assert (whole.hello["recovered"], whole.hello["missed"], whole.numbers) == (True, 1, [1])


@pytest.mark.parametrize("cursor", ["1-1.gone", f"{2**50}-0.future", "nonsense", "1-1", "0-0.x"])
async def test_who_cannot_be_told_all_is_told_so_and_nothing_else(world, cursor):
    await world.publish(event(1), event(2))
    place, _ = await world.read(cursor)
    assert (place.hello["recovered"], place.hello["missed"]) == (False, None)
    assert place.numbers == []
    await world.publish(event(3))
    assert place.numbers == [3]
    again, _ = await world.read(place.last)
    assert again.hello["recovered"]


async def test_history_that_was_trimmed_is_said_to_be(world):
    small = World(world, kept=5)
    place, stream = await small.read()
    stream.lost()
    await small.publish(*(event(number) for number in range(9)))
    again, _ = await small.read(place.last)
    assert not again.hello["recovered"]
    await small.close()


@pytest.mark.isolation
async def test_events_of_others_are_not_seen_and_do_not_make_one_lose_the_place(world):
    small = World(world, kept=5)
    place, stream = await small.read(identity=EVE)
    await small.publish(*(event(number, "role:read:applications") for number in range(9)))
    assert place.numbers == []
    beating = small.background.start(small.streams._beat(), lasting=True)
    stream.due = 0.0
    await settle()
    beating.cancel()
    stream.lost()
    again, _ = await small.read(place.last, EVE)
    assert again.hello["recovered"]
    await small.close()


async def test_topics_narrow(world):
    place, _ = await world.read(topics=("application.*",))
    await world.publish(event(1), event(2, name="application.submitted"))
    assert place.numbers == [2]


async def test_a_sign_of_life_moves_the_place_on(world):
    place, stream = await world.read(identity=EVE)
    await world.publish(event(1, "user:ada"))
    beating = world.background.start(world.streams._beat(), lasting=True)
    await settle()
    assert place.frames[1:] == []  # it is not due
    stream.due = 0.0
    await settle()
    beating.cancel()
    assert place.frames[1] == {"id": str(stream.cursor)}
    assert stream.due > 0


@pytest.mark.parametrize(
    ("limits", "full"),
    [(Limits(process=2), "process"), (Limits(tenant=2), "tenant"), (Limits(user=2), "user")],
)
async def test_there_are_limits_and_who_leaves_makes_room(limits, full):
    world = World(limits=limits)
    (_, first), _ = await world.read(), await world.read()
    reader = Reader.of(ADA)
    assert world.streams.admit(reader, ADA, Start()) == full
    assert +world.streams.figures.refused == {full: 1}
    first.lost()
    first.lost()
    await world.read()
    assert len(world.streams) == 2
    await world.close()
    assert (len(world.streams), world.streams._of_tenant, world.streams._of_user) == (0, {}, {})


async def test_one_that_never_began_is_let_go(world):
    stream = world.streams.admit(Reader.of(ADA), ADA, Start())
    assert len(world.streams) == 1
    stream.lost()
    assert len(world.streams) == 0


async def test_who_does_not_take_what_is_sent_is_closed_and_can_come_back(world):
    place, _ = await world.read()
    fast, _ = await world.read(identity=EVE)
    place.unsent = world.streams.limits.unsent + 1
    await world.publish(event(1), event(2))
    assert place.names == ["hello", "job.created", "overflow"]
    assert fast.numbers == [1, 2]
    again, _ = await world.read(place.last)
    assert again.numbers == [2]


async def test_a_stream_ends_with_its_token(world):
    brief = Identity(ORG, "ada", frozenset(), expires=world.clock())
    place, stream = await world.read(identity=brief)
    await asyncio.wait_for(stream.ended, 5)
    assert place.names == ["hello", "session.expired"]
    assert +world.streams.figures.ended == {"session.expired": 1}


async def test_a_stream_ends_of_age_and_says_nothing_but_when_to_come_back():
    world = World(limits=Limits(lifetime=0.01))
    place, stream = await world.read()
    await asyncio.wait_for(stream.ended, 5)
    assert place.names == ["hello"]
    assert "retry" in place.frames[-1]
    await world.close()


async def test_those_whose_session_was_revoked_are_told_and_ended(world):
    ada, _ = await world.read()
    eve, _ = await world.read(identity=EVE)
    assert world.streams.end(lambda identity: identity.user == "ada") == 1
    await world.publish(event(1))
    assert ada.names == ["hello", "session.revoked"]
    assert eve.numbers == [1]


async def test_a_process_that_ends_sends_its_readers_elsewhere(world):
    place, _ = await world.read()
    world.streams.drain()
    late, _ = await world.read()
    assert place.names == ["hello", "drain"]
    assert late.names == ["drain"]
    assert 1000 <= int(place.frames[-1]["retry"]) <= 10_000
    assert len(world.streams) == 0


@pytest.mark.parametrize("operation", ["range", "get"])
async def test_without_the_store_a_stream_ends_at_once_and_comes_back_later(world, operation):
    world.store.down = {operation}
    place, _ = await world.read()
    assert place.names == ["unavailable"]
    assert int(place.frames[0]["retry"]) > 0
    world.store.down = set()
    again, _ = await world.read()
    assert again.names == ["hello"]


async def test_a_store_that_fails_later_ends_no_stream(world):
    place, _ = await world.read()
    world.store.down = {"range", "append"}
    await world.publish(event(1))
    world.store.down = set()
    await settle(60)
    assert place.numbers == [1]


async def test_a_gap_while_one_reads_is_told(world, other):
    place, _ = await world.read()
    await world.publish(event(1))
    world.inner._streams.clear()
    world.clock.advance(1)
    await other.mailboxes.append(ORG, event(2))
    world.feeds.rung(ORG)
    await settle(40)
    assert [each["data"]["recovered"] for each in place.frames if each.get("event") == "hello"] == [True, False]
    assert world.streams.figures.gaps == 1


async def test_how_far_users_are_is_noted_now_and_then_and_again_when_that_fails(world):
    _, stream = await world.read()
    keeping = world.background.start(world.streams._keep(), lasting=True)
    world.store.down = {"set"}
    await settle(60)
    assert await world.mailboxes.arrived(ORG, "ada") is None
    world.store.down = set()
    await settle(60)
    keeping.cancel()
    assert await world.mailboxes.arrived(ORG, "ada") == stream.cursor


async def test_what_is_kept_nowhere_is_for_those_who_asked_for_it_and_may(world):
    asked, _ = await world.read(topics=("metrics",))
    whole, _ = await world.read()
    eve, _ = await world.read(identity=EVE, topics=("metrics",))
    listening = world.background.start(world.feeds._answer(), lasting=True)
    await settle()
    await world.mailboxes.show(ORG, event(1, "roles:read:applications", name="metrics"))
    await settle(30)
    listening.cancel()
    assert asked.frames[-1] == {"event": "metrics", "data": {"n": 1}}  # nobody resumes from it
    assert (whole.numbers, eve.numbers) == ([], [])


async def test_a_broadcast_lets_others_have_their_turn():
    world = World(limits=Limits(user=1000))
    places = [(await world.read(str(0)))[0] for _ in range(3)]
    world.feeds._turn = 2
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await world.publish(*(event(number) for number in range(10)))
    await settle(60)
    counting.cancel()
    assert [place.numbers for place in places] == [list(range(10))] * 3
    await world.close()


async def test_who_comes_in_the_midst_of_a_broadcast_gets_each_event_once():
    world = World(limits=Limits(user=1000))
    first, _ = await world.read()
    world.feeds._turn = 1
    async with world.feeds.open(ORG) as feed:
        await world.mailboxes.append(ORG, event(1))
        await world.mailboxes.append(ORG, event(2))
        catching = asyncio.ensure_future(world.feeds.catch_up(feed))
        while not first.numbers:  # noqa: ASYNC110
            await asyncio.sleep(0)
        late, _ = await world.read(first.frames[0]["id"])
        await catching
    assert first.numbers == [1, 2]
    assert late.numbers == [1, 2]
    await world.close()
