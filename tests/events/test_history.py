"""Publishers and readers that come and go, two replicas, and a store that is killed, emptied or replaced meanwhile."""

import asyncio

import pytest

from tests import servers, wire
from tests.chaos import Chaos
from tests.events.history import as_if_nothing_was_lost, observed, one_too_early
from tests.faults.scene import plain, reached_at

pytestmark = [pytest.mark.process, servers.needs_redis]


@pytest.fixture
def server():
    with plain() as made:
        yield made


async def test_nothing_is_lost_comes_twice_or_out_of_order(server, tmp_path):
    async with observed(tmp_path, *[reached_at(server)] * 2, seed=1) as history:
        await history.run(4, 60)
    assert history.wrong == {}
    assert history.gaps == 0
    assert history.got > 200


async def test_one_sidecar_without_a_store_of_its_own(tmp_path):
    async with observed(tmp_path, {}, seed=2) as history:
        await history.run(3, 60)
    assert (history.wrong, history.gaps) == ({}, 0)


async def test_a_store_that_is_away_for_a_while_loses_nothing(server, tmp_path):
    async def away() -> None:
        await asyncio.sleep(0.3)
        server.pause()
        await asyncio.sleep(1.5)
        server.resume()

    async with observed(tmp_path, *[reached_at(server)] * 2, seed=3) as history:
        await history.run(4, 60, away)
    assert history.wrong == {}
    assert history.gaps == 0


async def test_a_store_that_comes_back_empty_is_filled_again(server, tmp_path):
    async def emptied() -> None:
        await asyncio.sleep(0.5)
        server.kill()
        await asyncio.sleep(0.5)
        server.start().wait()

    async with observed(tmp_path, *[reached_at(server)] * 2, seed=4) as history:
        await history.run(4, 60, emptied)
    assert history.wrong == {}
    assert history.got > 200


async def test_a_failover_that_loses_the_last_events(server, tmp_path):
    """Another server takes over that has heard of nothing for a while."""
    with plain() as heir:
        async with Chaos("127.0.0.1", server.port) as chaos:

            async def failover() -> None:
                heir.admin.replicaof("127.0.0.1", server.port)
                await wire.until(lambda: heir.admin.info("replication")["master_link_status"] == "up")
                await asyncio.sleep(0.5)
                heir.admin.replicaof("NO", "ONE")  # from here on it hears nothing
                await asyncio.sleep(0.2)
                chaos.target = ("127.0.0.1", heir.port)
                chaos.reset()

            at = reached_at(server, chaos.port)
            async with observed(tmp_path, at, at, seed=5) as history:
                await history.run(4, 80, failover)
    assert history.wrong == {}
    assert history.got > 200


# Positive controls: what a simpler way would do, and that it is noticed.


async def test_resuming_as_if_nothing_had_been_lost_is_caught(server, tmp_path, monkeypatch):
    as_if_nothing_was_lost(monkeypatch)

    async def emptied() -> None:
        for _ in range(3):
            await asyncio.sleep(0.4)
            server.flush()

    async with observed(tmp_path, *[reached_at(server)] * 2, seed=6) as history:
        await history.run(4, 60, emptied)
    assert history.wrong["E1"]


async def test_resuming_one_too_early_is_caught(server, tmp_path, monkeypatch):
    one_too_early(monkeypatch)
    async with observed(tmp_path, *[reached_at(server)] * 2, seed=7) as history:
        await history.run(2, 30)
    assert history.wrong["E2"]
