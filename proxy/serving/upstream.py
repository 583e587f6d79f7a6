"""How is the upstream asked? One small protocol (head, body stream); the client behind it adds nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

from proxy.errors import UpstreamError
from proxy.policy.message import IDEMPOTENT_METHODS, Request, Response
from proxy.serving.connection import Connection, Exchange, Interim, Receiver
from proxy.serving.dialing import Origin, dial
from proxy.serving.pool import Pool

Body = bytes | AsyncIterator[bytes] | None


class Stream(Protocol):
    """A response whose head has arrived and whose body is still on its way."""

    @property
    def response(self) -> Response: ...

    @property
    def framed(self) -> bool:
        """Its end is known: a length or chunks, not the end of the connection."""

    @property
    def length(self) -> int | None:
        """Of the body, when the head tells it."""

    def whole(self) -> bytes | None:
        """The whole body, where it is here already: `chunks` has nothing left then. None: read it there."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. UpstreamError when it ends early: what was read is then not the whole body."""

    def close(self) -> None:
        """Let go of the connection; it is reused only when the whole body was read."""


class Upstream(Protocol):
    """Where requests go."""

    async def fetch(self, request: Request, body: Body, *, interim: Interim | None = None) -> Stream:
        """Send the request, return when the response's head is here. UpstreamError (502 or 504) otherwise.

        `interim` gets each 1xx response that comes before it, except 101.
        """


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first byte of a response, between two reads."""

    connect: float = 1.0
    first_byte: float = 30.0
    idle: float = 60.0


@dataclass(frozen=True, slots=True)
class Switched:
    """The upstream's 101: from here on its transport, silent until it is resumed, speaks another protocol."""

    response: Response
    transport: asyncio.Transport
    rest: bytes  # what came behind the head
    close: Callable[[], None]


class HttpUpstream:
    """One upstream over `http://`, `https://` (verified) or `unix:` with pooled keep-alive connections."""

    def __init__(
        self, url: str, timeouts: Timeouts, *, max_connections: int = 512, tls: SSLContext | None = None
    ) -> None:
        self._timeouts = timeouts
        self._origin = Origin.of(url, tls)
        self._requests = Pool(self._dial, max_connections)
        # with a limit of their own: WebSockets stay for hours and must not keep requests from connecting
        self._upgrades = Pool(self._dial, max_connections)

    async def fetch(self, request: Request, body: Body, *, interim: Interim | None = None) -> Stream:
        exchange, connection = await self._answered(self._requests, request, body, interim)
        if exchange.response.status == 101:  # nobody asked for it
            connection.abandon(exchange)
            raise UpstreamError("http_protocol_error")
        return exchange

    async def switch(self, request: Request, *, interim: Interim | None = None) -> Stream | Switched:
        """Send a request with an Upgrade field. Its ordinary response when the upstream does not switch."""
        exchange, connection = await self._answered(self._upgrades, request, None, interim)
        response = exchange.response
        if response.status != 101:
            return exchange
        transport, rest = connection.switch()
        return Switched(response, transport, rest, connection.end)

    @property
    def timeouts(self) -> Timeouts:
        return self._timeouts

    def head_of(self, request: Request) -> bytes:
        """The bytes of a request without a body. UpstreamError when it has none."""
        return _head_of(request, None, self._origin)

    def idle(self) -> Connection | None:
        """A connection that waits for a request; whoever takes it sends one at once."""
        return self._requests.take_now()

    async def fresh(self, until: float) -> Connection:
        """One for a request that another had not taken. UpstreamError when there is none by then."""
        return await _taken(self._requests, until, begun=True, fresh=True)

    async def close(self) -> None:
        self._requests.close()
        self._upgrades.close()

    async def _dial(self) -> Connection:
        return await dial(self._origin, self._timeouts.connect)

    async def _answered(
        self, pool: Pool, request: Request, body: Body, interim: Interim | None
    ) -> tuple[Exchange, Connection]:
        """The exchange whose final head is here. An idempotent request may be sent twice (RFC 9112 9.3.1)."""
        sending = _Sending(request, body, self._origin, self._timeouts, interim)
        # an idle one needs no time that had to be measured
        connection = await (pool.take() if pool.is_ready else _taken(pool, sending.until, begun=False))
        exchange = sending.on(connection)
        try:
            return await _head(exchange, connection)
        except UpstreamError as failure:
            if not sending.repeatable or not may_repeat(exchange, connection, failure):
                raise
        connection = await _taken(pool, sending.until, begun=True, fresh=True)
        return await _head(sending.on(connection), connection)


