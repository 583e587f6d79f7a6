"""How long may the store take? Counted against the store alone: a busy event loop is no fault of it."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType

# What has arrived while the loop was busy is still on its way from the socket to whoever waits: so many turns at most.
# In a loop that is not busy they take a fraction of a millisecond.
_TURNS = 16
# The time passes in so many parts, each of which begins when the loop has seen the end of the one before: while the
# loop does not run, for whatever reason, the store cannot be heard, and no more than one part passes.
_PARTS = 10
_EARLIER = 0.004  # seconds: uvloop's timers are a millisecond late, and the request has a way to go on from here


class Patience:
    """Gives deadlines of the same length. They share one timer: in uvloop a timer costs more than asking for a reply.

    So the first part of a deadline may have begun before it, and it ends up to one part early.
    """

    __slots__ = ("_part", "_ticking", "_waiting", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._part = (seconds - min(_EARLIER, seconds / 20)) / _PARTS
        self._waiting: set[Deadline] = set()
        self._ticking = False

    def __call__(self) -> "Deadline":
        return Deadline(self._waiting, self._begun)

    def _begun(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._ticking:
            self._ticking = True
            loop.call_later(self._part, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        for deadline in self._waiting:
            deadline.passed += 1
        for passed in (_PARTS // 2, _PARTS):
            due = [deadline for deadline in self._waiting if deadline.passed == passed]
            if due:
                _turn(loop, due, _TURNS, over=passed == _PARTS)
        self._ticking = False
        if self._waiting:
            self._begun(loop)


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

    __slots__ = ("_among", "_begun", "_cancelling", "_expired", "_task", "half_over", "passed")

    def __init__(self, among: "set[Deadline]", begun: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        self.half_over = False
        self.passed = 0  # parts
        self._among = among
        self._begun = begun
        self._expired = False

    async def __aenter__(self) -> "Deadline":
        task = asyncio.current_task()
        assert task is not None, "only a task can be told that its time is over"
        self._task = task
        self._cancelling = task.cancelling()
        self._among.add(self)
        self._begun(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._among.discard(self)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def reached(self, *, over: bool) -> None:
        """Half of the time has passed, or all of it (`over`); unless the body has ended meanwhile."""
        if self not in self._among:
            return
        self.half_over = True
        if over:
            self._expired = True
            self._task.cancel()
