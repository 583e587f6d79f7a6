"""Work that outlives its request: kept, bounded, reported when it fails, ended in order."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from proxy.cache.background import Background
from tests.doubles import settle


class Works:
    """Makes pieces of work that wait at a gate, and remembers which began, ended and were cancelled."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append, refreshes=2)
        self.gate = asyncio.Event()
        self.began: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []

    async def work(self, name: str) -> str:
        self.began.append(name)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        self.ended.append(name)
        return name


@pytest.fixture
async def works() -> Works:
    return Works()


async def fail(error: BaseException) -> None:
    raise error


async def test_work_lives_without_anybody_holding_its_task(works):
    works.background.start(works.work("a"))
    await settle()
    gc.collect()
    works.gate.set()
    await settle()
    assert (works.ended, len(works.background)) == (["a"], 0)


async def test_the_task_can_be_awaited_for_its_result(works):
    works.gate.set()
    assert await works.background.start(works.work("a")) == "a"


async def test_what_work_raises_is_reported_once(works):
    error = ValueError("broken")
    works.background.start(fail(error))
    await settle()
    assert works.failures == [error]


async def test_a_cancelled_task_is_no_failure(works):
    works.background.start(works.work("a")).cancel()
    await settle()
    assert works.failures == []


# Refreshes


async def test_a_key_is_refreshed_once_at_a_time_and_again_afterwards(works):
    start = works.background.refresh
    assert start("k", lambda: works.work("first"))
    assert not start("k", lambda: works.work("second"))
    works.gate.set()
    await settle()
    assert start("k", lambda: works.work("third"))
    await settle()
    assert works.ended == ["first", "third"]


async def test_a_failed_refresh_frees_its_key(works):
    works.background.refresh("k", lambda: fail(ValueError()))
    await settle()
    assert works.background.refresh("k", lambda: works.work("again"))
    works.gate.set()
    await settle()


async def test_refreshes_are_bounded(works):
    started = [works.background.refresh(key, lambda key=key: works.work(key)) for key in "abc"]
    assert started == [True, True, False]
    works.gate.set()
    await settle()
    assert works.ended == ["a", "b"]


# Later


async def test_delayed_work_starts_when_its_time_has_come(works):
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()

    works.background.later(0, work)
    assert not begun.is_set()
    async with asyncio.timeout(5):
        await begun.wait()
    begun.clear()
    await works.background.drain(0)
    assert not begun.is_set()


async def test_delayed_work_is_not_lost_when_the_process_ends_before(works):
    works.gate.set()
    works.background.later(3600, lambda: works.work("purge again"))
    await works.background.drain(5)
    assert works.ended == ["purge again"]


async def test_work_that_is_delayed_while_draining_starts_at_once(works):
    async def purge() -> None:
        works.background.later(3600, lambda: works.work("again"))

    works.gate.set()
    works.background.start(purge())
    await works.background.drain(5)
    assert works.ended == ["again"]


# Draining


async def test_draining_waits_for_what_is_under_way_and_for_what_that_starts(works):
    async def parent() -> None:
        await works.work("parent")
        works.background.start(works.work("child"))

    works.background.start(parent())
    draining = asyncio.create_task(works.background.drain(60))
    await settle()
    assert not draining.done()
    works.gate.set()
    await draining
    assert (works.ended, works.cancelled) == (["parent", "child"], [])


async def test_draining_cancels_what_does_not_end_in_time_and_what_that_starts(works):
    async def stubborn() -> Coroutine[Any, Any, Any] | None:
        try:
            await works.work("stubborn")
        finally:
            works.background.start(works.work("its child"))
        return None

    works.background.start(stubborn())
    await settle()
    await works.background.drain(0)
    assert works.cancelled == ["stubborn"] or works.cancelled == ["stubborn", "its child"]
    assert len(works.background) == 0


async def test_nothing_is_refreshed_any_more_while_draining(works):
    await works.background.drain(0)
    assert not works.background.refresh("k", lambda: works.work("a"))
    assert works.began == []


async def test_draining_nothing_is_at_once(works):
    await works.background.drain(3600)


async def test_draining_does_not_wait_for_what_has_no_end_and_ends_it_with_the_rest(works):
    lasting = works.background.start(works.work("listening"), lasting=True)
    other = works.background.start(works.work("saving"))
    await settle()
    draining = asyncio.create_task(works.background.drain(3600))
    await settle()
    assert not draining.done()
    other.cancel()
    await draining
    assert lasting.cancelled()
    assert len(works.background) == 0
