"""How do several processes take turns at one listening socket? Each takes one connection, then does something else.

The event loop's own servers take all that wait at once: the process that wakes up first would get every one of them.
"""

import asyncio
import errno
import socket

from aiohttp import web

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 1.0  # seconds to wait for room


class SharedSite(web.BaseSite):
    """A site on a listening socket that other processes have as well."""

    __slots__ = ("_again", "_connecting", "_loop", "_sock")

    def __init__(self, runner: web.BaseRunner, sock: socket.socket) -> None:
        super().__init__(runner)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._again: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        host, port = self._sock.getsockname()[:2]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        await super().start()
        self._listen()

    async def stop(self) -> None:
        """Take no more: whoever is left with the socket does. What waited when this was the last one is taken still."""
        self._loop.remove_reader(self._sock)
        while self._accept():
            pass
        if self._again is not None:
            self._again.cancel()
        self._sock.close()
        if self._connecting:
            await asyncio.wait(self._connecting)
        await super().stop()

    def _listen(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> bool:
        """Whether there was a connection."""
        try:
            connection, _ = self._sock.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._loop.remove_reader(self._sock)
                self._again = self._loop.call_later(_PAUSE, self._listen)
            return False  # another process was faster, or the client has left
        connection.setblocking(False)
        server = self._runner.server
        assert server is not None, "a runner that has sites is set up"
        task: asyncio.Task[object] = self._loop.create_task(self._loop.connect_accepted_socket(server, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True
