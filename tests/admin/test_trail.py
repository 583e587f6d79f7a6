"""The stream of audit lines: page by page, through a store that comes and goes, whatever else is in it."""

import orjson
import pytest

from proxy.admin.chain import linked
from proxy.admin.trail import MAX_WAITING, STREAM, Trail, is_cursor
from proxy.cache.background import Background
from proxy.stores.memory import MemoryStore
from tests.admin.test_chain import RECORD
from tests.doubles import FakeClock, StoreDouble, settle


class Made:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = StoreDouble(MemoryStore(8 << 20, self.clock))
        self.background = Background(pytest.fail)
        self.own: list[dict[str, object]] = []
        self.trail = Trail(self.store, self.background, self.recent)
        self.number = 0

    async def recent(self):
        return self.own[::-1]

    def add(self, count: int = 1, **more: object) -> None:
        lines = []
        for _ in range(count):
            self.number += 1
            lines.append(linked({**RECORD, **more}, self.number, "", "native")[0])
        self.own += lines
        self.trail.add(lines)

    async def page(self, wanted=lambda line: True, *, cursor=None, limit=100, since=0.0):
        return await self.trail.page(wanted, cursor=cursor, limit=limit, since=since)


@pytest.fixture
def made():
    return Made()


def numbers(page):
    return [line["number"] for line in page.lines]


async def test_lines_come_back_the_newest_first(made):
    made.add(3)
    made.add(2)
    page = await made.page()
    assert (numbers(page), page.next, page.shared) == ([5, 4, 3, 2, 1], None, True)


@pytest.mark.parametrize("limit", [1, 3, 4, 10, 11])
async def test_pages_follow_each_other_without_a_gap_or_a_repeat(made, limit):
    for count in (1, 25, 1, 10, 3):  # some of them share an item
        made.add(count)
    seen: list[int] = []
    cursor = None
    for _ in range(100):
        page = await made.page(cursor=cursor, limit=limit)
        assert len(page.lines) <= limit
        seen += numbers(page)
        if (cursor := page.next) is None:
            break
        assert is_cursor(cursor)
        made.add()  # what comes meanwhile moves nothing
    assert seen == list(range(40, 0, -1))


async def test_only_what_is_wanted_is_told_however_far_back_it_is(made):
    made.add(tenant="org_b")
    made.add(900)
    page = await made.page(lambda line: line["tenant"] == "org_b", limit=5)
    assert (numbers(page), page.next) == ([1], None)


async def test_one_question_looks_at_a_bounded_number_and_says_where_to_go_on(made):
    made.add(tenant="org_b")
    await settle()
    for number in range(2100):
        line, _ = linked(RECORD, number, "", "native")
        await made.store.append(STREAM, {"lines": orjson.dumps([line])}, 5000, 60)

    def wanted(line):
        return line["tenant"] == "org_b"

    first = await made.page(wanted)
    assert (first.lines, made.store.count("latest")) == ([], 8)
    second = await made.page(wanted, cursor=first.next)
    assert (numbers(second), second.next) == ([1], None)


async def test_what_was_appended_before_the_time_asked_for_is_not_looked_at(made):
    made.add(700)
    await settle(200)
    made.clock.advance(3600)
    made.add(2)
    assert numbers(await made.page(since=made.clock() - 600)) == [702, 701]
    assert made.store.count("latest") == 1


async def test_a_store_that_is_down_holds_up_nobody_and_gets_it_later(made):
    made.store.down |= {"append", "latest"}
    made.add(2)
    page = await made.page()
    assert (numbers(page), page.shared) == ([2, 1], False)
    made.store.down.clear()
    page = await made.page()
    assert (numbers(page), page.shared) == ([2, 1], True)


async def test_a_store_that_stays_down_costs_a_bounded_number(made):
    made.store.down.add("append")
    made.add(MAX_WAITING + 7)
    await settle()
    assert made.trail.lost == 7
    made.store.down.clear()
    await made.trail.close()
    assert numbers(await made.page(limit=2000)) == list(range(MAX_WAITING + 7, 7, -1))


@pytest.mark.parametrize(
    "fields", [{}, {"lines": b"{"}, {"lines": b"1"}, {"lines": b'[1, null, {}, {"time": 1}]'}, {"other": b"[]"}]
)
async def test_what_somebody_else_wrote_there_is_no_line(made, fields):
    made.add()
    await settle()
    await made.store.append(STREAM, fields, 100, 60)
    assert numbers(await made.page()) == [1]


@pytest.mark.parametrize("text", ["", "1-1", "1-1.", "x", "1-1.1x", f"{2**64}-1.1", "1-1.1234", "-", "1-1.1\n"])
def test_what_is_no_cursor(text):
    assert not is_cursor(text)
