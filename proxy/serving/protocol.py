"""How does aiohttp's server say only what we say? Its protocol and its response, with nothing added but framing."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply

_NO_LINGER = struct.pack("ii", 1, 0)


def refused(status: int) -> Reply:
    """A fixed answer to what cannot be served, and the end of the connection: nothing of the request is echoed."""
    fields, body = problem(status, _REFUSALS[status])
    return Reply.own(status, fields, body, Outcome(Reason.BAD_REQUEST), last=True)


_REFUSALS = {
    400: "The request is malformed or ambiguous.",
    417: "Only 'Expect: 100-continue' is understood.",
    431: "The request's header fields are too large.",
    500: "Something went wrong here.",
    501: "This method is not implemented.",
}


class Server(web.Server):
    """Makes our protocol; a wrong argument is an error here, where aiohttp would fall back to its defaults."""

    def __call__(self) -> RequestHandler:
        return ServerProtocol(self, loop=self._loop, **self._kwargs)


class ServerProtocol(RequestHandler):
    """aiohttp's protocol with fixed error answers, where its own quote the client's bytes and log a traceback."""

    __slots__ = ("_stalled", "_stalled_handle", "on_lost")

    def __init__(self, manager: web.Server, *, stalled: float, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self.on_lost: Callable[[], None] | None = None
        self._stalled = stalled
        self._stalled_handle: asyncio.TimerHandle | None = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            status = 400  # the request's body broke off while it was read here
        elif status == 500:
            self.logger.error("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            reset(request.transport)
            raise ConnectionResetError("the response has begun")
        response = HttpResponse(
            refused(431 if isinstance(exc, LineTooLong) else status if status in _REFUSALS else 500)
        )
        response.force_close()
        return response

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            # aiohttp leaves whoever reads the body that went wrong waiting for its rest
            begun = [payload for _, payload in self._messages]
            if self._current_request is not None:
                begun.append(self._current_request.content)
            for payload in begun:
                if not payload.is_eof():
                    payload.set_exception(RequestPayloadError("the body is not valid"))
                    payload.feed_eof()  # or aiohttp reads on after the response, and logs the exception

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_handle = self._loop.call_later(self._stalled, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._stalled_handle is not None:
            self._stalled_handle.cancel()
            self._stalled_handle = None

    def _give_up(self) -> None:
        """What waits for a client that takes nothing holds memory here and a connection upstream."""
        reset(self.transport)


def reset(transport: asyncio.Transport | None) -> None:
    """End the connection with RST: FIN would be the proper end of a body without a length."""
    if transport is not None and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()


class HttpResponse(web.StreamResponse):
    """A response whose head is ours to the byte: nothing is added but framing (aiohttp would add Server and others)."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status=reply.status, reason=reply.reason or None)
        self._pairs = reply.fields
        self._whole = reply.body if isinstance(reply.body, bytes) else b""
        self._framing: list[tuple[str, str]] = []

    @property
    def bodiless(self) -> bool:
        """The method or the status allows no body (RFC 9112 6.3); known once it is prepared."""
        return bool(self._must_be_empty_body)

    def send_head(self) -> None:
        """Send it now, not with the first bytes of the body."""
        assert isinstance(self._payload_writer, StreamWriter)
        self._payload_writer.send_headers()

    async def write_eof(self, data: bytes = b"") -> None:
        """End the response; with the body, where it is here whole."""
        await super().write_eof(b"" if self._must_be_empty_body else data or self._whole)

    async def _prepare_headers(self) -> None:
        request, writer = self._req, self._payload_writer
        assert request is not None
        assert writer is not None
        keep_alive = request.keep_alive if self._keep_alive is None else self._keep_alive
        if self._status == 204:
            # "MUST NOT send a Content-Length header field in any response with a status code of ... 204" (RFC 9110 8.6)
            self._pairs = self._pairs.without(("content-length",))
        length = self._pairs.get("content-length")
        if not self._must_be_empty_body:
            if length is not None:
                writer.length = int(length)
            elif request.version >= (1, 1):
                writer.enable_chunking()
                self._framing.append(("Transfer-Encoding", "chunked"))
            else:
                keep_alive = False
        if "date" not in self._pairs:
            # "A recipient with a clock that receives a response message without a Date header field MUST record the
            # time it was received and append a corresponding Date" (RFC 9110 6.6.1)
            self._framing.append(("Date", rfc822_formatted_time()))
        if not keep_alive:
            self._framing.append(("Connection", "close"))
        elif request.version == (1, 0):
            self._framing.append(("Connection", "keep-alive"))
        self._keep_alive = keep_alive

    async def _write_headers(self) -> None:
        request, writer = self._req, self._payload_writer
        assert request is not None
        assert writer is not None
        lines = [f"HTTP/1.1 {self._status} {self._reason}"]
        lines.extend(f"{name}: {value}" for name, value in (*self._pairs, *self._framing))
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        _hand_over(writer, head)


def _hand_over(writer: AbstractStreamWriter, head: bytes) -> None:
    """Give aiohttp's writer a finished head, which it sends together with the first body bytes."""
    writer._headers_buf = head  # type: ignore[attr-defined]
    writer._headers_written = False  # type: ignore[attr-defined]
