"""proxy.serving.hits: what is answered in the call that brings it is what the ordinary path would answer."""

import json

import pytest

from proxy.serving.hits import _UNREAD
from tests.serving.short import dated, head, served
from tests.serving.world import RULES
from tests.wire import connect

HEADER_RULES = """
version: 1
identity: {tenant: header.x-org-id, user: header.from, roles: header.x-roles}
features:
  mine:
    ttl: 5m
    scope: user
    read: [GET /api/me]
"""


async def ask(client, data: bytes, method: str = "GET"):
    await client.send(data)
    return await client.response(method)


# What the choice leaves out is read by nobody


async def test_a_caller_named_in_a_field_that_is_otherwise_unread_is_not_taken_for_another():
    """A trusted peer names the user in From, which no other rule reads."""
    async with served(HEADER_RULES, trusts=True) as made:
        made.world.upstream.answer = lambda request, n: dated({"for": request.fields.get("from")})
        for user in ("ada", "bob", "ada", "bob", "ada", "bob"):
            lines = "X-Org-Id: org_a", f"From: {user}"
            async with await connect(made.port) as client:
                got = await ask(client, head("/api/me", *lines, token=""))
            await made.settle()
            assert json.loads(got.body) == {"for": user}
        assert made.short == 4


async def test_a_variant_selected_by_a_field_that_is_otherwise_unread_is_for_its_own_readers():
    """The second response says nothing of what selected it; the first one's Vary did."""
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(
            {"got": request.fields.get("referer")}, **({"vary": "referer"} if n == 1 else {})
        )
        for page in "abababab":
            got = await ask(client, head("/api/jobs", f"Referer: {page}"))
            await made.settle()
            assert json.loads(got.body) == {"got": page}


async def test_a_second_key_is_looked_up_under_a_first_one_that_may_be_another_by_now():
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(
            {"n": n}, **({"vary": "accept-language"} if n < 3 else {})
        )
        bodies = []
        for language in ("de", "fr", "fr", "fr"):
            got = await ask(client, head("/api/jobs", f"Accept-Language: {language}"))
            await made.settle()
            bodies.append(json.loads(got.body)["n"])
        await made.world.cache.drop("tenant:org_a:jobs:list")
        got = await ask(client, head("/api/jobs", "Accept-Language: fr"))
        assert [*bodies, json.loads(got.body)["n"]] == [1, 2, 2, 2, 3]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\r\n" + head(), b"\r\nReferer: x\r\n" + head()),
        (head(), head("/api/jobs", "User-Agent: a", "User-Agent: b")),
        (head("/api/jobs", "USER-AGENT: a"), head("/api/jobs", "USER-AGENT: a", "User-Agent: b")),
    ],
    ids=["a field before the request line", "a field that may be there once", "in another spelling"],
)
async def test_a_head_that_the_parser_refuses_is_refused_though_it_looks_like_one_that_it_took(before, after):
    async with served() as made:
        made.world.upstream.answer = lambda request, n: dated()
        async with await connect(made.port) as client:
            for _ in range(3):
                assert (await ask(client, before)).status == 200
                await made.settle()
            assert (await ask(client, after)).status == 400


# Time


@pytest.mark.parametrize("control", ["max-age=60", "min-fresh=3540"])
async def test_what_a_client_says_of_age_is_heard_each_time(control):
    async with served(RULES.replace("ttl: 1h", "ttl: 1h\n    client-control: honour")) as made:
        made.world.upstream.answer = lambda request, n: dated({"n": n})
        async with await connect(made.port) as client:
            got = []
            for seconds in (0, 55, 1, 6, 9, 0):
                made.world.clock.advance(seconds)
                answer = await ask(client, head("/api/catalogue", f"Cache-Control: {control}"))
                await made.settle()
                got.append(json.loads(answer.body)["n"])
    async with served(RULES.replace("ttl: 1h", "ttl: 1h\n    client-control: honour"), short=False) as made:
        made.world.upstream.answer = lambda request, n: dated({"n": n})
        async with await connect(made.port) as client:
            for seconds, number in zip((0, 55, 1, 6, 9, 0), got, strict=True):
                made.world.clock.advance(seconds)
                answer = await ask(client, head("/api/catalogue", f"Cache-Control: {control}"))
                await made.settle()
                assert json.loads(answer.body)["n"] == number
    assert len(set(got)) > 1


async def test_a_clock_that_is_set_back_makes_nothing_last_longer():
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        for seconds in (0, 0, 5, 0, 0):
            made.world.clock.advance(seconds)
            got = await ask(client, head())
            await made.settle()
        assert got.get("age") == "5"
        made.world.clock.advance(-3)
        got = await ask(client, head())
        assert (got.get("age"), got.cache) == ("2", "sidecache; hit; ttl=898")


# Which lines are left out of a choice

HEAD = b"GET /api/jobs HTTP/1.1\r\nHost: portal.test\r\nAuthorization: Bearer t\r\n"


@pytest.mark.parametrize("line", [b"Cookie: a=b; c=d", b"X-Request-Id: 1", b"traceparent: 00-1", b"Referer: "])
def test_fields_that_no_decision_reads_are_left_out(line):
    assert _UNREAD.sub(b"", HEAD + line + b"\r\n\r\n") == HEAD + b"\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Accept: */*",  # realistic
        b"X-Org-Id: org_b",
        b"cOOkie: a=b",  # another spelling is another head
        b"Cookie : a=b",  # pathological
        b"Cookie:a=b",
        b"Cookie: a\x00b",
        b"Cookie: a\x80b",
        b"Cookie: a\r b",
        b"Cookie: a\nX-Org-Id: org_b",
        b"X-Cookie: a",
    ],
)
def test_everything_else_is_part_of_the_choice(line):
    assert line in _UNREAD.sub(b"", HEAD + line + b"\r\n\r\n")
