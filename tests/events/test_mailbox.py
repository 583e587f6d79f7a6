"""The mailbox of a tenant: what is kept, for how long, for whom, and what becomes of it when the store loses some."""

import pytest

from proxy.events.cursor import Cursor
from proxy.events.event import GAP
from proxy.events.mailbox import DOORBELL
from proxy.events.window import Window
from proxy.stores.base import Item
from tests.events.world import ORG, World, event


def numbers(entries):
    return [int(entry.event.id) for entry in entries if entry.shown is not None]


async def test_events_are_read_in_the_order_they_were_appended(world):
    for number in range(600):
        await world.mailboxes.append(ORG, event(number))
    assert numbers(await world.mailboxes.load(ORG)) == list(range(100, 600))  # 500 are kept


async def test_a_larger_mailbox_is_read_as_a_whole():
    world = World(kept=4000)
    for number in range(4100):
        await world.mailboxes.append(ORG, event(number))
    assert numbers(await world.mailboxes.load(ORG)) == list(range(100, 4100))
    await world.close()


@pytest.mark.isolation
async def test_another_tenant_s_mailbox_is_another(world):
    await world.mailboxes.append(ORG, event(1))
    assert await world.mailboxes.load("org_b") == []


@pytest.mark.isolation
async def test_a_record_of_another_tenant_in_a_mailbox_is_no_event(world):
    await world.mailboxes.append("org_b", event(1))
    (item,) = await world.inner.range("tenant:org_b:events:stream", "", 5)
    await world.inner.append(f"tenant:{ORG}:events:stream", item.fields, 500, 60)
    await world.inner.append(f"tenant:{ORG}:events:stream", {"x": b"y"}, 500, 60)
    assert numbers(await world.mailboxes.load(ORG)) == []
    assert world.mailboxes.figures.rejected == 2


async def test_what_is_older_than_the_retention_is_not_read_and_goes(world):
    await world.mailboxes.append(ORG, event(1))
    world.clock.advance(71 * 3600)
    await world.mailboxes.append(ORG, event(2))
    assert numbers(await world.mailboxes.load(ORG)) == [1, 2]
    world.clock.advance(2 * 3600)
    assert numbers(await world.mailboxes.load(ORG)) == [2]
    await world.mailboxes.append(ORG, event(3))
    assert len(await world.inner.range(f"tenant:{ORG}:events:stream", "", 10)) == 2


async def test_a_removal_that_failed_is_made_up_for(world):
    world.store.down = {"trim"}
    await world.mailboxes.append(ORG, event(1))
    world.store.down = set()
    await world.mailboxes.append(ORG, event(2))
    assert world.store.count("trim") == 2


async def test_an_empty_mailbox_begins_with_a_place_to_be_at(world):
    (mark,) = await world.mailboxes.begun(ORG)
    assert mark.shown is None
    assert await world.mailboxes.begun(ORG) == [mark]
    assert Window([mark]).resume(mark.cursor) == []


@pytest.mark.parametrize("hours", [-100, 100])
async def test_a_clock_that_is_days_apart_from_the_store_s_takes_nothing_away(world, hours):
    world.mailboxes._clock = lambda: world.clock() + hours * 3600
    (mark,) = await world.mailboxes.begun(ORG)
    assert mark.shown is None
    for number in range(3):
        await world.mailboxes.append(ORG, event(number))
    assert numbers(await world.mailboxes.load(ORG)) == [0, 1, 2]
    world.clock.advance(73 * 3600)
    await world.mailboxes.append(ORG, event(3))
    assert numbers(await world.mailboxes.load(ORG)) == [3]


async def test_an_id_ahead_of_all_clocks_takes_nothing_away_from_others(world):
    await world.mailboxes.append("org_b", event(1))
    later = f"{int(world.clock() + 100 * 3600) * 1000}-0"  # of a primary whose clock was ahead
    (item,) = await world.inner.range("tenant:org_b:events:stream", "", 5)
    assert await world.inner.restore(f"tenant:{ORG}:events:stream", Item(later, item.fields), 60)
    await world.mailboxes.append(ORG, event(2))
    assert numbers(await world.mailboxes.load("org_b")) == [1]


