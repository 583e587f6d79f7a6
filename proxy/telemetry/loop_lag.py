"""How late does the event loop get to what is due? The longest delay of the last moments: what blocks it shows here."""

import asyncio
from collections.abc import Callable

_APART = 0.1  # seconds between two looks
_KEPT = 15.0  # the worst is told for at least this long: scrapes are seldom further apart


class LoopLag:
    """Looks at the running loop from `start` until `close`."""

    def __init__(self, *, apart: float = _APART, kept: float = _KEPT) -> None:
        self._apart = apart
        self._looks = max(1, round(kept / apart))
        self._left = self._looks
        self._before = 0.0  # the worst of the period before this one
        self._worst = 0.0
        self._due = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._clock: Callable[[], float] = lambda: 0.0

    @property
    def seconds(self) -> float:
        return max(self._before, self._worst)

    def start(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._plan()

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()

    def _plan(self) -> None:
        self._due = self._clock() + self._apart
        self._next = asyncio.get_running_loop().call_later(self._apart, self._look)

    def _look(self) -> None:
        self.saw(self._clock() - self._due)
        self._plan()

    def saw(self, late: float) -> None:
        """One look that came so late."""
        self._worst = max(self._worst, late)
        self._left -= 1
        if not self._left:
            self._before, self._worst, self._left = self._worst, 0.0, self._looks
