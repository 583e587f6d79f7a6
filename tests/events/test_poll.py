"""The long-poll twin, which says the same as a stream, and how much is unread."""

import asyncio
import json

import pytest

from proxy.errors import StoreError
from proxy.events.audience import Reader
from proxy.events.stream import Start
from tests.doubles import settle
from tests.events.world import ADA, ORG, event

READER = Reader.of(ADA)


async def poll(world, after=None, wait=0.0, reader=READER):
    never = asyncio.get_running_loop().create_future()
    polled = await world.polls.poll(reader, Start(after), wait, never)
    return json.loads(polled.document())


def numbers(said):
    return [each["data"]["n"] for each in said["events"]]


async def test_it_says_what_a_stream_would(world):
    await world.publish(event(1), event(2), event(3, "user:eve"))
    said = await poll(world, "0")
    assert (said["recovered"], said["missed"], numbers(said)) == (True, 2, [1, 2])
    assert said["events"][0]["event"] == "job.created"
    again = await poll(world, said["cursor"])
    assert (numbers(again), again["cursor"]) == ([], said["cursor"])
    await world.publish(event(4))
    assert numbers(await poll(world, said["cursor"])) == [4]
    assert numbers(await poll(world, said["events"][0]["id"])) == [2, 4]


async def test_it_waits_for_the_first_that_is_for_its_reader(world):
    begin = (await poll(world, "0"))["cursor"]
    waiting = asyncio.ensure_future(poll(world, begin, 20))
    await settle(30)
    await world.publish(event(1, "user:eve"))
    assert not waiting.done()
    await world.publish(event(2))
    said = await asyncio.wait_for(waiting, 5)
    assert numbers(said) == [2]
    assert numbers(await poll(world, said["cursor"])) == []
    assert world.feeds.get(ORG).subscribers == {}


async def test_it_waits_no_longer_than_asked_and_keeps_its_place(world):
    begin = (await poll(world, "0"))["cursor"]
    said = await poll(world, begin, 0.01)
    assert (said["recovered"], said["cursor"], said["events"]) == (True, begin, [])


async def test_who_ends_it_early_loses_nothing(world):
    begin = (await poll(world, "0"))["cursor"]
    until = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(world.polls.poll(READER, Start(begin), 20, until))
    await settle(30)
    until.set_result(None)
    told = json.loads((await asyncio.wait_for(waiting, 5)).document())
    assert (told["recovered"], told["cursor"], told["events"]) == (True, begin, [])
    assert world.feeds.get(ORG).subscribers == {}
    await world.publish(event(1))
    assert numbers(await poll(world, told["cursor"])) == [1]


@pytest.mark.parametrize("after", ["5-0.gone", "nonsense"])
async def test_what_cannot_be_recovered_is_said_to_be(world, after):
    await world.publish(event(1))
    said = await poll(world, after)
    assert (said["recovered"], said["missed"], said["events"]) == (False, None, [])
    await world.publish(event(2))
    assert numbers(await poll(world, said["cursor"])) == [2]


async def test_a_gap_while_it_waits_is_told(world, other):
    await world.publish(event(1))
    begin = (await poll(world, "0"))["cursor"]
    waiting = asyncio.ensure_future(poll(world, begin, 20))
    await settle(30)
    world.inner._streams.clear()
    world.clock.advance(1)
    await other.mailboxes.append(ORG, event(2))
    world.feeds.rung(ORG)
    assert not (await asyncio.wait_for(waiting, 5))["recovered"]


async def test_what_a_reader_says_to_have_is_where_their_user_has_arrived(world):
    await world.publish(event(1), event(2), event(3))
    said = await poll(world, "0")
    await poll(world, said["events"][1]["id"])
    assert numbers(await poll(world)) == [3]
    assert json.loads(await world.polls.unread(READER, Start())) == {
        "count": 1, "oldest": 1.7e9 + 3, "recovered": True,
    }  # fmt: skip


async def test_unread_where_nobody_can_say(world):
    await world.publish(event(1))
    assert json.loads(await world.polls.unread(READER, Start("5-0.gone"))) == {
        "count": None, "oldest": None, "recovered": False,
    }  # fmt: skip
    assert json.loads(await world.polls.unread(READER, Start())) == {"count": 0, "oldest": None, "recovered": True}


async def test_without_the_store_it_says_nothing(world):
    world.store.down = {"range"}
    with pytest.raises(StoreError):
        await poll(world)
