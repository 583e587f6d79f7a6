"""Events over real sockets: what a client writes and hears at each of the paths, and what is refused."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
import structlog

from proxy.policy.cookies import TICKET
from tests import wire
from tests.serving.world import unsigned

RULES = """
version: 1
identity: {tenant: [jwt.org_id, header.x-org-id], user: jwt.sub, roles: jwt.permissions}
events: [plan.changed]
session:
  logout: POST /api/logout
  role-change: [{route: "PUT /api/members/{user-id}/roles", user: path.user-id}]
reports: {require: [read:applications]}
features:
  applications:
    ttl: 2m
    read: ["GET /api/jobs/{job-id}/applications"]
    write:
      - route: POST /api/jobs/{job-id}/applications
        count: {name: applications}
        publish:
          event: application.submitted
          to: role:read:applications
          data: {job: path.job-id, application: response.id, note: request.note}
"""
AUTH = f"Authorization: Bearer {unsigned()}"
EVENTS = "/.sidecache/events"
NOW = int(time.time())


class Portal:
    def __init__(self) -> None:
        self.count = 0

    async def answer(self, request: wire.Message, peer: wire.Peer) -> None:
        self.count += 1
        body = json.dumps({"id": f"app_{self.count}"}).encode()
        await peer.send(wire.response(body, "Content-Type: application/json", status="201 Created"))


@pytest.fixture
async def side(tmp_path):
    async with upstream_and_sidecar(tmp_path) as made:
        yield made


@asynccontextmanager
async def upstream_and_sidecar(folder, **environ):
    async with (
        wire.upstream(Portal().answer) as upstream,
        wire.sidecar(upstream.port, folder, RULES, SIDECACHE_ALLOWED_ORIGINS="https://portal.example", **environ) as it,
    ):
        yield it


async def stream(side, *headers: str, query: str = "", version: str = "1.1"):
    client = await wire.connect(side.data_port)
    lines = [f"GET {EVENTS}{query} HTTP/{version}", "Host: portal.test", *headers]
    await client.send("\r\n".join([*lines, "", ""]).encode())
    return client, await client.head()


async def frame(client) -> dict:
    said = {}
    for line in (await client.chunk()).decode().splitlines():
        key, _, value = line.partition(": ")
        if key:
            said[key] = json.loads(value) if key == "data" else value
    return said


async def apply(side, note="hi", *headers):
    body = json.dumps({"note": note}).encode()
    return await wire.fetch(side.data_port, "/api/jobs/7/applications", AUTH, *headers, method="POST", body=body)


async def test_an_application_is_submitted_and_the_event_arrives(side):
    client, head = await stream(side, AUTH)
    assert head.status == 200
    assert (head.get("content-type"), head.get("cache-control"), head.get("x-accel-buffering")) == (
        "text/event-stream", "no-store", "no",
    )  # fmt: skip
    hello = await frame(client)
    assert (hello["event"], hello["data"]["recovered"], hello["data"]["missed"]) == ("hello", True, 0)
    assert (await apply(side)).status == 201
    told = await frame(client)
    assert told["event"] == "application.submitted"
    assert told["data"] == {"job": "7", "application": "app_1", "note": "hi"}
    await client.close()
    for _ in range(3):
        await apply(side)
    again, _ = await stream(side, AUTH, f"Last-Event-ID: {told['id']}")
    assert (await frame(again))["data"]["missed"] == 3
    assert [(await frame(again))["data"]["application"] for _ in range(3)] == ["app_2", "app_3", "app_4"]
    await again.close()


async def test_a_client_of_http_1_0_reads_to_the_end(side):
    client, head = await stream(side, AUTH, version="1.0")
    assert head.get("transfer-encoding") is None
    assert head.get("connection") == "close"
    first = await asyncio.wait_for(client.reader.readuntil(b"\n\n"), 5)
    assert b"event: hello" in first
    await client.close()


async def test_streams_end_when_the_sidecar_does_and_the_body_is_whole(tmp_path):
    async with upstream_and_sidecar(tmp_path) as side:
        client, head = await stream(side, AUTH)
        await frame(client)
        rest = asyncio.ensure_future(client.body(head))
        waiting = asyncio.ensure_future(wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=25", AUTH))

        async def both() -> bool:
            return await metric(side, "sidecache_event_streams") == 2

        await wire.until(both)
    assert b"event: drain\n" in await rest
    assert (await waiting).status == 200
    await client.close()


async def test_a_client_that_leaves_is_noticed(side):
    client, _ = await stream(side, AUTH)
    await frame(client)
    assert await metric(side, "sidecache_event_streams") == 1
    client.reset()

    async def gone() -> bool:
        return await metric(side, "sidecache_event_streams") == 0

    await wire.until(gone)


async def metric(side, name: str) -> float:
    answer = await wire.fetch(side.admin_port, "/metrics", host=f"127.0.0.1:{side.admin_port}")
    (line,) = [each for each in answer.body.decode().splitlines() if each.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def test_the_long_poll_twin_and_unread(side):
    await apply(side)
    answer = await wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=5", AUTH)
    said = json.loads(answer.body)
    assert (answer.get("content-type"), answer.get("cache-control")) == ("application/json", "no-store")
    assert [each["data"]["application"] for each in said["events"]] == ["app_1"]
    waiting = asyncio.ensure_future(wire.fetch(side.data_port, f"{EVENTS}?after={said['cursor']}&wait=20", AUTH))
    await asyncio.sleep(0)
    await apply(side)
    assert [each["data"]["application"] for each in json.loads((await waiting).body)["events"]] == ["app_2"]
    unread = await wire.fetch(side.data_port, f"{EVENTS}/unread?after={said['cursor']}", AUTH)
    assert json.loads(unread.body)["count"] == 1


async def test_what_is_missing_is_counted_each_time_and_told_now_and_then(side):
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            answer = await wire.fetch(side.data_port, "/api/jobs/7/applications", AUTH, method="POST", body=b"no json")
            assert answer.status == 201
    (line,) = [each for each in logged if each["event"] == "event-data-missing"]
    assert (line["name"], line["missing"]) == ("application.submitted", "note")
    metrics = await wire.fetch(side.admin_port, "/metrics", host=f"127.0.0.1:{side.admin_port}")
    assert b'sidecache_events_total{event="event-data-missing"} 3.0' in metrics.body


async def test_who_may_not_see_it_sees_nothing(side):
    without = f"Authorization: Bearer {unsigned(permissions=['read:jobs'])}"
    await apply(side)
    answer = await wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=0", without)
    assert json.loads(answer.body)["events"] == []
    other = f"Authorization: Bearer {unsigned('org_b')}"
    answer = await wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=0", other)
    assert json.loads(answer.body)["events"] == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?topics=aplication.submitted", "no event is called 'aplication.submitted' here (did you mean 'application."),
        ("?topics=aplication.*", "no event is called 'aplication.*' here"),
        ("?topics=", "number 1 is not an event such as"),
        ("?topics=application.*,%3Cscript%3E", "number 2 is not an event such as"),
        ("?topics=" + ",".join(["application.*"] * 33), "are more than 32"),
        ("?after=yesterday", "after: is not the id of an event"),
        ("?wait=-1", "wait: is not a number of seconds from 0 to 30"),
        ("?wait=31", "wait: is not"),
        ("?wait=", "wait: is not"),
    ],
)
async def test_what_is_asked_wrongly(side, query, says):
    for path in (EVENTS, f"{EVENTS}/unread"):
        answer = await wire.fetch(side.data_port, path + query, AUTH)
        assert answer.status == 400
        assert answer.get("content-type") == "application/problem+json"
        assert says in json.loads(answer.body)["detail"]


@pytest.mark.parametrize(
    "query", ["?topics=application.*", "?topics=application.submitted,plan.changed", "?topics=metrics"]
)
async def test_topics_that_are_known(side, query):
    client, head = await stream(side, AUTH, query=query)
    assert head.status == 200
    await client.close()


@pytest.mark.parametrize("text", ["nonsense", "1-1", "0", "99999999999999999999999-1.x", "5-0.trimmed"])
async def test_a_place_that_is_none_or_gone_is_not_recovered(side, text):
    client, head = await stream(side, AUTH, f"Last-Event-ID: {text}")
    assert head.status == 200
    assert (await frame(client))["data"]["recovered"] is (text == "0")
    await client.close()


@pytest.mark.parametrize(
    ("headers", "status", "authenticate"),
    [
        ((), 401, "Bearer"),
        (("Authorization: Bearer x.y.z",), 401, 'Bearer error="invalid_token"'),
        ((f"Authorization: Bearer {unsigned(exp=1)}",), 401, 'Bearer error="invalid_token"'),
        ((f"Authorization: Bearer {unsigned(None)}",), 403, None),
        ((f"Authorization: Bearer {unsigned('org_a')}", "X-Org-Id: org_b"), 403, None),
        ((f"Cookie: {TICKET}=forged",), 401, "Bearer"),
    ],
)
async def test_who_is_not_known_reads_nothing(side, headers, status, authenticate):
    for path in (EVENTS, f"{EVENTS}/unread", f"{EVENTS}?after=0&wait=0"):
        answer = await wire.fetch(side.data_port, path, *headers)
        assert (answer.status, answer.get("www-authenticate")) == (status, authenticate)
    answer = await wire.fetch(side.data_port, "/.sidecache/ticket", *headers, method="POST")
    assert answer.status == status


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", EVENTS, "GET, OPTIONS"), ("DELETE", f"{EVENTS}/unread", "GET, OPTIONS"),
        ("GET", "/.sidecache/ticket", "POST, OPTIONS"), ("POST", "/.sidecache/events.js", "GET, HEAD"),
    ],
)  # fmt: skip
async def test_other_methods_are_refused(side, method, path, allow):
    answer = await wire.fetch(side.data_port, path, AUTH, method=method)
    assert (answer.status, answer.get("allow")) == (405, allow)


async def test_a_ticket_opens_a_stream_without_a_header(side):
    answer = await wire.fetch(side.data_port, "/.sidecache/ticket", AUTH, method="POST")
    cookie = answer.get("set-cookie")
    assert answer.status == 204
    assert cookie.startswith(f"{TICKET}=")
    assert cookie.endswith("; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Strict")
    client, head = await stream(side, f"Cookie: {cookie.partition(';')[0]}")
    assert head.status == 200
    await frame(client)
    await apply(side)
    assert (await frame(client))["event"] == "application.submitted"
    await client.close()
    # a ticket makes no ticket, and is nothing to the rest of the sidecar
    again = await wire.fetch(side.data_port, "/.sidecache/ticket", f"Cookie: {cookie.partition(';')[0]}", method="POST")
    assert again.status == 401


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("GET", "/elsewhere", ()), ("POST", "/elsewhere", ()), ("POST", "/api/jobs/7/applications", ()),
        ("GET", "/api/jobs/7/applications", ()), ("GET", "/api/jobs/7/applications", ("Cache-Control: no-cache",)),
        ("GET", "/socket", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: " + "x" * 22 + "==")),
    ],
)  # fmt: skip
async def test_a_ticket_does_not_reach_the_upstream_whatever_way_a_request_takes(tmp_path, method, path, more):
    async with wire.upstream(Portal().answer) as upstream, wire.sidecar(upstream.port, tmp_path, RULES) as side:
        cookie = (await ticket(side)).removeprefix("Cookie: ")
        for lines in (
            (f"Cookie: a=1; {cookie}; b=2",),
            (f"Cookie: {cookie}",),
            ("Cookie: c=3", f"cookie:{cookie};d=4"),
        ):
            _ = await wire.fetch(side.data_port, path, AUTH, *lines, *more, method=method)
        got = b"".join(request.raw for request in upstream.requests)
        assert b"sidecache-ticket" not in got
        assert b"Cookie: a=1; b=2\r\n" in got
        assert method == "GET" or [request.all("cookie") for request in upstream.requests] == [
            [b"a=1; b=2"], [], [b"c=3", b"d=4"],
        ]  # fmt: skip


async def ticket(side, auth=AUTH) -> str:
    answer = await wire.fetch(side.data_port, "/.sidecache/ticket", auth, method="POST")
    return f"Cookie: {answer.get('set-cookie').partition(';')[0]}"


async def test_who_logs_out_hears_no_more_by_whatever_stream(side):
    mine = f"Authorization: Bearer {unsigned(iat=NOW)}"
    cookie = await ticket(side, mine)
    streams = [(await stream(side, each))[0] for each in (mine, cookie)]
    theirs = f"Authorization: Bearer {unsigned(sub='u2', iat=NOW)}"
    other, _ = await stream(side, theirs)
    for each in (*streams, other):
        await frame(each)
    assert (await wire.fetch(side.data_port, "/api/logout", mine, method="POST", body=b"{}")).status == 201
    for each in streams:
        assert (await frame(each))["event"] == "session.revoked"
        await each.close()
    for each in (mine, cookie):
        assert (await wire.fetch(side.data_port, EVENTS, each)).status == 401
    await wire.fetch(side.data_port, "/api/jobs/7/applications", theirs, method="POST", body=b'{"note": "x"}')
    assert (await frame(other))["event"] == "application.submitted"
    await other.close()


async def test_whose_rights_change_hears_nothing_that_the_old_ones_let_through(side):
    mine = f"Authorization: Bearer {unsigned(iat=NOW)}"
    cookie = await ticket(side, mine)
    client, _ = await stream(side, mine)
    await frame(client)
    admin = f"Authorization: Bearer {unsigned(sub='admin', iat=NOW)}"
    changed = await wire.fetch(side.data_port, "/api/members/u1/roles", admin, method="PUT", body=b"[]")
    assert changed.status == 201
    assert (await frame(client))["event"] == "session.changed"
    await client.close()
    answer = await wire.fetch(side.data_port, "/api/jobs/7/applications", admin, method="POST", body=b'{"note": "x"}')
    assert answer.status == 201
    for each in (mine, cookie):
        said = json.loads((await wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=0", each)).body)
        assert said["events"] == []
    said = json.loads((await wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=0", admin)).body)
    assert len(said["events"]) == 1


async def test_watched_figures_come_while_one_reads_and_are_kept_nowhere(side):
    client, _ = await stream(side, AUTH, query="?topics=metrics")
    hello = await frame(client)
    await apply(side)
    told = await frame(client)
    while told.get("event") is None:  # a sign of life
        told = await frame(client)
    assert told["event"] == "metrics"
    assert "id" not in told
    assert (told["data"]["report"], told["data"]["count"]) == ("applications", 1)
    await client.close()
    again = await wire.fetch(side.data_port, f"{EVENTS}?after={hello['id']}&wait=0&topics=metrics", AUTH)
    assert json.loads(again.body)["events"] == []


async def test_too_many_streams_of_one_user(side):
    clients = [(await stream(side, AUTH))[0] for _ in range(10)]
    answer = await wire.fetch(side.data_port, EVENTS, AUTH)
    assert (answer.status, answer.get("retry-after")) == (429, "10")
    other, head = await stream(side, f"Authorization: Bearer {unsigned(sub='u2')}")
    assert head.status == 200
    for each in (*clients, other):
        await each.close()


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("SIDECACHE_EVENT_STREAMS", "Too many streams are open here."),
        ("SIDECACHE_EVENT_STREAMS_TENANT", "Too many streams of this organisation are open here."),
        ("SIDECACHE_EVENT_STREAMS_USER", "Too many streams of this user are open here."),
    ],
)
async def test_how_many_streams_there_may_be_is_a_setting(tmp_path, name, detail):
    async with upstream_and_sidecar(tmp_path, **{name: "2"}) as side:
        clients = [(await stream(side, AUTH))[0] for _ in range(2)]
        answer = await wire.fetch(side.data_port, EVENTS, AUTH)
        assert (answer.status, json.loads(answer.body)["detail"]) == (429, detail)
        told = await wire.fetch(side.admin_port, "/metrics", host=f"127.0.0.1:{side.admin_port}")
        assert (b"sidecache_event_streams_max 2.0\n" in told.body) is (name == "SIDECACHE_EVENT_STREAMS")
        for each in clients:
            await each.close()


async def test_how_much_is_kept_and_how_large_an_event_may_be_are_settings(tmp_path):
    async with upstream_and_sidecar(tmp_path, SIDECACHE_EVENTS_KEPT="10", SIDECACHE_EVENT_BYTES="256") as side:
        await apply(side, "x" * 300)
        for _ in range(10):
            await apply(side, "x" * 100)
        answer = await wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=0", AUTH)
        assert [each["data"]["application"] for each in json.loads(answer.body)["events"]] == [
            f"app_{n}" for n in range(2, 12)
        ]
        await apply(side, "x" * 300)
        answer = await wire.fetch(side.data_port, f"{EVENTS}?after=0&wait=0", AUTH)
        assert json.loads(answer.body)["events"][-1]["data"] == {"ref": "/api/jobs/7/applications"}
        host, body = (
            f"127.0.0.1:{side.admin_port}",
            {"tenant": "org_a", "event": "plan.changed", "data": {"x": "y" * 300}},
        )
        told = await wire.fetch(
            side.admin_port, "/api/events", "Content-Type: application/json", method="POST",
            body=json.dumps(body).encode(), host=host,
        )  # fmt: skip
        assert (told.status, b"is larger than 256 bytes" in told.body) == (400, True)


async def test_the_script_for_pages(side):
    answer = await wire.fetch(side.data_port, "/.sidecache/events.js")
    assert answer.get("content-type") == "text/javascript; charset=utf-8"
    assert b"sidecacheEvents" in answer.body
    assert len(answer.body) < 2500


async def test_without_the_prefix_these_paths_are_the_upstream_s(tmp_path):
    async with upstream_and_sidecar(tmp_path, SIDECACHE_PREFIX="off") as side:
        assert (await wire.fetch(side.data_port, "/.sidecache/events.js")).status == 201
