"""How do several processes take turns at one listening socket? One connection at a time, and who has fewer goes first.

The event loop's own servers take all that wait at once: the process that wakes up first would get every one of them.
"""

import asyncio
import errno
import socket
from typing import Protocol

from aiohttp import web

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 1.0  # seconds to wait for room
_COURTESY = 0.005  # seconds in which those who have fewer connections may take one
_LOOK = 0.1  # seconds between two counts of those that are left


class Share(Protocol):
    """Who else takes connections, and how many each has."""

    def has(self, connections: int) -> None: ...

    def leaves(self) -> None: ...

    def is_before_others(self) -> bool: ...


class SharedSite(web.BaseSite):
    """A site on a listening socket that other processes have as well."""

    __slots__ = ("_again", "_connecting", "_counting", "_has", "_loop", "_share", "_sock")

    def __init__(self, runner: web.BaseRunner, sock: socket.socket, share: Share | None = None) -> None:
        super().__init__(runner)
        self._sock = sock
        self._share = share
        self._has = 0
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._counting: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        host, port = self._sock.getsockname()[:2]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        await super().start()
        self._count()
        self._listen()

    async def stop(self) -> None:
        """Take no more: whoever is left with the socket does. What waited when this was the last one is taken still."""
        if self._share is not None:
            self._share.leaves()
        self._loop.remove_reader(self._sock)
        while self._accept():
            pass
        for timer in (self._again, self._counting):
            if timer is not None:
                timer.cancel()
        self._sock.close()
        if self._connecting:
            await asyncio.wait(self._connecting)
        await super().stop()

    def _listen(self) -> None:
        self._loop.add_reader(self._sock, self._comes)

    def _comes(self) -> None:
        if self._share is not None and self._share.is_before_others():
            self._wait(_COURTESY)
        else:
            self._accept()

    def _wait(self, seconds: float) -> None:
        """Look elsewhere, then take one, if it is still there."""
        self._loop.remove_reader(self._sock)
        self._again = self._loop.call_later(seconds, self._take)

    def _take(self) -> None:
        self._listen()
        self._accept()

    def _accept(self) -> bool:
        """Whether there was a connection."""
        try:
            connection, _ = self._sock.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._wait(_PAUSE)
            return False  # another process was faster, or the client has left
        connection.setblocking(False)
        server = self._runner.server
        assert server is not None, "a runner that has sites is set up"
        task: asyncio.Task[object] = self._loop.create_task(self._loop.connect_accepted_socket(server, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        self._tell(self._has + 1)
        return True

    def _count(self) -> None:
        server = self._runner.server
        assert server is not None
        self._tell(len(server.connections))
        self._counting = self._loop.call_later(_LOOK, self._count)

    def _tell(self, connections: int) -> None:
        self._has = connections
        if self._share is not None:
            self._share.has(connections)
