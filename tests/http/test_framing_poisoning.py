"""What is not in the key must not be in a stored response: the upstream here reflects whatever it was sent."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.serving.world import unsigned
from tests.wire import Message, Peer, Upstream, fetch, response, sidecar, upstream

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub}
defaults: {grace: 0s, if-error: 0s}
features:
  jobs:
    ttl: 10m
    read:
      - route: GET /api/jobs
        query: [id]
  mine:
    ttl: 10m
    scope: user
    read: [GET /api/me]
"""
MARK = "evil.test"
ALICE = f"Authorization: Bearer {unsigned(sub='alice')}"
BOB = f"Authorization: Bearer {unsigned(sub='bob')}"

Say = Callable[[Message], bytes]


def reflecting(request: Message) -> bytes:
    return response(request.raw + request.body, "Content-Type: text/plain")


@pytest.fixture
def world(tmp_path: Path):
    @asynccontextmanager
    async def made(say: Say = reflecting) -> AsyncIterator[tuple[Upstream, int]]:
        async def answer(request: Message, peer: Peer) -> None:
            await peer.send(say(request))

        async with upstream(answer) as up, sidecar(up.port, tmp_path, RULES) as running:
            yield up, running.data_port

    return made


# All but the neutral ones of SPEC 4 (Accept*, User-Agent, Cookie and others), for which an upstream must say Vary.
UNKEYED = """
X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Scheme X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-For Forwarded
X-Original-URL X-Rewrite-URL X-Host X-HTTP-Method-Override X-Method-Override X-HTTP-Method Origin Range If-None-Match
If-Modified-Since If-Range X-Org-Id X-Tenant X-User-Id X-Anything Pragma Cache-Control TE Accept-Encoding
Transfer-Encodin Expect
""".split()


# 34
@pytest.mark.parametrize("name", UNKEYED)
async def test_what_one_client_says_beside_the_key_is_not_in_what_another_gets(world, name):
    async with world() as (_, port):
        await fetch(port, "/api/jobs", ALICE, f"{name}: {MARK}")
        got = await fetch(port, "/api/jobs", ALICE)
        assert MARK.encode() not in got.body


# 35
CLOAKED = [
    "id=1",
    "id=2",
    "id=1&id=2",
    "id=2&id=1",
    "id=1;id=2",
    "%69d=1",
    "id=1%26id=2",
    "utm_source=x;id=2",
    "id[]=1",
]


async def test_one_query_is_never_answered_with_what_another_brought(world):
    async with world(lambda request: response(request.target)) as (_, port):
        for _ in range(2):
            for query in CLOAKED:
                got = await fetch(port, f"/api/jobs?{query}", ALICE)
                asked = got.body.partition(b"?")[2].decode()
                # what is not in the key may have been left out, and only then
                assert asked == query or ("id=" not in query and not asked), (query, asked)


# 37
DECEPTIVE = """
/api/me/x.css /api/me;x.css /api/me%00.css /api/me%0ax.css /api/me%23.css /api/me%3fx.css /static/..%2fapi/me
/api/jobs/../me /api//me /api/%6de /api\\me /api/me/robots.txt /api/me/ /api/jobs/%2e%2e/me /API/ME /api/me.
/api/jobs;/../me
""".split()


@pytest.mark.parametrize("target", DECEPTIVE)
async def test_a_path_that_looks_like_another_is_passed_on_as_it_is_and_not_stored(world, target):
    async with world(lambda request: response(request.get("authorization").encode())) as (up, port):
        for who in (ALICE, BOB):
            got = await fetch(port, target, who)
            assert got.body.decode() == who.partition(": ")[2]
            assert "hit" not in got.cache
            assert "stored" not in got.cache
            assert up.requests[-1].target == target.encode()


async def test_what_one_user_may_see_is_not_what_another_gets(world):
    async with world(lambda request: response(request.get("authorization").encode())) as (_, port):
        for who in (ALICE, BOB, ALICE, BOB):
            got = await fetch(port, "/api/me", who)
            assert got.body.decode() == who.partition(": ")[2]
        assert "hit" in got.cache


