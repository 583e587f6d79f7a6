"""The admin port over a real socket: who may do what at each of its endpoints, and that a refusal is audited."""

import gzip
import io
import re

import pytest

from proxy.admin.access import Role
from proxy.admin.endpoint import Endpoint
from proxy.admin.surface import endpoints
from tests.admin.world import World, bearer

V, O, I, B = (Role.VIEWER,), (Role.OPERATOR,), (Role.INSPECTOR,), (Role.BACKEND,)  # noqa: E741

# Who may use what. An endpoint that is not in this table fails the test below.
NEEDS = {
    "GET /livez": (), "GET /readyz": (), "GET /api/health": (), "GET /metrics": (),
    "GET /api/cache/status": V, "GET /api/cache/top": V, "POST /api/cache/explain": V, "GET /api/rules": V,
    "POST /api/rules/validate": V,
    "DELETE /api/cache/invalidate": O, "POST /api/cache/bypass": O, "POST /api/rules": O, "POST /api/rules/reload": O,
    "POST /api/cache/events": (Role.OPERATOR, Role.BACKEND), "POST /api/events": (Role.OPERATOR, Role.BACKEND),
    "GET /api/cache/keys": I, "GET /api/cache/entry": I, "GET /api/audit": I,
    "GET /.well-known/jwks.json": (), "GET /api/sessions": I, "DELETE /api/sessions": O,
    "GET /api/cache/values/{feature}/{identifier}": B, "PUT /api/cache/values/{feature}/{identifier}": B,
    "DELETE /api/cache/values/{feature}/{identifier}": B, "POST /api/cache/values:batch": B,
    "GET /": (), "GET /dashboard/{file}": (), "GET /api/live": V,
    "POST /api/login": (), "POST /api/logout": (), "GET /api/session": (),
}  # fmt: skip

# Whom each role lets in, spelled out: not by the code that is under test.
LETS_IN = {
    V: {"viewer", "operator", "inspector"},
    O: {"operator", "inspector"},
    I: {"inspector"},
    B: {"backend"},
    (Role.OPERATOR, Role.BACKEND): {"operator", "inspector", "backend"},
}
ROLES = ("viewer", "operator", "inspector", "backend")


def all_endpoints(world: World) -> dict[str, Endpoint]:
    return {f"{each.method} {each.path}": each for each in endpoints(world.parts())}


def path_of(name: str) -> tuple[str, str]:
    method, path = name.split(" ")
    return method, re.sub(r"\{[a-z]+\}", "jobs", path)


async def test_the_table_of_roles_is_the_whole_surface(world):
    assert {name: each.needs for name, each in all_endpoints(world).items()} == NEEDS


@pytest.mark.parametrize("name", [name for name, needs in NEEDS.items() if needs])
@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_what_the_table_says_and_every_denial_is_audited(world, client, name, role):
    method, path = path_of(name)
    async with client.request(method, path, headers=bearer(role)) as answer:
        status = answer.status
        body = "" if answer.content_type == "text/event-stream" else await answer.text()  # which has no end
    denied = world.audited("denied")
    if role in LETS_IN[NEEDS[name]]:
        assert status not in (401, 403) or "only development" in body
    else:
        assert status == 403
        assert [(line["actor"]["role"], line["result"], line["target"]) for line in denied] == [
            (role, "403", {"request": name})
        ]


@pytest.mark.parametrize("name", [name for name, needs in NEEDS.items() if needs])
@pytest.mark.parametrize("authorization", [None, "Bearer sidecache_wrong", "Basic b3R0bzpvdHRv", "Bearer"])
async def test_without_a_known_token_it_is_401_and_audited(world, client, name, authorization):
    method, path = path_of(name)
    headers = {} if authorization is None else {"Authorization": authorization}
    async with client.request(method, path, headers=headers) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["status"], answer.headers["WWW-Authenticate"]) == (
            401, 401, 'Bearer realm="sidecache admin"',
        )  # fmt: skip
    (line,) = world.audited("denied")
    assert (line["result"], line["actor"]["name"]) == ("401", "unknown")
    assert authorization is None or authorization[7:] == "" or authorization[7:] not in str(line)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/health", "/metrics", "/openapi.json"])
async def test_probes_and_scrapers_on_this_machine_need_no_token(client, path):
    async with client.get(path) as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize(("path", "method", "status"), [("/nothing", "GET", 404), ("/livez", "POST", 405)])
async def test_what_is_not_there_is_said_as_a_problem(client, path, method, status):
    async with client.request(method, path) as answer:
        assert answer.status == status
        assert (await answer.json(content_type="application/problem+json"))["status"] == status


