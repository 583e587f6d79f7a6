"""Answers that are prepared once for all callers who may have them: who shares what, and until when."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.serving.hits import LASTS, RECHECKED
from proxy.serving.prepared import Prepared
from tests.serving.short import SPOILED, Served, dated, head, prompt, served
from tests.serving.world import RULES, unsigned
from tests.wire import Client

TARGETS = ["/api/jobs/1", "/api/jobs/2", "/api/jobs/3"]
READS = "read: [GET /api/jobs, "
LARGE = "n" * 3000


async def ask(client: Client, data: bytes):
    await client.send(data)
    return await client.response("GET")


@asynccontextmanager
async def filled(rules: str = RULES, **more: Any) -> AsyncIterator[tuple[Served, Client]]:
    """All is in memory."""
    async with served(rules, **more) as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated({"at": request.target, "large": LARGE}, etag='"e"')
        for target in TARGETS:
            await ask(client, head(target))
        await made.settle()
        yield made, client


def shared(made: Served) -> dict[str, Prepared]:
    return {name: prepared for name, (prepared, _) in made.hits._shared._known.items()}


async def known(client: Client, *lines: str, token: str = unsigned(), times: int = 2) -> None:
    """Make the caller one who is known, and has a place on the route."""
    for target in TARGETS[:1] * times + TARGETS[1:]:
        await ask(client, head(target, *lines, token=token))


async def test_one_caller_prepares_for_another_of_the_tenant():
    async with filled() as (made, client):
        await known(client)
        assert len(shared(made)) >= 2
        ann = unsigned(sub="ann")
        await known(client, token=ann)
        decided = made.hits.decided
        got = [await ask(client, head(target, f"Cookie: {n}", token=ann)) for n, target in enumerate(TARGETS)]
        assert made.hits.decided <= decided + 1  # the first target was never asked for by a known caller
        assert [json.loads(each.body)["at"] for each in got] == TARGETS


async def test_another_tenant_gets_its_own():
    async with filled() as (made, client):
        await known(client)
        before = len(made.world.upstream.asked)
        eve = unsigned("org_b", "eve")
        for n in range(3):
            got = await ask(client, head(TARGETS[1], f"Cookie: {n}", token=eve))
            await made.settle()
        assert len(made.world.upstream.asked) == before + 1
        assert got.cache == "sidecache; hit; ttl=900"


async def test_each_has_the_encoding_it_asks_for():
    async with filled() as (made, client):
        got = {}
        for again in range(4):
            for coding in ("gzip", "zstd", "br"):
                for target in TARGETS:
                    answer = await ask(client, head(target, f"Accept-Encoding: {coding}", f"Cookie: {again}"))
                    got.setdefault(coding, set()).add(answer.get("content-encoding"))
        assert got == {"gzip": {"gzip"}, "zstd": {"zstd"}, "br": {None}}
        assert {name.partition(" ")[0] for name in shared(made)} == {"gzip", "zstd", "identity"}


@pytest.mark.parametrize(
    ("line", "status"),
    [("Range: bytes=0-1", 206), ('If-None-Match: "e"', 304), ("Cache-Control: no-transform", 200)],
)
async def test_whoever_does_not_want_just_the_whole_shares_nothing(line, status):
    async with filled() as (made, client):
        for n in range(3):
            for target in TARGETS:
                assert (await ask(client, head(target, line, f"Cookie: {n}"))).status == status
        assert shared(made) == {}
        await known(client)
        assert [(await ask(client, head(target, line))).status for target in TARGETS] == [status] * 3


async def test_whoever_lacks_the_permission_is_not_given_what_others_share():
    rules = RULES.replace("ttl: 15m", "ttl: 15m\n    require: [read:jobs]")
    may, not_may = unsigned(permissions=["read:jobs"]), unsigned(sub="ann", permissions=[])
    async with served(rules) as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        for _ in range(3):
            await known(client, token=may)
            await made.settle()
        assert shared(made)
        for n in range(4):
            got = await ask(client, head(TARGETS[1], f"Cookie: {n}", token=not_may))
            assert got.cache == "sidecache; fwd=bypass; detail=permission"


RULES_NOT_SHARED = {
    "what is counted": RULES.replace(
        '"GET /api/jobs/{job-id}"]', '{route: "GET /api/jobs/{job-id}", count: {name: views, by: job-id}}]', 1
    ),
    "where the origin has a say in the key": RULES.replace("ttl: 15m", "ttl: origin", 1),
    "a whole tree": RULES.replace('"GET /api/jobs/{job-id}"]', '"GET /api/jobs/**"]', 1),
}


@pytest.mark.parametrize("rules", RULES_NOT_SHARED.values(), ids=RULES_NOT_SHARED)
async def test_is_not_shared(rules):
    async with served(rules) as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(cache_control="max-age=600")
        for _ in range(3):
            await known(client)
            await made.settle()
        assert shared(made) == {}
        assert made.short > 0


@pytest.mark.parametrize("target", ["/api/jobs/7?page=2", "/api/jobs/A", "/api/jobs/a.b", "/api/jobs/7/"])
async def test_a_target_that_may_be_read_in_two_ways_is_not_shared(target):
    async with filled() as (made, client):
        await known(client)
        before = set(shared(made))
        for n in range(3):
            await ask(client, head(target, f"Cookie: {n}"))
            await made.settle()
        assert set(shared(made)) == before


async def test_what_ends_a_session_is_not_answered_from_what_is_shared():
    """A read that is also a logout is found so by its path, also for a caller who has a place on its route."""
    async with filled(RULES + "session: {logout: [GET /api/jobs/9]}\n") as (made, client):
        await known(client)
        prepared = shared(made)["identity tenant:org_a:jobs:2"]
        made.hits._shared.put("identity tenant:org_a:jobs:9", prepared, 1)
        made.hits._shared.put("identity tenant:org_a:jobs:8", prepared, 1)
        assert made.hits.known(head("/api/jobs/8"), False) is not None
        assert made.hits.known(head("/api/jobs/9"), False) is None


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
async def test_it_is_shared_while_all_of_this_holds(spoil):
    async with filled() as (made, client):
        await known(client)
        await known(client)
        name, prepared = next(iter(shared(made).items()))
        data = head(f"/api/jobs/{name.rpartition(':')[2]}", "Cookie: new")
        assert made.hits.known(data, False) is not None
        chosen = made.hits.chosen
        spoil(made, prepared)
        made.hits.known(data, False)
        assert made.hits.chosen == chosen


async def test_it_lasts_while_its_callers_are_rechecked():
    async with filled() as (made, client):
        await known(client)
        await known(client)
        first = {name: prepared for name, prepared in shared(made).items() if name[-1] in "23"}
        made.world.clock.advance(RECHECKED + 1)
        await known(client)  # decided about anew
        decided = made.hits.decided
        for target in TARGETS[1:]:
            assert (await ask(client, head(target, "Cookie: x"))).status == 200
        assert made.hits.decided == decided
        assert all(shared(made)[name] is prepared for name, prepared in first.items())
        made.world.clock.advance(LASTS)
        await known(client)
        await known(client)
        assert all(shared(made)[name] is not prepared for name, prepared in first.items())


async def test_a_token_that_has_expired_gets_nothing_that_is_shared():
    token = unsigned(exp=1_700_000_000 + 5)
    async with filled() as (made, client):
        await known(client)
        await known(client, token=token)
        for _ in range(4):  # the same head has a place of its own by now
            assert "hit" in (await ask(client, head(TARGETS[1], token=token))).cache
        assert made.hits.repeated > 0
        made.world.clock.advance(6)
        assert (await ask(client, head(TARGETS[1], token=token))).cache == "sidecache; fwd=bypass; detail=token-expired"


async def test_it_counts_like_any_other_hit():
    counted = []
    for short in (True, False):
        async with filled(short=short) as (made, client):
            for n in range(6):
                for target in TARGETS:
                    await ask(client, head(target, f"Cookie: {n}"))
            counted.append(made.counted())
    assert counted[0] == counted[1]


async def test_it_counts_where_its_tenant_is_counted_by_then():
    """The cell of a tenant who was quiet for a minute is another one."""
    async with filled() as (made, client):
        await known(client)
        await known(client)
        first, second = [0, 0, 0], [0, 0, 0]
        for cell in (first, second):
            made.hits._cell_of = lambda outcome, cell=cell: cell
            made.world.clock.advance(RECHECKED)
            for n, target in enumerate(TARGETS[1:] * 2):
                await ask(client, head(target, f"Cookie: {n} {id(cell)}"))
        assert first == second
        assert first[1] == 4


async def test_a_caller_keeps_no_more_than_a_few_answers_at_hand():
    async with filled() as (made, client):
        for again in range(4):
            for n in range(20):
                await ask(client, head(f"/api/jobs/{n}", f"Cookie: {again}"))
                await made.settle()
        (kept,) = made.hits._callers._kept.values()
        assert len(kept.caller.answers) == 4


async def test_it_stays_within_its_bytes():
    async with served(max_bytes=20_000) as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        for n in range(60):
            for _ in range(3):
                await ask(client, head(f"/api/jobs/{n}"))
                await made.settle()
        assert 0 < made.hits._shared.size <= 7_500
        assert made.hits.size <= 20_000
