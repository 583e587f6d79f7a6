"""How do two processes of one sidecar talk? By named messages, each of them answered, over a pair of sockets."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, cast

import orjson

Content = Any  # whatever JSON can say
Handler = Callable[[Content], Awaitable[Content]]

_PREFIX = 4  # bytes that say how long a message is


class Channel(asyncio.Protocol):
    """One end. `start` runs the handler of a message beside everything else; `lost` is called when the other end is.

    A question whose answerer ends stays open for ever: it is the end of that process that one can wait for.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        start: Callable[[Coroutine[Any, Any, None]], object],
        lost: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._start = start
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._asked: dict[int, asyncio.Future[Content]] = {}
        self._last = 0

    def ask(self, name: str, content: Content = None) -> asyncio.Future[Content]:
        """Send a message; the future has its answer, which also says that the other end has dealt with it."""
        self._last += 1
        answer = self._asked[self._last] = asyncio.get_running_loop().create_future()
        self._write(self._last, name, content)
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by its type

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while len(received) >= _PREFIX:
            end = _PREFIX + int.from_bytes(received[:_PREFIX], "big")
            if len(received) < end:
                return
            number, name, content = orjson.loads(received[_PREFIX:end])
            del received[:end]
            if name is not None:
                self._start(self._handle(number, name, content))
            elif not (answer := self._asked.pop(number)).done():  # whoever asked may have stopped waiting
                answer.set_result(content)

    async def _handle(self, number: int, name: str, content: Content) -> None:
        self._write(number, None, await self._handlers[name](content))

    def _write(self, number: int, name: str | None, content: Content) -> None:
        if self._transport is not None and not self._transport.is_closing():
            message = orjson.dumps([number, name, content])
            self._transport.write(len(message).to_bytes(_PREFIX, "big") + message)
