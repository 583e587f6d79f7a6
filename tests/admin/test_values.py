"""The backend's values: kept as the rule says, ended by what ends responses, nobody else's."""

import io

import orjson
import pytest

from proxy.admin.values import STAMP
from tests.admin.world import bearer


async def put(
    client, body=b'{"open": 3}', path="jobs/stats", who="backend", stamp=None, media="application/json", **query
):
    headers = {"Content-Type": media, **bearer(who), **({STAMP: stamp} if stamp is not None else {})}
    query = {"tenant": "org_a", **query}
    said = {name: value for name, value in query.items() if value is not None}
    async with client.put(f"/api/cache/values/{path}", data=io.BytesIO(body), headers=headers, params=said) as answer:
        return answer.status, await answer.read()


async def get(client, path="jobs/stats", who="backend", tenant="org_a"):
    query = {} if tenant is None else {"tenant": tenant}
    async with client.get(f"/api/cache/values/{path}", headers=bearer(who), params=query) as answer:
        return answer.status, await answer.read(), answer.headers


async def delete(client, path="jobs/stats", who="backend", tenant="org_a"):
    query = {} if tenant is None else {"tenant": tenant}
    async with client.delete(f"/api/cache/values/{path}", headers=bearer(who), params=query) as answer:
        return answer.status


async def test_what_is_put_comes_back_as_it_was_with_its_age(world, client):
    assert await put(client, b"\x00\xff", media="application/x-thing") == (204, b"")
    world.clock.advance(60)
    status, body, headers = await get(client)
    assert (status, body, headers["Content-Type"], headers["Age"]) == (200, b"\x00\xff", "application/x-thing", "60")
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("ttl", "lives"), [(None, 900), ("1m", 60), ("2h", 900)])
async def test_it_lives_as_long_as_the_rule_says_or_shorter(world, client, ttl, lives):
    await put(client, ttl=ttl)
    world.clock.advance(lives - 1)
    assert (await get(client))[0] == 200
    world.clock.advance(1)
    assert (await get(client))[0] == 404


async def test_a_feature_that_leaves_it_to_the_origin_needs_a_ttl(client):
    status, body = await put(client, path="feed/top")
    assert (status, orjson.loads(body)["field"]) == (400, "ttl")
    assert (await put(client, path="feed/top", ttl="1m"))[0] == 204


