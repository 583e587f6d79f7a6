"""proxy.serving.forwarding: which requests are forwarded at once, how long that is remembered, and what never is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.serving.upstream import HttpUpstream, Timeouts
from tests.serving.short import Served, head, prompt, served
from tests.serving.world import RULES, unsigned
from tests.wire import Client, Upstream, response, upstream

Scene = tuple[Served, Upstream, Client]


@asynccontextmanager
async def scene(rules: str = RULES, **more: Any) -> AsyncIterator[Scene]:
    """A sidecar with a connection to its upstream, and a client that has asked before."""
    async with upstream(response(b"{}", "Cache-Control: no-store")) as up:
        through = HttpUpstream(f"http://127.0.0.1:{up.port}", Timeouts(connect=5.0))
        async with served(rules, through=through, forwards=True, **more) as made, await prompt(made.port) as client:
            await ask(client, b"POST /warm HTTP/1.1\r\nHost: portal.test\r\n\r\n")
            up.requests.clear()
            try:
                yield made, up, client
            finally:
                await through.close()


async def ask(client: Client, data: bytes) -> str:
    await client.send(data)
    got = await client.response(data.split(b" ")[0].decode())
    return got.cache


async def test_the_same_head_is_decided_once_and_then_remembered_when_it_comes_again():
    async with scene() as (made, up, client):
        for _ in range(5):
            assert await ask(client, head("/x", "Referer: a")) == "sidecache; fwd=bypass; detail=no-rule"
        assert made.forwarded == (3, 1, 1)
        assert len({request.raw for request in up.requests}) == 1


async def test_heads_of_one_shape_need_no_parser():
    async with scene() as (made, up, client):
        for n in range(10):
            await ask(client, head(f"/x/{n}?page={n}", f"Traceparent: {n}", f"X-Request-Id: {n}"))
        assert made.forwarded == (0, 9, 1)
        assert [request.target for request in up.requests] == [b"/x/%d?page=%d" % (n, n) for n in range(10)]
        assert [request.get("x-request-id") for request in up.requests] == [str(n) for n in range(10)]


async def test_a_head_like_others_but_for_a_cookie_of_ours_is_decided_by_itself():
    ours = "__Host-sidecache-ticket=secret"
    async with scene() as (made, up, client):
        for n in range(3):
            await ask(client, head(f"/x/{n}", "Cookie: a=1"))
        for line in (f"a=1; {ours}", ours, f"{ours}; b=2", f"{ours}; b=2"):
            await ask(client, head("/x/7", f"Cookie: {line}"))
        assert [request.get("cookie") for request in up.requests[3:]] == ["a=1", None, "b=2", "b=2"]
        assert not any(b"sidecache-ticket" in request.raw for request in up.requests)
        assert made.forwarded[1] == 2  # those without it go on as they did
        await ask(client, head("/x/8", "Cookie: b=2"))
        assert made.forwarded[1] == 3


ORDINARY = [
    head("/x", method="POST"),
    head("/x", method="DELETE"),
    head("/x", "X-HTTP-Method-Override: PUT"),
    head("/api/jobs/7", method="PUT"),
    head("/x", "Connection: close"),
    b"GET /x HTTP/1.0\r\nHost: portal.test\r\n\r\n",
    head("/x", "Expect: 100-continue"),
    head("/.sidecache/livez"),
    head("/api/jobs"),  # a read that is looked up
    head("/api/jobs", "X-Org-Id: org_b"),  # a conflict, of which an operator hears
]


@pytest.mark.parametrize("data", ORDINARY)
async def test_all_else_takes_the_ordinary_way(data):
    async with scene() as (made, _, client):
        await ask(client, data)
        assert made.forwarded == (0, 0, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (head("/api/jobs", token=""), "no-credentials"),
        (head("/api/jobs", token="none"), "token-invalid"),
        (head("/api/jobs/%2e"), "ambiguous-path"),
        (head("/api/jobs", 'If-Match: "1"'), "precondition"),
        (head("/api/jobs/7/applications", token=unsigned(permissions=[])), "permission"),
        (head("/api/jobs", token=unsigned(org=None)), "no-tenant"),
    ],
)
async def test_reads_that_are_not_looked_up_are_forwarded_at_once_and_decided_each_time(data, reason):
    async with scene() as (made, up, client):
        for _ in range(4):
            assert await ask(client, data) == f"sidecache; fwd=bypass; detail={reason}"
        assert made.forwarded == (0, 0, 4)
        assert len(up.requests) == 4


async def test_no_access_to_a_sensitive_feature_is_forwarded_at_once_however_it_is_spelled():
    async with scene(RULES.replace("  mine:", "  mine:\n    sensitive: true")) as (made, _, client):
        for target in ("/x", "/x/y", "/api/me/", "/api/%6de", "/api/ME"):
            for number in range(3):
                await ask(client, head(target, f"Referer: {number}"))
            await ask(client, head(target, "Host: other.test").replace(b"Host: portal.test\r\n", b""))
        assert made.forwarded == (0, 6, 2)  # those of /x and /x/y


async def test_nothing_is_remembered_under_other_rules():
    async with scene() as (made, _, client):
        for _ in range(3):
            await ask(client, head("/x/7", "Referer: a"))
        assert made.forwarded == (1, 1, 1)
        made.reload(RULES.replace("GET /api/catalogue", "GET /x/7"))
        for _ in range(2):
            # one way, then the other: the same head, another one of the same shape
            assert "no-rule" not in await ask(client, head("/x/7", "Referer: a"))
            assert "no-rule" not in await ask(client, head("/x/7", "Referer: b"))
        assert made.forwarded == (1, 1, 1)
        assert "no-rule" in await ask(client, head("/x/8", "Referer: b"))


async def test_a_rule_has_its_say_among_targets_of_one_shape():
    async with scene() as (made, _, client):
        for _ in range(3):
            assert "no-rule" in await ask(client, head("/x"))
            assert "no-rule" not in await ask(client, head("/api/catalogue"))
            assert "reserved" in await ask(client, head("/.sidecache/nothing"))
        assert sum(made.forwarded) == 3


async def test_a_host_that_is_not_served_has_the_rules_word_on_writes_only():
    async with scene(hosts=frozenset({"other.test"})) as (made, _, client):
        for _ in range(3):
            assert await ask(client, head("/x", "Referer: a")) == "sidecache; fwd=bypass; detail=host-not-served"
            assert await ask(client, head("/api/jobs")) == "sidecache; fwd=bypass; detail=host-not-served"
        assert sum(made.forwarded) == 6


async def test_no_idle_connection_is_no_reason_to_wait():
    async with scene() as (made, up, client):
        made.forwarding._relays.upstream._requests.close()
        assert "no-rule" in await ask(client, head("/x"))
        assert made.forwarded == (0, 0, 0)
        assert len(up.requests) == 1
        assert "no-rule" in await ask(client, head("/x"))
        assert sum(made.forwarded) == 1


async def test_once_it_is_closed_everything_takes_the_ordinary_way():
    async with scene() as (made, _, client):
        for _ in range(3):
            await ask(client, head("/x"))
        made.listener.leaving()
        await client.send(head("/x"))
        assert (await client.response()).get("connection") == "close"
        assert sum(made.forwarded) == 3


async def test_what_is_remembered_stays_within_its_bytes():
    async with scene(forwarded_bytes=40_000) as (made, _, client):
        for n in range(60):
            for again in range(3):
                await ask(client, head(f"/x/{n}", f"X-Shape-{n % 20}: a", f"Referer: {again // 2}"))
        assert 0 < made.forwarding.size <= 40_000
        assert sum(made.forwarded) == 180
