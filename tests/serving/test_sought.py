"""Hits from the shared store without a task: what they wait for, and everything that may happen meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from proxy.cache.tiers import THREAD_BYTES
from proxy.policy.identity import Identity, Standing
from proxy.policy.outcome import Reason
from proxy.serving.turns import TurnTaker
from tests.serving.short import Served, dated, head, prompt, served, turns
from tests.serving.world import RULES, unsigned
from tests.wire import LIMIT, Client, until

TARGETS = ["/api/jobs/1", "/api/jobs/2", "/api/jobs/3"]
OTHER = unsigned("org_b", "eve")


@pytest.fixture(autouse=True)
def tasks(monkeypatch) -> list[int]:
    """As many turns as took a task."""
    begun: list[int] = []
    begin = TurnTaker.begin_turn

    def counted(self: TurnTaker, turn: Any, waiter: Any) -> None:
        begun.append(1)
        begin(self, turn, waiter)

    monkeypatch.setattr(TurnTaker, "begin_turn", counted)
    return begun


@asynccontextmanager
async def stored(tasks: list[int], **more: Any) -> AsyncIterator[tuple[Served, Client]]:
    """Everything is in the store, nothing in memory, and the callers are known."""
    async with served(**more) as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated({"n": n, "at": request.target}, etag='"e"')
        for target in TARGETS:
            await ask(client, head(target))
        await made.settle()
        forget(made)
        made.world.store.calls.clear()
        tasks.clear()
        yield made, client


def forget(made: Served) -> None:
    for key in sorted(made.world.cache._memory._table):
        made.world.cache._memory.drop(key)


def rest_of(data: bytes) -> bytes:
    """Of a head that anybody reads all of: what tells its caller."""
    return data[data.find(b"\r\n") :]


async def ask(client: Client, data: bytes):
    await client.send(data)
    return await client.response("GET")


def said(answer) -> dict[str, Any]:
    return json.loads(answer.body)


async def is_asked(made: Served, times: int = 1) -> None:
    await until(lambda: len(made.world.store.gates) >= times)


async def let(made: Served) -> None:
    """What the store was held up with goes on, there and back."""
    made.world.store.held = set()
    while made.world.store.gates:
        made.world.store.open_gate()
        await turns()


@pytest.mark.parametrize(
    "lines",
    [[], ["X-Theme: dark"], ["Traceparent: 00-1-2-01"]],
    ids=["by a caller", "by a new one", "in its own words"],
)
async def test_a_hit_from_the_store_takes_no_task_and_one_question(tasks, lines):
    async with stored(tasks) as (made, client):
        if lines and lines[0].startswith("X"):
            for target in TARGETS:
                await ask(client, head(target, *lines))
            await made.settle()
            forget(made)
            made.world.store.calls.clear()
            tasks.clear()
        got = [await ask(client, head(target, *lines)) for target in TARGETS]
        assert [each.cache for each in got] == ["sidecache; hit; ttl=900"] * 3
        assert [each.get("etag") for each in got] == ['"e"'] * 3
        assert (len(tasks), made.hits.sought, made.world.store.count("get")) == (0, 3, 3)
        # they are in memory from now on
        assert [(await ask(client, head(target, *lines))).status for target in TARGETS] == [200] * 3
        assert (made.hits.sought, made.world.store.count("get")) == (3, 3)


async def test_what_is_asked_for_in_one_turn_is_read_at_once(tasks):
    async with stored(tasks) as (made, _):
        made.world.store.held = {"get"}
        clients = [await prompt(made.port) for _ in range(12)]
        for number, client in enumerate(clients):
            await client.send(head(TARGETS[number % 3]))
        await is_asked(made)
        await asyncio.sleep(0.01)
        asked = [names for operation, names in made.world.store.calls if operation == "get"]
        assert 1 <= len(asked) < 6
        await let(made)
        assert [(await client.response("GET")).status for client in clients] == [200] * 12
        assert (len(tasks), len(made.world.upstream.asked)) == (0, 3)
        for client in clients:
            await client.close()


async def test_a_miss_goes_on_from_what_the_store_said(tasks):
    async with stored(tasks) as (made, client):
        got = await ask(client, head("/api/jobs/4"))
        assert got.cache == "sidecache; fwd=uri-miss; stored"
        assert (made.world.store.count("get"), len(made.world.upstream.asked), len(tasks)) == (1, 4, 1)


async def test_the_upstream_is_asked_with_all_that_the_client_said(tasks):
    """A caller is known without the lines that nobody reads; the upstream may read them."""
    async with stored(tasks) as (made, client):
        await ask(client, head("/api/jobs/4", "Traceparent: 00-1-2-01"))
        assert made.world.upstream.asked[-1].fields.get("traceparent") == "00-1-2-01"


async def test_whoever_arrives_after_a_purge_never_gets_what_was_read_before(tasks):
    async with stored(tasks) as (made, client), await prompt(made.port) as later:
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        made.world.store.held = set()
        await made.world.epochs.advance({"org_a": ["jobs:1"]})
        answer = await ask(later, head(TARGETS[0]))
        assert (said(answer)["n"], answer.cache) == (4, "sidecache; fwd=uri-miss; stored; detail=purged")
        await let(made)
        assert (await client.response("GET")).status == 200  # it came before: either is right
        assert [said(await ask(each, head(TARGETS[0])))["n"] for each in (client, later)] == [4, 4]


async def test_what_was_read_is_for_the_request_that_asked_and_for_nobody_later(tasks):
    """Two for the same key: one finds nothing and goes on from there, the other comes after a purge and a fetch."""
    async with stored(tasks) as (made, client), await prompt(made.port) as later:
        made.world.store.held = {"get"}
        await client.send(head("/api/jobs/9"))
        await is_asked(made)
        await let(made)
        assert said(await client.response("GET"))["n"] == 4
        await made.world.epochs.advance({"org_a": ["jobs"]})
        assert made.world.exchange.prompt._sought is None
        assert said(await ask(later, head("/api/jobs/9")))["n"] == 5


@pytest.mark.parametrize("what", ["rules", "drain"])
async def test_what_changes_meanwhile_is_decided_anew(tasks, what):
    async with stored(tasks) as (made, client):
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        if what == "rules":
            made.reload(RULES.replace("ttl: 15m", "ttl: 14m"))
        else:
            made.listener.leaving()
        await let(made)
        got = await client.response("GET")
        assert len(tasks) == 1
        if what == "rules":
            assert got.cache == "sidecache; fwd=uri-miss; stored; detail=rules-changed"
        else:
            assert (got.cache, got.get("connection")) == ("sidecache; hit; ttl=900", "close")


@pytest.mark.parametrize("how", ["down", "lost"])
async def test_a_store_that_fails_is_an_ordinary_miss(tasks, how):
    async with stored(tasks) as (made, client):
        getattr(made.world.store, how).add("get")
        got = await ask(client, head(TARGETS[0]))
        assert got.cache == "sidecache; fwd=uri-miss; stored; detail=store-unavailable"
        assert made.world.cache.stats().store_failures == 1


@pytest.mark.isolation
async def test_a_record_of_another_tenant_is_a_counted_miss(tasks):
    async with stored(tasks) as (made, client):
        store = made.world.store.inner
        await ask(client, head(TARGETS[1], token=OTHER))
        await made.settle()
        (foreign,) = await store.get(["tenant:org_b:jobs:2"])
        assert foreign is not None
        await store.set("tenant:org_a:jobs:1", foreign, 60)
        got = await ask(client, head(TARGETS[0]))
        assert "hit" not in got.cache
        assert sum(made.world.cache.stats().rejected.values()) == 1


async def test_a_record_that_was_changed_is_a_counted_miss(tasks):
    async with stored(tasks) as (made, client):
        store = made.world.store.inner
        (data,) = await store.get(["tenant:org_a:jobs:1"])
        await store.set("tenant:org_a:jobs:1", data[:-1] + bytes([data[-1] ^ 1]), 60)
        assert "hit" not in (await ask(client, head(TARGETS[0]))).cache
        assert sum(made.world.cache.stats().rejected.values()) == 1


async def test_a_large_record_is_unpacked_beside_the_loop(tasks, monkeypatch):
    body = b"x" * (THREAD_BYTES + 1)
    threads: list[int] = []
    real = asyncio.to_thread

    async def counted(*call: Any) -> Any:
        threads.append(1)
        return await real(*call)

    async with served() as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(body, cache_control="no-transform")
        await ask(client, head(TARGETS[0]))
        await ask(client, head(TARGETS[1]))
        await made.settle()
        forget(made)
        tasks.clear()
        monkeypatch.setattr(asyncio, "to_thread", counted)
        assert (await ask(client, head(TARGETS[0]))).body == body
        assert (len(threads), len(tasks), made.hits.sought) == (1, 0, 1)


async def test_what_the_store_has_compressed_is_not_compressed_again(tasks, monkeypatch):
    body = b"words and words " * 200
    async with served() as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(body)
        for target in TARGETS:
            await ask(client, head(target))
        await made.settle()
        forget(made)
        tasks.clear()
        got = await ask(client, head(TARGETS[0], "Accept-Encoding: zstd"))
        assert (got.get("content-encoding"), len(tasks)) == ("zstd", 0)
        assert len(got.body) < len(body) / 4


# The connection meanwhile


@pytest.mark.parametrize("pieces", [1, 3, 40])
async def test_what_arrives_meanwhile_is_answered_behind_it(tasks, pieces):
    async with stored(tasks) as (made, client):
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        rest = head(TARGETS[1]) + head("/api/jobs/8") + head(TARGETS[2])
        step = -(-len(rest) // pieces)
        for at in range(0, len(rest), step):
            await client.send(rest[at : at + step])
            await turns()
        await asyncio.sleep(0.01)
        await let(made)
        got = [await client.response("GET") for _ in range(4)]
        assert [said(each)["at"] for each in got] == [TARGETS[0], TARGETS[1], "/api/jobs/8", TARGETS[2]]
        assert (await ask(client, head(TARGETS[0]))).status == 200


async def test_what_arrives_meanwhile_is_behind_it_also_when_it_must_be_fetched(tasks):
    async with stored(tasks) as (made, client):
        made.world.store.held = {"get"}
        await client.send(head("/api/jobs/7"))
        await is_asked(made)
        body = head("/api/jobs/6")
        await client.send(head("/api/jobs/5", f"Content-Length: {len(body)}", method="PUT") + body + head(TARGETS[1]))
        await turns()
        await let(made)
        got = [await client.response("GET") for _ in range(3)]
        assert [said(each)["at"] for each in got[:2]] == ["/api/jobs/7", "/api/jobs/5"]
        assert got[2].status == 200


async def test_a_client_that_sends_on_and_on_meanwhile_is_not_read(tasks):
    async with stored(tasks) as (made, client):
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        (protocol,) = made.listener._runner.server.connections
        for _ in range(200):
            client.writer.write(b"X: " + b"y" * 4000 + b"\r\n")
        await asyncio.sleep(0.05)
        assert len(protocol._unparsed) < 400_000
        await let(made)
        assert (await client.response("GET")).status == 200


async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(tasks):
    async with stored(tasks) as (made, _):
        before = len(asyncio.all_tasks())
        client = await prompt(made.port)
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        await client.close()
        await until(lambda: any(each.transport is None for each in made.listener._runner.server.connections))
        await let(made)
        await made.settle()
        await until(lambda: made.listener.connections == 1)
        await until(lambda: made.listener._under_way._count == 0)
        await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_shutdown_waits_for_it(tasks):
    async with stored(tasks) as (made, client):
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        closing = asyncio.create_task(made.listener.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        await let(made)
        got = await client.response("GET")
        assert (got.cache, got.get("connection")) == ("sidecache; hit; ttl=900", "close")
        await asyncio.wait_for(closing, LIMIT)


async def test_one_that_takes_too_long_ends_with_the_listener(tasks):
    async with stored(tasks, drain=0.05) as (made, client):
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        await asyncio.wait_for(made.listener.close(), LIMIT)
        assert await client.ended()
        await let(made)
        assert made.world.failures == []


async def test_the_time_it_waits_is_no_idle_time_and_idle_time_follows_it(tasks):
    async with stored(tasks) as (made, client):
        (protocol,) = made.listener._runner.server.connections
        made.world.store.held = {"get"}
        await client.send(head(TARGETS[0]))
        await is_asked(made)
        assert protocol._waiter is None
        before = protocol._next_keepalive_close_time
        await let(made)
        await client.response("GET")
        assert protocol._next_keepalive_close_time > before
        assert protocol._waiter is not None


# Callers


@pytest.mark.parametrize(
    "target",
    [
        "/api//jobs", "/api/jobs/../jobs/1", "/api/jobs/%31", "/api/jobs/1;x", "/.sidecache/readyz", "/api/jobs/1?a=%",
        "/api/jobs/1?", "/api/me", "/api/jobs/1/applications", "/api/catalogue", "/nowhere", "/api/origin?b=1&a=2",
    ],
)  # fmt: skip
async def test_another_target_of_a_known_caller_is_answered_as_if_the_caller_were_new(tasks, target):
    got = []
    for known in (True, False):
        async with stored(tasks) as (made, client):
            if not known:
                made.hits._callers._kept.clear()
            for _ in range(2):
                answer = await ask(client, head(target))
                got.append((answer.status, answer.raw.split(b"\r\n\r\n")[0]))
                await made.settle()
    assert got[:2] == got[2:]


@pytest.mark.isolation
async def test_a_caller_is_another_with_other_credentials(tasks):
    async with stored(tasks) as (made, client):
        answer = await ask(client, head(TARGETS[0], token=OTHER))
        assert answer.cache == "sidecache; fwd=uri-miss; stored"
        assert len(made.world.upstream.asked) == 4


async def test_a_caller_is_known_no_longer_than_the_token_counts(tasks):
    token = unsigned(exp=1_700_000_000 + 5)
    async with stored(tasks) as (made, client):
        for _ in range(3):
            assert "hit" in (await ask(client, head(TARGETS[0], token=token))).cache
        made.world.clock.advance(6)
        assert (await ask(client, head(TARGETS[0], token=token))).cache == "sidecache; fwd=bypass; detail=token-expired"


@pytest.mark.parametrize("what", ["the rules", "ten minutes", "a clock set back"])
async def test_a_caller_is_decided_about_anew_when_anything_may_have_changed(tasks, what):
    async with stored(tasks) as (made, client):
        await ask(client, head(TARGETS[0]))
        rest = rest_of(head(TARGETS[0]))
        now, serving = made.world.clock, made.serving
        found = made.hits._callers.find(rest, serving.number, now(), False)
        assert found is not None
        assert found.valid_until > now()
        assert made.hits._callers.find(rest, serving.number, now(), True) is None
        await ask(client, head("/api/jobs/2"))
        await ask(client, head("/api/jobs/2", "Cookie: x"))
        if what == "the rules":
            serving.advance()
        else:
            now.advance(600 if what == "ten minutes" else -1)
        assert made.hits._callers.find(rest, serving.number, now(), False) is None


async def test_a_caller_is_asked_about_after_ten_seconds(tasks):
    async with stored(tasks) as (made, client):
        for target in (*TARGETS, TARGETS[0]):
            await ask(client, head(target))
        rest, now, number = rest_of(head(TARGETS[1])), made.world.clock, made.serving.number
        for seconds in (10, 10, 5):
            now.advance(seconds)
            found = made.hits._callers.find(rest, number, now(), False)
            assert found is not None
            assert (found.valid_until <= now()) == (seconds == 10)
            assert made.hits.known(head(TARGETS[1], f"Cookie: {now()}"), False) is not None


@pytest.mark.parametrize("said", [Reason.TOKEN_INVALID, None, Identity("org_b", "u1"), "standing"])
async def test_a_caller_whose_credentials_say_something_else_is_decided_about_anew(tasks, said, monkeypatch):
    async with stored(tasks) as (made, client):
        for target in (*TARGETS, TARGETS[0]):
            await ask(client, head(target))
        data = head(TARGETS[1], "Cookie: x")
        made.world.clock.advance(10)
        found = made.hits._callers.find(rest_of(head(TARGETS[1])), made.serving.number, made.world.clock(), False)
        assert found is not None
        answer = replace(found.caller.identity, standing=Standing.UNKNOWN) if said == "standing" else said
        monkeypatch.setattr(made.world.exchange.prompt._identity, "resolve_now", lambda *_: answer)
        assert made.hits.known(data, False) is None