@pytest.mark.parametrize(
    ("purge", "gone"),
    [
        ({"org_a": ("jobs:stats",)}, True), ({"org_a": ("jobs:list",)}, True), ({"org_a": ("jobs",)}, True),
        ({"": ("jobs",)}, True), ({"org_a": ("*",)}, True), ({"org_b": ("jobs",)}, False),
        ({"org_a": ("secrets",)}, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("soft", [False, True])
async def test_what_ends_the_features_responses_ends_its_values(world, client, purge, gone, soft):
    await put(client)
    await world.epochs.advance(purge, soft=soft)
    assert (await get(client))[0] == (404 if gone else 200)


async def test_a_value_made_before_a_purge_is_refused_by_its_stamp(world, client):
    status, _, headers = await get(client)
    assert status == 404
    await world.epochs.advance({"org_a": ("jobs",)})
    assert (await put(client, stamp=headers[STAMP]))[0] == 409
    assert (await get(client))[0] == 404


async def test_a_value_made_without_a_purge_is_kept_under_its_stamp(client):
    _, _, headers = await get(client)
    assert (await put(client, stamp=headers[STAMP]))[0] == 204
    assert (await get(client))[0] == 200


@pytest.mark.parametrize("stamp", ["x", "00", ".", "0" * 32, f"{'0' * 32}.{'0' * 31}", f"{'0' * 32}.{'g' * 32}"])
async def test_a_stamp_that_is_none_is_refused(client, stamp):
    status, body = await put(client, stamp=stamp)
    assert (status, orjson.loads(body)["field"]) == (400, STAMP)


async def test_a_stamp_that_was_made_up_is_as_good_as_a_purged_one(client):
    assert (await put(client, stamp=f"{'0' * 32}.{'0' * 32}"))[0] == 409


async def test_to_delete_is_to_purge_its_tag_responses_included(world, client):
    await put(client, path="jobs/77")
    await world.keep("/api/jobs/77")
    await world.keep("/api/jobs")
    assert await delete(client, "jobs/77") == 204
    assert (await get(client, "jobs/77"))[0] == 404
    assert not await world.is_kept("/api/jobs/77")
    assert await world.is_kept("/api/jobs")
    assert world.purges.last()[0].by == "portal"


async def test_while_the_store_refuses_a_delete_is_202_and_holds_here(world, client):
    await put(client)
    world.store.down.add("advance_epochs")
    assert await delete(client) == 202
    assert (await get(client))[0] == 404
    world.store.down.clear()


async def test_no_response_and_no_value_share_a_key(world, client):
    await world.keep("/api/jobs/77", body=b"response")
    await put(client, b"value", path="jobs/77")
    assert (await get(client, "jobs/77"))[1] == b"value"
    assert world.cache.look(world.key("/api/jobs/77").full).body == b"response"


@pytest.mark.parametrize(
    ("path", "tenant", "status", "field"),
    [
        ("jbos/1", "org_a", 404, "feature"), ("jobs/h-1", "org_a", 400, "identifier"),
        ("jobs/a%20b", "org_a", 400, "identifier"), ("jobs/" + "x" * 65, "org_a", 400, "identifier"),
        ("jobs/a%0a", "org_a", 400, "identifier"), ("jobs/1", None, 400, "tenant"), ("jobs/1", "a b", 400, "tenant"),
        ("jobs/a~b", "org_a", 400, "identifier"), ("jobs/a.d", "org_a", 400, "identifier"),
    ],
)  # fmt: skip
async def test_a_place_that_is_none_is_refused_by_every_method(client, path, tenant, status, field):
    got, body, _ = await get(client, path, tenant=tenant)
    assert (got, orjson.loads(body)["field"]) == (status, field)
    assert (await put(client, path=path, tenant=tenant))[0] == status
    assert await delete(client, path, tenant=tenant) == status


async def test_a_value_larger_than_the_rule_allows_is_413(client):
    assert (await put(client, b"x" * ((1 << 20) + 1), media="text/plain"))[0] == 413


async def test_a_media_type_that_could_split_a_head_is_refused(client):
    assert (await put(client, media="nothing"))[0] == 400


async def test_sensitive_values_are_sealed_or_stay_here_and_every_access_is_audited(world, client):
    await put(client, b"the secret", path="secrets/s1")
    assert (await get(client, "secrets/s1"))[1] == b"the secret"
    assert not [call for call in world.store.calls if call[0] == "set"]  # no key to encrypt with
    assert {line["event"] for line in world.audited()} == {"sensitive-read", "sensitive-write"}
    assert "the secret" not in str(world.audited())


async def test_public_values_are_everybodys(client):
    assert (await put(client, path="countries/eu", tenant=None))[0] == 204
    assert (await get(client, "countries/eu", tenant=None))[0] == 200


@pytest.mark.isolation
async def test_a_backend_of_one_tenant_reaches_no_other_and_nothing_public(client):
    await put(client, b"b", tenant="org_b")
    await put(client, b"p", path="countries/eu", tenant=None)
    assert (await get(client, who="backend-a", tenant="org_b"))[0] == 403
    assert (await put(client, who="backend-a", tenant="org_b"))[0] == 403
    assert await delete(client, who="backend-a", tenant="org_b") == 403
    assert (await put(client, path="countries/eu", who="backend-a", tenant=None))[0] == 403
    assert await delete(client, "countries/eu", who="backend-a", tenant=None) == 403
    assert (await get(client))[0] == 404
    assert (await put(client, b"a", who="backend-a", tenant=None))[0] == 204
    assert [(await get(client, tenant=each))[1] for each in ("org_a", "org_b")] == [b"a", b"b"]


# Batches


async def batch(client, who="backend", status=200, **document):
    body = {"tenant": "org_a", **document}
    async with client.post("/api/cache/values:batch", json=body, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


def at(identifier, feature="jobs", **more):
    return {"feature": feature, "identifier": identifier, **more}


async def test_a_batch_deletes_puts_and_gets_in_this_order(client):
    # a put ends before the gets begin, and a delete before the puts
    told = await batch(
        client, delete=[at("x")], put=[at("a", value={"n": 1}), at("b", value=None, ttl="1m")],
        get=[at("a"), at("b"), at("c")],
    )  # fmt: skip
    assert told["delete"] == [{"feature": "jobs", "identifier": "x", "accepted": True}]
    assert [each["kept"] for each in told["put"]] == [True, True]
    assert [(each["found"], each.get("value")) for each in told["get"]] == [
        (True, {"n": 1}), (True, None), (False, None),
    ]  # fmt: skip
    assert told["get"][2]["because"] == "cold"
    stamp = told["get"][2]["stamp"]
    assert (await batch(client, put=[at("c", value=1, stamp=stamp)]))["put"][0]["kept"] is True
    await batch(client, delete=[at("c")])
    again = await batch(client, put=[at("c", value=1, stamp=stamp)])
    assert (again["put"][0]["kept"], again["put"][0]["because"]) == (False, "purged")


@pytest.mark.parametrize(
    ("document", "status", "field"),
    [
        ({"get": []}, 400, "get"), ({"get": [1]}, 400, "get[0]"), ({"get": [{}]}, 400, "get[0].feature"),
        ({"get": [at("a b")]}, 400, "get[0].identifier"), ({"get": [at("a"), at("a", "jbos")]}, 404, "get[1].feature"),
        ({"get": [at("a", value=1)]}, 400, "get[0].value"), ({"put": [at("a")]}, 400, "put[0].value"),
        ({"put": [at("a", value=1, ttl=3)]}, 400, "put[0].ttl"), ({"set": [at("a")]}, 400, "set"),
        ({"put": [at("a", value=1, stamp="x")]}, 400, "put[0].stamp"), ({"get": [at("a")] * 257}, 400, "get"),
    ],
)  # fmt: skip
async def test_a_mistake_in_a_batch_names_its_place(client, document, status, field):
    assert (await batch(client, status=status, **document))["field"] == field


@pytest.mark.isolation
async def test_a_batch_of_one_tenants_backend_is_its_own(client):
    await batch(client, "backend-a", 403, tenant="org_b", get=[at("a")])
    await batch(client, "backend-a", 403, put=[at("eu", "countries", value=1)])
    await batch(client, "backend-a", 403, delete=[at("eu", "countries")])
