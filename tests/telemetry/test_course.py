"""The last minutes in rows: rates, times from buckets, and what one minute comes to."""

import asyncio

import pytest

from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.telemetry.course import COLUMNS, KEPT, LAST_MINUTE, Course, State, quantile
from proxy.telemetry.metrics import BOUNDS, Metrics
from tests.doubles import FakeClock

HIT = Outcome(Reason.FRESH, hit=True, feature="jobs")
MISS = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs")
FAILED = Outcome(Reason.UPSTREAM_FAILED, forward=Forward.MISS)


class Watched:
    """A course over metrics that the test counts in."""

    def __init__(self, processes: int = 1) -> None:
        self.clock = FakeClock()
        self.metrics = [Metrics() for _ in range(processes)]
        self.up = True
        self.course = Course(self.take, lambda: State(self.up, 5.0), self.clock, sleep=self.clock.sleep)

    async def take(self):
        return [each.taken() for each in self.metrics]

    async def turn(self) -> dict[str, float | None]:
        self.clock.advance(2.0)
        await self.course.turn()
        rows = self.course.rows(1)
        return dict(zip(COLUMNS, rows[0], strict=True)) if rows else {}


async def test_a_row_tells_what_came_since_the_one_before():
    watched = Watched()
    watched.metrics[0].count(HIT, 0.0001, 1000)
    assert await watched.turn() == {}  # of the first there is nothing to compare with
    for _ in range(3):
        watched.metrics[0].count(HIT, 0.0001, 1000)
    watched.metrics[0].cell(HIT)[1] += 3
    watched.metrics[0].count(MISS, 0.02)
    watched.metrics[0].count(FAILED, 0.2)
    row = await watched.turn()
    assert (row["hits"], row["misses"], row["passes"], row["failed"], row["saved"]) == (3.0, 0.5, 0.5, 0.5, 1500.0)
    assert row["hit_p95"] is not None
    assert row["hit_p95"] <= BOUNDS[0]
    assert row["other_p95"] is not None
    assert 0.1 < row["other_p95"] <= 0.25
    assert (row["store_up"], row["rules_loaded_at"]) == (1, 5.0)


async def test_without_a_request_there_are_no_times():
    watched = Watched()
    await watched.turn()
    watched.up = False
    row = await watched.turn()
    assert (row["hits"], row["p50"], row["p99"], row["hit_p95"], row["store_up"]) == (0.0, None, None, None, 0)
    assert watched.course.last_minute()["hit_ratio"] is None


async def test_processes_count_together_and_one_that_ended_takes_nothing_away():
    watched = Watched(processes=2)
    for metrics in watched.metrics:
        metrics.count(HIT, 0.0001)
    await watched.turn()
    for metrics in watched.metrics:
        metrics.count(HIT, 0.0001)
    assert (await watched.turn())["hits"] == 1.0
    del watched.metrics[1]
    assert (await watched.turn())["hits"] == 0.0


async def test_the_last_minute_is_thirty_rows_and_ten_minutes_are_kept():
    watched = Watched()
    for _ in range(KEPT + 5):
        watched.metrics[0].count(HIT, 0.0001, 10)
        watched.metrics[0].count(MISS, 0.02)
        await watched.turn()
    minute = watched.course.last_minute()
    assert (minute["requests"], minute["hits"], minute["hit_ratio"], minute["seconds"], minute["rate"]) == (
        2 * LAST_MINUTE, LAST_MINUTE, 0.5, 60.0, 1.0,
    )  # fmt: skip
    assert minute["saved"] == 10 * LAST_MINUTE
    assert len(watched.course.rows()) == KEPT
    assert watched.course.since_start()["hits"] == KEPT + 5


async def test_who_waits_hears_of_each_turn_and_of_the_end():
    watched = Watched()
    waiting = [asyncio.create_task(watched.course.turned()) for _ in range(3)]
    await asyncio.sleep(0)
    await watched.turn()
    await asyncio.gather(*waiting)
    last = asyncio.create_task(watched.course.turned())
    await asyncio.sleep(0)
    watched.course.close()
    await last
    await watched.course.turned()  # nobody waits for what does not come


async def test_it_turns_by_itself():
    watched = Watched()
    running = asyncio.create_task(watched.course.run())
    for _ in range(3):
        await watched.course.turned()
    running.cancel()
    assert watched.course.number >= 3


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        # realistic
        ({0: 100}, 0.5, 0.00025), ({0: 100}, 0.99, 0.000495), ({4: 100}, 0.5, 0.0075), ({0: 50, 4: 50}, 0.95, 0.0095),
        # pathological
        ({}, 0.5, None), ({len(BOUNDS): 3}, 0.5, BOUNDS[-1]), ({0: 1, len(BOUNDS): 1}, 0.99, BOUNDS[-1]),
        ({4: 1}, 0.0, 0.005), ({4: 1}, 1.0, 0.01),
    ],
)  # fmt: skip
def test_a_share_of_requests_took_at_most(counts, share, expected):
    found = quantile([counts.get(number, 0) for number in range(len(BOUNDS) + 1)], share)
    assert found == (expected if expected is None else pytest.approx(expected))
