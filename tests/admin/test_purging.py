"""Purges of operators and of other systems: the right entries, no others, with the guarantees of a write."""

import asyncio

import pytest

from proxy.cache.tiers import Found, Standing
from tests.admin.world import World, bearer, port
from tests.doubles import settle
from tests.wire import until


async def purge(client, who="operator", status=200, **fields):
    body = {name.replace("_", "-"): value for name, value in fields.items()}
    async with client.delete("/api/cache/invalidate", json=body, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


EVERY = [("/api/jobs", "org_a"), ("/api/jobs/77", "org_a"), ("/api/jobs", "org_b"), ("/api/countries", "org_a")]


@pytest.mark.parametrize(
    ("fields", "gone"),
    [
        ({"tags": ["jobs:77"], "tenant": "org_a"}, {1}),
        ({"tags": ["jobs:list"], "tenant": "org_a"}, {0}),
        ({"tags": ["jobs"], "tenant": "org_a"}, {0, 1}),
        ({"path": "/api/jobs/77", "tenant": "org_a"}, {1}),
        ({"path": "/api/jobs/77?x=1", "tenant": "org_a"}, {1}),
        ({"path": "/api/countries"}, {3}),
        ({"tags": ["countries"]}, {3}),
        ({"feature": "jobs", "tenant": "org_a", "confirm": "jobs"}, {0, 1}),
        ({"feature": "jobs", "confirm": "jobs"}, {0, 1, 2}),
        ({"feature": "countries", "confirm": "countries"}, {3}),
        ({"tenant": "org_a", "confirm": "org_a"}, {0, 1}),
        ({"everything": True, "confirm": "everything"}, {0, 1, 2, 3}),
    ],
)
async def test_what_is_named_is_gone_and_nothing_else(world: World, client, fields, gone):
    for path, tenant in EVERY:
        await world.keep(path, tenant)
    dry = await purge(client, **{**fields, "dry-run": True})
    assert [await world.is_kept(*each) for each in EVERY] == [True] * 4
    told = await purge(client, **fields)
    assert {index for index, each in enumerate(EVERY) if not await world.is_kept(*each)} == gone
    assert told["accepted"] is True
    assert (dry["purge"], dry["sample"]["entries"]) == (told["purge"], len(gone))
    assert dry["confirm"] == fields.get("confirm")


async def test_a_key_takes_what_shares_its_tag_with_it(world, client):
    kept = await world.keep("/api/jobs/77")
    other = await world.keep("/api/jobs/77?page=2")
    await purge(client, keys=[kept.key])
    assert world.cache.look(other.key) is not None
    assert not await world.is_kept("/api/jobs/77")


async def test_the_query_says_the_same_as_a_body(world, client):
    await world.keep("/api/jobs/77")
    url = "/api/cache/invalidate?tags=jobs:77,jobs:list&tenant=org_a&reason=INC-42"
    async with client.delete(url, headers=bearer("operator")) as answer:
        assert answer.status == 200
    assert not await world.is_kept("/api/jobs/77")


async def test_a_soft_purge_leaves_it_to_be_served_stale(world, client):
    await world.keep()
    assert (await purge(client, tags=["jobs"], tenant="org_a", soft=True))["soft"] is True
    found = await world.cache.find(world.key(), world.rules.current.match("GET", "/api/jobs").route.digest)
    assert isinstance(found, Found)
    assert found.standing is Standing.SOFT_PURGED


async def test_a_fill_that_was_on_its_way_is_not_served_after_a_purge(world, client):
    stamp = await world.epochs.current("org_a", ("jobs", "jobs:list"))
    await purge(client, tags=["jobs:list"], tenant="org_a")
    assert (await world.epochs.current("org_a", ("jobs", "jobs:list"))).hard != stamp.hard


async def test_the_answer_waits_for_the_store_as_a_writes_does(world, client):
    await world.keep()
    world.store.held.add("advance_epochs")
    asking = asyncio.create_task(purge(client, tags=["jobs"], tenant="org_a"))
    await until(lambda: world.store.gates)
    await settle()
    assert not asking.done()
    world.store.held.clear()
    world.store.open_gate()
    assert (await asking)["accepted"] is True


async def test_while_the_store_refuses_it_is_202_and_nothing_old_is_served(world, client):
    await world.keep()
    world.store.down.add("advance_epochs")
    told = await purge(client, status=202, tags=["jobs"], tenant="org_a")
    assert told["accepted"] is False
    assert not await world.is_kept()
    assert world.audited("purge")[0]["result"] == "pending"
    world.store.down.clear()


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        # realistic
        ({}, 400, None), ({"feature": "jobs"}, 400, "confirm"), ({"tenant": "org_a"}, 400, "confirm"),
        ({"tenant": "org_a", "confirm": "org_b"}, 400, "confirm"), ({"everything": True}, 400, "confirm"),
        ({"tags": ["jobs:77"]}, 400, "tenant"), ({"path": "/api/jobs"}, 400, "tenant"),
        ({"tags": ["jbos"], "tenant": "org_a"}, 404, "tags"), ({"feature": "jbos"}, 404, "feature"),
        ({"path": "/nothing", "tenant": "org_a"}, 404, "path"), ({"path": "jobs", "tenant": "org_a"}, 400, "path"),
        ({"tags": ["jobs"], "path": "/api/jobs", "tenant": "org_a"}, 400, "path"),
        ({"keys": ["tenant:org_a:jobs:1"]}, 404, "keys"),
        # pathological
        ({"tags": []}, 400, "tags"), ({"tags": [1]}, 400, "tags"), ({"tags": {"a": 1}}, 400, "tags"),
        ({"tags": ["jobs:a b"], "tenant": "org_a"}, 400, "tags"), ({"tags": ["jobs:\n"], "tenant": "a"}, 400, "tags"),
        ({"tags": ["@x"], "tenant": "org_a"}, 400, "tags"), ({"tags": ["jobs"] * 300}, 400, "tags"),
        ({"tenant": "a\n"}, 400, "tenant"), ({"tenant": ""}, 400, "tenant"), ({"tenant": ["a"]}, 400, "tenant"),
        ({"everything": "yes"}, 400, "everything"), ({"everything": False}, 400, "everything"),
        ({"everything": True, "tenant": "org_a", "confirm": "everything"}, 400, "everything"),
        ({"tags": ["jobs"], "tenant": "org_a", "soft": 3}, 400, "soft"),
        ({"tags": ["jobs"], "tenant": "org_a", "reason": "a\nb"}, 400, "reason"),
        ({"path": "/api/jobs;x", "tenant": "org_a"}, 404, "path"), ({"colour": "red"}, 400, "colour"),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_is_refused_and_purges_nothing(world, client, fields, status, field):
    await world.keep()
    told = await purge(client, status=status, **fields)
    assert told.get("field") == field
    assert await world.is_kept()
    assert world.audited("purge") == []
    assert world.purges.count == 0


async def test_production_wants_a_reason(tmp_path):
    async with port(tmp_path, "production") as (world, client):
        await world.keep()
        told = await purge(client, status=400, tags=["jobs"], tenant="org_a")
        assert told["field"] == "reason"
        assert await world.is_kept()
        await purge(client, tags=["jobs"], tenant="org_a", reason="INC-42")
        (line,) = world.audited("purge")
        assert (line["reason"], line["tenant"], line["actor"]["name"]) == ("INC-42", "org_a", "otto")


@pytest.mark.isolation
@pytest.mark.parametrize(
    "fields",
    [
        {"tags": ["jobs"], "tenant": "org_b"}, {"tenant": "org_b", "confirm": "org_b"},
        {"path": "/api/jobs", "tenant": "org_b"}, {"feature": "jobs", "tenant": "org_b", "confirm": "jobs"},
        {"everything": True, "confirm": "everything"}, {"tags": ["countries"]}, {"path": "/api/countries"},
        {"feature": "countries", "confirm": "countries"}, {"tags": ["jobs", "countries"]},
        {"keys": ["tenant:org_b:jobs:list"]},
    ],
)  # fmt: skip
async def test_a_token_of_one_tenant_purges_nothing_of_another_or_of_all(world, client, fields):
    for path, tenant in EVERY:
        await world.keep(path, tenant)
    told = await purge(client, "operator-a", status=404 if "keys" in fields else 403, **fields)
    assert [await world.is_kept(*each) for each in EVERY] == [True] * 4
    assert "org_b:jobs:list" not in str(told) or "keys" in fields
    assert world.purges.count == 0


@pytest.mark.isolation
async def test_a_token_of_one_tenant_purges_its_own_without_naming_it(world, client):
    for path, tenant in EVERY:
        await world.keep(path, tenant)
    await purge(client, "operator-a", feature="jobs", confirm="jobs")
    assert [await world.is_kept(*each) for each in EVERY] == [False, False, True, True]


# Events of other systems


async def tell(client, events, who="backend", status=200):
    async with client.post("/api/cache/events", json={"events": events}, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


async def test_an_event_purges_what_it_names_in_one_step(world, client):
    for path, tenant in EVERY:
        await world.keep(path, tenant)
    await tell(client, [{"tenant": "org_a", "tags": ["jobs:77"]}, {"tenant": "org_b", "tags": ["jobs"]}])
    assert [await world.is_kept(*each) for each in EVERY] == [True, False, False, True]
    assert {line["tenant"] for line in world.audited("event")} == {"org_a", "org_b"}


@pytest.mark.parametrize(
    ("events", "status", "field"),
    [
        (None, 400, "events"), ([], 400, "events"), ({}, 400, "events"), ([1], 400, "events[0]"),
        ([{"tags": ["jobs"]}], 400, "events[0].tenant"), ([{"tenant": "org_a"}], 400, "events[0].tags"),
        ([{"tenant": "org_a", "tags": ["jobs"]}, {"tenant": "org_a", "tags": ["x"]}], 404, "events[1].tags"),
        ([{"tenant": "a b", "tags": ["jobs"]}], 400, "events[0].tenant"),
        ([{"tenant": "org_a", "tags": ["jobs"], "x": 1}], 400, "events[0].x"),
        ([{"tenant": "org_a", "tags": ["*"]}], 404, "events[0].tags"),
    ],
)  # fmt: skip
async def test_an_event_that_is_none_names_its_place_and_the_others_are_not_done(world, client, events, status, field):
    await world.keep()
    assert (await tell(client, events, status=status))["field"] == field
    assert await world.is_kept()


@pytest.mark.isolation
async def test_a_backend_of_one_tenant_tells_of_its_own_only(world, client):
    for path, tenant in EVERY:
        await world.keep(path, tenant)
    await tell(client, [{"tenant": "org_b", "tags": ["jobs"]}], "backend-a", 403)
    await tell(client, [{"tags": ["countries"]}], "backend-a", 403)
    await tell(client, [{"tags": ["jobs:list"]}], "backend-a")
    assert [await world.is_kept(*each) for each in EVERY] == [False, True, True, True]
