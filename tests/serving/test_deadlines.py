"""proxy.serving.deadlines: who was not stopped in time is late, once, and nobody else is."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.serving.deadlines import Deadlines
from tests.wire import until


async def test_who_is_not_stopped_is_late_and_only_once():
    late: list[str] = []
    deadlines = Deadlines[str](0.02, late.append)
    for who in ("a", "b", "c"):
        deadlines.start(who)
    deadlines.stop("b")
    await until(lambda: len(late) == 2)
    assert (late, len(deadlines)) == (["a", "c"], 0)
    deadlines.start("d")  # it goes on after it was done
    await until(lambda: late[-1] == "d")
    assert late == ["a", "c", "d"]


class Loop:
    """One whose time is what the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        self._timers.append((when, callback))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.call_at(self.now + seconds, callback)

    def at(self, now: float) -> None:
        self.now = now
        due = [each for each in self._timers if each[0] <= now]
        for each in due:
            self._timers.remove(each)
            each[1]()


async def test_who_is_started_again_has_its_time_anew():
    late: list[str] = []
    deadlines, loop = Deadlines[str](10, late.append), Loop()
    deadlines._loop = loop  # type: ignore[assignment]
    deadlines.start("a")
    deadlines.start("b")
    loop.at(7)
    deadlines.start("a")
    loop.at(10)
    assert late == ["b"]
    loop.at(16)
    assert late == ["b"]
    loop.at(17)
    assert late == ["b", "a"]


async def test_who_is_late_may_start_others():
    late: list[str] = []

    def heard(who: str) -> None:
        late.append(who)
        if len(late) < 3:
            deadlines.start(who + "!")

    deadlines = Deadlines[str](0.01, heard)
    deadlines.start("a")
    await until(lambda: len(late) == 3)
    assert late == ["a", "a!", "a!!"]


async def test_whoever_is_started_meanwhile_there_is_one_timer(monkeypatch):
    loop, late, pending = asyncio.get_running_loop(), [], [0]

    def heard(who: str) -> None:
        late.append(who)
        if who == "a":
            deadlines.start("a!")

    def look() -> None:
        pending.append(pending[-1] - 1)
        Deadlines._look(deadlines)

    def call_at(when: float, callback: Callable[..., Any], *more: Any, **context: Any) -> asyncio.TimerHandle:
        if callback is look:
            pending.append(pending[-1] + 1)
        return at(when, callback, *more, **context)

    at = loop.call_at
    deadlines = Deadlines[str](0.01, heard)
    monkeypatch.setattr(deadlines, "_look", look)
    monkeypatch.setattr(loop, "call_at", call_at)
    deadlines.start("a")
    deadlines.start("b")
    await until(lambda: len(late) == 3)
    assert (late, max(pending)) == (["a", "b", "a!"], 1)


async def test_a_thousand_have_one_timer(monkeypatch):
    loop, timers = asyncio.get_running_loop(), []
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda *more: timers.append(more) or call_later(*more))
    deadlines = Deadlines[int](30, lambda who: None)
    for who in range(1000):
        deadlines.start(who)
        deadlines.stop(who)
    assert (len(timers), len(deadlines)) == (1, 0)
    deadlines.stop(7)  # nobody minds