def may_repeat(exchange: Receiver, connection: Connection, failure: UpstreamError) -> bool:
    """Whether a connection that was used before was dead, rather than the upstream unwilling."""
    return not exchange.began and connection.used > 1 and failure.kind == "connection_terminated"


async def _taken(pool: Pool, until: float, *, begun: bool, fresh: bool = False) -> Connection:
    """`begun`: the request was sent on another one before."""
    try:
        async with asyncio.timeout_at(until):
            return await pool.take(fresh=fresh)
    except TimeoutError as error:
        if begun:
            raise UpstreamError("http_response_timeout", status=504) from error
        raise UpstreamError("connection_limit_reached", status=504, delivered=False) from error


async def _head(exchange: Exchange, connection: Connection) -> tuple[Exchange, Connection]:
    try:
        await exchange.answered()
    except BaseException:
        connection.abandon(exchange)
        raise
    return exchange, connection


class _Sending:
    """One request as bytes, ready to be sent on a connection."""

    def __init__(
        self, request: Request, body: Body, origin: Origin, timeouts: Timeouts, interim: Interim | None
    ) -> None:
        self._method = request.method
        self._body = body if isinstance(body, AsyncIterator) else None
        declared = request.fields.get("content-length")
        self._length = int(declared) if declared is not None else None
        self._bytes = _head_of(request, body, origin) + (body if isinstance(body, bytes) else b"")
        self._timeouts = timeouts
        self._interim = interim
        self.until = asyncio.get_running_loop().time() + timeouts.first_byte  # for the head of the response

    @property
    def repeatable(self) -> bool:
        return self._body is None and self._method in IDEMPOTENT_METHODS

    def on(self, connection: Connection) -> Exchange:
        def moved(last: bool) -> None:
            """As long as a body moves on, the upstream has time to answer."""
            if exchange.head is None:
                now = asyncio.get_running_loop().time()
                self.until = now + (self._timeouts.first_byte if last else self._timeouts.idle)
                exchange.expect_head(self.until)

        exchange = connection.ask(
            self._method, self._bytes, self._body, self._length,
            interim=self._interim, idle=self._timeouts.idle, moved=moved,
        )  # fmt: skip
        exchange.expect_head(self.until)
        return exchange


def _head_of(request: Request, body: Body, origin: Origin) -> bytes:
    """The head, field for field as it was given; only what frames the body is ours."""
    lines = [f"{request.method} {origin.prefix}{request.target} HTTP/1.1"]
    if "host" not in request.fields:  # from an HTTP/1.0 client
        lines.append(f"Host: {origin.authority}")
    length = request.fields.get("content-length")
    fields = request.fields
    if isinstance(body, bytes) and length != str(len(body)):
        fields = fields.with_field("Content-Length", str(len(body)))
    elif body is None and length not in (None, "0"):
        fields = fields.without(("content-length",))
    lines += [f"{name}: {value}" for name, value in fields.pairs]
    if isinstance(body, AsyncIterator) and length is None:
        lines.append("Transfer-Encoding: chunked")
    text = "\r\n".join(lines)
    try:
        head = text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise UpstreamError("http_request_error", delivered=False) from error
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise UpstreamError("http_request_error", delivered=False)  # a line break in a field begins another one
    return head + b"\r\n\r\n"
