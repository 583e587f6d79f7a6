"""Events of the backend: under a name that the rules know, for whom, once; and what is refused."""

import json

import pytest

from tests.admin.world import bearer

PLAN = {"tenant": "org_a", "event": "plan.changed", "data": {"plan": "gold"}}


async def publish(client, status=201, who="backend", **fields):
    body = {name: value for name, value in (PLAN | fields).items() if value is not None}
    async with client.post("/api/events", json=body, headers=bearer(who)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


async def stored(world, tenant="org_a"):
    entries = await world.events.mailboxes.load(tenant)
    return [(each.event.to, json.loads(each.event.data)) for each in entries if each.shown is not None]


async def test_an_event_is_in_the_tenant_s_mailbox_and_audited(world, client):
    told = await publish(client)
    assert told["result"] == "stored"
    assert await stored(world) == [("tenant", {"plan": "gold"})]
    (line,) = [line for line in world.audited() if line["event"] == "event-published"]
    assert (line["tenant"], line["target"]) == ("org_a", {"event": "plan.changed", "result": "stored"})


@pytest.mark.parametrize("to", ["tenant", "role:read:jobs", "user:auth0|ada"])
async def test_it_is_for_whom_it_says(world, client, to):
    await publish(client, to=to)
    assert await stored(world) == [(to, {"plan": "gold"})]


async def test_the_same_id_again_is_the_same_event(world, client):
    first = await publish(client, id="invoice-7")
    again = await publish(client, 200, id="invoice-7")
    assert (again["id"], again["result"]) == (first["id"], "repeated")
    assert await stored(world) == [("tenant", {"plan": "gold"})]
    await publish(client, id="invoice-8")
    await publish(client)
    await publish(client)
    assert len(await stored(world)) == 4


async def test_what_the_store_does_not_take_at_once_is_accepted(world, client, monkeypatch):
    monkeypatch.setattr("proxy.admin.events._PATIENCE", 0.01)
    world.events.store.held = {"append"}
    assert (await publish(client, 202))["result"] == "queued"
    world.events.store.open_gate()


async def test_too_many_are_refused(world, client):
    world.events.publisher._queue = 0
    assert "wait for the store" in (await publish(client, 503))["detail"]
    world.events.publisher._rates._left["org_a"] = (0.0, world.events.clock())
    assert "too many events" in (await publish(client, 429))["detail"]


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"tenant": None}, "tenant", "is missing"),
        ({"tenant": "org a"}, "tenant", "is not a tenant"),
        ({"event": None}, "event", "is missing"),
        ({"event": "plan.chnaged"}, "event", "the rules know no event 'plan.chnaged' (did you mean 'plan.changed'?)"),
        ({"to": "everybody"}, "to", "'everybody' is not tenant, role:<permission> or user:<id>"),
        ({"to": "role:"}, "to", "is not tenant"),
        ({"data": [1]}, "data", "is not an object"),
        ({"data": {"x": "y" * 9000}}, "data", "is larger than 8192 bytes"),
        ({"id": ""}, "id", "is not a text"),
        ({"topic": "x"}, "topic", "is not known here"),
    ],
)
async def test_what_is_wrong_is_named(world, client, fields, field, says):
    told = await publish(client, 400, **fields)
    assert told["field"] == field
    assert says in told["detail"]
    assert await stored(world) == []


@pytest.mark.parametrize(("who", "status"), [("backend", 201), ("operator", 201), ("viewer", 403), (None, 401)])
async def test_who_may(client, who, status):
    await publish(client, status, who)


@pytest.mark.isolation
async def test_a_backend_of_one_tenant_speaks_of_that_one(world, client):
    await publish(client, who="backend-a", tenant=None)
    await publish(client, 403, who="backend-a", tenant="org_b")
    assert len(await stored(world)) == 1
