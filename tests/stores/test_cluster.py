"""A real cluster that loses nodes, moves slots and is asked through old maps; and what the map makes of odd answers."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot

from proxy.errors import StoreError
from proxy.stores.access import Access
from proxy.stores.cluster import Cluster
from proxy.stores.commands import CommandStore
from proxy.stores.node import Node
from proxy.stores.redis import RedisLink
from tests import servers
from tests.doubles import FakeClock
from tests.servers import eventually


@asynccontextmanager
async def store_at(access: Access, **more):
    store = CommandStore(RedisLink(access, clock=time.monotonic, pool_size=10, timeout=1.0, **more))
    store.disturbances = []
    store.on_disturbance(store.disturbances.append)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def cluster(cluster_at):
    cluster_at.flush()
    return cluster_at


def at_slot(cluster: servers.RedisCluster, slot: int) -> servers.Server:
    for first, last, (_, port, *_), *_ in ranges(cluster.alive()[0]):
        if first <= slot <= last:
            return cluster.at(port)
    raise AssertionError(slot)


def ranges(server: servers.Server) -> list:
    answer = server.admin.connection_pool.get_connection()
    try:
        answer.send_command("CLUSTER", "SLOTS")
        return answer.read_response()
    finally:
        server.admin.connection_pool.release(answer)


def node_id(server: servers.Server) -> str:
    return server.admin.execute_command("CLUSTER", "MYID").decode()


@pytest.mark.process
@servers.needs_redis
async def test_a_batch_goes_to_every_node_and_comes_back_in_its_order(cluster):
    async with store_at(cluster.access) as store:
        names = [f"k{number}" for number in range(300)]
        await asyncio.gather(*(store.set(name, name.encode(), 60) for name in names))
        assert await store.get(names) == [name.encode() for name in names]
        assert await store.delete(names) == 300
        assert {at_slot(cluster, key_slot(name.encode())).port for name in names} == {
            server.port for server in cluster.primaries()
        }


@pytest.mark.process
@servers.needs_redis
async def test_a_slot_that_moves_is_followed_at_every_step(cluster):
    """ASK while it is under way, MOVED when it has arrived."""
    name = b"moving"
    slot = key_slot(name)
    source = at_slot(cluster, slot)
    target = next(server for server in cluster.primaries() if server is not source)
    async with store_at(cluster.access) as store:
        await store.set("moving", b"1", 60)
        target.admin.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        source.admin.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
        try:
            assert await store.get(["moving"]) == [b"1"]
            source.admin.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "moving", 0, 5000, "AUTH", servers.ADMIN_PASSWORD
            )
            assert await store.get(["moving", "elsewhere"]) == [b"1", None]
            await store.set("moving", b"2", 60)
            assert await store.get(["moving"]) == [b"2"]
            assert store.disturbances == []
        finally:
            for server in (target, source, *cluster.primaries()):
                server.admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))
        assert await store.get(["moving"]) == [b"2"]
        assert store.disturbances[0] == f"slots moved to 127.0.0.1:{target.port}"


@pytest.mark.process
@servers.needs_redis
async def test_listeners_at_any_node_hear_what_is_published_at_another(cluster):
    async with store_at(cluster.access) as store:
        heard = [store.listen(["c"]) for _ in range(6)]
        assert [await anext(each) for each in heard] == [None] * 6
        await store.publish("c", b"m")
        assert [await asyncio.wait_for(anext(each), 5) for each in heard] == [("c", b"m")] * 6
        for each in heard:
            await each.aclose()


@pytest.mark.process
@servers.needs_redis
async def test_a_cluster_that_is_said_to_be_none_names_the_setting(cluster):
    async with store_at(cluster.access, cluster="false") as store:
        read = await asyncio.gather(*(store.get([f"k{number}"]) for number in range(20)), return_exceptions=True)
        failed = {str(each).partition(":")[0] for each in read if isinstance(each, StoreError)}
        assert failed == {"REDIS_CLUSTER"}


@pytest.mark.process
@servers.needs_redis
async def test_connections_are_opened_ahead_of_need_at_every_primary(cluster):
    link = RedisLink(cluster.access, clock=time.monotonic, pool_size=6)
    await link.warm()
    opened = [
        sum(client["user"] == servers.USER for client in server.admin.client_list()) for server in cluster.primaries()
    ]
    assert min(opened) >= 2
    await link.close()


@pytest.mark.process
@servers.needs_redis
async def test_a_primary_that_dies_is_replaced_and_the_others_go_on():
    """Its own cluster: it is not the same afterwards."""
    with servers.running_cluster(node_timeout=500) as cluster:
        async with store_at(cluster.access) as store:
            names = [f"k{number}" for number in range(60)]
            await asyncio.gather(*(store.set(name, name.encode(), 60) for name in names))
            victim = cluster.primaries()[1]  # not the one whose address we were given
            lost = [name for name in names if at_slot(cluster, key_slot(name.encode())) is victim]
            kept = [name for name in names if name not in lost]
            victim.kill()
            read = await asyncio.gather(*(store.get([name]) for name in kept), return_exceptions=True)
            assert read == [[name.encode()] for name in kept]
            with pytest.raises(StoreError):
                await store.get([lost[0]])
            with pytest.raises(StoreError):
                await store.ping()
            assert await eventually(lambda: store.get(lost), 20) == [name.encode() for name in lost]
            assert await store.ping() == "PONG"
            assert "the layout of the cluster changed" in store.disturbances


@pytest.mark.process
@servers.needs_redis
async def test_the_address_we_were_given_may_die_too_and_all_may_be_restarted():
    with servers.running_cluster(node_timeout=500) as cluster:
        async with store_at(cluster.access) as store:
            await store.set("k", b"v", 60)
            cluster.servers[0].kill()
            await eventually(store.ping, 20)
            for server in cluster.alive():
                server.kill()
            with pytest.raises(StoreError):
                await store.ping()
            for server in cluster.servers:
                server.start()
            await eventually(store.ping, 20)
            assert any("restarted" in each for each in store.disturbances)


# The map alone


class Script:
    """Stands in for the nodes of a cluster: what each address answers to each command."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], object] = {}
        self.closed: list[tuple[str, int]] = []
        self.asked: list[tuple[str, int]] = []

    def node(self, host: str, port: int) -> Node:
        script = self

        class Scripted:
            failing = False
            address = f"{host}:{port}"

            async def execute(self, commands):
                script.asked.append((host, port))
                answer = script.answers.get((host, port), StoreError("refused"))
                self.failing = isinstance(answer, StoreError)
                if isinstance(answer, StoreError):
                    raise answer
                return [answer if command[0] == "CLUSTER" else b"v" for command in commands]

            def disconnect(self) -> None:
                pass

            def close(self) -> None:
                script.closed.append((host, port))

        made = Scripted()
        made.host, made.port = host, port
        return made


