"""Why: what the rules say, what is kept now, what has touched it, what was seen without a rule."""

import pytest

from proxy.policy.outcome import Forward, Outcome, Reason
from tests.admin.world import bearer

ORG_A = {"org_id": "org_a", "sub": "u1", "permissions": []}


async def why(client, request="GET /api/jobs", as_=ORG_A, who="viewer", status=200, **more):
    body = {"request": request, "as": as_, **more}
    async with client.post("/api/cache/explain", json=body, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


async def test_what_is_kept_is_told_with_its_age_and_the_request_it_answers(world, client):
    kept = await world.keep()
    world.clock.advance(60)
    told = await why(client)
    assert (told["cache"], told["rule"], told["key"], told["verdict"]) == (
        "used", "GET /api/jobs", kept.key, "served fresh",
    )  # fmt: skip
    assert (told["stored"]["age"], told["stored"]["request"], told["stored"]["size"]) == (60.0, "GET /api/jobs", 2)
    assert {"head", "epochs"}.isdisjoint(told["stored"])


async def test_what_is_only_in_the_store_is_found_too(world, client):
    kept = await world.keep()
    await world.cache.saving(kept.key)
    world.cache._memory.drop(kept.key)  # as an eviction does
    assert (await why(client))["verdict"] == "served fresh"


async def test_nothing_kept_is_cold(world, client):
    told = await why(client)
    assert (told["verdict"], "stored" in told) == ("fetched: cold", False)


@pytest.mark.parametrize(
    ("seconds", "soft", "verdict"),
    [
        (0, True, "served stale, and refreshed meanwhile (soft-purged)"),
        (901, False, "served stale, and refreshed meanwhile"),
        (1021, False, "fetched: expired"),
    ],
)
async def test_staleness_is_told_by_its_cause(world, client, seconds, soft, verdict):
    await world.keep()
    if soft:
        await world.epochs.advance({"org_a": ("jobs",)}, soft=True)
    world.clock.advance(seconds)
    assert (await why(client))["verdict"] == verdict


async def test_the_purges_that_touched_it_are_named_and_no_others(world, client):
    await world.keep("/api/jobs/77")
    for by, purge in (
        ("PUT /api/jobs/{job-id}", {"org_a": ("jobs:77", "jobs:list")}),
        ("otto", {"": ("jobs",)}), ("anna", {"org_b": ("jobs:77",)}), ("emil", {"org_a": ("jobs:78",)}),
        ("ida", {"org_a": ("*",)}),
    ):  # fmt: skip
        await world.epochs.advance(purge)
        world.purges.note(by, purge)
    told = await why(client, "GET /api/jobs/77")
    assert told["verdict"] == "fetched: purged"
    assert [each["by"] for each in told["purges_that_touched_it"]] == ["ida", "otto", "PUT /api/jobs/{job-id}"]


async def test_writes_without_a_rule_near_it_are_named_with_the_edit(world, client):
    unmatched = Outcome(Reason.UNMATCHED_WRITE, forward=Forward.METHOD)
    world.seen("PATCH", "/api/jobs/77/status", unmatched)
    world.seen("POST", "/api/other", unmatched)
    told = await why(client, "GET /api/jobs/77")
    assert [(each["route"], each["count"], each["edit"]) for each in told["writes_without_a_rule"]] == [
        ("PATCH /api/jobs/{id}/status", 1, 'features.NAME.write: ["PATCH /api/jobs/{id}/status"]'),
    ]


async def test_reasons_of_the_route_are_counted(world, client):
    for _ in range(2):
        world.seen("GET", "/api/jobs", Outcome(Reason.PRIVATE, forward=Forward.URI_MISS, feature="jobs"))
    (reason,) = (await why(client))["reasons_of_this_route"]
    assert (reason["reason"], reason["count"], reason["edit"]) == ("private", 2, "features.jobs.scope: user")


async def test_what_is_kept_for_other_headers_is_told_as_variants(world, client):
    kept = await world.keep()
    kept.key += ".v-" + "x" * 22
    assert world.cache.put(kept, quota=None) is None
    await world.cache.drop(world.key().full)
    told = await why(client)
    assert [each["key"] for each in told["variants"]] == [kept.key]
    assert "depends on the request's other headers" in told["verdict"]


async def test_a_feature_that_is_switched_off_says_so(world, client):
    world.bypasses.on("jobs", None, 60, "otto", None)
    assert (await why(client))["switched_off"] is True


async def test_without_live_it_is_the_rules_alone_and_asks_no_store(world, client):
    calls = len(world.store.calls)
    told = await why(client, live=False)
    assert ("verdict" in told, len(world.store.calls)) == (False, calls)


async def test_a_bypass_is_told_by_its_reason(client):
    assert (await why(client, as_=None))["because"] == "no-credentials"
    assert (await why(client, "POST /api/jobs"))["because"] == "write"
    assert (await why(client, "GET /nothing"))["because"] == "no-rule"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "request"), ({"request": "jobs"}, "request"), ({"request": "GET /a b"}, "request"),
        ({"request": "GET /\u00e9"}, "request"), ({"request": ["GET /"]}, "request"),
        ({"request": "GET /", "as": "org_a"}, "as"), ({"request": "GET /", "as": {"tenant": "x"}}, "as.tenant"),
        ({"request": "GET /", "as": {"org_id": "a b"}}, "as.org_id"),
        ({"request": "GET /", "as": {"sub": 1}}, "as.sub"),
        ({"request": "GET /", "as": {"permissions": "x"}}, "as.permissions"),
        ({"request": "GET /", "as": {"headers": {"a": "b\r\nc"}}}, "as.headers"),
        ({"request": "GET /", "as": {"headers": {"Authorization": "Bearer x"}}}, "as.headers"),
        ({"request": "GET /", "as": {"headers": {"cookie": "x"}}}, "as.headers"),
        ({"request": "GET /", "as": {"headers": []}}, "as.headers"), ({"request": "GET /", "live": "x"}, "live"),
    ],
)  # fmt: skip
async def test_wrong_input_names_the_field(client, body, field):
    async with client.post("/api/cache/explain", json=body, headers=bearer("viewer")) as answer:
        assert (answer.status, (await answer.json(content_type=None))["field"]) == (400, field)


async def test_a_sensitive_entry_is_told_without_its_content(world, client):
    await world.keep("/api/secrets/s1", body=b"the secret")
    told = await why(client, "GET /api/secrets/s1")
    assert told["stored"]["request"] == "(sensitive)"
    assert "the secret" not in str(told)


@pytest.mark.isolation
async def test_a_viewer_of_one_tenant_asks_as_that_tenant_only(world, client):
    await world.keep("/api/jobs", "org_b")
    world.seen("PATCH", "/api/jobs/77", Outcome(Reason.UNMATCHED_WRITE, forward=Forward.METHOD))
    await why(client, as_={"org_id": "org_b"}, who="viewer-a", status=403)
    told = await why(client, as_={"sub": "u1"}, who="viewer-a")
    assert told["key"] == "tenant:org_a:jobs:list"
    assert {"stored", "writes_without_a_rule", "reasons_of_this_route"}.isdisjoint(told)
