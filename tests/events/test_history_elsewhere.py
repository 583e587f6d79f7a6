"""The same histories over a real Cluster whose primaries change or die, and over the REST emulator of Upstash."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from proxy.dev.server import running
from tests import servers, wire
from tests.chaos import Chaos
from tests.events.history import TENANTS, History, as_if_nothing_was_lost, observed, one_too_early
from tests.faults.scene import plain, reached_at

pytestmark = pytest.mark.process

TOKEN = "emulator-token"


# A Cluster of three primaries and three replicas


@pytest.fixture
def cluster():
    if servers.REDIS is None:
        pytest.skip(servers.NO_REDIS)
    with servers.running_cluster(node_timeout=500) as made:
        yield made


def pair(cluster: servers.RedisCluster, tenant: str) -> tuple[servers.Server, servers.Server]:
    """The primary that has this tenant's mailbox, and its replica."""
    name = f"tenant:{tenant}:events:stream"
    primary = next(server for server in cluster.primaries() if _has(server, name))
    replica = next(each for each in cluster.alive() if str(primary.port) in str(each.admin.role()[1:3]))
    return primary, replica


def kept(server: servers.Server, tenant: str) -> int:
    return int(server.admin.xlen(f"tenant:{tenant}:events:stream"))


def _has(server: servers.Server, name: str) -> bool:
    try:
        return bool(server.admin.exists(name))
    except redis.ResponseError:  # MOVED
        return False


async def is_primary(server: servers.Server) -> bool:
    return server.admin.role()[0] in (b"master", "master")


async def failover_that_was_asked_for(cluster: servers.RedisCluster) -> None:
    for tenant in TENANTS:
        _, replica = pair(cluster, tenant)
        replica.admin.execute_command("CLUSTER", "FAILOVER")
        await servers.eventually(lambda replica=replica: is_primary(replica))
        await asyncio.sleep(0.2)


async def primary_dies(cluster: servers.RedisCluster) -> None:
    primary, replica = pair(cluster, TENANTS[0])
    primary.kill()
    await servers.eventually(lambda: is_primary(replica))
    await asyncio.sleep(0.5)


async def primary_dies_with_what_its_replica_has_not_heard(cluster: servers.RedisCluster) -> None:
    primary, replica = pair(cluster, TENANTS[0])
    replica.pause()
    primary.admin.execute_command("CLIENT", "KILL", "TYPE", "replica")
    await asyncio.sleep(0.3)  # what is stored now is nowhere else: not even on its way
    before = kept(primary, TENANTS[0])
    primary.kill()
    replica.resume()
    await servers.eventually(lambda: is_primary(replica))
    left = kept(replica, TENANTS[0])
    assert left < before
    await wire.until(lambda: kept(replica, TENANTS[0]) > left)  # it is in use again


async def over(cluster: servers.RedisCluster, folder: Path, what: Callable[..., Awaitable[None]], seed: int) -> History:
    """Two replicas, four who publish; one user is away while it happens, all others come and go."""
    async with observed(folder, *[reached_at(cluster.servers[0])] * 2, seed=seed) as history:

        async def meanwhile() -> None:
            await asyncio.sleep(0.3)
            async with history.without("u2"):
                await what(cluster)

        await history.run(4, 80, meanwhile)
    return history


@pytest.mark.parametrize(
    "what",
    [failover_that_was_asked_for, primary_dies, primary_dies_with_what_its_replica_has_not_heard],
    ids=lambda what: what.__name__,
)
async def test_a_cluster_whose_primary_is_another_one_loses_nothing_silently(cluster, tmp_path, what):
    history = await over(cluster, tmp_path, what, 11)
    assert history.wrong == {}
    assert history.got > 200
    if what is not primary_dies_with_what_its_replica_has_not_heard:
        assert history.gaps == 0


async def test_on_a_cluster_resuming_as_if_nothing_had_been_lost_is_caught(cluster, tmp_path, monkeypatch):
    as_if_nothing_was_lost(monkeypatch)
    history = await over(cluster, tmp_path, primary_dies_with_what_its_replica_has_not_heard, 12)
    assert history.wrong["E1"]


