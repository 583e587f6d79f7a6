"""How long may the store take? Counted against the store alone: a busy event loop is no fault of it."""

import asyncio
from types import TracebackType

# What has arrived while the loop was busy is still on its way from the socket to whoever waits: so many turns at most.
# In a loop that is not busy they take a fraction of a millisecond.
_TURNS = 16


class Deadline:
    """`async with` it: TimeoutError when the body takes longer. `half_over`: it took more than half of that."""

    def __init__(self, seconds: float) -> None:
        self.half_over = False
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> "Deadline":
        await self._limit.__aenter__()
        self._due = self._loop.time() + self._seconds
        self._next: asyncio.Handle = self._loop.call_later(self._seconds / 2, self._turn, _TURNS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._next.cancel()
        await self._limit.__aexit__(kind, error, traceback)

    def _turn(self, left: int) -> None:
        if left:
            self._next = self._loop.call_soon(self._turn, left - 1)
        elif not self.half_over:
            self.half_over = True
            self._next = self._loop.call_at(self._due, self._turn, _TURNS)
        else:
            self._limit.reschedule(self._loop.time())
