"""Which pages may read events and reports: our own, those of allowed origins by CORS, no others; over real sockets."""

import pytest

from tests import wire
from tests.analytics.scene import HOST, bearer, scene

ALLOWED = "https://portal.example"
EVENTS, REPORTS, TICKET = "/.sidecache/events", "/.sidecache/reports", "/.sidecache/ticket"
PATHS = [
    ("GET", f"{EVENTS}?after=0&wait=0", 200), ("GET", f"{EVENTS}/unread", 200), ("POST", TICKET, 204),
    ("GET", REPORTS, 200), ("GET", f"{REPORTS}/job-views", 200), ("GET", f"{REPORTS}/nothing", 404),
    ("PUT", REPORTS, 405),
]  # fmt: skip


@pytest.fixture
async def side(tmp_path):
    async with scene(tmp_path, {"SIDECACHE_ALLOWED_ORIGINS": f"{ALLOWED}, http://localhost:3000"}) as made:
        yield made


async def ask(port: int, path: str, *headers: str, method: str = "GET") -> wire.Message:
    return await wire.fetch(port, path, *headers, host=HOST, method=method)


def varies(answer: wire.Message) -> list[str]:
    return [name.strip() for name in (answer.get("vary") or "").split(",")]


@pytest.mark.parametrize(("method", "path", "status"), PATHS)
async def test_a_page_of_an_allowed_origin_reads_the_answer_whatever_it_is(side, method, path, status):
    for origin in (ALLOWED, "http://localhost:3000"):
        answer = await ask(side.port, path, bearer(), f"Origin: {origin}", method=method)
        assert answer.status == status
        assert answer.get("access-control-allow-origin") == origin
        assert answer.get("access-control-allow-credentials") == "true"
        assert answer.get("access-control-expose-headers") == "Retry-After"
        assert "Origin" in varies(answer)


async def test_what_is_kept_for_one_origin_is_not_anothers(side):
    """A report may be kept for ten seconds: also the one that a page of ours has asked for, without CORS in it."""
    answer = await ask(side.port, REPORTS, bearer())
    assert answer.get("cache-control") == "private, max-age=10"
    assert sorted(varies(answer)) == ["Accept", "Authorization", "Origin"]
    assert answer.get("access-control-allow-origin") is None


@pytest.mark.parametrize(
    ("path", "methods"),
    [(EVENTS, "GET"), (TICKET, "POST"), (REPORTS, "GET, HEAD"), (f"{REPORTS}/job-views", "GET, HEAD")],
)
async def test_a_preflight_says_what_may_be_asked_and_needs_no_token(side, path, methods):
    asked = ("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization")
    answer = await ask(side.port, path, f"Origin: {ALLOWED}", *asked, method="OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.get("access-control-allow-origin") == ALLOWED
    assert answer.get("access-control-allow-methods") == methods
    assert "authorization" in answer.get("access-control-allow-headers")
    assert answer.get("access-control-max-age") == "600"
    assert side.upstream.requests == []


@pytest.mark.parametrize(
    "origin",
    ["https://evil.test", "null", "https://portal.example.evil.test", "http://portal.example", f"{ALLOWED}:8443", ""],
)
@pytest.mark.parametrize("path", [EVENTS, f"{EVENTS}/unread", TICKET, REPORTS, f"{REPORTS}/job-views"])
async def test_a_page_of_another_origin_is_refused_before_it_is_asked_who_it_is(side, path, origin):
    for method in ("POST" if path == TICKET else "GET", "OPTIONS"):
        answer = await ask(side.port, path, bearer(), f"Origin: {origin}", method=method)
        assert answer.status == 403
        assert answer.get("access-control-allow-origin") is None
        assert b"SIDECACHE_ALLOWED_ORIGINS" in answer.body
    two = await ask(side.port, path, bearer(), f"Origin: {ALLOWED}", "Origin: https://evil.test")
    assert two.status == 403


@pytest.mark.parametrize("headers", [(), (f"Origin: http://{HOST}",), (f"Origin: https://{HOST}",)])
async def test_our_own_pages_and_clients_that_are_none_need_no_leave(side, headers):
    answer = await ask(side.port, REPORTS, bearer(), *headers)
    assert (answer.status, answer.get("access-control-allow-origin")) == (200, None)


async def test_without_a_setting_only_our_own_pages_read(tmp_path):
    async with scene(tmp_path) as made:
        assert (await ask(made.port, REPORTS, bearer(), f"Origin: {ALLOWED}")).status == 403
        answer = await ask(made.port, REPORTS, bearer())
        assert (answer.status, varies(answer)) == (200, ["Authorization", "Accept"])
