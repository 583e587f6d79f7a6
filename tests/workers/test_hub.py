"""Nobody is told of nothing: a message counts as heard when each has answered, or is no more."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.workers.hub import Hub, Member
from tests.wire import until

PATIENCE = 0.05


class Ear:
    """A worker's end: what it was told, and when it answers."""

    def __init__(self, number: int, hub: Hub, *, dies: bool = True) -> None:
        self.told: list[object] = []
        self.open: list[asyncio.Future[object]] = []
        self.deaf = self.killed = False
        self.member = Member(number, self, self._kill)  # type: ignore[arg-type]
        self._die: Callable[[], None] = (lambda: hub.remove(self.member)) if dies else (lambda: None)
        hub.add(self.member)

    def ask(self, name: str, content: object) -> asyncio.Future[object]:
        answer = asyncio.get_running_loop().create_future()
        self.told.append((name, content))
        if self.deaf:
            self.open.append(answer)
        else:
            answer.set_result([self.member.number, content])
        return answer

    def _kill(self) -> None:
        self.killed = True
        self._die()


@pytest.fixture
def silent() -> list[tuple[int, str]]:
    return []


@pytest.fixture
def hub(silent) -> Hub:
    return Hub(lambda member, name: silent.append((member.number, name)), patience=PATIENCE)


async def test_all_but_the_one_that_tells_hear_and_their_answers_come_back(hub, silent):
    ears = [Ear(number, hub) for number in range(3)]
    assert await hub.tell("purged", "x", besides=ears[1].member) == [[0, "x"], [2, "x"]]
    assert [ear.told for ear in ears] == [[("purged", "x")], [], [("purged", "x")]]
    assert (silent, len(hub)) == ([], 3)


async def test_nobody_to_tell_is_nobody_to_wait_for(hub):
    assert await hub.tell("purged", None) == await hub.ask("figures", None) == []


async def test_it_waits_for_the_last_answer(hub, silent):
    ear = Ear(0, hub)
    ear.deaf = True
    telling = asyncio.ensure_future(hub.tell("purged", None))
    await until(lambda: ear.open)
    assert not telling.done()
    ear.open[0].set_result("heard")
    assert await telling == ["heard"]
    assert (silent, ear.killed) == ([], False)


async def test_who_stays_silent_is_killed_and_its_end_is_waited_for(hub, silent):
    ear, other = Ear(0, hub, dies=False), Ear(1, hub)
    ear.deaf = True
    telling = asyncio.ensure_future(hub.tell("purged", None))
    await until(lambda: ear.killed)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not telling.done()  # a process that was sent a signal may run on for a moment
    hub.remove(ear.member)
    assert await telling == [[1, None]]
    assert silent == [(0, "purged")]
    assert list(hub) == [other.member]


async def test_who_ends_by_itself_need_not_answer(hub, silent):
    ear = Ear(0, hub)
    ear.deaf = True
    telling = asyncio.ensure_future(hub.tell("purged", None))
    await until(lambda: ear.open)
    hub.remove(ear.member)
    assert await telling == []
    assert (silent, ear.killed) == ([], False)


async def test_what_is_only_asked_kills_nobody(hub, silent):
    ear, _ = Ear(0, hub), Ear(1, hub)
    ear.deaf = True
    assert await hub.ask("figures", None) == [[1, None]]
    assert (silent, ear.killed, len(hub)) == ([], False, 2)
