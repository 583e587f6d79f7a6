"""Who did this? Lines and purges by time, tenant, actor; one's own tenant's only."""

import pytest

from tests.admin.world import bearer


async def ask(client, who="inspector", status=200, **query):
    async with client.get("/api/audit", params=query, headers=bearer(who)) as answer:
        assert answer.status == status
        return await answer.json(content_type=None)


async def purge(client, tenant):
    body = {"tags": ["jobs"], "tenant": tenant, "reason": "INC-42"}
    async with client.delete("/api/cache/invalidate", json=body, headers=bearer("operator")) as answer:
        assert answer.status == 200


async def test_a_purge_is_found_with_its_actor_and_reason(world, client):
    await purge(client, "org_a")
    world.clock.advance(3600)
    await purge(client, "org_b")
    told = await ask(client)
    assert [(line["event"], line["tenant"], line["reason"]) for line in told["lines"]] == [
        ("purge", "org_b", "INC-42"), ("purge", "org_a", "INC-42"),
    ]  # fmt: skip
    assert [(each["by"], each["tenant"]) for each in told["purges"]] == [("otto", "org_b"), ("otto", "org_a")]
    assert [line["tenant"] for line in (await ask(client, since="10m"))["lines"]] == ["org_b"]
    assert (await ask(client, actor="ida"))["lines"] == []
    assert len((await ask(client, limit="1"))["lines"]) == 1


async def test_purges_by_writes_are_there_without_an_audit_line(world, client):
    world.purges.note("POST /api/jobs", {"org_a": ("jobs:list",)})
    told = await ask(client)
    assert (told["lines"], told["purges"][0]["by"]) == ([], "POST /api/jobs")


@pytest.mark.isolation
async def test_an_inspector_of_one_tenant_sees_its_own_lines_only(client):
    for tenant in ("org_a", "org_b"):
        await purge(client, tenant)
    told = await ask(client, "inspector-a")
    assert {line["tenant"] for line in (*told["lines"], *told["purges"])} == {"org_a"}
    await ask(client, "inspector-a", 403, tenant="org_b")
