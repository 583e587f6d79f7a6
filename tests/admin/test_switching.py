"""Switching caching off for a while: what it covers, that it ends, who may."""

import pytest

from tests.admin.world import bearer, port


async def switch(client, who="operator", status=200, **fields):
    body = {"for" if name == "for_" else name: value for name, value in fields.items()}
    async with client.post("/api/cache/bypass", json=body, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


@pytest.mark.parametrize(
    ("fields", "covered"),
    [
        ({}, {("jobs", "org_a"), ("jobs", "org_b"), ("countries", None)}),
        ({"feature": "jobs"}, {("jobs", "org_a"), ("jobs", "org_b")}),
        ({"tenant": "org_a"}, {("jobs", "org_a")}),
        ({"feature": "jobs", "tenant": "org_b"}, {("jobs", "org_b")}),
        ({"feature": "countries"}, {("countries", None)}),
    ],
)
async def test_it_covers_what_is_named_and_ends_by_itself(world, client, fields, covered):
    told = await switch(client, state="on", for_="15m", **fields)
    assert [each["until"] for each in told["bypasses"]] == [world.clock() + 900]
    every = [("jobs", "org_a"), ("jobs", "org_b"), ("countries", None)]
    assert {each for each in every if world.bypasses.covers(*each)} == covered
    assert world.switched == 1  # prepared answers are void
    world.clock.advance(900)
    assert [each for each in every if world.bypasses.covers(*each)] == []


async def test_off_ends_what_is_named_or_all(world, client):
    await switch(client, state="on", for_="15m", feature="jobs")
    await switch(client, state="on", for_="15m", tenant="org_a")
    assert [each["tenant"] for each in (await switch(client, state="off", feature="jobs"))["bypasses"]] == ["org_a"]
    assert (await switch(client, state="off"))["bypasses"] == []
    assert [line["event"] for line in world.audited()] == ["bypass-off", "bypass-off", "bypass-on", "bypass-on"]


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({}, 400, "state"), ({"state": "maybe"}, 400, "state"), ({"state": ["on"]}, 400, "state"),
        ({"state": "on"}, 400, "for"), ({"state": "on", "for_": "forever"}, 400, "for"),
        ({"state": "on", "for_": "0s"}, 400, "for"), ({"state": "on", "for_": "25h"}, 400, "for"),
        ({"state": "on", "for_": 900}, 400, "for"), ({"state": "on", "for_": "1m", "feature": "jbos"}, 404, "feature"),
        ({"state": "on", "for_": "1m", "tenant": "a b"}, 400, "tenant"),
        ({"state": "on", "for_": "1m", "feature": "countries", "tenant": "org_a"}, 400, "tenant"),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_switches_nothing(world, client, fields, status, field):
    assert (await switch(client, status=status, **fields))["field"] == field
    assert world.bypasses.active() == ()


async def test_there_is_a_most_of_switches(world, client):
    for number in range(256):
        assert world.bypasses.on(None, f"org_{number}", 60, "otto", None) is not None
    assert "256" in (await switch(client, status=409, state="on", for_="1m"))["detail"]


async def test_production_wants_a_reason_to_switch_off_but_not_to_switch_on_again(tmp_path):
    async with port(tmp_path, "production") as (world, client):
        assert (await switch(client, status=400, state="on", for_="1m"))["field"] == "reason"
        await switch(client, state="on", for_="1m", reason="INC-42")
        assert world.audited("bypass-on")[0]["reason"] == "INC-42"
        assert (await switch(client, state="off"))["bypasses"] == []


@pytest.mark.isolation
async def test_an_operator_of_one_tenant_switches_its_own_only(world, client):
    await switch(client, state="on", for_="1h", tenant="org_b")
    await switch(client, "operator-a", 403, state="on", for_="1m", tenant="org_b")
    await switch(client, "operator-a", 403, state="on", for_="1m", feature="countries")
    told = await switch(client, "operator-a", state="on", for_="1m")
    assert [each["tenant"] for each in told["bypasses"]] == ["org_a"]
    assert (await switch(client, "operator-a", state="off"))["bypasses"] == []
    assert [each.tenant for each in world.bypasses.active()] == ["org_b"]
