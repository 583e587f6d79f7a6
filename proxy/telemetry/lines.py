"""Who writes the lines of the log? A thread of its own: a reader that has stopped must not stop requests."""

import threading
from collections import deque
from typing import TextIO

MAX_WAITING = 1 << 20  # characters that may wait to be written: what is more is lost, and counted


class Lines:
    """Takes lines, never waits, and writes them in order. A full disk or a reader that is gone changes nothing."""

    def __init__(self, stream: TextIO, *, most: int = MAX_WAITING) -> None:
        self._stream = stream
        self._most = most
        self._waiting: deque[str] = deque()
        self._size = 0
        self._writes = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.lost = 0

    def info(self, line: str) -> None:
        with self._changed:
            if self._size + len(line) > self._most:
                self.lost += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            if self._thread is None:
                # a daemon: one that hangs in a write must not keep the process
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    debug = warning = error = critical = info

    def written(self, seconds: float) -> bool:
        """Wait until everything is written, for at most so long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._writes, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writes = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                text = "\n".join(self._waiting) + "\n"
                self._waiting.clear()
                self._size, self._writes = 0, True
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                pass  # there is nowhere to say it
