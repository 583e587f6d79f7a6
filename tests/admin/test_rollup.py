"""What a minute came to, in one line: by feature, outcome and tenant, and bounded."""

import asyncio

import pytest

from proxy.admin.audit import Audit
from proxy.admin.ledger import Ledger
from proxy.admin.rollup import EVERY, MOST_ROWS, Rollup
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.telemetry.metrics import Metrics
from tests.doubles import FakeClock, settle

HIT = Outcome(Reason.FRESH, hit=True, feature="jobs", tenant="org_a")
NO_RULE = Outcome(Reason.NO_RULE, forward=Forward.BYPASS)


class Made:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(None, pytest.fail)
        self.metrics = Metrics()
        self.audit = Audit(self.ledger.enter, self.clock)
        self.rollup = Rollup(self.metrics, self.audit, self.clock.sleep)

    async def rolled(self) -> list[list[dict[str, object]]]:
        await self.audit.settled()
        return [line["target"]["counts"] for line in self.ledger.recent()[::-1]]


async def test_each_line_counts_its_own_minute_of_both_ways():
    made = Made()
    made.metrics.count(HIT, 0.1)
    made.metrics.cell(HIT)[1] += 5
    made.metrics.count(NO_RULE, 0.1)
    made.rollup.roll()
    made.metrics.cell(HIT)[1] += 1
    made.rollup.roll()
    hits = {"feature": "jobs", "outcome": "hit", "reason": "fresh", "tenant": "org_a"}
    passed = {"feature": None, "outcome": "pass", "reason": "no-rule", "tenant": None, "count": 1}
    assert await made.rolled() == [[{**hits, "count": 6}, passed], [{**hits, "count": 1}]]


async def test_a_minute_without_requests_is_no_line():
    made = Made()
    following = asyncio.ensure_future(made.rollup.follow())
    await settle()
    following.cancel()
    assert set(made.clock.slept) == {EVERY}
    assert await made.rolled() == []


async def test_the_rarest_are_told_without_their_tenants():
    made = Made()
    for number in range(MOST_ROWS + 30):
        outcome = Outcome(Reason.FRESH, hit=True, feature="jobs", tenant=f"org_{number}")
        made.metrics.cell(outcome)[1] += 2 if number < MOST_ROWS else 1
    made.rollup.roll()
    ((*told, others),) = await made.rolled()
    assert (len(told), {each["count"] for each in told}) == (MOST_ROWS, {2})
    assert (others["tenant"], others["count"]) == ("(others)", 30)
