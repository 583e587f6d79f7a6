"""How is the upstream asked? One small protocol (head, body stream); the only place that maps its client's errors."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

import aiohttp
from yarl import URL

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request, Response

Body = bytes | AsyncIterator[bytes] | None

# Response heads may be larger than the requests we accept: an upstream is trusted further than a client.
_MAX_LINE = 32 << 10
_MAX_HEADERS = 256
_READ_BUFFER = 256 << 10


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
        if url.startswith("unix:"):
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(url[5:].removeprefix("//"), limit=max_connections)
            self._base = "http://localhost"
        else:
            connector = aiohttp.TCPConnector(limit=max_connections, ttl_dns_cache=10, ssl=tls or True)
            self._base = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.idle),
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            read_bufsize=_READ_BUFFER,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            max_headers=_MAX_HEADERS,
        )

    async def fetch(self, request: Request, body: Body) -> Stream:
        # encoded=True: the target crosses byte for byte, nothing is decoded, collapsed or quoted again
        url = URL(self._base + request.target, encoded=True)
        try:
            async with asyncio.timeout(self._timeouts.first_byte if not isinstance(body, AsyncIterator) else None):
                response = await self._session.request(
                    request.method,
                    url,
                    headers=[(name, _as_text(value)) for name, value in request.fields],
                    data=body,
                    chunked=True if _is_chunked(body, request.fields) else None,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _mapped(error) from error
        if response.status == 101:
            response.close()
            raise UpstreamError("http_protocol_error")
        return _HttpStream(response)

    async def open_websocket(
        self, target: str, fields: Fields, protocols: list[str]
    ) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket to the upstream, pings and closes left to the caller. WSServerHandshakeError: it said no."""
        try:
            return await self._session.ws_connect(
                URL(self._base + target, encoded=True),
                headers=[(name, _as_text(value)) for name, value in fields],
                protocols=protocols,
                autoping=False,
                autoclose=False,
                max_msg_size=0,
                compress=0,
            )
        except aiohttp.WSServerHandshakeError:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _mapped(error) from error

    async def close(self) -> None:
        await self._session.close()


class _HttpStream:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        fields = Fields((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers)
        self.response = Response(response.status, fields, response.reason or "")
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
    return "content-length" in fields or (fields.get("transfer-encoding") or "").lower() == "chunked"


def _is_chunked(body: Body, fields: Fields) -> bool:
    return isinstance(body, AsyncIterator) and "content-length" not in fields


def _as_text(value: str) -> str:
    # The client library writes UTF-8. The listener has refused what is not, so the wire gets the bytes it came with.
    return value.encode("latin-1").decode("utf-8")


def _mapped(error: Exception) -> UpstreamError:
    """RFC 9209 2.3 names. Whether the request can have had an effect decides if a write purges."""
    if isinstance(error, aiohttp.ServerTimeoutError) and "connection" in str(error).lower():
        return UpstreamError("connection_timeout", status=504, delivered=False)
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
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return UpstreamError("connection_terminated")
    return UpstreamError("http_protocol_error")


def _kind_of_body_error(error: Exception) -> str:
    return "connection_read_timeout" if isinstance(error, TimeoutError) else "http_response_incomplete"
