"""What does one client connection allow? Limits of size and time, on aiohttp's protocol, which has few of its own."""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from proxy.serving.chunks import ChunkSizes
from proxy.serving.outgoing import REST_OF_THE_LINE, Limits, Outgoing, reset
from proxy.serving.pace import Pace
from proxy.serving.response import REFUSALS, HttpResponse, refused
from proxy.serving.turns import Taker, Turn, wake
from proxy.serving.ways import Forwards, Seeks, Short, Turns

CRLF = b"\r\n"
MAX_HEAD = 16 << 10  # longer ones take the ordinary way
_HEAD_END = CRLF * 2
_SMALLEST_CHUNK = 8  # bytes that a byte may cost, at most: 1 CR LF x CR LF, and some
_FIELD_LINE = 4  # bytes of a field's line beside name and value


class Server(web.Server):
    """Makes our protocol; a wrong argument is an error here, where aiohttp would fall back to its defaults."""

    def __call__(self) -> RequestHandler:
        return ServerProtocol(self, loop=self._loop, **self._kwargs)


class LateBodyError(RequestPayloadError):
    """The body came too slowly."""


class ServerProtocol(Outgoing):
    """One client's connection. What is refused gets a fixed answer, where aiohttp's own quotes the client's bytes."""

    __slots__ = (
        "_arriving",
        "_between",
        "_chunks",
        "_early",
        "_forwarding",
        "_head_size",
        "_hits",
        "_pace",
        "_raw_size",
        "_refused",
        "_seeks",
        "_tail",
        "_timer",
        "_trusts",
        "_turns",
        "_unparsed",
        "_unsure",
        "peer",
        "trusted",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        limits: Limits,
        hits: Short | None = None,
        forwarding: Forwards | None = None,
        trusts: Callable[[str], bool] = lambda peer: False,
        turns: Turns = lambda *_: None,
        seeks: Seeks = lambda *_: False,
        **settings: Any,
    ) -> None:
        super().__init__(
            manager, limits=limits, max_line_size=limits.target, max_field_size=limits.line,
            max_headers=limits.fields, keepalive_timeout=limits.idle, lingering_time=limits.linger, **settings,
        )  # fmt: skip
        self._hits = hits
        self._forwarding = forwarding
        self._trusts = trusts
        self._turns = turns
        self._seeks = seeks
        self.peer, self.trusted = "", False
        self._between = True  # what came last ended a head without a body: the next byte begins a message
        self._arriving: StreamReader = EMPTY_PAYLOAD  # the body of the newest request
        self._pace: Pace | None = None  # of that body
        self._chunks: ChunkSizes | None = None  # of that body
        self._early = b""  # a head that came before the handler waited for it
        self._unparsed: bytes | None = None  # what came behind a head that is answered before it is parsed, if it is
        self._head_size = 0  # bytes so far of the head that follows it
        self._tail = b""  # the last of them, among which its end may begin
        self._unsure = 0  # bytes that came with the last body, some of which may belong to that head
        self._raw_size = 0  # bytes so far of that body and its chunks' heads
        self._refused = False  # nothing more is read
        self._timer: asyncio.TimerHandle | None = None  # for what arrives

    # What arrives

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""  # as `BaseRequest.remote`
        self.trusted = self._trusts(self.peer)
        self._wait(self._limits.head_time, self._head_is_late)

    @property
    def is_asking(self) -> bool:
        """Whether it is new and has not asked anything, or a request is arriving."""
        return self._timer is not None or bool(self._early)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._upgraded:
            super().data_received(data)
            return
        if self._unparsed is not None:
            self._unparsed += data
            if len(self._unparsed) > self._limits.head and self.transport is not None:
                self.transport.pause_reading()
        elif self._early:
            data, self._early = self._early + data, b""
            self._received(data)
        elif not self._between or not self._is_lone_head(data):
            self._received(data)
        elif self._waiter is not None:
            self._head_received(data)
        else:
            self._early = data
            self._loop.call_soon(self._is_due)

    def _is_due(self) -> None:
        """The handler waits by now, if it does at all."""
        data, self._early = self._early, b""
        if not data:
            return  # more came, and it was all received
        if self._waiter is not None and self._is_lone_head(data):
            self._head_received(data)
        else:
            self._received(data)

    def _is_lone_head(self, data: bytes) -> bool:
        """Whether this may be one whole head that can be answered without aiohttp's handler: it waits, or will at once.

        Nothing is under way on this connection, nothing waits to be handled or to be sent: 3,000 heads of a client that
        does not read must not become 3,000 answers in memory. A head that arrives within a body is body.
        """
        waiter, transport = self._waiter, self.transport
        return (
            (not self._request_in_progress if waiter is None else not waiter.done())
            and not self._messages
            and not self._head_size
            and not self._paused
            and len(data) <= MAX_HEAD
            and data.endswith(_HEAD_END)
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def _head_received(self, data: bytes) -> None:
        hits, forwarding = self._hits, self._forwarding
        if forwarding is not None and forwarding.known(self, data):
            return
        if data.find(_HEAD_END) < len(data) - len(_HEAD_END):  # more than one
            self._received(data)
            return
        answer = hits.known(data, self.trusted) if hits is not None else None
        if answer is not None:
            self._answered(answer)
            return
        if self._seeks(self, data, None):
            self._unparsed = b""
            return
        if forwarding is not None and forwarding.shaped(self, data):
            return
        self._parse_head(data)

    def _parse_head(self, data: bytes) -> None:
        hits, forwarding = self._hits, self._forwarding
        # aiohttp wakes its handler as soon as a message is there: only if it is not answered here
        waiter, self._waiter = self._waiter, None
        try:
            self._received(data)
        finally:
            self._waiter = waiter
        if not self._messages or self._refused or self._upgraded:
            if self._messages:
                wake(waiter)
            return
        message, payload = self._messages[0]
        if payload is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage):
            answer = hits.parsed(data, message, self.peer, self.trusted) if hits is not None else None
            if answer is not None:
                self._taken()
                self._answered(answer)
                return
            if self._seeks(self, data, message):
                return
            if forwarding is not None and forwarding.parsed(self, data, message):
                return
            turn = self._turns(self, message, self.peer, self.trusted)
            if turn is not None:
                assert waiter is not None, "it is what tells a lone head"
                self._taken()
                self.begin_turn(turn, waiter)
                return
        wake(waiter)

    def told(self, head: bytes, message: RawRequestMessage | None, answer: tuple[bytes, bytes] | Turn | None) -> None:
        """What others were asked for: an answer, or the turn that brings it. None: the request is looked at anew."""
        transport, behind = self.transport, self._unparsed
        self._unparsed = None
        if answer is not None and not isinstance(answer, tuple):
            self.begin_turn(answer, self.take_back())
        elif transport is None or transport.is_closing():
            self.end_turn(goes_on=False)
        elif answer is not None:
            transport.writelines(answer)
            self.end_turn(goes_on=True)
        elif message is None:
            _ = self.take_back()
            self._parse_head(head)
        else:
            waiter, turn = self.take_back(), self._turns(self, message, self.peer, self.trusted)
            assert turn is not None, "only for those the store is asked"
            self.begin_turn(turn, waiter)
        if behind and transport is not None:
            if not (self._reading_paused or self._buffer_paused):
                transport.resume_reading()
            self._early = behind
            self._loop.call_soon(self._is_due)

    def _taken(self) -> None:
        """The one message that is here is not aiohttp's to handle."""
        self._messages.clear()
        assert self._parser is not None
        self._parser.message_consumed()

    def give_turn(self, taker: Taker) -> None:
        if self._messages:
            self._taken()
        if self._timer is not None:
            self._stop_waiting()
        super().give_turn(taker)

    def _answered(self, answer: tuple[bytes, bytes]) -> None:
        """Write an answer, and keep the time as aiohttp does after one of its own."""
        if self._timer is not None:
            self._stop_waiting()
        self._next_keepalive_close_time = self._loop.time() + self._limits.idle
        assert self.transport is not None
        self.transport.writelines(answer)

    def _received(self, data: bytes) -> None:
        arriving, before, body = self._arriving, len(self._messages), not self._arriving.is_eof()
        super().data_received(data)
        new = len(self._messages) - before
        self._between = new > 0 and self._messages[-1][1] is EMPTY_PAYLOAD and data.endswith(_HEAD_END)
        if new:
            self._begun(new, data, arriving if body else None)
        elif body:
            self._raw_size += len(data)
            if self._pace is not None:
                self._pace.received(len(data))
            padding = self._is_padding(self._raw_size - _SMALLEST_CHUNK * arriving.total_bytes)
            if padding or (self._chunks is not None and not self._chunks.sane(data)):
                arriving.set_exception(RequestPayloadError("chunks that nobody can mean"))
                self._refuse(400)
        elif data.strip(CRLF):
            self._head_size += len(data)
            self._tail = (self._tail + data)[1 - len(_HEAD_END) :]
            if self._head_size > self._limits.head:
                self._refuse(431)
            elif self._timer is None:
                self._wait(self._limits.head_time, self._head_is_late)

    def _begun(self, new: int, data: bytes, before: StreamReader | None) -> None:
        """`new` heads are whole, and the bodies of all but the last. `before`: the body that ended in what came."""
        self._stop_waiting()
        received, self._head_size = self._head_size + len(data), 0
        tail, self._tail, self._chunks = self._tail, b"", None
        at_most, self._unsure = received + self._unsure, 0
        if before is not None:
            received += self._raw_size - _SMALLEST_CHUNK * before.total_bytes
            at_most = max(at_most, received)
        message, payload = self._messages[-1]
        if isinstance(message, _ErrInfo):
            self.take_no_more(RequestPayloadError("what follows is no request"))
            return
        begun = payload is not EMPTY_PAYLOAD and new == 1 and before is None
        self._raw_size = received - _head_size(message) if begun else 0
        status = self._oversized(new, received) if at_most > self._limits.head else None
        if status is None and new == 1 and before is None and message.chunked:
            # one that shares a segment with others is not followed: its body has a deadline all the same
            status = self._follow_chunks(tail, data)
        if status is not None:
            if before is not None and status == 400:  # it was padding of that body
                before.set_exception(RequestPayloadError("chunks that nobody can mean"))
            for _ in range(new):
                self._messages.pop()
            self._refuse(status)
            return
        self._arriving = payload
        if self._upgraded:
            return
        if not payload.is_eof():
            self._pace = Pace(self._limits.body_grace, self._limits.body_rate, self._loop.time())
            self._wait(self._limits.body_grace, self._body_is_late)
        elif payload is not EMPTY_PAYLOAD:
            self._unsure = len(data)
        elif (rest := len(data) - data.rfind(_HEAD_END) - len(_HEAD_END)) > 0:  # the next one has begun
            self._head_size = rest
            self._tail = data[-min(rest, len(_HEAD_END) - 1) :]
            self._wait(self._limits.head_time, self._head_is_late)

    def _follow_chunks(self, tail: bytes, data: bytes) -> int | None:
        """Look at the sizes of this body's chunks from now on: the status to refuse it with, if they are absurd now."""
        data = tail + data if tail else data.lstrip(CRLF)
        self._chunks = ChunkSizes()
        return None if self._chunks.sane(data, data.find(_HEAD_END) + len(_HEAD_END)) else 400

    def _oversized(self, new: int, received: int) -> int | None:
        """The status to refuse the newest requests with, if any of them is too large."""
        for message, payload in islice(reversed(self._messages), new):
            size = _head_size(message)
            if size > self._limits.head:
                return 431
            received -= size + (_SMALLEST_CHUNK * payload.total_bytes if payload is not EMPTY_PAYLOAD else 0)
        return 400 if self._is_padding(received) else None

    def _is_padding(self, size: int) -> bool:
        """Whether this is too much beside heads and content: extensions could go on for ever and bring nothing."""
        if self._reading_paused or self._buffer_paused:
            return False  # some of it is not parsed yet
        return size > self._limits.head + self._limits.line  # a head that has begun may be among it

    def _head_is_late(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():  # others are being answered: it waits for us
            self._wait(self._limits.head_time, self._head_is_late)
        elif self._head_size:
            self._refuse(408)
        else:
            self.force_close()

    def _body_is_late(self) -> None:
        self._timer = None
        assert self._pace is not None
        if self._arriving.is_eof():
            return
        left = self._pace.left(self._loop.time())
        if left > 0:
            self._wait(left, self._body_is_late)
        else:
            self.take_no_more(LateBodyError("the body came too slowly"))
            self.close()

    def _refuse(self, status: int) -> None:
        """Answer the requests that are here, then say no and close."""
        error = RequestPayloadError("refused")
        self.take_no_more(error)
        self._messages.append((_ErrInfo(status, error, ""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_no_more(self, error: RequestPayloadError) -> None:
        """What the client still sends is not looked at. Nobody waits for the rest of a body, or takes it for whole."""
        self._stop_waiting()
        self._refused = True
        if not self._arriving.is_eof():
            self._arriving.set_exception(error)
            self._arriving.feed_eof()

    def _wait(self, seconds: float, late: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pause_transport_reading(self) -> None:
        super()._pause_transport_reading()
        if self._pace is not None:
            self._pace.hold(self._loop.time())

    def _resume_transport_reading(self) -> None:
        super()._resume_transport_reading()
        if self._pace is not None:
            self._pace.release(self._loop.time())

    # What leaves

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            status = 408 if isinstance(exc.__cause__, LateBodyError) else 400  # the body broke off while read here
        elif status == 500:
            self.logger.error("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            reset(request.transport)
            raise ConnectionResetError("the response has begun")
        response = HttpResponse(refused(self._status_of(exc, status)))
        response.force_close()
        return response

    def _status_of(self, error: BaseException | None, status: int) -> int:
        if isinstance(error, LineTooLong):
            return 414 if error.args[1] == self._limits.target else 431
        if status == 400 and str(error).endswith("Too many headers received"):
            return 431
        return status if status in REFUSALS else 500

    @property
    def is_upgrading(self) -> bool:
        """Another protocol was asked for and not yet taken up."""
        return self._upgraded and self._payload_parser is None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if self.is_upgrading:
            self.close()  # an upgrade that was not made: what follows may be written in the other protocol
        finished = await super().finish_response(request, resp, start_time)
        if self._refused and not resp.keep_alive:
            await self.linger()
        return finished

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        self._early = b""
        super().connection_lost(exc)
        self._arriving = EMPTY_PAYLOAD  # a body knows its connection: that would be a cycle


def _head_size(message: RawRequestMessage | _ErrInfo) -> int:
    """Bytes of the head, white space around values aside."""
    assert isinstance(message, RawRequestMessage)
    fields = sum([len(name) + len(value) + _FIELD_LINE for name, value in message.raw_headers])
    return len(message.path) + REST_OF_THE_LINE + fields
