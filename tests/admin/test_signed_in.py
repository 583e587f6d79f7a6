"""Sessions on the admin port: who is signed in, and how one, all of a user, or all of an organisation end."""

import pytest

from proxy.policy.identity import Identity, Presented
from tests.admin.world import bearer, port
from tests.doubles import settle


async def get(client, query="", who="inspector", status=200):
    async with client.get(f"/api/sessions{query}", headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


async def end(client, who="operator", status=200, **fields):
    async with client.delete("/api/sessions", json=fields, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


async def sign_in(world, user="u1", tenant="org_a", **more):
    presented = Presented(user, tenant, more.get("session"), world.clock() - 5, digest=user.encode())
    world.records.seen(Identity(tenant, user, frozenset({"read:jobs"}), presented=presented))
    await settle(40)


async def test_those_in_use_are_listed_and_one_is_read_from_the_store(world, client):
    await sign_in(world)
    await sign_in(world, "u2", "org_b", session="s2")
    listed = await get(client)
    assert [(each["user"], each["tenant"], each["session"]) for each in listed["sessions"]] == [
        ("u2", "org_b", "s2"), ("u1", "org_a", None),
    ]  # fmt: skip
    assert "this process" in listed["of"]
    assert [each["user"] for each in (await get(client, "?limit=1"))["sessions"]] == ["u2"]
    assert [each["user"] for each in (await get(client, "?tenant=org_a"))["sessions"]] == ["u1"]
    (one,) = (await get(client, "?tenant=org_a&user=u1"))["sessions"]
    assert one == {
        "user": "u1", "tenant": "org_a", "session": None, "roles": ["read:jobs"], "issued": world.clock() - 5,
        "expires": None, "created": world.clock(), "seen": world.clock(),
    }  # fmt: skip


async def test_what_cannot_be_read_is_told(world, client):
    assert (await get(client, "?tenant=org_a&user=nobody", status=404))["field"] == "user"
    assert (await get(client, "?user=u1", status=400))["field"] == "tenant"
    assert (await get(client, "?limit=0", status=400))["field"] == "limit"
    world.store.down = {"get"}
    await get(client, "?tenant=org_a&user=u1", status=503)


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({"tenant": "org_a", "user": "u1"}, "m:org_a:u1"),
        ({"user": "auth0|ada"}, "u:auth0|ada"),
        ({"session": "s1"}, "s:s1"),
        ({"tenant": "org_a", "confirm": "org_a"}, "o:org_a"),
    ],
)
async def test_whose_sessions_end(world, client, fields, subject):
    told = await end(client, reason="INC-7", **fields)
    assert world.ends.ended_now == [(subject,)]
    assert (told["accepted"], told["before"]) == (True, world.clock())
    (line,) = world.audited("session-ended")
    assert (line["actor"]["name"], line["target"]["subjects"], line["reason"]) == ("otto", [subject], "INC-7")


async def test_what_the_store_has_not_taken_is_told(world, client):
    world.ends.takes = False
    assert (await end(client, status=202, user="u1"))["accepted"] is False
    assert world.audited("session-ended")[0]["result"] == "pending"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, None), ({"tenant": "org_a"}, "confirm"), ({"tenant": "org_a", "confirm": "org_b"}, "confirm"),
        ({"session": "s1", "user": "u1"}, "user"), ({"user": ""}, "user"), ({"user": 7}, "user"),
        ({"user": "a\nb"}, "user"), ({"tenant": "a b", "user": "u1"}, "tenant"), ({"sid": "s1"}, "sid"),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_ends_nothing(world, client, fields, field):
    assert (await end(client, status=400, **fields)).get("field") == field
    assert world.ends.ended_now == []


@pytest.mark.isolation
async def test_an_operator_of_one_tenant_ends_sessions_there_only(world, client):
    await end(client, "operator-a", 403, tenant="org_b", user="u1")
    await end(client, "operator-a", 403, session="s1")
    await end(client, "operator-a", user="u1")
    assert world.ends.ended_now == [("m:org_a:u1",)]
    await sign_in(world, "u2", "org_b")
    assert (await get(client, who="inspector-a"))["sessions"] == []
    await get(client, "?tenant=org_b&user=u2", "inspector-a", 403)


async def test_who_may_not_is_refused(world, client):
    await get(client, who="operator", status=403)
    await end(client, "viewer", 403, user="u1")
    await end(client, "backend", 403, user="u1")


async def test_production_wants_a_reason(tmp_path):
    async with port(tmp_path, "production") as (world, client):
        assert (await end(client, status=400, user="u1"))["field"] == "reason"
        assert world.ends.ended_now == []
