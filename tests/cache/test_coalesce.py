"""One fetch for all who want the same: who leads, who follows, and what each is told."""

import asyncio

import pytest

from proxy.cache.coalesce import Flights, Landed, Shared
from proxy.errors import UpstreamError
from proxy.policy.outcome import Reason
from tests.builders import entry
from tests.doubles import settle

KEY = ("tenant:org_a:jobs:list", b"epoch-1")


async def test_the_first_leads_and_the_others_find_its_flight():
    flights = Flights()
    assert flights.under_way(KEY) is None
    flight = flights.take_off(KEY)
    assert flights.under_way(KEY) is flight
    assert len(flights) == 1


@pytest.mark.parametrize(
    "landed",
    [Shared(entry(), Reason.COLD), Reason.NO_STORE, UpstreamError("connection_refused")],
    ids=["an entry to share", "why there is none", "the upstream's failure"],
)
async def test_every_follower_is_told_what_the_leader_brought(landed: Landed):
    flight = Flights().take_off(KEY)
    followers = [asyncio.create_task(flight.wait(60)) for _ in range(100)]
    await settle()
    flight.land(landed)
    assert all(each is landed for each in await asyncio.gather(*followers))


async def test_one_who_comes_after_the_landing_does_not_follow():
    flights = Flights()
    flights.take_off(KEY).land(Reason.NO_STORE)
    assert flights.under_way(KEY) is None
    assert len(flights) == 0


async def test_one_who_held_the_flight_at_its_landing_is_still_told():
    flight = Flights().take_off(KEY)
    flight.land(Reason.NO_STORE)
    assert await flight.wait(0) is Reason.NO_STORE


async def test_another_epoch_is_another_flight():
    """A reader that arrives after a purge never joins a fetch that began before it."""
    flights = Flights()
    before = flights.take_off((KEY[0], b"epoch-1"))
    assert flights.under_way((KEY[0], b"epoch-2")) is None
    after = flights.take_off((KEY[0], b"epoch-2"))
    before.land(Reason.PURGED)
    assert flights.under_way((KEY[0], b"epoch-2")) is after


async def test_a_wait_is_bounded_and_the_flight_goes_on():
    flights = Flights()
    flight = flights.take_off(KEY)
    assert await flight.wait(0) is None
    assert flights.under_way(KEY) is flight
    flight.land(Reason.STATUS)
    assert await flight.wait(0) is Reason.STATUS


async def test_a_follower_that_gives_up_takes_nobody_with_it():
    flight = Flights().take_off(KEY)
    leaving, staying = (asyncio.create_task(flight.wait(60)) for _ in range(2))
    await settle()
    leaving.cancel()
    await settle()
    flight.land(Reason.NO_STORE)
    assert await staying is Reason.NO_STORE


async def test_only_the_first_landing_counts():
    flights = Flights()
    flight = flights.take_off(KEY)
    flight.land(Reason.NO_STORE)
    flight.land(UpstreamError("too late"))
    assert await flight.wait(0) is Reason.NO_STORE


async def test_the_landing_of_an_older_flight_leaves_a_newer_one_under_way():
    flights = Flights()
    older, newer = flights.take_off(KEY), flights.take_off(KEY)
    older.land(Reason.NO_STORE)
    assert flights.under_way(KEY) is newer
    newer.land(Reason.NO_STORE)
    assert len(flights) == 0
