"""Whose reply is this? On one connection commands go out together and replies come back in their order.

redis-py greets the server and steps aside: a stream to read from, and a task that is woken for each reply, would cost
more than everything else that is done for a batch.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from proxy.stores.commands import Command

Answer = Any  # what hiredis makes of a reply: bytes, int, None, lists and dicts of them, or a ResponseError


def packed(commands: Sequence[Command]) -> bytes:
    return b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # of its stub


class Conversation(asyncio.Protocol):
    """One connection, from the end of its greeting on. Whatever arrives that nobody waits for spoils it."""

    def __init__(self, transport: asyncio.WriteTransport, reader: hiredis.Reader, unfinished: object) -> None:
        """`reader` makes exceptions of errors; `unfinished` is what it gives while a reply is not whole."""
        self._transport = transport
        self._reader = reader
        self._unfinished = unfinished
        self._replies: list[Answer] = []
        self._expected = 0
        self._waiting: asyncio.Future[list[Answer]] | None = None
        self._spoiled = reader.has_data()
        transport.set_protocol(self)

    @property
    def is_clean(self) -> bool:
        """Open, and all that ever arrived was asked for."""
        return not (self._spoiled or self._waiting is not None or self._transport.is_closing())

    async def ask(self, commands: Sequence[Command]) -> list[Answer]:
        """The replies; what the server answered by an error is one. Whoever stops waiting must end the connection."""
        if not self.is_clean:
            raise RedisConnectionError("the connection is spoiled")
        self._expected = len(commands)
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(packed(commands))
        replies: list[Answer] = await waiting
        for reply in replies:
            if isinstance(reply, RedisConnectionError):
                raise reply  # of the server as such: it is loading, it wants a password
        return replies

    def data_received(self, data: bytes) -> None:
        waiting, reader, replies = self._waiting, self._reader, self._replies
        if waiting is None:
            self._spoiled = True
            self._transport.abort()
            return
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not self._unfinished:
                if not isinstance(reply, hiredis.PushNotification):
                    replies.append(reply)
        except InvalidResponse as error:
            self._end(error)
            return
        if len(replies) < self._expected:
            return
        self._spoiled = len(replies) > self._expected or reader.has_data()
        self._waiting, self._replies = None, []
        if not waiting.done():
            waiting.set_result(replies[: self._expected])

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RedisConnectionError("the server closed the connection"))

    def _end(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        self._spoiled = True
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
