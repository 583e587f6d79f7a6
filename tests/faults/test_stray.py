"""Replies that are not what was asked for: nobody is served by them, whoever they are of."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests import servers
from tests.chaos import Chaos, swapped
from tests.faults.scene import before, plain
from tests.portal import TENANTS, User, item

pytestmark = [pytest.mark.process, servers.needs_redis, pytest.mark.isolation]

STRAYS = [b"$3\r\nbad\r\n", b"+OK\r\n", b"$-1\r\n", b":1\r\n", b"$100\r\nba", b"*1\r\n$3\r\nbad\r\n", b"-ERR bad\r\n"]


@pytest.fixture(scope="module")
def server():
    with plain() as made:
        yield made


async def stray(chaos: Chaos) -> None:
    for said in STRAYS:
        await chaos.stray(said)


async def in_front(chaos: Chaos) -> None:
    chaos.rewrite = lambda said: b"$3\r\nbad\r\n" + said


async def behind(chaos: Chaos) -> None:
    chaos.rewrite = lambda said: said + b"$3\r\nbad\r\n"


async def exchanged(chaos: Chaos) -> None:
    chaos.rewrite = swapped


async def crossed(chaos: Chaos) -> None:
    chaos.crossed = True


async def replayed(chaos: Chaos) -> None:
    """Everything is said twice."""
    chaos.rewrite = lambda said: said + said


@pytest.mark.parametrize(
    "spoil", [stray, in_front, behind, exchanged, crossed, replayed], ids=lambda each: each.__name__
)
async def test_replies_that_belong_to_others_are_nobody_s(server, tmp_path, spoil: Callable[[Any], Awaitable[None]]):
    server.flush()
    # a first tier that holds hardly anything: most reads ask the store
    async with before(server, tmp_path, SIDECACHE_L1_BYTES="1048576") as (made, chaos):
        await made.hits_again()
        async with made.used(items=400, writes=0.03):
            for _ in range(3):
                await spoil(chaos)
                await made.operations(150)
            chaos.rewrite, chaos.crossed = None, False
            chaos.reset()
            await made.hits_again()
        assert made.history.wrong == {}


async def test_a_record_under_another_tenant_s_name_is_a_counted_miss(server, tmp_path):
    """Whoever can write to the store cannot move an answer from one tenant to another."""
    server.flush()
    async with before(server, tmp_path) as (made, _):
        user = User(made.history.ports)
        for tenant in TENANTS:
            await made.history.read(user, 0, tenant, item(1))
        names = [f"tenant:{tenant}:jobs:1" for tenant in TENANTS]
        async with before(server, tmp_path) as (other, _):  # nothing is in its first tier
            await _stored(server, names)
            one, two = (server.admin.get(name) for name in names)
            server.admin.mset({names[0]: two, names[1]: one})
            reader = User(other.history.ports)
            for tenant in TENANTS:
                assert "hit" not in await other.history.read(reader, 0, tenant, item(1))
            assert other.history.wrong == {}
            await reader.close()
        await user.close()


async def _stored(server: servers.Server, names: list[str]) -> None:
    async def stored() -> bool:
        return bool(server.admin.exists(*names) == len(names))

    await servers.eventually(stored)
