"""What a report says is what was counted: of this tenant, in this time, and of nobody else (memory store)."""

import random
from collections import Counter

import pytest

from proxy.analytics.counters import Counters
from proxy.analytics.names import DAY, HOUR
from proxy.analytics.questions import Question, asked
from proxy.analytics.reports import Report, Reports
from proxy.analytics.shown import document, table
from proxy.rules.counting import Counted
from proxy.rules.effects import ReportRule
from proxy.stores.memory import MemoryStore
from tests.builders import KEYS
from tests.doubles import FakeClock, StoreDouble

AT = 1_767_603_600.0  # 2026-01-05T09:00:00Z
VIEWS = ReportRule("views", "job-id", True, ("GET /jobs/{job-id}",))
WHOLE = ReportRule("whole", None, False, ("GET /all",))


class World:
    def __init__(self) -> None:
        self.clock = FakeClock(AT)
        self.store = StoreDouble(MemoryStore(64 << 20, self.clock))
        self.counters = Counters(self.store, self.clock, digest=KEYS.digest)
        self.reports = Reports(self.store, self.counters.as_of)

    async def count(self, value="77", who="u1", times=1, tenant="org_a", name="views") -> None:
        await self.counters.flush()  # as it does each second
        for _ in range(times):
            self.counters.add(Counted(tenant, name, value, who))
        await self.counters.flush()

    async def ask(self, query="", rule=VIEWS, tenant="org_a") -> Report:
        question = asked(query, rule, self.clock())
        assert isinstance(question, Question), question
        return await self.reports.answer(tenant, question)


@pytest.fixture
def world():
    return World()


async def test_hours_of_one_value_and_of_all(world):
    await world.count("77", times=2)
    await world.count("78", who="u2")
    world.clock.advance(HOUR)
    await world.count("77", who="u3")
    every, one = await world.ask(), await world.ask("job-id=77")
    assert every.series[-2:] == ((int(AT), 3), (int(AT) + HOUR, 1))
    assert len(every.series) == 24
    assert sum(count for _, count in every.series[:-2]) == 0
    assert (every.count, every.unique) == (4, 3)
    assert (one.count, one.unique) == (3, 2)
    assert (await world.ask("job-id=99")).count == 0
    assert every.other is None


async def test_days_are_the_sums_of_their_hours_and_minutes_stand_alone(world):
    for _ in range(3):
        await world.count(times=2)
        world.clock.advance(8 * HOUR)
    world.clock.advance(90)
    await world.count()
    days = await world.ask("bucket=day&from=2026-01-05")
    assert [count for _, count in days.series] == [4, 3]
    minutes = await world.ask("bucket=minute")
    assert [count for _, count in minutes.series if count] == [1]


async def test_days_that_stand_together_in_the_store_are_told_apart(world):
    for number in range(12):
        await world.count(times=number + 1)
        world.clock.advance(DAY)
    found = await world.ask("bucket=day&from=2026-01-05&to=2026-01-17")
    assert [count for _, count in found.series] == list(range(1, 13))
    part = await world.ask("bucket=hour&from=2026-01-06T09:00:00Z&to=2026-01-07T10:00:00Z")
    assert (part.series[0][1], part.series[-1][1], part.count) == (2, 3, 5)


async def test_only_what_lies_in_the_asked_time_is_told(world):
    await world.count(times=3)
    world.clock.advance(HOUR)
    await world.count(times=5)
    found = await world.ask("from=2026-01-05T10:00:00Z&to=2026-01-05T11:00:00Z")
    assert found.series == ((int(AT) + HOUR, 5),)


async def test_the_values_that_were_counted_most_come_first_and_the_rest_together(world):
    for value, times in (("a", 3), ("b", 9), ("c", 1), ("d", 5)):
        await world.count(value, who=f"u-{value}", times=times)
    world.clock.advance(DAY)
    await world.count("a", who="another", times=4)
    found = await world.ask("by=job-id&limit=2&from=2026-01-05")
    assert [(row.value, row.count, row.unique) for row in found.rows] == [("b", 9, 1), ("a", 7, 2)]
    assert found.other == 6
    assert found.count == 22
    assert document(found)["exact"] is False
    all_of_them = await world.ask("by=job-id&from=2026-01-05")
    assert (len(all_of_them.rows), all_of_them.other) == (4, 0)
    assert document(all_of_them)["exact"] is True


