"""Keys page by page, and one entry's numbers: complete, in order, of one's own tenant, never a body."""

import pytest

from proxy.admin.contents import facts
from tests.admin.world import bearer
from tests.builders import NOW, entry


async def keys(client, who="inspector", **query):
    async with client.get("/api/cache/keys", params=query, headers=bearer(who)) as answer:
        assert answer.status == 200
        return await answer.json()


async def look(client, key, who="inspector"):
    async with client.get("/api/cache/entry", params={"key": key}, headers=bearer(who)) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_pages_together_are_every_key_once_and_in_order(world, client):
    expected = sorted([(await world.keep(f"/api/jobs/{number}")).key for number in range(25)])
    found, cursor = [], {}
    for _ in range(10):
        page = await keys(client, limit="10", **cursor)
        found += page["keys"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == expected
    assert "first tier" in page["of"]


async def test_a_page_goes_on_where_the_last_one_ended_though_its_key_is_gone(world, client):
    for number in (1, 2, 3):
        await world.keep(f"/api/jobs/{number}")
    page = await keys(client, limit="2")
    for key in page["keys"]:
        await world.cache.drop(key)
    assert (await keys(client, cursor=page["next"]))["keys"] == ["tenant:org_a:jobs:3"]


async def test_keys_are_chosen_by_tenant_and_beginning(world, client):
    await world.keep("/api/jobs", "org_a")
    await world.keep("/api/jobs", "org_b")
    await world.keep("/api/countries")
    assert (await keys(client, tenant="org_b"))["keys"] == ["tenant:org_b:jobs:list"]
    assert (await keys(client, prefix="shared:"))["keys"] == ["shared:countries:list"]


async def test_an_entry_is_told_in_numbers_tags_and_plain_fields(world, client):
    kept = await world.keep(body=b'{"salary": 1}')
    world.clock.advance(60)
    status, told = await look(client, kept.key)
    assert status == 200
    assert (told["age"], told["ttl"], told["fresh"], told["size"]) == (60.0, 840, True, 13)
    assert (told["tags"], told["request"], told["tenant"]) == (["jobs", "jobs:list"], "GET /api/jobs", "org_a")
    assert told["head"] == {"Content-Type": "application/json"}
    assert "salary" not in str(told)
    assert "hush" not in str(told)


async def test_a_sensitive_entry_shows_nothing_of_its_content_and_looking_is_audited(world, client):
    kept = await world.keep("/api/secrets/s1", body=b"the secret")
    _, told = await look(client, kept.key)
    assert (told["sensitive"], told["request"], told["head"]) == (True, "(sensitive)", {})
    assert "the secret" not in str(told)
    (line,) = world.audited("sensitive-entry")
    assert (line["tenant"], line["actor"]["name"]) == ("org_a", "ida")


async def test_to_look_is_not_to_use(world, client):
    kept = await world.keep()
    before = world.cache.resident(kept).touched
    await look(client, kept.key)
    assert world.cache.resident(kept).touched is before is False


@pytest.mark.isolation
async def test_an_inspector_of_one_tenant_sees_its_own_only(world, client):
    mine = await world.keep("/api/jobs", "org_a")
    theirs = await world.keep("/api/jobs", "org_b")
    public = await world.keep("/api/countries")
    assert (await keys(client, "inspector-a"))["keys"] == [mine.key]
    assert (await keys(client, "inspector-a", prefix="tenant:org_b"))["keys"] == []
    assert (await look(client, mine.key, "inspector-a"))[0] == 200
    for key in (theirs.key, public.key):
        status, told = await look(client, key, "inspector-a")
        absent, same = await look(client, key.replace("list", "none"), "inspector-a")
        assert (status, absent) == (404, 404)
        assert told["detail"].replace("list", "none") == same["detail"]
    async with client.get("/api/cache/keys", params={"tenant": "org_b"}, headers=bearer("inspector-a")) as answer:
        assert answer.status == 403


def test_a_stale_entry_says_since_when():
    told = facts(entry(), NOW + 1000)
    assert (told["fresh"], told["ttl"], told["stale_until"]) == (False, -101, NOW + 1020)
