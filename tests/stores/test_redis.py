"""The link to a real server: lazy, warm when asked, its mode found out, its listeners ended with it."""

import asyncio
import time

import pytest
from redis.credentials import CredentialProvider

from proxy.errors import StoreError
from proxy.stores.access import Access
from proxy.stores.commands import CommandStore
from proxy.stores.redis import RedisLink
from tests import servers


def link_to(access: Access, **more) -> RedisLink:
    return RedisLink(access, clock=time.monotonic, **{"pool_size": 5, "timeout": 2.0, **more})


def connections(server: servers.Server) -> list[dict[str, str]]:
    return [client for client in server.admin.client_list() if client["user"] == servers.USER]


async def gone(server: servers.Server) -> None:
    """The server has noticed that everybody left."""
    await servers.eventually(lambda: _as_coroutine(not connections(server)))


async def _as_coroutine(value):
    return value


async def test_nothing_is_opened_before_it_is_needed(redis_at):
    await gone(redis_at)
    link = link_to(redis_at.access)
    assert connections(redis_at) == []
    await link.execute([("PING",)])
    assert len(connections(redis_at)) == 1
    await link.close()
    await gone(redis_at)


async def test_warming_opens_the_pool(redis_at):
    await gone(redis_at)
    link = link_to(redis_at.access)
    await link.warm()
    assert len(connections(redis_at)) == 5
    await link.close()
    await gone(redis_at)


async def test_however_many_ask_first_the_mode_is_asked_for_once(redis_at):
    await gone(redis_at)
    link = link_to(redis_at.access, pool_size=50)
    await asyncio.gather(*(link.execute([("GET", "a")]) for _ in range(3)))
    assert len(connections(redis_at)) <= 3
    await link.close()
    await gone(redis_at)


async def test_an_unreachable_server_is_an_error_for_all_who_wait_at_once():
    link = link_to(Access("127.0.0.1", 1))
    failed = await asyncio.gather(*(link.execute([("PING",)]) for _ in range(20)), return_exceptions=True)
    assert {str(each) for each in failed} == {"REDIS_HOST, REDIS_PORT: nothing listens at 127.0.0.1:1"}
    await link.close()


async def test_an_error_of_one_command_is_its_own_reply(valkey_at):
    valkey_at.flush()
    link = link_to(valkey_at.access)
    replies = await link.execute([("SET", "a", b"1"), ("HMGET", "a", "f"), ("GET", "a")])
    assert (replies[0], replies[2]) == (b"OK", b"1")
    assert isinstance(replies[1], StoreError)
    assert "WRONGTYPE" in str(replies[1])
    await link.close()


@pytest.mark.parametrize("mode", ["auto", "true"])
async def test_a_cluster_is_one_whether_it_is_said_or_found_out(cluster_at, mode):
    cluster_at.flush()
    store = CommandStore(link_to(cluster_at.access, cluster=mode))
    names = [f"k{number}" for number in range(50)]
    await asyncio.gather(*(store.set(name, b"v", 60) for name in names))
    assert await store.get(names) == [b"v"] * 50
    await store.close()


async def test_credentials_are_asked_for_each_new_connection(redis_at):
    class Provider(CredentialProvider):
        asked = 0

        def get_credentials(self):
            raise AssertionError("in the loop's own thread")

        async def get_credentials_async(self):
            self.asked += 1
            return servers.USER, servers.PASSWORD

    access, provider = redis_at.access, Provider()
    link = link_to(
        Access(access.host, access.port, credentials=provider, tls=True, tls_ca=access.tls_ca, username="ignored")
    )
    await link.warm()
    assert provider.asked == 5
    await link.close()


async def test_closing_ends_listeners_and_calls_under_way(redis_at):
    link = link_to(redis_at.access)
    heard = link.listen(["c"])
    assert await anext(heard) is None
    waiting = asyncio.ensure_future(anext(heard))
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises(StoreError, match="closed"):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(StoreError, match="closed"):
        await link.execute([("PING",)])
    with pytest.raises(StoreError, match="closed"):
        await link.warm()


async def test_a_listener_that_stops_leaves_no_connection(redis_at):
    await gone(redis_at)
    link = link_to(redis_at.access)
    heard = link.listen(["c"])
    assert await anext(heard) is None
    assert len(connections(redis_at)) == 2
    await heard.aclose()
    await servers.eventually(lambda: _as_coroutine(len(connections(redis_at)) == 1))
    await link.close()


@pytest.mark.parametrize(
    ("policy", "rights", "warned"),
    [
        ("allkeys-lru", "+info", ["allkeys-lru"]),
        ("allkeys-random", "+info", ["allkeys-random"]),
        ("noeviction", "+info", []),
        ("volatile-lru", "+info", []),
        ("allkeys-lru", "-info", []),  # a server that does not let us ask
    ],
)
async def test_a_server_that_would_evict_sessions_is_told_of_once(policy, rights, warned):
    reports: list[tuple[str, str, str]] = []
    with servers.running(servers.redis_server("--maxmemory-policy", policy, acl=True)) as server:
        server.admin.execute_command("ACL", "SETUSER", servers.USER, rights)
        link = link_to(
            server.access, report=lambda event, told: reports.append((event, told["policy"], told["advice"]))
        )
        await link.warm()
        assert await link.execute([("GET", "tenant:a")]) == [None]
        await link.close()
    assert [(event, policy) for event, policy, _ in reports] == [("store-evicts", policy) for policy in warned]
    assert all("set maxmemory-policy to volatile-lru" in advice for _, _, advice in reports)