HOSTS = [
    # realistic
    ("127.0.0.1:9900", 200), ("localhost", 200), ("LOCALHOST:9900", 200), ("[::1]:9900", 200), ("[::1]", 200),
    ("127.8.8.8", 200), ("rebound.example:9900", 403), ("10.0.0.7:9900", 403),
    # pathological
    ("127.evil.example", 403), ("localhost.evil.example", 403), ("", 403), ("[::1", 403), ("a@127.0.0.1", 403),
    ("127.0.0.1@evil.example", 403),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
async def test_a_name_that_someone_made_resolve_to_this_machine_is_refused(development, host, status):
    _, client = development
    for path in ("/readyz", "/api/cache/status"):
        async with client.get(path, headers={"Host": host}) as answer:
            assert answer.status == status
            if status == 403:
                assert "rules" not in await answer.text()


async def test_with_a_token_any_host_name_will_do(client):
    async with client.get("/api/cache/status", headers={"Host": "sidecache.internal", **bearer("viewer")}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:9900", 200), ("https://127.0.0.1:9900", 200), ("http://127.0.0.1:3000", 403),
        ("http://localhost:9900", 403), ("https://evil.example", 403), ("null", 403), ("", 403), ("file://", 403),
        ("ftp://127.0.0.1:9900", 403), ("http://127.0.0.1:9900@evil.example", 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize("who", [None, "operator"])
async def test_another_pages_requests_are_refused_even_with_a_token(development, world, origin, status, who):
    _, client = development
    headers = {"Host": "127.0.0.1:9900", "Origin": origin, **bearer(who)}
    async with client.get("/api/cache/status", headers=headers) as answer:
        assert answer.status == status


async def test_in_development_this_machine_may_do_everything_without_a_token(development):
    world, client = development
    for name in NEEDS:
        method, path = path_of(name)
        async with client.request(method, path) as answer:
            assert answer.status not in (401, 403), name
    assert world.audited("denied") == []


@pytest.mark.parametrize(
    ("method", "path", "status", "field"),
    [
        ("GET", "/api/cache/keys?limt=1", 400, "limt"), ("GET", "/api/cache/keys?limit=x", 400, "limit"),
        ("GET", "/api/cache/keys?limit=0", 400, "limit"), ("GET", "/api/cache/keys?limit=1&limit=2", 400, "limit"),
        ("GET", "/api/cache/keys?cursor=%21", 400, "cursor"), ("GET", "/api/cache/keys?cursor=_w", 400, "cursor"),
        ("GET", "/api/cache/keys?tenant=a%20b", 400, "tenant"), ("GET", "/api/cache/keys?prefix=%00", 400, "prefix"),
        ("GET", "/api/cache/entry", 400, "key"), ("GET", "/api/cache/entry?key=nothing", 404, "key"),
        ("GET", "/api/cache/top?by=colour", 400, "by"), ("GET", "/api/audit?since=soon", 400, "since"),
        ("DELETE", "/api/cache/invalidate?tags=jbos&tenant=org_a", 404, "tags"),
        ("DELETE", "/api/cache/invalidate?path=/api/nothing&tenant=org_a", 404, "path"),
        ("DELETE", "/api/cache/invalidate?keys=tenant:x:jobs:1", 404, "keys"),
        ("POST", "/api/cache/bypass", 400, "state"),
        ("GET", "/api/cache/keys?%3Cb%3E=1", 400, "<b>"),
    ],
)  # fmt: skip
async def test_wrong_input_is_a_problem_that_names_the_field(client, method, path, status, field):
    async with client.request(method, path, headers=bearer("inspector")) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["status"], problem["field"]) == (status, status, field)


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"{", "application/json", 400), (b"[]", "application/json", 400), (b"\xff", "application/json", 400),
        (b'{"tags": ["jobs"]}', "text/plain", 415), (b"tags=jobs", "application/x-www-form-urlencoded", 415),
        (b'{"text": "' + b"x" * (1 << 20) + b'"}', "application/json", 413), (b"x" * (17 << 20), "text/plain", 413),
        (b"[" * 100_000, "application/json", 400),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_document_is_refused_and_never_guessed(client, body, media, status):
    headers = {"Content-Type": media, **bearer("operator")}
    async with client.delete("/api/cache/invalidate", data=io.BytesIO(body), headers=headers) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")


@pytest.mark.parametrize("name", [name for name, needs in NEEDS.items() if not needs])
@pytest.mark.parametrize("way", ["with its length", "in chunks", "packed"])
async def test_what_anybody_may_ask_takes_little(client, name, way):
    method, path = path_of(name)
    headers = {"Content-Type": "application/json"}
    body = b'{"token": "' + b"x" * (64 << 10) + b'"}'
    if way == "packed":
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body)
        assert len(body) < 1000
    sent = body if way == "with its length" else io.BytesIO(body)
    async with client.request(method, path, data=sent, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (413, "application/problem+json")
        assert "larger than 65536 bytes" in await answer.text()


async def test_markup_in_what_is_sent_comes_back_as_inert_text(client):
    async with client.get("/api/cache/entry", params={"key": "<script>\u202e"}, headers=bearer("inspector")) as answer:
        text = await answer.text()
        assert (answer.status, answer.content_type) == (400, "application/problem+json")
    async with client.get("/api/cache/entry", params={"key": "<script>é"}, headers=bearer("inspector")) as answer:
        assert answer.status == 404
        assert "é" not in await answer.text()
    assert "\u202e" not in text


async def test_the_document_describes_every_endpoint_and_every_answer_it_gave(world, client):
    async with client.get("/openapi.json") as answer:
        document = await answer.json()
    assert document["openapi"] == "3.1.0"
    described = {f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each}
    assert described == {*NEEDS, "GET /openapi.json"}
    for name in NEEDS:
        method, path = path_of(name)
        for who in (None, *ROLES):
            async with client.request(method, path, headers=bearer(who)) as answer:
                status = str(answer.status)
            operation = document["paths"][name.split(" ")[1]][method.lower()]
            assert status in operation["responses"], f"{name} as {who}: {status}"


async def test_it_answers_head_like_get(client):
    async with client.head("/api/cache/status", headers=bearer("viewer")) as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_a_denied_request_changes_nothing(world, client):
    await world.keep()
    async with client.delete("/api/cache/invalidate", params={"tenant": "org_a"}, headers=bearer("viewer")) as answer:
        assert answer.status == 403
    assert await world.is_kept()
