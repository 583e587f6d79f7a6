"""One verdict, and who uses what."""

import pytest

from proxy.policy.outcome import Forward, Outcome, Reason
from tests.admin.world import bearer

HIT = Outcome(Reason.FRESH, hit=True, feature="jobs", tenant="org_a")
COLD = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs", tenant="org_a")
FAILED = Outcome(Reason.UPSTREAM_FAILED, forward=Forward.URI_MISS, feature="jobs", tenant="org_a")


async def ask(client, path, who="viewer", status=200):
    async with client.get(path, headers=bearer(who)) as answer:
        assert answer.status == status
        return await answer.json(content_type=None)


async def test_all_well_is_one_line_with_the_hit_ratio(world, client):
    for outcome in (COLD, HIT, HIT, HIT):
        world.seen("GET", "/api/jobs", outcome)
    told = await ask(client, "/api/cache/status")
    assert told["verdict"] == {
        "level": "ok", "line": "OK: 75% of 4 requests were hits, store healthy, rules valid", "faults": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (lambda world: world.store.down.add("ping"), "the store does not answer (ping: the store is down)"),
        (lambda world: world.seen("GET", "/api/jobs", FAILED), "the upstream fails: 1 times"),
        (lambda world: world.bypasses.on(None, None, 60, "otto", None), "caching is switched off by otto"),
    ],
)
async def test_the_verdict_says_what_is_the_matter(world, client, trouble, said):
    trouble(world)
    verdict = (await ask(client, "/api/cache/status"))["verdict"]
    assert verdict["level"] == "degraded"
    assert said in verdict["line"]


async def test_a_broken_rules_file_and_pending_purges_are_said(world, client):
    world.rules.file.write_text("broken: [")
    await world.rules.reload()
    world.store.down.add("advance_epochs")
    await world.epochs.advance({"org_a": ("jobs",)})
    told = await ask(client, "/api/cache/status")
    assert "the rules file has 1 problem: the last good rules are in force" in told["verdict"]["line"]
    assert told["purges_pending"] > 0
    assert "purges wait for the store" in told["verdict"]["line"]
    world.store.down.clear()


async def test_rules_that_wait_to_be_accepted_are_said(world, client):
    world.rules.file.write_text(
        world.rules.file.read_text().replace("    ttl: 15m\n", "    ttl: 15m\n    honour: false\n")
    )
    await world.rules.reload()
    line = (await ask(client, "/api/cache/status"))["verdict"]["line"]
    assert line == "DEGRADED: the rules file shares more than the rules in force, and nobody has accepted it"


async def test_draining_is_a_level_of_its_own(world, client):
    world.health.draining = True
    assert (await ask(client, "/api/cache/status"))["verdict"]["level"] == "draining"


async def test_a_failure_of_the_upstream_is_news_for_a_minute(world, client):
    world.seen("GET", "/api/jobs", FAILED)
    world.clock.advance(61)
    assert (await ask(client, "/api/cache/status"))["verdict"]["level"] == "ok"


async def test_tenants_come_by_what_they_hold(world, client):
    await world.keep("/api/jobs", "org_a", b"x" * 100)
    await world.keep("/api/jobs", "org_b", b"x" * 5000)
    world.seen("GET", "/api/jobs", COLD)
    first, second = (await ask(client, "/api/cache/top?by=tenants"))["top"]
    assert (first["tenant"], second["tenant"]) == ("org_b", "org_a")
    assert (second["entries"], second["upstream_requests"]) == (1, 1)
    assert first["share"] + second["share"] == pytest.approx(1, abs=1e-3)


async def test_features_come_by_requests_with_their_hit_ratio(world, client):
    for outcome in (COLD, HIT):
        world.seen("GET", "/api/jobs", outcome)
    await world.keep()
    (row,) = (await ask(client, "/api/cache/top?by=features"))["top"]
    assert (row["feature"], row["requests"], row["hits"], row["hit_ratio"], row["entries"]) == ("jobs", 2, 1, 0.5, 1)


async def test_reasons_come_with_the_edit_that_helps(world, client):
    for _ in range(3):
        world.seen("GET", "/api/reports/77", Outcome(Reason.NO_RULE, forward=Forward.BYPASS))
    world.seen("GET", "/api/jobs", COLD)
    first, second = (await ask(client, "/api/cache/top"))["top"]
    assert (first["reason"], first["route"], first["count"]) == ("no-rule", "GET /api/reports/{id}", 3)
    assert first["edit"] == 'features.NAME.read: ["GET /api/reports/{id}"]   # if it may be cached'
    assert (second["reason"], second["edit"]) == ("cold", None)
    assert len((await ask(client, "/api/cache/top?limit=1"))["top"]) == 1


@pytest.mark.isolation
async def test_purges_that_wait_are_told_to_whose_they_are(world, client):
    world.store.down.add("advance_epochs")
    await world.epochs.advance({"org_b": ("jobs",)})
    told = await ask(client, "/api/cache/status", "viewer-a")
    assert (told["purges_pending"], told["verdict"]["level"]) == (0, "ok")
    assert (await ask(client, "/api/cache/status"))["purges_pending"] == 1
    await world.epochs.advance({"org_a": ("jobs:77", "jobs")})
    assert (await ask(client, "/api/cache/status", "viewer-a"))["purges_pending"] == world.epochs.pending - 1
    world.store.down.clear()


@pytest.mark.isolation
async def test_a_viewer_of_one_tenant_is_told_nothing_of_others(world, client):
    await world.keep("/api/jobs", "org_a")
    await world.keep("/api/jobs", "org_b")
    await world.keep("/api/countries")
    world.seen("GET", "/api/jobs", COLD)
    world.seen("GET", "/api/jobs", FAILED)
    world.about_store |= {"operations": 7, "failed": 1, "not_tried": 0, "calls": []}
    world.bypasses.on(None, "org_b", 60, "otto", "why org_b")
    told = await ask(client, "/api/cache/status", "viewer-a")
    assert [row["tenant"] for row in told["tenants"]] == ["org_a"]
    assert "share" not in told["tenants"][0]
    assert {"features", "first_tier"}.isdisjoint(told)
    assert told["store"] == {"healthy": True, "kind": "memory"}  # not how often it was asked
    assert told["verdict"]["line"] == "DEGRADED: the upstream fails"  # how often is of all of them
    assert "org_b" not in str(told)
    assert [row["tenant"] for row in (await ask(client, "/api/cache/top?by=tenants", "viewer-a"))["top"]] == ["org_a"]
    for by in ("features", "reasons"):
        await ask(client, f"/api/cache/top?by={by}", "viewer-a", 403)
