"""proxy.counting: every request is counted that should be, and no other, whatever way it took (real sockets)."""

import asyncio
import re

import pytest

from tests import servers, wire
from tests.analytics.scene import HOST, asked, bearer, scene
from tests.faults.scene import plain, reached_at


@pytest.fixture
def redis_server():
    if servers.REDIS is None:
        pytest.skip(servers.NO_REDIS)
    with plain() as started:
        yield started


async def at_once(made) -> int:
    """Hits that were answered in the call that brought them."""
    text = (await wire.fetch(made.sidecars[0].admin_port, "/metrics", host="127.0.0.1")).body.decode()
    found = re.findall(r'^sidecache_hits_at_once_total\{way="([a-z-]+)"\} ([0-9.]+)', text, re.MULTILINE)
    return {way: int(float(count)) for way, count in found}


async def test_misses_and_hits_of_every_way_are_counted_once_each(tmp_path):
    async with scene(tmp_path) as made:
        assert await asked(made.port, "/api/jobs/77", bearer(), times=50) == [200] * 50
        for number in range(20):
            await asked(made.port, "/api/jobs/77", bearer(), f"X-Request-Id: {number}")
        for number in range(10):
            await asked(made.port, f"/api/jobs/77?q={number % 2}", bearer(sub="u2"))
        assert len(made.upstream.requests) == 3
        ways = await at_once(made)
        assert all(ways[way] > 0 for way in ("same-head", "same-choice", "decided")), ways
        await made.reaches(80, query="?job-id=77")
        report = await made.report("job-views", "?by=job-id")
        assert report["rows"] == [{"value": "77", "count": 80, "unique": 2}]


async def test_other_targets_of_a_caller_who_is_known_are_counted_as_what_they_are(tmp_path):
    """Without a parser: only the target is looked at anew."""
    async with scene(tmp_path) as made:
        async with await wire.connect(made.port) as client:
            for _ in range(4):
                for number in range(10):
                    assert (await client.ask(f"/api/jobs/{number}", bearer(), host=HOST)).status == 200
        await made.reaches(40)
        report = await made.report("job-views", "?by=job-id")
        assert {row["value"]: row["count"] for row in report["rows"]} == {str(number): 4 for number in range(10)}
        assert (await at_once(made))["decided"] > 0


async def test_hits_of_the_shared_store_are_counted(tmp_path, redis_server):
    """What the other replica fetched, and this one finds in the store."""
    async with scene(tmp_path, reached_at(redis_server), reached_at(redis_server)) as made:
        one, other = (each.data_port for each in made.sidecars)
        for number in range(20):
            await asked(one, f"/api/jobs/{number}", bearer())
        for number in range(20):
            await asked(other, f"/api/jobs/{number}", bearer())
        assert len(made.upstream.requests) == 20
        await made.reaches(40)


async def test_by_the_ordinary_way_alone_as_many_are_counted(tmp_path):
    """A body that comes with the head takes every request past the short way."""
    async with scene(tmp_path) as made:
        for _ in range(10):
            async with await wire.connect(made.port) as client:
                await client.send(
                    b"GET /api/jobs/77 HTTP/1.1\r\nHost: portal.test\r\nConnection: close\r\n"
                    + bearer().encode() + b"\r\n\r\n"
                )  # fmt: skip
                assert (await client.response()).status == 200
        assert sum((await at_once(made)).values()) == 0
        await made.reaches(10)


