"""What several processes of a sidecar have seen is told as one: sums, the last of times, all purges in their order."""

import orjson

from proxy.admin.sight import MOST_TENANTS
from proxy.policy.outcome import Forward, Outcome, Reason
from tests.admin.world import World, bearer

COLD = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs", tenant="org_a")
HIT = Outcome(Reason.FRESH, hit=True, feature="jobs", tenant="org_a")


async def other(tmp_path, **question) -> tuple[World, dict]:
    """Another process, and what it answers, as it comes through a channel."""
    world = World(tmp_path / "other.yaml", "staging")
    await world.keep("/api/jobs", "org_b", b"x" * 100)
    world.seen("GET", "/api/jobs", COLD)
    for _ in range(3):
        world.metrics.cell(HIT)[1] += 1
    world.clock.advance(5)
    world.purges.note("otto", {"org_b": ("jobs",)})
    answered = orjson.loads(
        orjson.dumps(
            await world.sight.answer({"what": "sums", "about": None, "purges": True, "held": True, **question})
        )
    )
    await world.background.drain(1)
    return world, answered


async def test_everything_is_the_sum_of_all(world, tmp_path):
    await world.keep("/api/jobs", "org_a")
    world.seen("GET", "/api/jobs", COLD)
    world.purges.note("ida", {"org_a": ("jobs:1",)})
    _, answered = await other(tmp_path)
    world.others.append(answered)
    seen = await world.sight.all(purges=True)
    assert (seen.processes, seen.entries) == (2, 2)
    assert seen.totals["jobs", "hit", "fresh"] == 3
    assert seen.totals["jobs", "miss", "cold"] == 2
    ((cause, counted),) = seen.top_causes()
    assert (cause.reason, cause.route, counted.count) == (Reason.COLD, "GET /api/jobs", 2)
    assert (seen.tenants["org_a"].requests, seen.tenants["org_a"].hits, seen.tenants["org_a"].upstream) == (5, 3, 2)
    assert (seen.tenants["org_b"].entries, seen.features["jobs"].entries) == (1, 2)
    assert [each.by for each in seen.purges] == ["otto", "ida"]


async def test_the_admin_port_tells_of_all(world, client, tmp_path):
    _, answered = await other(tmp_path)
    world.others.append(answered)

    async def ask(path, who="viewer", **body):
        method = "POST" if body else "GET"
        async with client.request(method, path, json=body or None, headers=bearer(who)) as answer:
            return await answer.json()

    status = await ask("/api/cache/status")
    assert (status["processes"], status["first_tier"]["entries"]) == (2, 1)
    assert "75% of 4 requests were hits" in status["verdict"]["line"]
    (top, *_) = (await ask("/api/cache/top?by=tenants"))["top"]
    assert (top["tenant"], top["entries"]) == ("org_b", 1)
    assert [each["by"] for each in (await ask("/api/audit", "inspector"))["purges"]] == ["otto"]
    why = await ask("/api/cache/explain", request="GET /api/jobs", **{"as": {"org_id": "org_b"}})
    assert [each["by"] for each in why["purges_that_touched_it"]] == ["otto"]
    assert [each["count"] for each in why["reasons_of_this_route"]] == [1]


async def test_hits_in_memory_count_for_their_tenant(world, client):
    for tenant, count in (("org_a", 4), ("org_b", 1)):
        world.metrics.cell(Outcome(Reason.FRESH, hit=True, feature="jobs", tenant=tenant))[1] += count
    world.seen("GET", "/api/jobs", COLD)
    async with client.get("/api/cache/top?by=tenants", headers=bearer("viewer")) as answer:
        first, second = (await answer.json())["top"]
    assert (first["tenant"], first["requests"], first["hits"], first["hit_ratio"]) == ("org_a", 5, 4, 0.8)
    assert (second["tenant"], second["requests"], second["upstream_requests"]) == ("org_b", 1, 0)


async def test_of_many_tenants_the_foremost_are_told_and_the_one_it_is_about(world):
    for number in range(MOST_TENANTS + 50):
        outcome = Outcome(Reason.FRESH, hit=True, feature="jobs", tenant=f"org_{number:05}")
        world.metrics.cell(outcome)[1] += 2 if number < MOST_TENANTS else 1
    last = f"org_{MOST_TENANTS + 49:05}"
    assert last not in (await world.sight.all()).tenants
    assert (await world.sight.all(about=last)).tenants[last].hits == 1
    assert len((await world.sight.all(about=last)).tenants) <= 2 * MOST_TENANTS + 1
