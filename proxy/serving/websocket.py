"""How does a WebSocket reach the upstream? Both handshakes are made, then messages cross unchanged."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import aiohttp
from aiohttp import WSMsgType, web
from aiohttp.http import SERVER_SOFTWARE

from proxy.errors import UpstreamError
from proxy.policy import forwarding
from proxy.policy.fields import end_to_end, list_members
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.serving.problem import problem, upstream_problem
from proxy.serving.reply import VIA, Reply
from proxy.serving.upstream import MAX_MESSAGE, HttpUpstream

CLOSE_WAIT = 5.0  # seconds for a client to answer a close
_OF_THE_BODY = frozenset({"content-length", "content-type", "content-encoding", "cache-control", "etag"})
_OUTCOME = Outcome(Reason.UPGRADE, forward=Forward.BYPASS)


class WebSocketBridge:
    """Bridges WebSockets to one upstream. Messages, subprotocols and close codes cross; compression is per hop."""

    def __init__(self, upstream: HttpUpstream, finished: Callable[[Request, Outcome], None]) -> None:
        self._upstream = upstream
        self._finished = finished
        self._open: set[web.WebSocketResponse] = set()

    async def __call__(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse | Reply:
        offered = list_members(request.fields.get("sec-websocket-protocol") or "")
        if not _Client(offered).can_prepare(incoming).ok:
            return _refused(400, Fields(), "The WebSocket handshake is not valid.")
        try:
            upstream = await self._upstream.open_websocket(request.target, _handshake(request), offered)
        except aiohttp.WSServerHandshakeError as refusal:
            return _declined(refusal)
        except UpstreamError as failure:
            fields, body = upstream_problem(failure)
            return Reply.own(failure.status, fields, body, replace(_OUTCOME, reason=Reason.UPSTREAM_FAILED))
        client = _Client([upstream.protocol] if upstream.protocol else [], upstream._response.raw_headers)
        try:
            await client.prepare(incoming)
            self._finished(request, _OUTCOME)
            self._open.add(client)
            await _both_ways(client, upstream)
        finally:
            self._open.discard(client)
            await upstream.close()
        return client

    async def close(self) -> None:
        """Tell the clients that we are going away (RFC 6455 7.4.1)."""
        if self._open:
            await asyncio.gather(*(client.close(code=aiohttp.WSCloseCode.GOING_AWAY) for client in self._open))


class _Client(web.WebSocketResponse):
    """The client's side, whose 101 adds nothing to what the upstream's had but who passed it on."""

    def __init__(self, protocols: list[str], head: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(
            protocols=protocols, autoping=False, autoclose=False, max_msg_size=MAX_MESSAGE, compress=False,
            timeout=CLOSE_WAIT,
        )  # fmt: skip
        for name, value in _of_the_upstream(head):
            self.headers.add(name, value)
        self.headers.add("Cache-Status", _OUTCOME.cache_status())
        self.headers.add("Via", VIA)

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        if self.headers.get("Server") == SERVER_SOFTWARE:
            del self.headers["Server"]


async def _both_ways(client: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
    """Until either side closes; then both are closed with the same code and reason."""
    directions = {asyncio.ensure_future(_pump(client, upstream)), asyncio.ensure_future(_pump(upstream, client))}
    try:
        done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        code, reason = done.pop().result()
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
    await asyncio.gather(client.close(code=code, message=reason), upstream.close(code=code, message=reason))


WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: WebSocket, target: WebSocket) -> tuple[int, bytes]:
    """Pass messages on; with which code and reason it ended."""
    try:
        while True:
            message = await source.receive()
            if message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.PING:
                await target.ping(message.data)
            elif message.type is WSMsgType.PONG:
                await target.pong(message.data)
            elif message.type is WSMsgType.CLOSE:
                return message.data or aiohttp.WSCloseCode.OK, (message.extra or "").encode()
            else:
                return aiohttp.WSCloseCode.GOING_AWAY, b""
    except ConnectionError:
        return aiohttp.WSCloseCode.GOING_AWAY, b""


def _handshake(request: Request) -> Fields:
    """The fields of the upstream's handshake: ours replace the client's, which were for this hop."""
    fields = forwarding.passing(request)
    return Fields(pair for pair in fields if not pair[0].lower().startswith("sec-websocket-"))


def _declined(refusal: aiohttp.WSServerHandshakeError) -> Reply:
    """The upstream's own no, with its head: the body stays behind, the client library does not read it."""
    pairs = refusal.headers.items() if refusal.headers is not None else ()
    fields = end_to_end(Fields(pairs)).without(_OF_THE_BODY)
    status = refusal.status if refusal.status >= 300 else 502  # a 200 to a handshake is not the client's answer
    return _refused(status, fields, "The upstream did not accept the WebSocket.")


def _refused(status: int, fields: Fields, detail: str) -> Reply:
    own, body = problem(status, detail)
    return Reply.own(status, Fields((*fields, *own)), body, _OUTCOME)


def _of_the_upstream(raw: tuple[tuple[bytes, bytes], ...]) -> Fields:
    """What of its 101 is for the client: the handshake's own fields and the date are made anew."""
    fields = end_to_end(Fields((name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in raw))
    return Fields(
        pair for pair in fields if not pair[0].lower().startswith("sec-websocket-") and pair[0].lower() != "date"
    )
