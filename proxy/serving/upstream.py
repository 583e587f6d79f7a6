"""How is the upstream asked? One small protocol (head, body stream); the only place that maps its client's errors."""

import asyncio
import re
import select
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import _EXC_SENTINEL
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request, Response

Body = bytes | AsyncIterator[bytes] | None

# Response heads may be larger than the requests we accept: an upstream is trusted further than a client.
_MAX_LINE = 32 << 10
_MAX_HEADERS = 256
_READ_BUFFER = 256 << 10
_KEEPALIVE = 4.0  # seconds an idle connection is kept: less than the 5 of common servers, so that we close first
MAX_MESSAGE = 16 << 20  # bytes of one WebSocket message

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Stream(Protocol):
    """A response whose head has arrived and whose body is still on its way."""

    response: Response
    framed: bool  # its end is known: a length or chunks, not the end of the connection
    length: int | None  # of the body, when the head tells it

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. UpstreamError when it ends early: what was read is then not the whole body."""

    def close(self) -> None:
        """Let go of the connection; it is reused only when the whole body was read."""


class Upstream(Protocol):
    """Where requests go."""

    async def fetch(self, request: Request, body: Body) -> Stream:
        """Send the request, return when the response's head is here. UpstreamError (502 or 504) otherwise."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first byte of a response, between two reads."""

    connect: float = 1.0
    first_byte: float = 30.0
    idle: float = 60.0


class HttpUpstream:
    """One upstream over `http://`, `https://` (verified) or `unix:` with pooled keep-alive connections."""

    def __init__(
        self, url: str, timeouts: Timeouts, *, max_connections: int = 512, tls: SSLContext | None = None
    ) -> None:
        self._timeouts = timeouts
        self._base = "http://localhost" if url.startswith("unix:") else url.rstrip("/")
        self._session = _session(url, timeouts, max_connections, tls)
        # with a limit of their own: WebSockets stay for hours and must not keep requests from connecting
        redirects = aiohttp.TraceConfig()
        redirects.on_request_redirect.append(_refuse_redirect)
        self._websockets = _session(url, timeouts, max_connections, tls, redirects)

    async def fetch(self, request: Request, body: Body) -> Stream:
        answered = False

        def moved(seconds: float) -> None:
            if not answered:
                deadline.reschedule(asyncio.get_running_loop().time() + seconds)

        sent = _watched(body, self._timeouts, moved) if isinstance(body, AsyncIterator) else body
        try:
            async with asyncio.timeout(self._timeouts.first_byte) as deadline:
                response = await self._session.request(
                    request.method,
                    _exact_url(self._base, request.target),
                    headers=_as_sent(request.fields),
                    data=sent,
                    chunked=True if _is_chunked(body, request.fields) else None,
                    allow_redirects=False,
                )
                answered = True
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _mapped(error) from error
        if not _is_sound(response):
            response.close()
            raise UpstreamError("http_protocol_error")
        return _HttpStream(response)

    async def open_websocket(
        self, target: str, fields: Fields, protocols: list[str]
    ) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket to the upstream, pings and closes left to the caller. WSServerHandshakeError: it said no."""
        try:
            async with asyncio.timeout(self._timeouts.first_byte):
                return await self._websockets.ws_connect(
                    _exact_url(self._base, target),
                    headers=_as_sent(fields),
                    protocols=protocols,
                    autoping=False,
                    autoclose=False,
                    max_msg_size=MAX_MESSAGE,
                    compress=0,
                )
        except aiohttp.WSServerHandshakeError:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _mapped(error) from error

    async def close(self) -> None:
        await self._session.close()
        await self._websockets.close()


def _session(
    url: str, timeouts: Timeouts, limit: int, tls: SSLContext | None, *traces: aiohttp.TraceConfig
) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    if url.startswith("unix:"):
        connector = aiohttp.UnixConnector(url[5:].removeprefix("//"), limit=limit, keepalive_timeout=_KEEPALIVE)
    else:
        connector = aiohttp.TCPConnector(limit=limit, ttl_dns_cache=10, ssl=tls or True, keepalive_timeout=_KEEPALIVE)
    connector._factory = partial(_Connection, loop=asyncio.get_running_loop())  # type: ignore[assignment]
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, connect=timeouts.first_byte, sock_connect=timeouts.connect, sock_read=timeouts.idle
        ),
        skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
        read_bufsize=_READ_BUFFER,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_LINE,
        max_headers=_MAX_HEADERS,
        trace_configs=list(traces),
    )


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    """ws_connect follows redirects and cannot be told not to: wherever this one leads, it is the client's to go."""
    response = redirect.response
    response.close()
    raise aiohttp.WSServerHandshakeError(
        response.request_info, (), status=response.status, headers=response.headers, message="a redirect"
    )


