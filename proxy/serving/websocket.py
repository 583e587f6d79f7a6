"""How does a WebSocket reach the upstream? Both handshakes are made, then messages cross unchanged."""

import asyncio
from collections.abc import Callable

import aiohttp
from aiohttp import WSMsgType, web

from proxy.errors import UpstreamError
from proxy.policy import forwarding
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.upstream import HttpUpstream

_OUTCOME = Outcome(Reason.UPGRADE, forward=Forward.BYPASS)


class WebSocketBridge:
    """Bridges WebSockets to one upstream. Messages, subprotocols and close codes cross; compression is per hop."""

    def __init__(self, upstream: HttpUpstream, finished: Callable[[Request, Outcome], None]) -> None:
        self._upstream = upstream
        self._finished = finished
        self._open: set[web.WebSocketResponse] = set()

    async def __call__(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
        offered = [name.strip() for name in (request.fields.get("sec-websocket-protocol") or "").split(",")]
        self._finished(request, _OUTCOME)
        try:
            upstream = await self._upstream.open_websocket(
                request.target, _handshake(request), [name for name in offered if name]
            )
        except aiohttp.WSServerHandshakeError as refusal:
            return _refused(refusal.status)
        except UpstreamError as failure:
            return _refused(failure.status)
        protocols = (upstream.protocol,) if upstream.protocol else ()
        client = web.WebSocketResponse(
            protocols=protocols, autoping=False, autoclose=False, max_msg_size=0, compress=False
        )
        client.headers["Cache-Status"] = _OUTCOME.cache_status()
        try:
            await client.prepare(incoming)
            self._open.add(client)
            await _both_ways(client, upstream)
        finally:
            self._open.discard(client)
            await upstream.close()
        return client

    async def close(self) -> None:
        """Tell the clients that we are going away (RFC 6455 7.4.1)."""
        for client in list(self._open):
            await client.close(code=aiohttp.WSCloseCode.GOING_AWAY)


async def _both_ways(client: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
    """Until either side closes; the other is then closed with the same code and reason."""
    directions = {asyncio.ensure_future(_pump(client, upstream)), asyncio.ensure_future(_pump(upstream, client))}
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: WebSocket, target: WebSocket) -> None:
    while True:
        message = await source.receive()
        try:
            if message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.PING:
                await target.ping(message.data)
            elif message.type is WSMsgType.PONG:
                await target.pong(message.data)
            elif message.type is WSMsgType.CLOSE:
                await target.close(code=message.data or aiohttp.WSCloseCode.OK, message=(message.extra or "").encode())
                await source.close(code=message.data or aiohttp.WSCloseCode.OK)
                return
            else:
                await target.close(code=aiohttp.WSCloseCode.GOING_AWAY)
                return
        except ConnectionError:
            return


def _handshake(request: Request) -> Fields:
    """The fields of the upstream's handshake: ours replace the client's, which were for this hop."""
    fields = forwarding.passing(request)
    return Fields(pair for pair in fields if not pair[0].lower().startswith("sec-websocket-"))


def _refused(status: int) -> web.StreamResponse:
    fields, body = problem(status, "The upstream did not accept the WebSocket.")
    return web.Response(status=status, headers=[*fields, ("Cache-Status", _OUTCOME.cache_status())], body=body)
