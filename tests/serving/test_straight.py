"""Hits from the store in a straight line: what is answered so, and what must not be, whatever is in the store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from proxy.cache import record
from proxy.cache.seal import Sealer
from proxy.policy.entry import Entry
from tests.serving.short import Served, dated, head, prompt, served, turns
from tests.serving.test_sought import OTHER, ask, forget, is_asked, let, said
from tests.serving.world import unsigned
from tests.wire import Client, until

TARGETS = ["/api/jobs/1", "/api/jobs/2", "/api/jobs/3"]
WORDS = b'{"words": "' + b"words and words " * 100 + b'"}'
KEY = "tenant:org_a:jobs:1"
SEALER = Sealer(b"s" * 32)  # that of the world


@asynccontextmanager
async def stored(*lines: str, body: Any = None, **more: Any) -> AsyncIterator[tuple[Served, Client]]:
    """All is in the store, nothing in memory, and the caller is known."""
    async with served(**more) as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(
            body if body is not None else {"n": n, "at": request.target}, etag='"e"'
        )
        for target in TARGETS:
            await ask(client, head(target, *lines))
        await made.settle()
        forget(made)
        yield made, client


async def in_store(made: Served) -> Entry:
    (data,) = await made.world.store.inner.get([KEY])
    assert data is not None
    entry = record.decode(data, SEALER, key=KEY, tenant="org_a", request="GET /api/jobs/1", max_body=1 << 20)
    assert isinstance(entry, Entry)
    return entry


async def put(made: Served, entry: Entry) -> None:
    await made.world.store.inner.set(KEY, record.encode(entry, SEALER), 900)


async def test_a_usual_hit_of_a_known_caller_is_answered_straight_and_kept_in_memory():
    async with stored() as (made, client):
        got = [await ask(client, head(target)) for target in TARGETS]
        assert [(said(each)["at"], each.cache, each.get("age")) for each in got] == [
            (target, "sidecache; hit; ttl=900", "0") for target in TARGETS
        ]
        assert (made.hits.straight, made.hits.sought) == (3, 3)
        assert (await ask(client, head(TARGETS[0]))).status == 200
        assert made.hits.straight == 3


@pytest.mark.parametrize(
    ("lines", "body", "coding"),
    [
        ((), WORDS, None),  # it is unpacked for whoever takes it plain
        (("Accept-Encoding: zstd",), WORDS, "zstd"),  # and sent as it is stored to others
        (("Accept-Encoding: gzip, zstd",), WORDS, "zstd"),
        (("Accept-Encoding: zstd", "Cache-Control: no-transform"), WORDS, None),
        (("Accept-Encoding: zstd",), b"{}", None),
    ],
)
async def test_the_body_comes_in_the_encoding_that_the_client_gets_the_ordinary_way(lines, body, coding):
    async with stored(*lines, body=body) as (made, client):
        straight = await ask(client, head(TARGETS[0], *lines))
        assert (made.hits.straight, straight.get("content-encoding")) == (1, coding)
        forget(made)
        made.hits._straight.wanted = lambda caller, target: None  # type: ignore[method-assign]
        plain = await ask(client, head(TARGETS[0], *lines))
        assert (straight.raw, straight.body) == (plain.raw, plain.body)


@pytest.mark.parametrize(
    "lines",
    [
        ("Range: bytes=0-3",), ('If-None-Match: "e"',), ('If-None-Match: "x"',), ("Accept: text/csv",),
        ("If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",), ("Accept-Encoding: gzip",),
    ],
)  # fmt: skip
async def test_what_the_client_makes_unusual_takes_the_plain_way(lines):
    async with stored(*lines, body=WORDS) as (made, client):
        await ask(client, head(TARGETS[0], *lines))
        assert made.hits.straight == 0


@pytest.mark.parametrize(
    ("change", "cache"),
    [
        ({"tenant": "org_b"}, "fwd=uri-miss"),
        ({"key": "tenant:org_a:jobs:2"}, "fwd=uri-miss"),
        ({"request": "GET /api/jobs/2"}, "fwd=uri-miss"),
        ({"policy": b"another rule's"}, "fwd=uri-miss"),
        ({"tags": ("jobs", "jobs:2")}, "fwd=uri-miss"),
        ({"epochs_hard": b"x" * 16}, "fwd=uri-miss"),
        ({"epochs_soft": b"x" * 16}, "hit"),  # stale, while it is refreshed
        ({"fresh_until": 1_700_000_000.0}, "hit"),  # the same
        ({"fresh_until": 1.0, "grace_until": 1.0, "error_until": 1.0}, "fwd=stale"),
        ({"no_cache": True}, "fwd=stale"),
        ({"vary": (("accept-language", "de"),)}, "fwd="),
        ({"status": 404}, "hit"),
        ({"head": b"Content-Type: application/json\r\n"}, "hit"),  # without a Date
        ({"fetch_seconds": 30.0}, "hit"),  # perhaps due for an early refresh
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
async def test_what_is_unusual_about_a_record_takes_the_plain_way(change, cache):
    async with stored() as (made, client):
        await put(made, replace(await in_store(made), **change))
        got = await ask(client, head(TARGETS[0]))
        assert got.cache.startswith(f"sidecache; {cache}"), got.cache
        assert made.hits.straight == 0


@pytest.mark.parametrize("at", [0, 3, 5, 10, 40, -1])
async def test_a_damaged_record_is_a_counted_miss(at):
    async with stored() as (made, client):
        (data,) = await made.world.store.inner.get([KEY])
        damaged = bytearray(data)
        damaged[at] ^= 1
        await made.world.store.inner.set(KEY, bytes(damaged), 900)
        got = await ask(client, head(TARGETS[0]))
        assert (got.cache, said(got)["n"]) == ("sidecache; fwd=uri-miss; stored", 4)
        assert (sum(made.world.cache.stats().rejected.values()), made.hits.straight) == (1, 0)


async def test_another_tenant_s_record_under_the_key_is_a_counted_miss():
    async with stored() as (made, client):
        await ask(client, head(TARGETS[0], token=OTHER))
        await made.settle()
        (theirs,) = await made.world.store.inner.get(["tenant:org_b:jobs:1"])
        await made.world.store.inner.set(KEY, theirs, 900)
        got = await ask(client, head(TARGETS[0]))
        assert (got.cache, said(got)["n"]) == ("sidecache; fwd=uri-miss; stored", 5)
        assert (sum(made.world.cache.stats().rejected.values()), made.hits.straight) == (1, 0)


# What happens while the store is asked


@pytest.mark.parametrize("how", ["a write", "expiry", "a switch", "a newer one in memory", "a soft purge"])
async def test_what_changes_while_the_store_is_asked_counts(how):
    async with stored() as (made, client), await prompt(made.port) as other:
        world = made.world
        world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        if how == "a write":
            world.store.held = set()
            await world.epochs.advance({"org_a": ["jobs:1"]})
        elif how == "a soft purge":
            world.store.held = set()
            await world.epochs.advance({"org_a": ["jobs:1"]}, soft=True)
        elif how == "expiry":
            world.clock.advance(900.0)
        elif how == "a switch":
            world.off.add(("jobs", "org_a"))
            made.serving.advance()
        else:
            world.store.held = set()
            await world.epochs.advance({"org_a": ["jobs:2"]})  # another item's
            entry = replace(await in_store(made), body=b'{"n": 99}', head=b"Date: x\r\n", stored_at=world.clock() + 1)
            world.cache.put(entry, quota=None)
        await let(made)
        got = await client.response("GET")
        assert made.hits.straight == 0
        expected = {"a write": 4, "expiry": 1, "a switch": 4, "a newer one in memory": 99, "a soft purge": 1}
        assert said(got)["n"] == expected[how], got.cache
        if how == "a write":
            assert got.cache == "sidecache; fwd=uri-miss; stored; detail=purged"
        assert (await ask(other, head(TARGETS[1]))).status == 200


async def test_two_requests_on_one_connection_are_answered_in_their_order():
    async with stored() as (made, client):
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        await client.send(head(TARGETS[1]))
        await turns()
        await let(made)
        got = [await client.response("GET") for _ in range(2)]
        assert [said(each)["at"] for each in got] == TARGETS[:2]


async def test_a_client_that_is_gone_costs_an_answer_that_nobody_hears_and_nothing_else():
    async with stored() as (made, _):
        gone = await prompt(made.port)
        made.world.store.held = {"get"}
        await gone.send(head(TARGETS[0]))
        await is_asked(made)
        await gone.close()
        await until(lambda: any(each.transport is None for each in made.listener._runner.server.connections))
        await let(made)
        await until(lambda: made.listener._under_way._count == 0)
        assert made.world.failures == []


@pytest.mark.parametrize("how", ["down", "lost"])
async def test_without_an_answer_of_the_store_it_is_an_ordinary_miss(how):
    async with stored() as (made, client):
        getattr(made.world.store, how).add("get")
        got = await ask(client, head(TARGETS[0]))
        assert got.cache == "sidecache; fwd=uri-miss; stored; detail=store-unavailable"
        assert (made.hits.straight, made.world.cache.stats().store_failures) == (0, 1)


async def test_where_room_is_short_it_is_kept_when_it_is_asked_for_again():
    async with stored(l1_bytes=1 << 14) as (made, client):
        memory = made.world.cache._memory
        for number in range(30):
            await ask(client, head(f"/api/jobs/more-{number}"))
        await made.settle()
        kept = set(memory.keys())
        assert "tenant:org_a:jobs:1" not in kept
        await ask(client, head(TARGETS[0]))
        assert set(memory.keys()) == kept
        await ask(client, head(TARGETS[0]))
        assert memory.holds(KEY)
        assert made.hits.straight == 2


async def test_some_are_told_of_as_recent():
    async with stored() as (made, client):
        made.hits._straight._has_room = lambda: True
        made.noted.clear()
        await ask(client, head(TARGETS[0]))
        assert [request.target for request in made.noted] == [TARGETS[0]]


async def test_permissions_are_those_of_the_caller():
    async with stored() as (made, client):
        target = "/api/jobs/1/applications"
        for token in (unsigned(), unsigned(permissions=["x"])):
            for _ in range(3):
                await ask(client, head(target, token=token))
                await made.settle()
                forget(made)
        assert made.hits.straight > 0
        before = made.hits.straight
        got = await ask(client, head(target, token=unsigned(permissions=["x"])))
        assert (got.cache, made.hits.straight) == ("sidecache; fwd=bypass; detail=permission", before)
