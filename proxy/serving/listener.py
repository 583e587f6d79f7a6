"""How do bytes become requests, and replies bytes? The server side of aiohttp, and nothing that decides."""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.web_protocol import RequestHandler

from proxy.errors import SidecacheError, UpstreamError
from proxy.policy.fields import protected_nomination
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body

MAX_LINE = 16 << 10
MAX_FIELDS = 128
KEEPALIVE = 75.0  # seconds; longer than a load balancer's 60, so that it is never us who close under it
BACKLOG = 1024
_READ_BUFFER = 256 << 10

_STALLED = 60.0  # seconds for which a client may take nothing of what waits for it
_LAST = 1.0  # seconds for handlers to end that were cut off when the drain time was over

Handle = Callable[[Request, Body], Awaitable[Reply]]
Reserved = Callable[[str], Reply | None]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 9112 3.2, RFC 3986 3.2.2: a name, an IPv4 or a bracketed IPv6 address, and a port
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


def require_c_parser() -> None:
    """aiohttp's pure-Python parser is laxer about framing than its C one (DESIGN 3.12)."""
    if HttpRequestParser is HttpRequestParserPy:
        raise SidecacheError(
            "aiohttp runs without its C parser; install a wheel that has it and unset AIOHTTP_NO_EXTENSIONS"
        )