async def test_on_a_cluster_resuming_one_too_early_is_caught(cluster, tmp_path, monkeypatch):
    one_too_early(monkeypatch)
    async with observed(tmp_path, *[reached_at(cluster.servers[0])] * 2, seed=13) as history:
        await history.run(2, 30)
    assert history.wrong["E2"]


# Upstash


@asynccontextmanager
async def upstash(server: servers.Server) -> AsyncIterator[tuple[dict[str, str], Chaos]]:
    """Settings for the emulator over this server, and what stands before it."""
    async with (
        running("127.0.0.1", 0, f"127.0.0.1:{server.port}", TOKEN) as url,
        Chaos("127.0.0.1", int(url.rpartition(":")[2])) as chaos,
    ):
        yield {
            "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{chaos.port}", "UPSTASH_REDIS_REST_TOKEN": TOKEN,
            "SIDECACHE_SOLE_REPLICA": "0", "SIDECACHE_STORE_TIMEOUT_MS": "400",
        }, chaos  # fmt: skip


@pytest.fixture
def server():
    with servers.running(servers.valkey_server()) as made:
        yield made


async def test_over_rest_nothing_is_lost_comes_twice_or_out_of_order(server, tmp_path):
    async with upstash(server) as (at, _), observed(tmp_path, at, at, seed=14) as history:
        await history.run(3, 40)
    assert (history.wrong, history.gaps) == ({}, 0)
    assert history.got > 100


async def test_over_rest_connections_that_break_and_answers_that_are_lost(server, tmp_path):
    async with upstash(server) as (at, chaos), observed(tmp_path, at, at, seed=15) as history:

        async def broken() -> None:
            for _ in range(5):
                await asyncio.sleep(0.3)
                chaos.reset()
            chaos.hang()
            await asyncio.sleep(1.0)
            chaos.go_on()
            chaos.reset()

        await history.run(3, 40, broken)
    assert (history.wrong, history.gaps) == ({}, 0)


async def test_over_rest_a_database_that_comes_back_empty_is_filled_again(server, tmp_path):
    async with upstash(server) as (at, _), observed(tmp_path, at, at, seed=16) as history:

        async def emptied() -> None:
            await asyncio.sleep(0.5)
            server.flush()

        await history.run(3, 40, emptied)
    assert history.wrong == {}
    assert history.got > 100


@servers.needs_redis
async def test_over_rest_a_failover_that_loses_the_last_events(tmp_path):
    """The emulator goes on with another server, which has heard of nothing for a while."""
    with plain() as server, plain() as heir:
        async with Chaos("127.0.0.1", server.port) as behind:

            async def failover() -> None:
                heir.admin.replicaof("127.0.0.1", server.port)
                await wire.until(lambda: heir.admin.info("replication")["master_link_status"] == "up")
                await asyncio.sleep(0.4)
                heir.admin.replicaof("NO", "ONE")
                await asyncio.sleep(0.2)
                behind.target = ("127.0.0.1", heir.port)
                behind.reset()

            async with (
                running("127.0.0.1", 0, f"127.0.0.1:{behind.port}", TOKEN) as url,
                observed(
                    tmp_path, *[{"UPSTASH_REDIS_REST_URL": url, "UPSTASH_REDIS_REST_TOKEN": TOKEN}] * 2, seed=17
                ) as history,
            ):
                await history.run(3, 60, failover)
    assert history.wrong == {}
    assert history.got > 100


async def test_over_rest_resuming_as_if_nothing_had_been_lost_is_caught(server, tmp_path, monkeypatch):
    as_if_nothing_was_lost(monkeypatch)

    async with upstash(server) as (at, _), observed(tmp_path, at, at, seed=18) as history:

        async def emptied() -> None:
            async with history.without("u2"):
                for _ in range(4):
                    await asyncio.sleep(0.3)
                    server.flush()

        await history.run(3, 50, emptied)
    assert history.wrong["E1"]


async def test_over_rest_resuming_one_too_early_is_caught(server, tmp_path, monkeypatch):
    one_too_early(monkeypatch)
    async with upstash(server) as (at, _), observed(tmp_path, at, at, seed=19) as history:
        await history.run(2, 20)
    assert history.wrong["E2"]
