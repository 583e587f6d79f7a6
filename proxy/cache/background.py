"""Which work outlives its request? Fills, refreshes, repeated purges: kept alive, bounded, and ended in order."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Work = Callable[[], Coroutine[Any, Any, Any]]


class Background:
    """Keeps tasks alive until they end and reports what they raise: a lost task is a lost error."""

    def __init__(self, failed: Callable[[BaseException], None], *, refreshes: int = 64) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lasting: set[asyncio.Task[Any]] = set()
        self._refreshing: set[str] = set()
        self._refreshes = refreshes
        self._delayed: dict[asyncio.TimerHandle, Work] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any], *, lasting: bool = False) -> asyncio.Task[Any]:
        """`lasting`: it has no end of its own, so nobody waits for one on the way out."""
        task = asyncio.get_running_loop().create_task(work)
        if lasting:
            self._lasting.add(task)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def refresh(self, key: str, work: Work) -> bool:
        """Refresh an entry unless that is under way already, or too much is; whether it was started."""
        if key in self._refreshing or len(self._refreshing) >= self._refreshes or self._draining:
            return False
        self._refreshing.add(key)
        task = self.start(work())
        task.add_done_callback(lambda _: self._refreshing.discard(key))
        return True

    def later(self, seconds: float, work: Work) -> None:
        """Start work after `seconds`, or at once when the process ends before."""
        if self._draining:
            _ = self.start(work())
            return

        def begin() -> None:
            del self._delayed[handle]
            _ = self.start(work())

        handle = asyncio.get_running_loop().call_later(seconds, begin)
        self._delayed[handle] = work

    async def drain(self, seconds: float) -> None:
        """Start what was delayed, give everything `seconds` to end, then cancel it. What that starts counts too."""
        self._draining = True
        for handle, work in self._delayed.items():
            handle.cancel()
            _ = self.start(work())
        self._delayed.clear()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (ending := self._tasks - self._lasting) and (left := deadline - loop.time()) > 0:
            await asyncio.wait(ending, timeout=left)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._lasting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
