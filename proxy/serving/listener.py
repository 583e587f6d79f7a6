"""How do bytes become requests, and replies bytes? The server side of aiohttp, and nothing that decides."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from proxy.errors import SidecacheError, UpstreamError
from proxy.policy.message import Request
from proxy.serving.accepting import Share, SharedSite
from proxy.serving.connection import Interim
from proxy.serving.forwarding import Forwarding
from proxy.serving.heads import request_of
from proxy.serving.hits import Hits, IsOwn, RequestOf
from proxy.serving.interim import PATIENCE, InterimResponses
from proxy.serving.misses import Misses
from proxy.serving.outgoing import Limits, reset
from proxy.serving.outlet import Outlet
from proxy.serving.protocol import LateBodyError, Server, ServerProtocol
from proxy.serving.reply import Reply
from proxy.serving.reserved import Page
from proxy.serving.response import HttpResponse, refused
from proxy.serving.seeking import Newest, Seeking
from proxy.serving.sending import send
from proxy.serving.turns import Turn
from proxy.serving.under_way import UnderWay
from proxy.serving.upstream import Body

BACKLOG = 1024
_READ_BUFFER = 256 << 10
_LOOK = 0.01  # seconds between two looks at what clients do
_LAST = 1.0  # seconds for handlers to end that were cut off when the drain time was over

_LIMITS = Limits()

Handle = Callable[[Request, Body, Interim], Awaitable[Reply]]
Reserved = Callable[[str], Reply | None]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def require_c_parser() -> None:
    """aiohttp's pure-Python parser is laxer about framing than its C one (DESIGN 3.12)."""
    if HttpRequestParser is HttpRequestParserPy:
        raise SidecacheError(
            "aiohttp runs without its C parser; install a wheel that has it and unset AIOHTTP_NO_EXTENSIONS"
        )


def _no_page(path: str) -> None:
    return None