class _Connection(ResponseHandler):
    """A pooled connection that gives no request what it did not ask for.

    aiohttp keeps bytes that arrive between two requests and hands them to the next one, which may be another tenant's
    (its issue 13656). This one ends with any byte that comes after a response and before the next request. What remains
    open, as HTTP/1.1 numbers nothing: a response nobody asked for that arrives after the next request was written.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._asked = 0  # how many requests used it
        self._expecting = False  # a response is awaited or under way
        self._answered = False  # its final head is here
        self._surplus = False

    def is_connected(self) -> bool:
        """Whether it can be used: nothing waits to be read on it, neither bytes of an answer nor its end."""
        return super().is_connected() and (self._expecting or not self._asked or not self._is_readable())

    def _is_readable(self) -> bool:
        assert self.transport is not None
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def set_response_params(self, **params: Any) -> None:
        self._asked += 1
        self._expecting, self._answered = True, False
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if self._answered:
            self._surplus = True
            return
        self._answered = not 100 <= data[0].code < 200
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        if not self._expecting:
            if data:
                self.close()
            return
        super().data_received(data)
        if not self._answered or (self._payload is not None and not self._payload.is_eof()):
            return
        self._expecting = False
        # asked for the rest, the parser tells of a message that has begun
        if self._surplus or (self._parser is not None and self._parser.feed_eof() is not None):
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            # aiohttp takes a reset for the end of a body that only the connection's end delimits
            self._payload.set_exception(aiohttp.ClientPayloadError("the connection was reset"))
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _EXC_SENTINEL) -> None:
        # Only a request on a reused connection may be sent again (RFC 9112 9.3.1); aiohttp repeats any idempotent one.
        if self._asked == 1 and isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            exc = _FirstUseError(str(exc))
        super().set_exception(exc, exc_cause)


class _FirstUseError(aiohttp.ClientConnectionError):
    """The connection ended under its first request."""


class _HttpStream:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        fields = Fields((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers)
        # the wire's bytes as Latin-1, like the fields
        reason = (response.reason or "").encode("utf-8", "surrogateescape").decode("latin-1")
        self.response = Response(response.status, fields, reason)
        self.framed = _is_framed(response, fields)
        self.length = response.content_length

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise UpstreamError(_kind_of_body_error(error), status=502) from error

    def close(self) -> None:
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


def _is_framed(response: aiohttp.ClientResponse, fields: Fields) -> bool:
    if response.method == "HEAD" or response.status in (204, 304):
        return True
    return "content-length" in fields or "transfer-encoding" in fields


def _is_sound(response: aiohttp.ClientResponse) -> bool:
    """Whether it can be passed on. aiohttp's parser lets control characters, odd codings and statuses through."""
    coding = response.headers.get("Transfer-Encoding")
    return (
        200 <= response.status <= 999  # an unsolicited 101 among others is not
        and (coding is None or coding.lower() == "chunked")
        and not _CONTROL.search(response.reason or "")
        and not any(_CONTROL_BYTES.search(value) for _, value in response.raw_headers)
    )


async def _watched(
    body: AsyncIterator[bytes], timeouts: Timeouts, moved: Callable[[float], None]
) -> AsyncIterator[bytes]:
    """A body that tells when it moves on: as long as it does, the upstream has time to answer."""
    async for chunk in body:
        moved(timeouts.idle)
        yield chunk
    moved(timeouts.first_byte)


def _exact_url(base: str, target: str) -> URL:
    """A URL whose target crosses byte for byte. encoded=True: nothing is decoded, collapsed or quoted again."""
    url = URL(base + target, encoded=True)
    url._cache["raw_path_qs"] = target  # it would lose a lone question mark at the end
    return url


def _as_sent(fields: Fields) -> list[tuple[str, str]]:
    # aiohttp drops the first of two lines whose names differ only in case: all lines get the case of the first.
    names: dict[str, str] = {}
    return [(names.setdefault(name.lower(), name), _as_text(value)) for name, value in fields]


def _is_chunked(body: Body, fields: Fields) -> bool:
    return isinstance(body, AsyncIterator) and "content-length" not in fields


def _as_text(value: str) -> str:
    # The client library writes UTF-8. The listener has refused what is not, so the wire gets the bytes it came with.
    return value if value.isascii() else value.encode("latin-1").decode("utf-8")


def _mapped(error: Exception) -> UpstreamError:
    """RFC 9209 2.3 names. Whether the request can have had an effect decides if a write purges."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamError("connection_timeout", status=504, delivered=False)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return UpstreamError("dns_error", delivered=False)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return UpstreamError("tls_certificate_error", delivered=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("connection_refused", delivered=False)
    if isinstance(error, TimeoutError):
        return UpstreamError("http_response_timeout", status=504)
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return UpstreamError("connection_terminated")
    return UpstreamError("http_protocol_error")


def _kind_of_body_error(error: Exception) -> str:
    return "connection_read_timeout" if isinstance(error, TimeoutError) else "http_response_incomplete"