async def test_from_a_cursor_on(world):
    entries = [await world.mailboxes.append(ORG, event(number)) for number in range(5)]
    assert numbers(await world.mailboxes.since(ORG, entries[2].cursor)) == [2, 3, 4]


async def test_what_the_store_has_lost_is_put_back_in_its_place(world):
    entries = [await world.mailboxes.append(ORG, event(number)) for number in range(6)]
    world.inner._streams.clear()
    for each in entries[:3]:  # a new primary that lacks the last three
        record = world.mailboxes._codec.pack(ORG, each.event)
        id = f"{each.cursor.at[0]}-{each.cursor.at[1]}"
        await world.inner.restore(f"tenant:{ORG}:events:stream", Item(id, {"e": record}), 60)
    mended = await world.mailboxes.mend(ORG, Window(entries))
    assert [entry.cursor for entry in mended] == [entry.cursor for entry in entries]
    assert numbers(mended) == list(range(6))
    assert world.mailboxes.figures.restored == 3


async def test_a_gap_is_told_where_an_entry_in_the_midst_is_gone(world):
    first = await world.mailboxes.append(ORG, event(1))
    world.clock.advance(1)
    lost = await world.mailboxes.append(ORG, event(2))
    world.inner._streams.clear()
    record = world.mailboxes._codec.pack(ORG, first.event)
    await world.inner.restore(
        f"tenant:{ORG}:events:stream", Item(f"{first.cursor.at[0]}-{first.cursor.at[1]}", {"e": record}), 60
    )
    world.clock.advance(1)
    await world.mailboxes.append(ORG, event(3))
    mended = await world.mailboxes.mend(ORG, Window([first, lost]))
    assert [entry.event.to for entry in mended] == ["tenant", "tenant", GAP]
    assert world.noted == [("events-lost", {"tenant": ORG, "events": "1"})]
    again = await world.mailboxes.mend(ORG, Window([first, lost]))
    assert len(again) == 3
    assert world.mailboxes.figures.gaps == 1


async def test_a_mailbox_has_a_name_of_its_own_until_it_is_gone(world, other):
    name = await world.mailboxes.epoch(ORG)
    assert name
    assert await other.mailboxes.epoch(ORG) == name
    assert await world.mailboxes.epoch("org_b") != name
    await world.inner.delete([f"tenant:{ORG}:events:epoch"])
    assert await world.mailboxes.epoch(ORG) not in ("", name)


@pytest.mark.isolation
async def test_where_a_user_has_arrived_is_theirs_in_that_tenant(world, other):
    cursor = Cursor((5, 0), "x")
    await world.mailboxes.arrive(ORG, "auth0|ada", cursor)
    assert await other.mailboxes.arrived(ORG, "auth0|ada") == cursor
    assert await other.mailboxes.arrived(ORG, "auth0|eve") is None
    assert await other.mailboxes.arrived("org_b", "auth0|ada") is None
    assert "ada" not in "".join(name for _, names in world.store.calls for name in names)


@pytest.mark.parametrize("kept", [b"", b"\xff\xfe", b"hello"])
async def test_what_is_no_cursor_is_none(world, kept):
    await world.mailboxes.arrive(ORG, "ada", Cursor((5, 0), "x"))
    ((_, (name,)),) = [call for call in world.store.calls if call[0] == "set"]
    await world.inner.set(name, kept, 60)
    assert await world.mailboxes.arrived(ORG, "ada") is None


async def test_a_ring_names_the_tenant():
    world = World()
    heard = world.inner.listen([DOORBELL])
    assert await anext(heard) is None
    await world.mailboxes.ring(ORG)
    assert (await anext(heard)).message == ORG.encode()
    await heard.aclose()
