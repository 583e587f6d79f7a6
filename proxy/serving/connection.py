"""What happens on one connection to the upstream? One request and its response at a time, and not a byte unasked."""

import asyncio
import select
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol, cast

from proxy.errors import UpstreamError
from proxy.policy.message import Response
from proxy.serving.response_parser import BadResponse, Head, ResponseParser

# How much of a body waits here for a slow client before the upstream is read no further, and when it is again.
_HIGH = 256 << 10
_LOW = 64 << 10

Interim = Callable[[Response], None]
Moved = Callable[[bool], None]


class Receiver(Protocol):
    """Who is told what is answered to the request it sent."""

    head: Head | None  # the final one
    began: bool  # at least one byte of an answer came

    def on_head(self, head: Head) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def arrived(self) -> None:
        """All was told that came together, and more is to come."""

    def finish(self) -> None:
        """The response is here whole."""

    def fail(self, error: BaseException) -> None:
        """No more of it comes."""


class Exchange:
    """One request and its response, whose body is still on its way. When it is over the connection forgets it."""

    def __init__(self, connection: "Connection", interim: Interim | None, idle: float) -> None:
        self.head: Head | None = None
        self.began = False
        self._connection = connection
        self._interim = interim
        self._idle = idle
        self._pieces: deque[bytes] = deque()
        self._waiting = 0  # bytes in them
        self._over = False
        self._due: asyncio.TimerHandle | None = None  # for the head
        self._error: BaseException | None = None
        self._news: asyncio.Future[None] | None = None

    # What the caller sees: a `Stream`

    @property
    def response(self) -> Response:
        assert self.head is not None, "only an answered exchange is handed out"
        return self.head.response

    @property
    def framed(self) -> bool:
        return self.head is not None and self.head.framed

    @property
    def length(self) -> int | None:
        return self.head.length if self.head is not None else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. UpstreamError when it ends early."""
        while True:
            if self._pieces:
                piece = self._pieces.popleft()
                before, self._waiting = self._waiting, self._waiting - len(piece)
                if before > _LOW >= self._waiting and not self._over:
                    self._connection.read_on()
                yield piece
            elif self._error is not None:
                raise self._error
            elif self._over:
                return
            else:
                expiry = asyncio.get_running_loop().call_later(self._idle, self._expire)
                try:
                    await self._moved()
                finally:
                    expiry.cancel()

    @property
    def unread(self) -> int:
        """Bytes of the body that are here."""
        return self._waiting

    def whole(self) -> bytes | None:
        """The whole body, taken at once, when all of it is here."""
        if not self._over:
            return None
        pieces, self._pieces = self._pieces, deque()
        self._waiting = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Let go of the connection, which is reused only when the response is here whole."""
        self._pieces.clear()
        self._abandon(UpstreamError("http_response_incomplete"))
        if self._error is not None:  # what was raised knows its frames, and they know us: that would be a cycle
            self._error = UpstreamError("http_response_incomplete")

    async def answered(self) -> None:
        """Until the final head is here; the error that prevented it otherwise."""
        try:
            while self.head is None:
                if self._error is not None:
                    raise self._error
                await self._moved()
        finally:
            if self._due is not None:
                self._due.cancel()
                self._due = None

    def expect_head(self, until: float) -> None:
        """The final head must be here by this time of the loop's clock, whatever was said before."""
        if self._due is not None:
            self._due.cancel()
        self._due = asyncio.get_running_loop().call_at(until, self._head_is_late)

    # What the connection tells

    def on_head(self, head: Head) -> None:
        if not head.interim:
            self.head = head
            self._wake()
        elif self._interim is not None:
            self._interim(head.response)

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > _HIGH:
            self._connection.pause()
        self._wake()

    def arrived(self) -> None:
        pass

    def finish(self) -> None:
        self._over = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        if not self._over and self._error is None:
            self._error = error
            self._wake()

    def _head_is_late(self) -> None:
        self._abandon(UpstreamError("http_response_timeout", status=504))

    def _expire(self) -> None:
        self._abandon(UpstreamError("connection_read_timeout"))

    def _abandon(self, error: UpstreamError) -> None:
        if not self._over:
            self.fail(error)
            self._connection.abandon(self)

    async def _moved(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Connection(asyncio.Protocol):
    """A connection that gives no request what it did not ask for.

    It ends with any byte that comes between two requests, behind a response, or inside what is no response. What
    remains open, as HTTP/1.1 numbers nothing: a response nobody asked for that arrives after the next request was sent.
    """

    def __init__(self) -> None:
        self.released: Callable[[Connection, bool], None] | None = None  # is told whether it can be used again
        self.used = 0  # how many requests were sent on it
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._exchange: Receiver | None = None
        self._parser: ResponseParser | None = None
        self._upload: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # while the upstream takes nothing
        self._paused = False
        self._readable = select.poll()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "connected before it is used"
        return self._transport

    def is_quiet(self) -> bool:
        """Whether it can be used: it is open, and neither bytes nor an end wait to be read on it."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._readable.poll(0)

    def ask(
        self,
        method: str,
        head: bytes,
        body: AsyncIterator[bytes] | None,
        length: int | None,
        *,
        interim: Interim | None,
        idle: float,
        moved: Moved,
    ) -> Exchange:
        """Send a request: `body` counts `length` bytes or is sent in chunks; `moved` hears of each, and of the last."""
        exchange = Exchange(self, interim, idle)
        self.send(exchange, method, head)
        if body is not None and self._exchange is exchange:
            self._upload = asyncio.get_running_loop().create_task(self._send(body, length, moved))
            self._upload.add_done_callback(self._sent)
        return exchange

    def send(self, receiver: Receiver, method: str, data: bytes) -> None:
        """Send a request that is whole, or its head."""
        assert self._exchange is None, "one request at a time"
        self._exchange = receiver
        self._parser = ResponseParser(method, receiver.on_head, receiver.on_body)
        self.used += 1
        transport = self.transport
        if transport.is_closing():  # it ended, or spoke unasked, while it was handed out
            self._fail(receiver, UpstreamError("connection_terminated"))
        else:
            transport.write(data)

    def switch(self) -> tuple[asyncio.Transport, bytes]:
        """After a 101: the transport, silent until it is resumed, and what came behind the head."""
        if self._parser is None:
            raise UpstreamError("connection_terminated")  # since then
        rest, self._parser, self._exchange = self._parser.rest, None, None
        return self.transport, rest

    def abandon(self, exchange: Receiver) -> None:
        """End what is under way, and with it the connection."""
        if exchange is self._exchange:
            self.end()

    def end(self, *, reusable: bool = False) -> None:
        """Nothing is under way any more."""
        self._exchange = self._parser = None
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.cancel()
        if not reusable:
            self.close()
        elif self._paused:
            self.read_on()
        if self.released is not None:
            self.released(self, reusable)

    def close(self) -> None:
        self.transport.abort()

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def read_on(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without being a subclass
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            self.close()  # nobody asked (aiohttp's issue 13656: its client hands these bytes to the next request)
            return
        exchange.began = True
        try:
            parser.feed(data)
        except BadResponse:
            self._fail(exchange, UpstreamError("http_protocol_error"))
            return
        if self._exchange is not exchange:
            return  # it was let go meanwhile
        if not parser.complete:
            exchange.arrived()
        elif exchange.head is not None and exchange.head.response.status == 101:
            self.pause()  # what comes now is another protocol's
        else:
            self._complete(exchange, parser)

    def eof_received(self) -> None:
        """The upstream says no more. None: asyncio closes the transport."""
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            return
        parser.end()
        if parser.complete:
            self._complete(exchange, parser)
        else:
            self._cut_off(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        if self._exchange is not None:
            # a reset is not the end of a body that only the connection's end delimits
            self._cut_off(self._exchange)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # How an exchange ends

    def _complete(self, exchange: Receiver, parser: ResponseParser) -> None:
        head, transport = exchange.head, self.transport
        assert head is not None
        whole = self._upload is None or self._upload.done()
        exchange.finish()
        self.end(
            reusable=head.persistent
            and head.framed
            and not parser.rest
            # an upstream that answers early may read the rest of the body as the next request
            and whole
            and not transport.get_write_buffer_size()
            and not transport.is_closing()
        )

    def _cut_off(self, exchange: Receiver) -> None:
        if exchange.head is not None:
            kind = "http_response_incomplete"
        else:
            kind = "http_protocol_error" if exchange.began else "connection_terminated"
        self._fail(exchange, UpstreamError(kind))

    def _fail(self, exchange: Receiver, error: BaseException) -> None:
        exchange.fail(error)
        self.end()

    # Uploads

    async def _send(self, body: AsyncIterator[bytes], length: int | None, moved: Moved) -> None:
        left = length
        async for chunk in body:
            if not chunk:
                continue  # an empty chunk would be the last one
            moved(False)
            if left is None:
                self.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            else:
                left -= len(chunk)
                if left < 0:
                    break
                self.transport.write(chunk)
            if self._writable is not None:
                await self._writable
        if left:
            raise ConnectionResetError("the request's body is not as long as its head says")
        if left is None:
            self.transport.write(b"0\r\n\r\n")
        moved(True)

    def _sent(self, upload: asyncio.Task[None]) -> None:
        if upload.cancelled() or upload.exception() is None:
            return
        error = upload.exception()
        assert error is not None
        if upload is self._upload and self._exchange is not None:
            # cut off: the upstream must not take what it has for the whole body
            self._fail(self._exchange, UpstreamError("connection_terminated") if isinstance(error, OSError) else error)