def world():
    script, clock, disturbances = Script(), FakeClock(), []
    cluster = Cluster(script.node("seed", 1), script.node, clock=clock, disturbed=disturbances.append)
    return script, clock, disturbances, cluster


def whole(host: bytes | None, port: int) -> list:
    return [[0, 16383, [host, port, b"id", []]]]


@pytest.mark.parametrize("host", [b"", None, b"?"], ids=repr)
async def test_a_node_that_does_not_know_its_own_name_has_the_one_we_used(host):
    script, _, _, cluster = world()
    script.answers = {("seed", 1): whole(host, 7), ("seed", 7): []}
    assert await cluster.execute([("GET", "a")]) == [b"v"]
    assert script.asked[-1] == ("seed", 7)


async def test_a_map_with_holes_is_none():
    script, _, _, cluster = world()
    script.answers = {("seed", 1): [[0, 100, [b"h", 7, b"id"]]]}
    with pytest.raises(StoreError, match="does not serve all slots"):
        await cluster.execute([("GET", "a")])


async def test_failures_make_it_look_at_the_map_again_but_not_all_the_time():
    script, clock, disturbances, cluster = world()
    script.answers = {("seed", 1): whole(b"a", 1), ("a", 1): []}
    await cluster.execute([("GET", "k")])
    script.answers = {("seed", 1): whole(b"b", 1), ("b", 1): []}
    clock.advance(1)
    (failed,) = await cluster.execute([("GET", "k")])
    assert isinstance(failed, StoreError)
    await asyncio.sleep(0.01)
    assert await cluster.execute([("GET", "k")]) == [b"v"]
    assert disturbances == ["the layout of the cluster changed"]
    assert script.closed == [("a", 1)]


async def test_one_that_fails_for_ten_seconds_is_forgotten_as_a_whole():
    script, clock, _, cluster = world()
    script.answers = {("seed", 1): whole(b"a", 1), ("a", 1): whole(b"b", 1)}
    await cluster.execute([("GET", "k")])
    script.answers = {("seed", 1): whole(b"c", 1), ("a", 1): whole(b"b", 1), ("c", 1): []}
    for _ in range(12):  # the old node goes on showing a map that leads nowhere
        clock.advance(1)
        cluster._slots = [cluster._node_at("b", 1)] * 16384
        await cluster.execute([("GET", "k")])
        await asyncio.sleep(0)
    assert await cluster.execute([("GET", "k")]) == [b"v"]
    assert ("b", 1) in script.closed


async def test_after_closing_it_asks_nobody():
    script, _, _, cluster = world()
    cluster.close()
    with pytest.raises(StoreError, match="closed"):
        await cluster.execute([("GET", "a")])
    assert script.asked == []