class Bridge(Protocol):
    """Takes over the connections that change to another protocol."""

    def takes(self, request: Request) -> bool: ...

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
        upgrade: Bridge,
        hits: Callable[[RequestOf, IsOwn], Hits] | None = None,
        forwarding: Callable[[RequestOf, UnderWay], Forwarding] | None = None,
        misses: Callable[[], Misses] | None = None,
        page: Callable[[str], Page | None] = _no_page,
        limits: Limits = _LIMITS,
        patience: float = PATIENCE,
    ) -> None:
        self._handle = handle
        self._reserved = reserved
        self._page = page
        self._trusted = trusted_peers
        self._finished = finished
        self._upgrade = upgrade
        self._hits = hits(self._parsed, lambda path: reserved(path) is not None) if hits is not None else None
        self._runner: web.ServerRunner | None = None
        self._drain = drain
        self._limits = limits
        self._patience = patience
        self._leaving = False
        self._under_way = UnderWay()
        self._newest = Newest()
        self._forwarding = forwarding(self._parsed, self._under_way) if forwarding is not None else None
        self._misses = misses() if misses is not None else None
        self._seeking = Seeking(self._hits, self._misses, self._newest, self._under_way, self._take_turn, finished)
        self.port = 0

    async def open(
        self, host: str, port: int, shared: Sequence[socket.socket] = (), share: Share | None = None
    ) -> None:
        """Listen, on sockets that other processes have as well if there are any. OSError: the address is not ours."""
        server = Server(
            self._answer, limits=self._limits, hits=self._hits, forwarding=self._forwarding,
            trusts=self._is_trusted, turns=self._turn, seeks=self._seeking.seek, access_log=None, auto_decompress=False,
            read_bufsize=_READ_BUFFER,
        )  # fmt: skip
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_LAST)
        await self._runner.setup()
        sites: list[web.BaseSite] = [SharedSite(self._runner, each, share) for each in shared]
        for site in sites or [web.TCPSite(self._runner, host, port, backlog=BACKLOG)]:
            await site.start()
        self.port = shared[0].getsockname()[1] if shared else self._runner.addresses[0][1]

    @property
    def connections(self) -> int:
        return len(self._runner.server.connections) if self._runner and self._runner.server else 0

    @property
    def hits(self) -> Hits | None:
        return self._hits

    @property
    def misses(self) -> Misses | None:
        return self._misses

    @property
    def forwarding(self) -> Forwarding | None:
        return self._forwarding

    def leaving(self) -> None:
        """From now on each response ends its connection, so that clients come back elsewhere."""
        self._leaving = self._seeking.leaving = True
        if self._hits is not None:
            self._hits.close()
        if self._forwarding is not None:
            self._forwarding.close()

    async def close(self) -> None:
        """Stop accepting, let what is under way finish for at most `drain` seconds, then close."""
        if self._runner is None:
            return
        for site in self._runner.sites:
            await site.stop()
        self.leaving()
        await self._upgrade.close()
        # aiohttp would stop to read at once, and with it the uploads that are under way
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain):
                await self._under_way.ended()
                await self._asked()
                await self._under_way.ended()
        await self._runner.cleanup()

    async def _asked(self) -> None:
        """Give connections that were made in the last moment, or on which a head is arriving, the time to ask."""
        server = self._runner.server if self._runner is not None else None
        if server is None:
            return  # it was closed before
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                while any(map(_is_asking, server.connections)):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK)
        await asyncio.sleep(_LOOK)  # what was asked just now is under way by then

    async def _answer(self, incoming: web.BaseRequest) -> web.StreamResponse:
        protocol = incoming.protocol
        assert isinstance(protocol, ServerProtocol)
        await protocol.written()
        request = self._request(incoming)
        if request is None:
            return await self._send(incoming, refused(400))
        page = self._page(request.path)
        if page is not None:
            return await self._answer_page(incoming, request, page)
        own = self._reserved(request.path)
        if own is not None:
            return await self._send(incoming, own)
        if request.method in ("CONNECT", "TRACE"):
            return await self._send(incoming, refused(501))
        if not _may_expect(request.fields.get("expect")):
            return await self._send(incoming, refused(417))
        if self._upgrade.takes(request):
            upgraded = await self._upgrade(incoming, request)
            return await self._send(incoming, upgraded) if isinstance(upgraded, Reply) else upgraded
        self._under_way.begin()
        try:
            return await self._exchanged(incoming, request)
        finally:
            self._under_way.end()

    async def _answer_page(self, incoming: web.BaseRequest, request: Request, page: Page) -> web.StreamResponse:
        body = _IncomingBody(incoming.content) if request.has_body else None
        self._under_way.begin()
        try:
            reply = await page(request, body.chunks() if body is not None else None)
        except ConnectionResetError:
            assert body is not None, "nothing else is read here"
            reply = refused(body.broken or 400)
        finally:
            self._under_way.end()
        return await self._send(incoming, reply)

    def _turn(self, protocol: ServerProtocol, message: RawRequestMessage, peer: str, trusted: bool) -> Turn | None:
        """The answer to a request of which `_answer` would make nothing else first. None: it may."""
        if message.should_close or message.upgrade or message.chunked or message.version != HttpVersion11:
            return None
        request = self._parsed(message, peer, trusted)
        self._newest.parsed = None
        if request is None:
            return None
        interim = InterimResponses(protocol, speaks=True, awaits=False)
        # called here, and only waited for in the turn: what `Hits` has decided about this request counts still
        return self._take_turn(protocol, request, interim, self._handle(request, None, interim))

    async def _take_turn(
        self, protocol: ServerProtocol, request: Request, interim: InterimResponses, handled: Awaitable[Reply],
        started: float | None = None,
    ) -> bool:  # fmt: skip
        """What `_answer` does, for a request without a body."""
        self._under_way.begin()
        reply: Reply | None = None
        try:
            if started is None:
                started = asyncio.get_running_loop().time()
            try:
                reply = await handled
            finally:
                interim.end()
            self._finished(request, reply, asyncio.get_running_loop().time() - started)
            return await send(protocol, request.method, reply, closing=self._leaving or reply.last)
        except Exception as error:
            protocol.logger.error("a request failed", exc_info=error)
            if reply is None:
                await send(protocol, request.method, refused(500), closing=True)
            else:
                reset(protocol.transport)
            raise
        finally:
            self._under_way.end()

    async def _exchanged(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
        started = asyncio.get_running_loop().time()
        body = _IncomingBody(incoming.content) if request.has_body else None
        interim = self._interim(incoming, request)
        try:
            reply = await self._handle(request, body.chunks() if body is not None else None, interim)
        finally:
            interim.end()
        if interim.awaited:
            reply.last = True  # whether the body comes now or another request, nobody can tell (RFC 9110 10.1.1)
        if body is not None and body.broken is not None:
            reply.close()
            reply = refused(body.broken)  # what the upstream made of it is not the upstream's fault
        self._finished(request, reply, asyncio.get_running_loop().time() - started)
        return await self._send(incoming, reply)

    def _interim(self, incoming: web.BaseRequest, request: Request) -> InterimResponses:
        protocol = incoming.protocol
        assert isinstance(protocol, ServerProtocol)
        return InterimResponses(
            protocol,
            speaks=incoming.version >= HttpVersion11,
            awaits=request.has_body and "expect" in request.fields,
            patience=self._patience,
        )

    async def _send(self, incoming: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Write the reply at the client's pace. An end the upstream did not send never looks complete to the client."""
        response = HttpResponse(reply)
        protocol = incoming.protocol
        assert isinstance(protocol, ServerProtocol)
        if self._leaving or reply.last or protocol.is_upgrading:
            response.force_close()
        head: asyncio.Handle | None = None
        try:
            await response.prepare(incoming)
            if reply.lasting is not None or not isinstance(reply.body, bytes):
                protocol.on_lost = reply.close  # a client that leaves while nothing is sent is noticed too
            if reply.lasting is not None:
                await _held(incoming, response, reply.lasting)
            elif not isinstance(reply.body, bytes):
                # together with what is here of the body; but its first bytes may be a long time in coming
                head = asyncio.get_running_loop().call_soon(response.send_head)
                if not response.bodiless:
                    async for chunk in reply.body:
                        await response.write(chunk)
            await response.write_eof()
            if reply.last:
                protocol.take_no_more(RequestPayloadError("nobody wants the rest"))
        except UpstreamError:
            reset(incoming.transport)
        except ConnectionError:
            pass  # the client is gone: nobody is left to answer
        finally:
            if head is not None:
                head.cancel()
            protocol.on_lost = None
            reply.close()
        return response

    def _request(self, incoming: web.BaseRequest) -> Request | None:
        peer = incoming.remote or ""
        return request_of(incoming._message, peer, self._is_trusted(peer), incoming.body_exists)

    def _parsed(self, message: RawRequestMessage, peer: str, trusted: bool) -> Request | None:
        """A bodiless request of which `_answer` would make nothing else first. All that may answer it ask here."""
        newest = self._newest.parsed
        if newest is not None and newest[0] is message:
            return newest[1]
        request = request_of(message, peer, trusted, has_body=False)
        if (
            request is None
            or request.method not in ("GET", "HEAD", "OPTIONS")
            or "expect" in request.fields
            or self._reserved(request.path) is not None
            or self._upgrade.takes(request)
        ):
            request = None
        self._newest.parsed = (message, request)
        return request

    def _is_trusted(self, peer: str) -> bool:
        if not self._trusted:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


async def _held(
    incoming: web.BaseRequest, response: HttpResponse, lasting: Callable[[Outlet], Awaitable[None]]
) -> None:
    """Send the head, and leave the connection to whoever writes until they are done."""
    response.send_head()
    if incoming.transport is not None and not response.bodiless:
        await lasting(Outlet(incoming.transport, chunked=incoming.version >= HttpVersion11))


class _IncomingBody:
    """A request's body. `broken`: the status that its client gets who broke off, framed it wrongly or was too slow."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self.broken: int | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._content.iter_any():
                yield chunk
        except (RequestPayloadError, HttpProcessingError, ConnectionError) as error:
            self.broken = 408 if isinstance(error, LateBodyError) else 400
            raise ConnectionResetError("the request's body did not arrive whole") from error


def _is_asking(connection: web.RequestHandler) -> bool:
    assert isinstance(connection, ServerProtocol)
    return connection.is_asking


def _may_expect(expect: str | None) -> bool:
    return expect is None or expect.lower() == "100-continue"
