"""After a client has the response to its write, no later read is older (P2): histories of concurrent requests."""

import asyncio
import json
import random

import pytest

from tests.serving.world import World, answered, unsigned

RULES = """
version: 1
identity: {tenant: [jwt.org_id], user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 2m, if-error: 1h}
features:
  jobs:
    ttl: 15m
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs, "PUT /api/jobs/{job-id}"]
"""
TENANTS = ("org_a", "org_b")
READS = ("/api/jobs", "/api/jobs/1", "/api/jobs?page=2")


class Register:
    """An upstream whose every answer is the number of writes of that tenant it has seen; it answers when it likes."""

    def __init__(self, chance: random.Random) -> None:
        self.version = dict.fromkeys(TENANTS, 0)
        self._chance = chance

    async def fetch(self, request, body, *, interim=None):
        tenant = next(name for name in TENANTS if unsigned(name) in (request.fields.get("authorization") or ""))
        await self._dawdle()
        if request.method != "GET":
            self.version[tenant] += 1
        seen = self.version[tenant]
        await self._dawdle()
        return answered({"tenant": tenant, "version": seen})

    async def _dawdle(self) -> None:
        for _ in range(self._chance.choice((0, 0, 1, 3, 9))):
            await asyncio.sleep(0)


async def history(world: World, seed: int, operations: int) -> tuple[int, int]:
    """How many reads were older than a write acknowledged before they began, and how many were hits."""
    chance = random.Random(seed)
    register = Register(chance)
    world.exchange._upstream = world.exchange._fetcher._leading._upstream = register
    acknowledged = dict.fromkeys(TENANTS, 0)
    stale = hits = 0

    async def read() -> None:
        nonlocal stale, hits
        tenant = chance.choice(TENANTS)
        at_least = acknowledged[tenant]
        answer = await world.get(chance.choice(READS), token=unsigned(tenant))
        got = json.loads(answer.body)
        assert got["tenant"] == tenant
        stale += got["version"] < at_least
        hits += answer.cache.startswith("sidecache; hit")

    async def write() -> None:
        tenant = chance.choice(TENANTS)
        target = chance.choice([("POST", "/api/jobs"), ("PUT", "/api/jobs/1")])
        # every write of this upstream changes the list, its pages and item 1 alike
        answer = await world.send(*target, token=unsigned(tenant), body=b"{}")
        if target[0] == "PUT":
            acknowledged[tenant] = max(acknowledged[tenant], json.loads(answer.body)["version"])

    async def client() -> None:
        for _ in range(operations):
            if chance.random() < 0.05:
                await write()
            else:
                await read()
            if chance.random() < 0.02:
                world.clock.advance(chance.choice((0.5, 1, 600, 950)))

    await asyncio.gather(*(client() for _ in range(24)))
    await world.background.drain(1.0)
    return stale, hits


@pytest.mark.parametrize("seed", range(4))
async def test_no_read_is_older_than_a_write_acknowledged_before_it(seed):
    world = World(RULES)
    stale, hits = await history(world, seed, operations=100)

    assert stale == 0
    assert hits > 800  # it was about a cache
    assert world.failures == []


async def test_the_same_history_without_purges_is_caught():
    """Positive control: the checker sees stale reads when writes purge nothing."""
    world = World(RULES)

    async def nothing(purges, *, soft=False):
        return True

    world.exchange._epochs.advance = nothing
    stale, _ = await history(world, 1, operations=50)

    assert stale > 50


async def test_the_same_history_with_purges_after_the_answer_is_caught():
    """Positive control: advancing only once the response is out leaves a gap that the checker finds."""
    world = World(RULES)
    advance = world.exchange._epochs.advance

    async def late(purges, *, soft=False):
        async def wait():
            for _ in range(5):
                await asyncio.sleep(0)
            await advance(purges)

        world.background.start(wait())
        return True

    world.exchange._epochs.advance = late
    stale, _ = await history(world, 1, operations=50)

    assert stale > 0
