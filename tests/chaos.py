"""What a network can do to a conversation: a TCP proxy that delays, hangs, resets, cuts, and puts words in mouths."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress


class Chaos:
    """Stands in front of a server. Each attribute may be changed at any time and holds for what passes from then on."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.delay: Callable[[], float] = lambda: 0.0  # seconds that what the server says is under way
        self.rewrite: Callable[[bytes], bytes] | None = None  # what the server says -> what the client hears
        self.refusing = False  # new connections are reset
        self.crossed = False  # what the server says to one client, another one hears
        self.cut_after: int | None = None  # bytes the server may still say to anybody; then all connections end
        self.connections = 0  # ever
        self._hanging = asyncio.Event()
        self._hanging.set()
        self._clients: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Chaos":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.go_on()
        while self._tasks:  # asyncio complains of a handler that is cancelled: it must end by itself
            self.reset()
            await asyncio.wait(self._tasks, timeout=0.1)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # what was cut off hears of it in the next turn of the loop

    @property
    def open_connections(self) -> int:
        return len(self._clients)

    def hang(self) -> None:
        """Nothing passes any more, in either direction; connections stay."""
        self._hanging.clear()

    def go_on(self) -> None:
        self._hanging.set()

    def reset(self) -> None:
        """Every connection ends with RST."""
        for client in list(self._clients):
            client.transport.abort()

    async def stray(self, said: bytes) -> None:
        """Every client hears something that the server never said; returns when it has arrived."""
        for client in list(self._clients):
            client.write(said)
            await client.drain()
        await asyncio.sleep(0.02)  # the way through the loopback interface, which no event tells of

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refusing:
            to_client.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            from_server, to_server = await asyncio.open_connection(*self.target)
        except OSError:
            to_client.transport.abort()
            return
        self._clients.append(to_client)
        ways = [
            asyncio.ensure_future(self._carry(from_client, to_server)),
            asyncio.ensure_future(self._carry_replies(from_server, to_client)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.remove(to_client)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            to_client.transport.abort()
            to_server.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while said := await reader.read(65536):
                await self._hanging.wait()
                writer.write(said)
                await writer.drain()

    async def _carry_replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while said := await reader.read(65536):
                if delay := self.delay():
                    await asyncio.sleep(delay)
                await self._hanging.wait()
                if self.rewrite is not None:
                    said = self.rewrite(said)
                if self.cut_after is not None:
                    said, self.cut_after = said[: self.cut_after], max(0, self.cut_after - len(said))
                self._listener(writer).write(said)
                await writer.drain()
                if self.cut_after == 0:
                    return

    def _listener(self, writer: asyncio.StreamWriter) -> asyncio.StreamWriter:
        others = [client for client in self._clients if client is not writer]
        return others[0] if self.crossed and others else writer


def swapped(replies: bytes) -> bytes:
    """The first two bulk strings of one piece of RESP change places."""
    return re.sub(rb"(\$\d+\r\n[^\r]*\r\n)(\$\d+\r\n[^\r]*\r\n)", rb"\2\1", replies, count=1)
