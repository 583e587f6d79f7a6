"""Who waits for a disk or a reader? A thread of its own, which keeps neither the loop nor the end of the process."""

import asyncio
import queue
import threading
from collections.abc import Callable

_Work = tuple[bytes, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Scribe:
    """Calls `write`, one piece after the other."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def written(self, data: bytes) -> None:
        """OSError, ValueError: as `write` has it."""
        if self._thread is None:
            # the loop's own threads are waited for at the end: one that hangs in a write would keep the process
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._work.put((data, loop, done))
        await done

    def _run(self) -> None:
        while True:
            data, loop, done = self._work.get()
            error: OSError | ValueError | None = None
            try:
                self._write(data)
            except (OSError, ValueError) as caught:
                error = caught
            if loop.is_closed():
                return  # what was given up at the end got through after all
            loop.call_soon_threadsafe(_tell, done, error)


def _tell(done: "asyncio.Future[None]", error: OSError | ValueError | None) -> None:
    if done.done():
        return  # nobody waits any more
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
