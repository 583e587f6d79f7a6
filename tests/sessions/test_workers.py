"""Several processes that look like one: who logs out at one of them has logged out at all before the answer."""

import os
import signal

import pytest

from tests import servers
from tests.portal import HOST, RULES, TENANTS, item, price
from tests.serving.world import unsigned
from tests.workers.sidecar import workers

pytestmark = [pytest.mark.process, servers.needs_redis, pytest.mark.timeout(120)]

TOKEN = f"Authorization: Bearer {unsigned(TENANTS[0])}"
OTHER = f"Authorization: Bearer {unsigned(TENANTS[1])}"
# the portal of these tests answers this like any write
WITH_LOGOUT = RULES + 'session:\n  logout: ["PUT /api/prices/{price-id}"]\n'
ALONE = {"SIDECACHE_SOLE_REPLICA": "1"}  # no message is listened for


@pytest.fixture
def server():
    with servers.running(servers.redis_server()) as made:
        yield made


async def log_out(client) -> int:
    return (await client.ask(price(1), TOKEN, method="PUT", body=b"{}", host=HOST)).status


async def statuses(clients, token: str = TOKEN) -> set[int]:
    return {(await client.ask(item(1), token, host=HOST)).status for client in clients}


@pytest.mark.parametrize("lost", [False, True], ids=["", "store-lost"])
async def test_what_one_worker_revokes_every_connection_of_all_refuses_at_once(server, tmp_path, lost):
    async with workers(server, tmp_path, 2, rules=WITH_LOGOUT, **ALONE) as made:
        held = await made.spread(3)
        clients = [client for each in held.values() for client in each]
        assert await statuses(clients) == {200}
        if lost:
            server.kill()
        assert await log_out(clients[0]) == 200
        assert await statuses(clients) == {401}
        assert await statuses(clients, OTHER) == {200}


async def test_a_worker_that_begins_knows_what_the_store_has_not_taken(server, tmp_path):
    async with workers(server, tmp_path, 2, rules=WITH_LOGOUT, **ALONE) as made:
        held = await made.spread(1)
        one, other = made.pids
        server.kill()
        assert await log_out(held[one][0]) == 200
        os.kill(other, signal.SIGKILL)
        await made.until(lambda: len(made.events("worker-started")) == 3)
        await made.until(lambda: len(made.pids) == 2)
        for clients in (await made.spread(1)).values():
            assert await statuses(clients) == {401}
        server.start().wait()

        async def taken() -> bool:
            return (await made.metrics())["sidecache_revocations_pending", ()] == 0

        await made.until(taken)
        assert server.admin.xlen("shared:revocations") >= 1
