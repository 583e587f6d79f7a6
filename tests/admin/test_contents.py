"""Keys page by page, and one entry's numbers: complete, in order, of one's own tenant, never a body."""

import pytest

from tests.admin.world import bearer


async def keys(client, who="inspector", **query):
    async with client.get("/api/cache/keys", params=query, headers=bearer(who)) as answer:
        assert answer.status == 200
        return await answer.json()


async def look(client, key, who="inspector", **query):
    async with client.get("/api/cache/entry", params={"key": key, **query}, headers=bearer(who)) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_pages_together_are_every_key_once_and_in_order(world, client):
    expected = sorted([(await world.keep(f"/api/jobs/{number}")).key for number in range(25)])
    found, cursor = [], {}
    for _ in range(10):
        page = await keys(client, tier="memory", limit="10", **cursor)
        found += page["keys"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == expected
    assert "first tier" in page["of"]


async def listed(client, who="inspector", **query) -> list[tuple[str, str]]:
    """Over all pages: the tier and the key."""
    found: list[tuple[str, str]] = []
    cursor: dict[str, str] = {}
    for _ in range(100):
        page = await keys(client, who, **query, **cursor)
        found += [(page["tier"], key) for key in page["keys"]]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}
    raise AssertionError("there is no end")


@pytest.mark.parametrize("limit", ["1", "4", "1000"])
async def test_after_the_keys_in_memory_come_those_of_the_store_and_nothing_else_it_holds(world, client, limit):
    kept = [(await world.keep(f"/api/jobs/{number}")).key for number in range(7)]
    await world.background.drain(1)
    await world.store.set("tenant:org_a:leases:jobs", b"1", 60)
    await world.store.set("session:u1:org_a", b"1", 60)
    await world.store.set("other", b"1", 60)
    world.cache._memory.drop(kept[3])
    found = await listed(client, limit=limit)
    assert [key for tier, key in found if tier == "memory"] == sorted({*kept} - {kept[3]})
    assert sorted(key for tier, key in found if tier == "store") == sorted(kept)
    assert [tier for tier, _ in found] == ["memory"] * 6 + ["store"] * 7
    assert {tier for tier, _ in await listed(client, tier="store")} == {"store"}
    assert {tier for tier, _ in await listed(client, tier="memory")} == {"memory"}


async def test_a_store_that_does_not_answer_is_said_and_memory_is_listed(world, client):
    await world.keep()
    await world.background.drain(1)
    world.store.down |= {"names", "get"}
    assert await listed(client) == [("memory", "tenant:org_a:jobs:list")]
    assert (await keys(client, tier="store"))["error"] == "names: the store is down"
    assert (await look(client, "tenant:org_a:jobs:none"))[0] == 503


async def test_an_entry_that_only_the_store_has_is_told_from_there(world, client):
    kept = await world.keep(body=b'{"salary": 1}')
    await world.background.drain(1)
    _, memory = await look(client, kept.key)
    _, stored = await look(client, kept.key, tier="store")
    assert (memory["tier"], stored["tier"]) == ("memory", "store")
    assert {**memory, "tier": None} == {**stored, "tier": None}
    world.cache._memory.drop(kept.key)
    assert (await look(client, kept.key))[1] == stored
    assert (await look(client, kept.key, tier="memory"))[0] == 404


async def test_a_record_that_is_not_used_says_why_and_what_is_no_entry_is_not_read(world, client):
    kept = await world.keep()
    await world.background.drain(1)
    await world.store.set(kept.key, b"tampered" * 20, 60)
    assert (await look(client, kept.key, tier="store"))[1]["rejected"] == "unknown-version"
    before = world.store.count("get")
    for name in ("shared:epochs", "tenant:org_a:epochs", "session:u1:org_a", "tenant:org_a:leases:x", "other"):
        assert (await look(client, name))[0] == 404
    assert world.store.count("get") == before


async def test_keys_and_entries_of_other_processes_are_told_too(world, client):
    await world.keep("/api/jobs/2")
    other = [{"key": "tenant:org_a:jobs:9", "sensitive": False}]
    world.others = [["tenant:org_a:jobs:1", "tenant:org_a:jobs:2", "tenant:org_a:jobs:3"]]
    page = await keys(client, tier="memory", limit="2")
    assert page["keys"] == ["tenant:org_a:jobs:1", "tenant:org_a:jobs:2"]
    world.others = other
    assert (await look(client, "tenant:org_a:jobs:9"))[1]["tier"] == "memory"
    assert (await look(client, "tenant:org_a:jobs:9", "inspector-a"))[0] == 200


@pytest.mark.parametrize("cursor", ["x", "!", "eDp5", "bWVtb3J5", "é", "c3RvcmU6LTE"])
async def test_a_cursor_that_was_not_given_out_is_named_or_leads_nowhere(client, cursor):
    async with client.get(
        "/api/cache/keys", params={"cursor": cursor, "tier": "store"}, headers=bearer("inspector")
    ) as answer:
        told = await answer.json(content_type=None)
        assert (answer.status, told.get("field", "cursor")) in {(400, "cursor"), (200, "cursor")}


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