@pytest.mark.parametrize(
    ("name", "path", "headers", "times", "cached"),
    [
        ("guarded", "/api/guarded/1", [bearer()], 5, False),  # the caller lacks the permission: the upstream decides
        ("guarded", "/api/guarded/1", [bearer(permissions=["read:guarded"])], 5, True),
        ("uncached", "/api/uncached", [bearer()], 5, False),
        ("strict", "/api/strict", [bearer()], 5, True),
        ("pages", "/open/about", [bearer()], 5, True),
        ("job-views", "/api/jobs/7", [bearer(), "Range: bytes=0-3"], 3, False),
        ("job-views", "/api/jobs/7", [bearer(), 'If-None-Match: "v1"'], 6, True),
        ("job-views", "/api/jobs/7%20b", [bearer()], 3, True),
        ("job-views", "/api/jobs/7;x", [bearer()], 3, False),
        ("job-views", "/api/jobs/7", [bearer(), "X-Original-URL: /x"], 3, False),
    ],
)
async def test_whatever_the_cache_decides(tmp_path, name, path, headers, times, cached):
    async with scene(tmp_path) as made:
        statuses = await asked(made.port, path, *headers, times=times)
        assert all(status in (200, 206, 304) for status in statuses)
        assert (len(made.upstream.requests) < times) is cached
        await made.reaches(times, name)


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [
        ("/api/jobs/77", [bearer()], "HEAD"),
        ("/api/jobs/77", [bearer(), "Sec-Purpose: prefetch"], "GET"),
        ("/api/jobs/77", [bearer(), "Purpose: prefetch"], "GET"),
        ("/api/jobs/404", [bearer()], "GET"),
        ("/api/jobs/503", [bearer()], "GET"),
        ("/api/jobs/301", [bearer()], "GET"),
        ("/api/jobs/77", [], "GET"),
        ("/api/jobs/77", ["Authorization: Bearer x.y.z"], "GET"),
        ("/api/jobs/77", [bearer(), "X-HTTP-Method-Override: DELETE"], "GET"),
        ("/api/jobs", [bearer()], "GET"),
        ("/api/other/77", [bearer()], "GET"),
        ("/open/about", [], "GET"),
    ],
)
async def test_these_are_never_counted(tmp_path, path, headers, method):
    """By all ways: some requests before are cached for others, and one view behind them is what is counted."""
    async with scene(tmp_path) as made:
        await asked(made.port, path, *headers, times=6, method=method)
        await asked(made.port, "/api/jobs/1", bearer())
        await made.reaches(1)
        assert await made.counts("pages") == 0


async def test_what_is_cached_by_those_who_are_not_counted_is_counted_for_the_others(tmp_path):
    """A prepared answer counts for its own head, and no other."""
    async with scene(tmp_path) as made:
        await asked(made.port, "/api/jobs/77", bearer(), "Sec-Purpose: prefetch", times=5)
        await asked(made.port, "/api/jobs/77", bearer(), times=5)
        await asked(made.port, "/api/jobs/77", bearer(), times=5, method="HEAD")
        await asked(made.port, "/open/about", times=5)
        await asked(made.port, "/open/about", bearer(sub="u1"), times=5)
        await asked(made.port, "/open/about", times=5)
        await asked(made.port, "/open/about", bearer(sub="u2"), times=5)
        await made.reaches(5)
        await made.reaches(10, "pages")
        report = await made.report("pages", "?by=page")
        assert report["rows"] == [{"value": "about", "count": 10, "unique": 2}]


async def test_writes_are_counted_by_what_the_upstream_answered(tmp_path):
    async with scene(tmp_path) as made:
        path = "/api/jobs/7/applications"
        assert await asked(made.port, path, bearer(), times=3, method="POST", body=b"{}") == [200] * 3
        assert await asked(made.port, path, times=2, method="POST", body=b"{}") == [200] * 2  # by nobody
        await made.reaches(3, "applications")


async def test_a_write_whose_client_has_gone_is_counted(tmp_path):
    gate = asyncio.Event()
    async with scene(tmp_path) as made:
        answer = made.upstream.answer

        async def held(request, peer):
            await gate.wait()
            await answer(request, peer)

        made.upstream.answer = held
        client = await wire.connect(made.port)
        request = f"POST /api/jobs/7/applications HTTP/1.1\r\nHost: {HOST}\r\n{bearer()}\r\nContent-Length: 0\r\n\r\n"
        await client.send(request.encode())
        await asyncio.wait_for(made.upstream.arrived.wait(), wire.LIMIT)
        client.reset()
        gate.set()
        await made.reaches(1, "applications")


async def test_rules_that_count_something_else_count_it_from_then_on(tmp_path):
    async with scene(tmp_path) as made:
        await asked(made.port, "/api/jobs/77", bearer(), times=5)
        await made.reaches(5)
        file = tmp_path / "0" / "rules.yaml"
        file.write_text(file.read_text().replace("name: job-views", "name: looks"))

        async def known() -> bool:
            answer = await wire.fetch(made.port, "/.sidecache/reports/looks", bearer(), host=HOST)
            return answer.status == 200

        await wire.until(known)
        await asked(made.port, "/api/jobs/77", bearer(), times=5)
        await made.reaches(5, "looks")


async def test_what_counting_does_is_told_as_metrics(tmp_path):
    async with scene(tmp_path) as made:
        await asked(made.port, "/api/jobs/77", bearer(), times=2)
        await made.reaches(2)
        text = (await wire.fetch(made.sidecars[0].admin_port, "/metrics", host="127.0.0.1")).body.decode()
        assert 'sidecache_count_additions_total{fate="lost"} 0.0' in text
        assert "sidecache_counts_waiting 0.0" in text
        assert "sidecache_counted_values 1.0" in text
