"""How does one talk to a Redis server so that its answer can be passed on to the letter? RESP2 over a stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeAlias

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 30.0


class Failed(NamedTuple):
    """An error reply."""

    text: str


class Status(NamedTuple):
    """A simple string: OK, PONG, QUEUED."""

    text: str


Value: TypeAlias = "bytes | int | Failed | Status | list[Value] | None"


class Reply(NamedTuple):
    value: Value
    raw: bytes


class Unanswered(Exception):
    """The server cannot be reached or did not answer."""


class Connection:
    """One connection. After an error or a cancellation it is of no more use: close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, server: str) -> "Connection":
        """`server`: HOST:PORT, or the path of a Unix socket."""
        host, _, port = server.rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                if server.startswith("/"):
                    return cls(*await asyncio.open_unix_connection(server))
                return cls(*await asyncio.open_connection(host.strip("[]"), int(port)))
        except (OSError, ValueError) as error:
            raise Unanswered(f"no Redis server answers at {server}: {error}") from None

    async def call(self, commands: Sequence[Sequence[bytes]]) -> list[Reply]:
        """Send these together; all replies."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._writer.write(b"".join(map(packed, commands)))
                await self._writer.drain()
                return [await self.reply() for _ in commands]
        except (OSError, EOFError) as error:
            raise Unanswered(f"the Redis server did not answer: {error}") from None

    async def reply(self) -> Reply:
        """The next reply, however long that takes."""
        line = await self._reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return Reply(Status(rest.decode("utf-8", "replace")), line)
            case b"-":
                return Reply(Failed(rest.decode("utf-8", "replace")), line)
            case b":":
                return Reply(int(rest), line)
            case b"$" if rest != b"-1":
                body = await self._reader.readexactly(int(rest) + 2)
                return Reply(body[:-2], line + body)
            case b"*" if rest != b"-1":
                parts = [await self.reply() for _ in range(int(rest))]
                return Reply([part.value for part in parts], line + b"".join(part.raw for part in parts))
            case b"$" | b"*":
                return Reply(None, line)
            case _:
                raise Unanswered("what answers is not a Redis server")

    def close(self) -> None:
        self._writer.close()


class Pool:
    """Connections to one server; one with an unread reply is never used again."""

    def __init__(self, server: str) -> None:
        self.server = server
        self._idle: list[Connection] = []

    async def call(self, commands: Sequence[Sequence[bytes]]) -> list[Reply]:
        async with self.connection() as connection:
            return await connection.call(commands)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        connection = self._idle.pop() if self._idle else await Connection.open(self.server)
        clean = False
        try:
            yield connection
            clean = True
        finally:
            if clean:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()


def packed(command: Sequence[bytes]) -> bytes:
    """A command as the server reads it."""
    return b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in command)
