"""Which connection does a request get? One that is idle and silent, or a new one; a bounded number at a time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from proxy.serving.connection import Connection

KEEPALIVE = 4.0  # seconds an idle connection is kept: less than the 5 of common servers, so that we close first

Connect = Callable[[], Awaitable[Connection]]


class Places:
    """A number of places; who finds none waits in line. Unlike asyncio's semaphore, it can be asked without waiting."""

    def __init__(self, number: int) -> None:
        self.free = number  # none while anybody waits
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        if not self.free:
            return False
        self.free -= 1
        return True

    async def take(self) -> None:
        if self.take_now():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give()  # it came too late
            else:
                with suppress(ValueError):  # it was passed over
                    self._waiting.remove(turn)
            raise

    def give(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class Pool:
    """Connections to one upstream. Idle ones count only while no request needs their place."""

    def __init__(self, connect: Connect, limit: int, *, keepalive: float = KEEPALIVE) -> None:
        self._connect = connect
        self._limit = limit
        self._keepalive = keepalive
        self._places = Places(limit)
        self._in_use: set[Connection] = set()
        self._idle: list[Connection] = []  # the one used last is taken first: the others may age and go
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def in_use(self) -> int:
        return len(self._in_use)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def is_ready(self) -> bool:
        """Whether `take` has an idle connection to give and keeps nobody waiting."""
        return bool(self._idle) and self._places.free > 0

    async def take(self, *, fresh: bool = False) -> Connection:
        """A connection for one request, waited for as long as the caller does. `fresh`: no request was sent on it."""
        await self._places.take()
        try:
            connection = None if fresh else self._idle_one()
            if connection is None:
                connection = await self._connect()
        except BaseException:
            self._places.give()
            raise
        if fresh and len(self._idle) + len(self._in_use) >= self._limit:
            self._idle.pop(0).close()
        return self._given(connection)

    def take_now(self) -> Connection | None:
        """An idle connection, where `take` would not have to wait."""
        connection = self._idle_one() if self._idle and self._places.free else None
        if connection is None:
            return None
        self._places.free -= 1
        return self._given(connection)

    def _given(self, connection: Connection) -> Connection:
        connection.released = self.put
        self._in_use.add(connection)
        return connection

    def put(self, connection: Connection, reusable: bool) -> None:
        """The request is over. What is not reusable is closed already."""
        self._in_use.discard(connection)
        connection.released = None
        self._places.give()
        if reusable:
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = loop.call_later(self._keepalive, self._age)

    def close(self) -> None:
        """End all connections, those in use too."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in (*self._idle, *self._in_use):
            connection.close()
        self._idle.clear()

    def _idle_one(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - self._keepalive
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and connection.is_quiet():
                return connection
            connection.close()
        return None

    def _age(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keepalive
        kept: list[Connection] = []
        for connection in self._idle:
            if connection.idle_since > oldest and not connection.transport.is_closing():
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept
        self._sweep = loop.call_later(self._keepalive, self._age) if kept else None