class Bridge(Protocol):
    """Takes over the connections that become WebSockets."""

    async def __call__(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse | Reply: ...

    async def close(self) -> None: ...


class Listener:
    """Serves one address until it is closed. `reserved` answers our own paths, `handle` everything else."""

    def __init__(
        self,
        handle: Handle,
        reserved: Reserved,
        *,
        trusted_peers: tuple[Network, ...] = (),
        drain: float = 25.0,
        finished: Callable[[Request, Reply, float], None],
        websocket: Bridge,
        stalled: float = _STALLED,
    ) -> None:
        self._handle = handle
        self._reserved = reserved
        self._trusted = trusted_peers
        self._finished = finished
        self._websocket = websocket
        self._runner: web.ServerRunner | None = None
        self._drain = drain
        self._stalled = stalled
        self._leaving = False
        self._under_way = 0
        self._quiet = asyncio.Event()
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Listen. OSError when the address is taken or not ours."""
        server = _Server(
            self._answer,
            access_log=None,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
            keepalive_timeout=KEEPALIVE,
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            stalled=self._stalled,
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_LAST)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=BACKLOG)
        await site.start()
        self.port = self._runner.addresses[0][1]

    @property
    def connections(self) -> int:
        return len(self._runner.server.connections) if self._runner and self._runner.server else 0

    def leaving(self) -> None:
        """From now on each response ends its connection, so that clients come back elsewhere."""
        self._leaving = True

    async def close(self) -> None:
        """Stop accepting, let what is under way finish for at most `drain` seconds, then close."""
        if self._runner is None:
            return
        for site in self._runner.sites:
            await site.stop()
        self.leaving()
        await self._websocket.close()
        # aiohttp would stop to read at once, and with it the uploads that are under way
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain):
                while self._under_way:
                    self._quiet.clear()
                    await self._quiet.wait()
        await self._runner.cleanup()

    async def _answer(self, incoming: web.BaseRequest) -> web.StreamResponse:
        request = self._request(incoming)
        if request is None:
            return await self._send(incoming, refused(400))
        own = self._reserved(request.path)
        if own is not None:
            return await self._send(incoming, own)
        if request.method in ("CONNECT", "TRACE"):
            return await self._send(incoming, refused(501))
        if not _may_expect(request.fields.get("expect")):
            return await self._send(incoming, refused(417))
        if _is_websocket(request):
            upgraded = await self._websocket(incoming, request)
            return await self._send(incoming, upgraded) if isinstance(upgraded, Reply) else upgraded
        self._under_way += 1
        try:
            return await self._exchanged(incoming, request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def _exchanged(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
        started = asyncio.get_running_loop().time()
        if request.has_body and "expect" in request.fields and incoming.version >= (1, 1):
            await incoming.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            incoming.writer.output_size = 0  # an interim response is not the beginning of the final one
        reply = await self._handle(request, incoming.content.iter_any() if request.has_body else None)
        self._finished(request, reply, asyncio.get_running_loop().time() - started)
        return await self._send(incoming, reply)

    async def _send(self, incoming: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Write the reply at the client's pace. An end the upstream did not send never looks complete to the client."""
        response = _Response(reply)
        if self._leaving or reply.last:
            response.force_close()
        protocol = incoming.protocol
        assert isinstance(protocol, _Protocol)
        try:
            await response.prepare(incoming)
            if not isinstance(reply.body, bytes):
                protocol.on_lost = reply.close  # a client that leaves while nothing is sent is noticed too
                response.send_head()  # the first bytes of the body may be a long time in coming
                if not response.bodiless:
                    async for chunk in reply.body:
                        await response.write(chunk)
            await response.write_eof()
        except UpstreamError:
            if incoming.transport is not None:
                incoming.transport.abort()
        except ConnectionError:
            pass  # the client is gone: nobody is left to answer
        finally:
            protocol.on_lost = None
            reply.close()
        return response

    def _request(self, incoming: web.BaseRequest) -> Request | None:
        """The request as decisions need it; None when it is ambiguous (SPEC 6: refused, the connection closed)."""
        fields = Fields((name.decode("latin-1"), value.decode("latin-1")) for name, value in incoming.raw_headers)
        target = _origin_form(incoming.raw_path, fields.get("host"))
        hosts = fields.get_all("host")
        if (
            target is None
            or len(hosts) > 1
            or (hosts and not _HOST.fullmatch(hosts[0]))
            or (not hosts and incoming.version >= (1, 1))
            or len(fields.get_all("authorization")) > 1
            or protected_nomination(fields)
            or not _is_utf8(incoming.raw_headers)
        ):
            return None
        peer = incoming.remote or ""
        return Request(
            method=incoming.method,
            target=target,
            fields=fields,
            peer=peer,
            peer_trusted=self._is_trusted(peer),
            has_body=incoming.body_exists,
        )

    def _is_trusted(self, peer: str) -> bool:
        if not self._trusted:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _origin_form(target: str, host: str | None) -> str | None:
    """The target as a path; absolute-form only for the very host that is asked (RFC 9112 3.2.2)."""
    if target.startswith("/"):
        return target if "#" not in target else None
    scheme, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    if scheme.lower() not in ("http", "https") or authority != host or "#" in path:
        return None
    return slash + path if slash else "/"


def _is_utf8(fields: tuple[tuple[bytes, bytes], ...]) -> bool:
    try:
        for name, value in fields:
            if not value.isascii():
                value.decode("utf-8")
            if not name.isascii():
                return False
    except UnicodeDecodeError:
        return False
    return True


def _is_websocket(request: Request) -> bool:
    """Whether this is an opening handshake (RFC 6455 4.1), valid or not."""
    upgrade, connection = request.fields.get("upgrade") or "", request.fields.get("connection") or ""
    return request.method == "GET" and upgrade.lower() == "websocket" and "upgrade" in connection.lower()


def _may_expect(expect: str | None) -> bool:
    return expect is None or expect.lower() == "100-continue"


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


class _Server(web.Server):
    """Makes our protocol; a wrong argument is an error here, where aiohttp would fall back to its defaults."""

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(RequestHandler):
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
        if status == 500:
            self.logger.error("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            if request.transport is not None:
                request.transport.abort()  # a body without a length must not look complete
            raise ConnectionResetError("the response has begun")
        response = _Response(refused(431 if isinstance(exc, LineTooLong) else status if status in _REFUSALS else 500))
        response.force_close()
        return response

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
        if self.transport is not None:
            self.transport.abort()


class _Response(web.StreamResponse):
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
