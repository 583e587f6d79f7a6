"""How long may the store take? Counted against the store alone: a busy event loop is no fault of it."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType

# What has arrived while the loop was busy is still on its way from the socket to whoever waits: so many turns at most.
# In a loop that is not busy they take a fraction of a millisecond.
_TURNS = 16
_LOOKS = 10  # at the clock, in the time of one deadline
_LATE = 2  # of these: no more time passes from one look to the next. While the loop is held up, nobody can be heard.
_EARLIER = 0.004  # seconds: uvloop's timers are a millisecond late, and the request has a way to go on from here


class Patience:
    """Gives deadlines of the same length. They share one timer: in uvloop a timer costs more than asking for a reply.

    So they end up to one look early.
    """

    __slots__ = ("_apart", "_last", "_looking", "_waiting", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._apart = (seconds - min(_EARLIER, seconds / 20)) / _LOOKS
        self._waiting: set[Deadline] = set()
        self._looking = False
        self._last = 0.0

    def __call__(self) -> "Deadline":
        return Deadline(self._begin, self._waiting.discard)

    def _begin(self, deadline: "Deadline") -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._looking:
            self._looking, self._last = True, now
            loop.call_later(self._apart, self._look, loop)
        deadline.passed = self._last - now
        self._waiting.add(deadline)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        passed, self._last = min(now - self._last, _LATE * self._apart), now
        for deadline in self._waiting:
            deadline.passed += passed
        for over in (False, True):
            end = (_LOOKS - 1 if over else _LOOKS // 2) * self._apart
            due = [each for each in self._waiting if each.passed >= end and not (each.over if over else each.half)]
            for each in due:
                each.half, each.over = True, over
            if due:
                _turn(loop, due, _TURNS, over=over)
        self._looking = bool(self._waiting)
        if self._looking:
            loop.call_later(self._apart, self._look, loop)


def _turn(loop: asyncio.AbstractEventLoop, due: "list[Deadline]", left: int, *, over: bool) -> None:
    if left:
        loop.call_soon(partial(_turn, loop, due, left - 1, over=over))
        return
    for deadline in due:
        deadline.reached(over=over)


class Deadline:
    """`async with` it: TimeoutError when the body takes longer. `half_over`: it took more than half of that.

    As `asyncio.timeout`, of which it has the rules for cancellation; every operation has one, so it is as bare.
    """

    __slots__ = ("_begin", "_cancelling", "_end", "_ended", "_expired", "_task", "half", "half_over", "over", "passed")

    def __init__(self, begin: "Callable[[Deadline], None]", end: "Callable[[Deadline], None]") -> None:
        self.half_over = False
        self.passed = 0.0  # seconds, as the looks count them; what has come of it is known some turns later
        self.half = self.over = False
        self._begin = begin
        self._end = end
        self._ended = self._expired = False

    async def __aenter__(self) -> "Deadline":
        task = asyncio.current_task()
        assert task is not None, "only a task can be told that its time is over"
        self._task = task
        self._cancelling = task.cancelling()
        self._begin(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        self._end(self)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def reached(self, *, over: bool) -> None:
        """Half of the time has passed, or all of it (`over`); unless the body has ended meanwhile."""
        if self._ended:
            return
        self.half_over = True
        if over:
            self._expired = True
            self._task.cancel()