async def test_values_of_any_text_come_back_as_they_were(world):
    values = ["", "a b", "ü", "a.b:{c}", "%2A", "*", "~", "=", "=1+1"]
    for value in values:
        await world.count(value)
    found = await world.ask("by=job-id")
    assert sorted(row.value for row in found.rows) == sorted(values)
    for value in values:
        from urllib.parse import quote

        assert (await world.ask(f"job-id={quote(value, safe='')}")).count == 1


async def test_what_the_store_has_not_taken_is_told_as_missing(world):
    await world.count()
    assert not (await world.ask("to=2026-01-05T09:00:00Z")).partial
    world.clock.advance(60)
    await world.counters.flush()
    whole = await world.ask("from=2026-01-05T08:00:00Z&to=2026-01-05T09:00:00Z")
    assert (whole.as_of, whole.partial) == (AT + 60, False)
    world.store.lost = {"observe"}
    world.clock.advance(60)
    world.counters.add(Counted("org_a", "views", "77", "u1"))
    await world.counters.flush()
    found = await world.ask()
    assert (found.as_of, found.partial) == (AT + 60, True)


async def test_users_of_several_days_are_counted_once_and_nobody_of_other_reports(world):
    for day in range(3):
        for number in range(4):
            await world.count("77", who=f"u{day + number}")
        await world.count("77", who="stranger", tenant="org_b")
        await world.count("77", who="stranger", name="whole")
        world.clock.advance(DAY)
    assert (await world.ask("from=2026-01-05&bucket=day")).unique == 6
    assert (await world.ask("from=2026-01-05&to=2026-01-06&bucket=day")).unique == 4


async def test_a_report_that_counts_no_users_tells_none(world):
    await world.count(None, "", name="whole", times=3)
    found = await world.ask(rule=WHOLE)
    assert (found.count, found.unique, found.rows) == (3, None, ())
    assert "unique" not in document(found)


async def test_users_are_told_of_the_ninety_days_that_are_kept(world):
    await world.count(who="early")
    world.clock.advance(89 * DAY)
    await world.count(who="late")
    found = await world.ask("from=2026-01-05&bucket=day")
    assert found.unique == 2
    world.clock.advance(2 * DAY)
    await world.counters.flush()
    found = await world.ask("from=2026-01-05&bucket=day")
    assert (found.unique, found.count) == (1, 2)
    assert document(found)["unique"]["from"] == "2026-01-07T00:00:00Z"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.isolation
async def test_no_tenant_ever_sees_what_was_counted_of_another(seed):
    """Random tenants, whose names begin alike, random reports and values: each sees its own sums and nothing else."""
    chance, world = random.Random(seed), World()
    tenants, rules = ["org", "org_a", "org_a-b", "a", "ORG_A"], [VIEWS, ReportRule("views-2", "job-id", True, ())]
    values = ["", "1", "org_b", "*", "views.1", "=", ".", "2.20260105", "1}.20260105", ":metrics:"]
    expected: Counter[tuple[str, str, str]] = Counter()
    who: dict[tuple[str, str], set[str]] = {}
    for _ in range(400):
        tenant, rule, value, user = (chance.choice(each) for each in (tenants, rules, values, ["u1", "u2", "u3"]))
        expected[tenant, rule.name, value] += 1
        who.setdefault((tenant, rule.name), set()).add(user)
        world.counters.add(Counted(tenant, rule.name, value, user))
    await world.counters.flush()
    for tenant in tenants:
        for rule in rules:
            found = await world.ask("by=job-id", rule, tenant)
            assert {row.value: row.count for row in found.rows} == {
                value: count for (of, name, value), count in expected.items() if (of, name) == (tenant, rule.name)
            }
            assert found.unique == len(who.get((tenant, rule.name), ()))


async def test_a_table_of_the_series_and_of_the_rows(world):
    await world.count("77", times=2)
    await world.count("a,b", who="u2")
    series = table(await world.ask("from=2026-01-05T09:00:00Z&to=2026-01-05T10:00:00Z"))
    assert series == "time,count\r\n2026-01-05T09:00:00Z,3\r\n"
    assert table(await world.ask("by=job-id")) == 'job-id,count,unique\r\n77,2,1\r\n"a,b",1,1\r\n'
    assert table(await world.ask("by=job-id&limit=1")) == "job-id,count,unique\r\n77,2,1\r\n(other),1,\r\n"
