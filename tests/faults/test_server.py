"""One Redis server and what may happen to it: clients see the upstream's answers, nobody another's, and hits again."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests import servers
from tests.faults.scene import before, plain, reached_at, scene
from tests.portal import TENANTS, User, item

pytestmark = [pytest.mark.process, servers.needs_redis]


@pytest.fixture
def server():
    with plain() as made:
        yield made


@pytest.fixture
def locked():
    """One with users and passwords."""
    with servers.running(servers.redis_server(acl=True)) as made:
        yield made


async def restarted(server: servers.Server) -> None:
    server.start()
    await asyncio.to_thread(server.wait)


async def test_killed_and_back_with_nothing_in_it(server, tmp_path):
    async with scene(tmp_path, **reached_at(server)) as made:
        await made.endures(server.kill, lambda: restarted(server), says="nothing listens at|connection was lost")


async def test_hung_and_going_on(server, tmp_path):
    async with scene(tmp_path, **reached_at(server)) as made:
        await made.endures(server.pause, server.resume, says="did not answer within 100 ms|does not answer in time")


async def test_not_there_at_the_start_and_later_it_is(tmp_path):
    late = servers.redis_server()
    async with scene(tmp_path, **reached_at(late)) as made:
        user = User(made.history.ports)
        for tenant in TENANTS:
            assert "hit" not in await made.history.read(user, 0, tenant, item(1))
        await made.logs("store-unavailable")
        with servers.running(late):
            await made.hits_again()
            await made.logs("store-available")
            assert made.history.wrong == {}
            assert [line["error"].partition(":")[0] for line in made.events("store-unavailable")] == [
                "REDIS_HOST, REDIS_PORT"
            ]
        await user.close()


async def test_a_replica_all_of_a_sudden(server, tmp_path):
    """As behind a primary's name after a failover: writes are refused, then the greeting."""
    async with scene(tmp_path, **reached_at(server)) as made:
        await made.endures(
            lambda: server.admin.replicaof("127.0.0.1", 1),
            lambda: server.admin.replicaof("NO", "ONE"),
            says="READONLY|REDIS_HOST: the server is a replica",
        )


async def test_loading_its_data_for_a_while(server, tmp_path):
    with server.admin.pipeline() as pipeline:
        for number in range(2000):
            pipeline.set(f"other:{number}", b"x" * 200)
        pipeline.execute()
    server.admin.save()
    server.command += ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]

    async def reload() -> None:
        server.kill()
        server.start()

    async def loaded() -> None:
        server.admin.config_set("key-load-delay", 0)
        await asyncio.to_thread(server.wait)

    async with scene(tmp_path, **reached_at(server)) as made:
        await made.hits_again()
        async with made.used():
            await reload()
            await made.logs("store-unavailable")
            await made.operations(300)
            await loaded()
            await made.hits_again()
            await made.logs("store-available")
        assert made.history.wrong == {}
        assert len(made.events("store-unavailable")) == len(made.events("store-available")) == 1


async def test_full_and_keeping_what_it_has(server, tmp_path):
    """noeviction: reads are answered, writes are not. Purges that it refuses hold here until it takes them."""
    async with scene(tmp_path, **reached_at(server)) as made:
        await made.endures(
            lambda: server.admin.config_set("maxmemory", "1"),
            lambda: server.admin.config_set("maxmemory", "0"),
            says="no room left", lost="store-full", found=None,
        )  # fmt: skip
        assert made.events("store-unavailable") == []


def password_changed(server: servers.Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", servers.USER, "resetpass", ">another")
    server.admin.execute_command("CLIENT", "KILL", "USER", servers.USER)


def password_back(server: servers.Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", servers.USER, f">{servers.PASSWORD}")


def rights_revoked(server: servers.Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", servers.USER, "-@all")


def rights_granted(server: servers.Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", servers.USER, "+@all")


def user_deleted(server: servers.Server) -> None:
    server.admin.execute_command("ACL", "DELUSER", servers.USER)


def user_made(server: servers.Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", servers.USER, "on", f">{servers.PASSWORD}", "~*", "&*", "+@all")


@pytest.mark.parametrize(
    ("begin", "end", "says"),
    [
        (password_changed, password_back, "^REDIS_USERNAME, REDIS_PASSWORD: .* refuses them|connection was lost"),
        (rights_revoked, rights_granted, "^REDIS_USERNAME: the user may not do this"),
        (user_deleted, user_made, "^REDIS_USERNAME, REDIS_PASSWORD: .* refuses them|connection was lost"),
    ],
    ids=["password", "rights", "user"],
)
async def test_no_longer_letting_us_in(
    locked, tmp_path, begin: Callable[[servers.Server], Any], end: Callable[[servers.Server], Any], says: str
):
    async with scene(tmp_path, **reached_at(locked)) as made:
        await made.endures(lambda: begin(locked), lambda: end(locked), says=says)


async def test_wanting_a_password_that_was_not_said(locked, tmp_path):
    async with scene(tmp_path, **reached_at(locked, login=False)) as made:
        async with made.used():
            await made.logs("store-unavailable")
            await made.operations(200)
        assert made.history.wrong == {}
        (line,) = made.events("store-unavailable")
        assert line["error"].startswith("REDIS_USERNAME, REDIS_PASSWORD: ")


# The way there


def garbage(said: bytes) -> bytes:
    return b"\x00\xff garbage\r\n"


def shortened(said: bytes) -> bytes:
    return said[:-3]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"delay": lambda: 0.08}, "took .* ms|did not answer within"),
        ({"delay": lambda: 0.5}, "did not answer within"),
        ({"rewrite": garbage}, "not the Redis protocol|lost|nobody asked for"),
        ({"rewrite": shortened}, "did not answer within|lost|in time"),
        ({"cut_after": 0, "refusing": True}, "lost|broke off"),
    ],
    ids="slow slower garbage truncated reset".split(),
)
async def test_a_network_that_spoils_what_is_said(server, tmp_path, spoil: dict[str, Any], says: str):
    good = {"delay": lambda: 0.0, "rewrite": None, "cut_after": None, "refusing": False}

    async with before(server, tmp_path) as (made, chaos):

        def begin() -> None:
            for name, value in spoil.items():
                setattr(chaos, name, value)
            if "cut_after" in spoil:
                chaos.reset()

        def end() -> None:
            for name, value in good.items():
                setattr(chaos, name, value)
            chaos.reset()

        await made.endures(begin, end, says=says)


async def test_evicting_what_is_no_cache_is_warned_of_once_and_used_all_the_same(tmp_path):
    with servers.running(servers.redis_server("--maxmemory-policy", "allkeys-lru")) as server:
        async with scene(tmp_path, **reached_at(server)) as made:
            await made.hits_again()
            await made.logs("store-evicts")
            await restarted_by(server)
            await made.hits_again()
            (line,) = made.events("store-evicts")
            assert (line["policy"], line["log_level"]) == ("allkeys-lru", "warning")


async def restarted_by(server: servers.Server) -> None:
    server.kill()
    await restarted(server)
