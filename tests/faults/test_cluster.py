"""A Redis Cluster that loses nodes, moves slots, is restarted as a whole, or is another one behind the same name."""

import asyncio

import pytest
import redis
from redis.crc import key_slot

from tests import servers
from tests.chaos import Chaos
from tests.faults.scene import reached_at, scene
from tests.portal import TENANTS

pytestmark = [pytest.mark.process, servers.needs_redis]

EPOCHS = f"tenant:{TENANTS[0]}:epochs"  # in use by every request of this tenant


@pytest.fixture(scope="module")
def cluster():
    with servers.running_cluster(node_timeout=500) as made:
        yield made


@pytest.fixture(autouse=True)
def empty(cluster):
    yield
    cluster.flush()


def holder(cluster: servers.RedisCluster, name: str) -> servers.Server:
    return next(server for server in cluster.primaries() if _has(server, name))


def _has(server: servers.Server, name: str) -> bool:
    try:
        return bool(server.admin.exists(name))
    except redis.ResponseError:  # MOVED
        return False


def node_id(server: servers.Server) -> str:
    return str(server.admin.execute_command("CLUSTER", "MYID").decode())


async def test_a_failover_that_was_asked_for(cluster, tmp_path):
    async with scene(tmp_path, **reached_at(cluster.servers[0])) as made:
        await made.hits_again()
        primary = holder(cluster, EPOCHS)
        replica = next(each for each in cluster.servers if str(primary.port) in str(each.admin.role()[1:3]))
        async with made.used():
            await made.operations(50)
            replica.admin.execute_command("CLUSTER", "FAILOVER")
            await servers.eventually(lambda: _is_primary(replica))
            await made.operations(200)
            await made.hits_again()
        assert made.history.wrong == {}
        assert len(made.events("store-unavailable")) <= 1


async def test_a_slot_that_moves_while_it_is_used(cluster, tmp_path):
    slot = key_slot(EPOCHS.encode())
    async with scene(tmp_path, **reached_at(cluster.servers[0])) as made:
        await made.hits_again()
        source = holder(cluster, EPOCHS)
        target = next(server for server in cluster.primaries() if server is not source)
        async with made.used():
            target.admin.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
            source.admin.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
            await made.operations(100)  # what is not there any more is asked for at the other node
            names = source.admin.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
            source.admin.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", servers.ADMIN_PASSWORD, "KEYS", *names
            )
            await made.operations(100)
            for server in (target, source, *cluster.primaries()):
                server.admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))
            await made.operations(100)
            await made.hits_again()
        assert made.history.wrong == {}
        assert made.events("store-unavailable") == []


async def test_a_primary_that_dies(cluster, tmp_path):
    async with scene(tmp_path, **reached_at(cluster.servers[0])) as made:
        await made.hits_again()
        victim = holder(cluster, EPOCHS)
        victim.kill()
        async with made.used():
            await made.operations(200)
            await servers.eventually(lambda: _elected(cluster))
            await made.hits_again()
            victim.start()
            await asyncio.to_thread(victim.wait)
            await made.operations(100)
            await made.hits_again()
        assert made.history.wrong == {}
        assert len(made.events("store-unavailable")) <= 1


async def test_all_nodes_killed_and_restarted_empty(cluster, tmp_path):
    async def restart() -> None:
        for server in cluster.servers:
            server.start()
        for server in cluster.servers:
            await asyncio.to_thread(server.wait)
        await servers.eventually(lambda: _serving(cluster))

    async with scene(tmp_path, **reached_at(cluster.servers[0])) as made:
        await made.endures(cluster.kill, restart, says="nothing listens|connection was lost")


async def test_all_nodes_replaced_behind_the_address_that_is_known(tmp_path):
    """As an upgrade does it: other addresses, nothing in them, the name of the endpoint stays."""
    with servers.running(_Whole()) as old, servers.running(_Whole()) as new:
        async with Chaos("127.0.0.1", old.port) as endpoint, scene(tmp_path, **reached_at(old, endpoint.port)) as made:

            def replace() -> None:
                endpoint.target = ("127.0.0.1", new.port)

            await made.endures(old.kill, replace, says="nothing listens|connection was lost")


class _Whole(servers.Server):
    """A cluster of one node."""

    def __init__(self) -> None:
        made = servers.redis_server("--cluster-enabled", "yes")
        super().__init__(made.command, made.port)

    def wait(self, seconds: float = 10) -> "_Whole":
        super().wait(seconds)
        self.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        servers.wait_until(lambda: b"cluster_state:ok" in servers.cluster_info(self))
        return self


async def _is_primary(server: servers.Server) -> bool:
    return server.admin.role()[0] in (b"master", "master")


async def _elected(cluster: servers.RedisCluster) -> bool:
    return len(cluster.primaries()) == 3


async def _serving(cluster: servers.RedisCluster) -> bool:
    return all(b"cluster_state:ok" in servers.cluster_info(server) for server in cluster.servers)
