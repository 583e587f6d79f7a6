"""Counts over a real store: of several replicas and workers, over its absence, and over their ends by SIGTERM."""

import asyncio
import os
import signal

import pytest

from proxy.analytics import names
from tests import servers, wire
from tests.analytics.scene import HOST, asked, bearer, scene
from tests.faults.scene import plain, reached_at
from tests.portal import RULES
from tests.serving.world import unsigned
from tests.workers.sidecar import workers

COUNTING = RULES.replace(
    '"GET /api/jobs/{job-id}"', "{route: 'GET /api/jobs/{job-id}', count: {name: job-views, by: job-id, unique: user}}"
)
MINE = f"Authorization: Bearer {unsigned('org_a')}"

pytestmark = servers.needs_redis


@pytest.fixture
def server():
    with plain() as started:
        yield started


def counted(server: servers.Server, pattern: str) -> int:
    """The sum of all numbers under these names."""
    return sum(int(each) for name in server.admin.keys(pattern) for each in server.admin.hvals(name))


def views(server: servers.Server, value: str = "[*]") -> int:
    """By hour: names that end in a day."""
    return counted(server, f"tenant:org_a:metrics:job-views.{value}.[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]")


async def test_two_replicas_on_one_store_count_all_that_both_were_asked(tmp_path, server):
    async with scene(tmp_path, reached_at(server), reached_at(server)) as made:
        ports = [each.data_port for each in made.sidecars]
        await asyncio.gather(
            *(
                asked(port, f"/api/jobs/{number}", bearer(sub=f"u{number}"), times=20)
                for port in ports
                for number in range(5)
            )
        )
        await made.reaches(200)
        report = await made.report("job-views", "?by=job-id", port=ports[1])
        assert {row["value"]: (row["count"], row["unique"]) for row in report["rows"]} == {
            str(number): (40, 1) for number in range(5)
        }
        assert report["unique"]["count"] == 5


async def test_an_end_by_sigterm_loses_nothing(tmp_path, server):
    sent = 0
    for _ in range(2):
        async with workers(server, tmp_path, 1, rules=COUNTING) as made:
            for number in range(3):
                sent += len(await asked(made.port, f"/api/jobs/{number}", MINE, times=30))
            os.kill(made.process.pid, signal.SIGTERM)  # what was counted last was not sent yet
            assert await made.ended() == 0
        (tmp_path / "log").unlink()
    assert views(server) == sent == 180
    assert sum(views(server, str(number)) for number in range(3)) == sent


async def test_each_worker_counts_and_one_that_is_ended_loses_nothing(tmp_path, server):
    async with workers(server, tmp_path, 2, rules=COUNTING) as made:
        held = await made.spread(1)
        sent = 0
        for client, *_ in held.values():
            for _ in range(25):
                assert (await client.ask("/api/jobs/7", MINE, host=HOST)).status == 200
                sent += 1
        first = made.pids[0]
        os.kill(first, signal.SIGTERM)
        await made.until(lambda: first not in made.pids)
        await made.until(lambda: views(server) >= sent)
        assert views(server) == views(server, "7") == sent == 50
        os.kill(made.process.pid, signal.SIGTERM)
        assert await made.ended() == 0
    assert views(server) == sent


async def test_what_is_counted_while_the_store_is_away_arrives_when_it_is_back(tmp_path, server):
    """Killed, and empty when it is back: what it had is lost with it, what it had not is sent."""
    async with scene(tmp_path, reached_at(server)) as made:
        await asked(made.port, "/api/jobs/77", bearer(), times=5)
        await made.reaches(5)
        server.kill()
        admin = made.sidecars[0].admin_port

        async def away() -> bool:
            text = (await wire.fetch(admin, "/metrics", host="127.0.0.1")).body.decode()
            return "sidecache_store_up 0.0" in text

        await wire.until(away)  # from here on it is not asked, so nothing is left open
        assert await asked(made.port, "/api/jobs/77", bearer(), times=20) == [200] * 20
        server.start().wait()
        await wire.until(lambda: views(server) >= 20)
        await asked(made.port, "/api/jobs/77", bearer(), times=5)
        await wire.until(lambda: views(server) >= 25)
        assert views(server) == views(server, "77") == 25


async def test_what_a_hung_store_takes_later_is_not_counted_twice(tmp_path, server):
    """It stands still with an addition in its ears, whose answer nobody waits for any more."""
    async with scene(tmp_path, reached_at(server)) as made:
        await asked(made.port, "/api/jobs/77", bearer())
        await made.reaches(1)
        server.pause()
        try:
            for _ in range(3):
                await asked(made.port, "/api/jobs/77", bearer(), times=10)
                await asyncio.sleep(0.7)  # over several flushes: that is what is meant to go wrong
        finally:
            server.resume()
        await asked(made.port, "/api/jobs/77", bearer(), times=10)
        text = ""

        async def sent() -> bool:
            nonlocal text
            text = (await wire.fetch(made.sidecars[0].admin_port, "/metrics", host="127.0.0.1")).body.decode()
            return "sidecache_store_up 1.0" in text and "sidecache_counts_waiting 0.0" in text

        await wire.until(sent)
        assert views(server) <= 41
        unanswered = 'sidecache_count_additions_total{fate="unanswered"} 0.0' not in text
        assert views(server) == 41 or unanswered


async def test_every_name_has_an_end_and_a_job_s_day_is_small(tmp_path, server):
    async with scene(tmp_path, reached_at(server)) as made:
        await asked(made.port, "/api/jobs/77", bearer(), times=3)
        await made.reaches(3)
    left = {name.decode(): server.admin.ttl(name) for name in server.admin.keys("tenant:org_a:*")}
    counts = {name: ttl for name, ttl in left.items() if ":metrics:" in name or ":uniques:" in name}
    days = {len(name.rpartition(".")[2]): ttl for name, ttl in counts.items() if ":metrics:" in name}
    assert len(counts) == 7
    assert days[8] > names.DAYS_KEPT - 60
    assert names.MINUTES_KEPT - 60 < days[10] <= names.MINUTES_KEPT
    assert all(ttl > 0 for ttl in counts.values())
    day = names.by_hour("org_0123456789abcdef", "job-views", "4711", 0)
    for hour in range(20):
        server.admin.hincrby(day, names.hour_of(hour * names.HOUR), 100)
    assert server.admin.memory_usage(day) <= 200


async def test_figures_are_announced_only_while_somebody_watches_at_whatever_replica(tmp_path, server):
    heard = server.admin.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("shared:events")

    def announced() -> bool:
        while (message := heard.get_message()) is not None:
            if b" " in message["data"] and not message["data"].endswith(b" ?"):
                return True
        return False

    async with scene(tmp_path, reached_at(server), reached_at(server)) as made:
        one, two = (each.data_port for each in made.sidecars)
        await asked(one, "/api/jobs/77", bearer(), times=3)
        await made.reaches(3)
        assert not announced()  # a first turn of announcements comes with the first counts
        async with await wire.connect(two) as client:
            head = f"GET /.sidecache/events?topics=metrics HTTP/1.1\r\nHost: {HOST}\r\n{bearer()}\r\n\r\n"
            await client.send(head.encode())
            assert (await client.head()).status == 200
            await client.chunk()  # hello
            await asked(one, "/api/jobs/77", bearer(), times=2)
            async with asyncio.timeout(10):
                while b"event: metrics" not in (told := await client.chunk()):
                    pass
            assert b'"report":"job-views"' in told
            assert b'"count":5' in told
        assert announced()
