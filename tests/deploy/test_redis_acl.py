"""The Redis user that deploy/ ships: enough for everything we do, and nothing beside it."""

import pytest
import redis

from tests import servers
from tests.faults.scene import reached_at, scene
from tests.fleet import observed

pytestmark = [pytest.mark.process, servers.needs_redis]


@pytest.fixture(scope="module")
def server():
    with servers.running(servers.shipped_server()) as made:
        yield made


@pytest.fixture(autouse=True)
def empty(server):
    server.flush()
    server.admin.acl_log_reset()


def as_user(server: servers.Server) -> redis.Redis:
    return redis.Redis(
        host="127.0.0.1", port=server.port, username=servers.SHIPPED_USER, password=servers.SHIPPED_PASSWORD,
        driver_info=None,
    )  # fmt: skip


def test_the_rights_are_those_the_documentation_tells_and_the_other_tests_run_with():
    (line,) = [each for each in servers.SHIPPED_ACL.read_text().splitlines() if f"user {servers.SHIPPED_USER} " in each]
    rights = [word for word in line.split() if word.startswith("+")]
    assert rights == [word for word in servers.GRANTED.split() if word.startswith("+")]
    documentation = (servers.SHIPPED_ACL.parents[2] / "docs" / "stores.md").read_text()
    assert servers.SHIPPED_ACL.read_text() in documentation


def test_nobody_comes_in_without_a_name():
    assert servers.SHIPPED_ACL.read_text().splitlines()[0] == "user default off"


async def test_replicas_find_it_enough(server, tmp_path):
    history = await observed(tmp_path, [reached_at(server)] * 2, operations=1500, seed=3)
    assert history.wrong == {}
    assert history.hits > 500
    names = {name.decode() for name in server.admin.scan_iter()}
    assert names
    assert all(name.startswith(("tenant:", "shared:")) for name in names)
    refused = [entry for entry in server.admin.acl_log() if entry["username"] == servers.SHIPPED_USER]
    assert refused == []


async def test_one_sidecar_says_nothing_of_rights(server, tmp_path):
    async with scene(tmp_path, **reached_at(server)) as made:
        await made.hits_again()
        async with made.used():
            await made.operations(200)
    assert made.history.wrong == {}
    assert [line for line in made.logged if line["log_level"] not in ("info", "debug")] == []


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET maxmemory", "EVAL return 0", "MULTI", "SHUTDOWN",
        "ACL LIST", "CLIENT LIST", "MONITOR", "SAVE", "REPLICAOF NO ONE", "CLUSTER RESET", "MODULE LIST",
        "GET other:key", "SET other:key 1", "HSET other h 1", "DEL other", "PUBLISH other x", "SUBSCRIBE other",
        "RENAME tenant:a tenant:b", "EXPIRE tenant:a 1", "OBJECT ENCODING tenant:a",
    ],
)  # fmt: skip
def test_what_it_does_not_need_it_may_not_do(server, command):
    with as_user(server) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize("name", ["tenant:org_a:jobs:1", "session:u1:org_a", "shared:epochs"])
def test_our_own_names_are_all_it_may_touch(server, name):
    with as_user(server) as client:
        client.set(name, b"1", px=1000)
        assert client.get(name) == b"1"