# 38
@pytest.mark.parametrize(
    ("odd", "status"),
    [
        ("Range: bytes=cow", "416 Range Not Satisfiable"),
        ("Accept: bogus", "406 Not Acceptable"),
        ("If-Match: \"x\"", "412 Precondition Failed"),
        ("X-HTTP-Method-Override: NONSENSE", "405 Method Not Allowed"),
        ("X-Long: " + "a" * 8000, "400 Bad Request"),
        ("X-Forwarded-Scheme: nothttps", "301 Moved Permanently"),
        ("Cache-Control: no-cache", "500 Internal Server Error"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fresh", [True, False])
async def test_an_error_that_one_client_provokes_is_not_what_the_next_gets(world, odd, status, fresh):
    def say(request: Message) -> bytes:
        name, _, value = odd.partition(": ")
        return response(b"no", status=status) if request.get(name) == value else response(b"fine")

    async with world(say) as (_, port):
        if fresh:
            await fetch(port, "/api/jobs", ALICE)
        await fetch(port, "/api/jobs", ALICE, odd)
        got = await fetch(port, "/api/jobs", ALICE)
        assert (got.status, got.body) == (200, b"fine")


# 39 to 43: what the upstream says
@pytest.mark.parametrize(
    "head",
    [
        ["Set-Cookie: session=1"], ["Vary: *"], ["Vary: Authorization"], ["Vary: Cookie"],
        ["Cache-Control: no-store"], ["Cache-Control: private"], ["Cache-Control: max-age=600, No-Store"],
        ["Cache-Control: max-age=600", "Cache-Control: no-store"],
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_not_for_others_is_relayed_and_not_stored(world, head):
    async with world(lambda request: response(b"x", *head)) as (up, port):
        for _ in range(2):
            got = await fetch(port, "/api/jobs", ALICE)
            assert "hit" not in got.cache
            name, _, value = head[0].partition(": ")
            assert value.encode() in b", ".join(got.all(name))
        assert len(up.requests) == 2


@pytest.mark.parametrize("status", ["206 Partial Content", "302 Found", "404 Not Found", "500 No", "503 No"])
async def test_only_a_whole_success_is_stored(world, status):
    async with world(lambda request: response(b"x", "Content-Range: bytes 0-0/9", status=status)) as (up, port):
        for _ in range(2):
            assert "hit" not in (await fetch(port, "/api/jobs", ALICE)).cache
        assert len(up.requests) == 2


# 42
async def test_head_fills_nothing_and_is_answered_from_get(world):
    async with world(lambda request: response(b"" if request.start[0] == b"HEAD" else b"body")) as (_, port):
        await fetch(port, "/api/jobs", ALICE, method="HEAD")
        assert (await fetch(port, "/api/jobs", ALICE)).body == b"body"
        head = await fetch(port, "/api/jobs", ALICE, method="HEAD")
        assert ("hit" in head.cache, head.body, head.get("content-length")) == (True, b"", "4")


# 44
BROKEN = [
    b"X: a\rSet-Cookie: x=1\r\n",
    b"X: a\x00b\r\n",
    b"X: a\nSet-Cookie: x=1\r\n",
    b" X: folded\r\n",
    b"X : a\r\n",
    b"X\r\n",
]


@pytest.mark.parametrize("line", BROKEN)
async def test_a_broken_head_is_a_502_that_shows_nothing_of_it(world, line):
    async with world(lambda request: b"HTTP/1.1 200 OK\r\n" + line + b"Content-Length: 1\r\n\r\nx") as (up, port):
        for _ in range(2):
            got = await fetch(port, "/api/jobs", ALICE)
            assert (got.status, got.get("set-cookie")) == (502, None)
            assert str(up.port).encode() not in got.raw + got.body
            assert line.strip() not in got.raw + got.body
        assert len(up.requests) == 2
