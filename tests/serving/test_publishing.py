"""A write and its event: what of the exchange becomes of it, and that nobody's answer waits for it."""

import asyncio
import gzip
import json

import pytest

from proxy.serving.publishing import MOST, Publishing
from tests.builders import KEYS
from tests.doubles import counted, settle
from tests.events.world import World as Events
from tests.serving.world import World, answered, unsigned

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
features:
  applications:
    ttl: 2m
    read: ["GET /api/jobs/{job-id}/applications"]
    write:
      - route: POST /api/jobs/{job-id}/applications
        publish: {event: application.submitted, to: tenant, data: {job: path.job-id, id: response.id}}
      - route: PUT /api/jobs/{job-id}/note
        publish: {event: note.changed, to: tenant, data: {note: request.note}}
      - route: DELETE /api/jobs/{job-id}
        publish: {event: job.deleted, to: tenant, data: {job: path.job-id}}
      - route: POST /api/jobs/{job-id}/invitations
        publish: {event: invited, to: "user:response.user"}
  secrets:
    ttl: 1m
    sensitive: true
    read: [GET /api/secrets]
    write:
      - route: POST /api/secrets
        publish: {event: secret.made, to: tenant, data: {secret: request.secret}}
"""
APPLY = "/api/jobs/7/applications"


class Both:
    """A request path, and the events of the same process."""

    def __init__(self, *, seals: bool = False, leaves: bool = True) -> None:
        self.world = World(RULES)
        self.events = Events()
        self.world.exchange._events = Publishing(
            self.events.publisher, self.world.background, self.world.clock, KEYS.digest, counted(),
            seals=seals, leaves=leaves, noted=self.events._note,
        )  # fmt: skip

    async def published(self, tenant: str = "org_a"):
        await self.world.settle()
        entries = await self.events.mailboxes.load(tenant)
        return [(each.event.name, json.loads(each.event.data)) for each in entries if each.shown is not None]

    def noted(self):
        return [name for name, _ in self.events.noted]


@pytest.fixture
async def both():
    made = Both()
    yield made
    await made.events.close()
    assert made.world.failures == []


async def test_a_write_that_succeeded_is_published_when_its_answer_leaves(both):
    both.world.upstream.answer = lambda request, n: answered({"id": f"app_{n}"}, 201)
    reply = await both.world.begin("POST", APPLY, body=b"{}")
    assert await both.events.mailboxes.load("org_a") != []
    assert json.loads(b"".join([chunk async for chunk in reply.body])) == {"id": "app_1"}
    assert await both.published() == [("application.submitted", {"job": "7", "id": "app_1"})]


@pytest.mark.parametrize("status", [302, 400, 403, 404, 409, 500, 503])
async def test_a_write_that_did_not_succeed_publishes_nothing(both, status):
    both.world.upstream.answer = lambda request, n: answered({"id": "x"}, status)
    assert (await both.world.send("POST", APPLY, body=b"{}")).status == status
    assert await both.published() == []


@pytest.mark.isolation
async def test_who_is_of_no_tenant_publishes_nothing(both):
    both.world.upstream.answer = lambda request, n: answered({"id": "x"}, 201)
    assert (await both.world.send("POST", APPLY, token="", body=b"{}")).status == 201
    assert both.noted() == ["event-without-tenant"]


@pytest.mark.isolation
async def test_each_tenant_s_events_are_its_own(both):
    both.world.upstream.answer = lambda request, n: answered({"id": n}, 201)
    await both.world.send("POST", APPLY, body=b"{}")
    await both.world.send("POST", APPLY, token=unsigned("org_b"), body=b"{}")
    assert [data["id"] for _, data in await both.published()] == [1]
    assert [data["id"] for _, data in await both.published("org_b")] == [2]


async def test_what_is_sent_is_heard_on_its_way_and_arrives_whole(both):
    body = json.dumps({"note": "hi", "more": "x" * 5000}).encode()
    await both.world.send("PUT", "/api/jobs/7/note", body=body)
    assert both.world.upstream.bodies == [body]
    assert await both.published() == [("note.changed", {"note": "hi"})]


async def test_a_body_that_is_too_large_is_not_looked_into_and_arrives_whole(both):
    body = json.dumps({"note": "hi", "more": "x" * MOST}).encode()
    await both.world.send("PUT", "/api/jobs/7/note", body=body)
    assert both.world.upstream.bodies == [body]
    assert await both.published() == [("note.changed", {})]
    assert both.noted() == ["event-data-missing"]


async def test_a_response_that_is_too_large_is_not_looked_into_and_arrives_whole(both):
    body = json.dumps({"id": "x", "more": "x" * 2 * MOST}).encode()
    both.world.upstream.answer = lambda request, n: answered([body[at : at + 9000] for at in range(0, len(body), 9000)])
    answer = await both.world.send("POST", APPLY, body=b"{}")
    assert answer.body == body
    assert await both.published() == [("application.submitted", {"job": "7"})]


@pytest.mark.parametrize("body", [b"", b"no json", b"[1]", b'"id"', b"\xff\xfe", b'{"id": nul'])
async def test_a_response_that_is_no_json_has_no_data_and_arrives_as_it_is(both, body):
    both.world.upstream.answer = lambda request, n: answered(body, 201)
    assert (await both.world.send("POST", APPLY, body=b"{}")).body == body
    assert await both.published() == [("application.submitted", {"job": "7"})]
    assert both.noted() == ["event-data-missing"]


async def test_the_answer_waits_for_no_slow_store(both):
    both.world.upstream.answer = lambda request, n: answered({"id": "x"}, 201)
    both.events.store.held = {"append"}
    answer = await asyncio.wait_for(both.world.send("POST", APPLY, body=b"{}"), 5)
    assert (answer.status, json.loads(answer.body)) == (201, {"id": "x"})
    both.events.store.held = set()
    while both.events.store.gates:
        both.events.store.open_gate()
        await settle()
    assert len(await both.published()) == 1


async def test_the_answer_begins_before_a_slow_body_ends_and_its_event_follows(both):
    gate = asyncio.Event()
    both.world.upstream.answer = lambda request, n: answered([b'{"id":', gate, b'"late"}'], 201)
    reply = await asyncio.wait_for(both.world.begin("POST", APPLY, body=b"{}"), 5)
    assert await both.published() == []
    gate.set()
    assert b"".join([chunk async for chunk in reply.body]) == b'{"id":"late"}'
    assert await both.published() == [("application.submitted", {"job": "7", "id": "late"})]


async def test_a_client_that_leaves_loses_no_event(both):
    gate = asyncio.Event()
    both.world.upstream.answer = lambda request, n: answered([b'{"id":', gate, b'"late"}'], 201)
    reply = await asyncio.wait_for(both.world.begin("POST", APPLY, body=b"{}"), 5)
    reply.close()
    gate.set()
    assert await both.published() == [("application.submitted", {"job": "7", "id": "late"})]


async def test_a_submission_that_is_repeated_is_told_once(both):
    both.world.upstream.answer = lambda request, n: answered({"id": "app_1"}, 201)
    for _ in range(2):
        await both.world.send("POST", APPLY, body=b"{}")
    both.world.upstream.answer = lambda request, n: answered({"id": f"app_{n}"}, 200)
    for _ in range(2):
        await both.world.send("POST", APPLY, body=b"{}", headers={"Idempotency-Key": "k"})
    assert [data["id"] for _, data in await both.published()] == ["app_1", "app_3"]


@pytest.mark.parametrize(
    ("accepts", "asked"),
    [("gzip, br, zstd", "gzip"), ("br", "identity"), ("gzip;q=0", "identity"), (None, None)],
)
async def test_a_response_that_is_looked_into_comes_in_a_coding_that_can_be(both, accepts, asked):
    packed = gzip.compress(json.dumps({"id": "app_1"}).encode())
    both.world.upstream.answer = lambda request, n: answered(packed, 201, content_encoding="gzip")
    headers = {} if accepts is None else {"Accept-Encoding": accepts}
    answer = await both.world.send("POST", APPLY, body=b"{}", headers=headers)
    assert answer.body == packed
    assert both.world.upstream.asked[0].fields.get("accept-encoding") == asked
    assert await both.published() == [("application.submitted", {"job": "7", "id": "app_1"})]


@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_what_cannot_be_unpacked_has_no_data(both, coding):
    bomb = gzip.compress(b'{"id":"' + b"x" * 10_000_000 + b'"}') if coding == "gzip" else b"?"
    both.world.upstream.answer = lambda request, n: answered(bomb, 201, content_encoding=coding)
    assert (await both.world.send("POST", APPLY, body=b"{}")).body == bomb
    assert await both.published() == [("application.submitted", {"job": "7"})]


async def test_a_write_whose_response_is_not_looked_into_is_sent_as_it_is(both):
    await both.world.send("DELETE", "/api/jobs/7", headers={"Accept-Encoding": "br"})
    assert both.world.upstream.asked[0].fields.get("accept-encoding") == "br"
    assert await both.published() == [("job.deleted", {"job": "7"})]


async def test_an_event_for_a_user_that_the_response_does_not_name(both):
    both.world.upstream.answer = lambda request, n: answered({}, 201)
    await both.world.send("POST", "/api/jobs/7/invitations", body=b"{}")
    assert await both.published() == []
    assert both.noted() == ["event-without-audience"]


async def test_what_is_sensitive_does_not_leave_this_process_in_the_clear(both):
    await both.world.send("POST", "/api/secrets", body=b'{"secret": "s3"}')
    assert await both.published() == [("secret.made", {"withheld": True})]
    assert both.noted() == ["event-withheld"]


async def test_what_is_sensitive_stays_whole_where_it_does_not_leave(both):
    alone = Both(leaves=False)
    await alone.world.send("POST", "/api/secrets", body=b'{"secret": "s3"}')
    assert await alone.published() == [("secret.made", {"secret": "s3"})]
    await alone.events.close()
