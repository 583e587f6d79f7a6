"""Who is late? Any number of deadlines of one length behind one timer."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """`late` hears of everything that was started `seconds` ago and not stopped since."""

    def __init__(self, seconds: float, late: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._due: dict[T, float] = {}  # in the order in which they are due, as all are given the same time
        self._timer: asyncio.TimerHandle | None = None

    def start(self, who: T) -> None:
        """From now on; whatever was said of it before."""
        self._due.pop(who, None)
        self._due[who] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def stop(self, who: T) -> None:
        self._due.pop(who, None)

    def __len__(self) -> int:
        return len(self._due)

    def _look(self) -> None:
        now = self._loop.time()
        try:
            while self._due:
                who, due = next(iter(self._due.items()))
                if due > now:
                    break
                del self._due[who]
                self._late(who)
        finally:  # not before: who is late may start others
            left = next(iter(self._due.values()), None)
            self._timer = self._loop.call_at(left, self._look) if left is not None else None
