"""How long may the store take? Counted against the store alone: a busy event loop is no fault of it."""

import asyncio
from types import TracebackType

# What has arrived while the loop was busy is still on its way from the socket to whoever waits: so many turns at most.
# In a loop that is not busy they take a fraction of a millisecond.
_TURNS = 16
# The time is counted in so many parts, each of which begins when the loop has seen the end of the one before: while the
# loop does not run, for whatever reason, the store cannot be heard, and no more than one part passes.
_PARTS = 4
_EARLIER = 0.004  # seconds: uvloop's timers are a millisecond late, and the request has a way to go on from here


class Deadline:
    """`async with` it: TimeoutError when the body takes longer. `half_over`: it took more than half of that.

    As `asyncio.timeout`, of which it has the rules for cancellation; every operation has one, so it is as bare.
    """

    __slots__ = ("_cancelling", "_expired", "_loop", "_next", "_part", "_passed", "_task", "half_over")

    def __init__(self, seconds: float) -> None:
        self.half_over = False
        self._part = (seconds - min(_EARLIER, seconds / 10)) / _PARTS
        self._passed = 0  # parts
        self._expired = False

    async def __aenter__(self) -> "Deadline":
        task = asyncio.current_task()
        assert task is not None, "only a task can be told that its time is over"
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle = self._loop.call_later(self._part, self._turn, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._next.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _turn(self, left: int) -> None:
        """One of the turns behind a part that counts; `left` 0: a part is over, or the last of these turns."""
        if left > 1:
            self._next = self._loop.call_soon(self._turn, left - 1)
            return
        if left == 0:
            self._passed += 1
            if self._passed in (_PARTS // 2, _PARTS):
                self._next = self._loop.call_soon(self._turn, _TURNS)
                return
        elif self._passed == _PARTS:
            self._expired = True
            self._task.cancel()
            return
        else:
            self.half_over = True
        self._next = self._loop.call_later(self._part, self._turn, 0)
