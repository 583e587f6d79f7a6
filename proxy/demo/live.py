"""What happens right now? A WebSocket and a Server-Sent Events stream per organisation, with ticks and news."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from proxy.demo.access import authorize

_BACKLOG = 100  # events that a slow listener may have waiting; it then misses some

routes = web.RouteTableDef()

Event = dict[str, Any]


class Hub:
    """Hands each organisation's events to those of its members who listen. None ends a listener."""

    def __init__(self, tick: float) -> None:
        self.tick = tick
        self._listeners: dict[asyncio.Queue[Event | None], str] = {}

    def publish(self, org: str, event: Event) -> None:
        for queue, owner in self._listeners.items():
            if owner == org and not queue.full():
                queue.put_nowait(event)

    def close(self) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    @asynccontextmanager
    async def listen(self, org: str) -> AsyncIterator[AsyncIterator[Event]]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_BACKLOG)
        self._listeners[queue] = org
        try:
            yield self._events(queue)
        finally:
            del self._listeners[queue]

    async def _events(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        ticks = count(1)
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), self.tick)
            except TimeoutError:
                event = {"type": "tick", "number": next(ticks)}
            if event is None:
                return
            yield event


HUB = web.AppKey("HUB", Hub)


@routes.get("/api/live")
async def live(request: web.Request) -> web.WebSocketResponse:
    """`hello`, then ticks and the organisation's news; text comes back as `echo`, bytes as they are."""
    caller = authorize(request)
    socket = web.WebSocketResponse(heartbeat=30)
    await socket.prepare(request)
    await _send(socket, {"type": "hello", "org_id": caller.org})
    async with request.app[HUB].listen(caller.org) as events:
        sender = asyncio.create_task(_forward(events, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await _send(socket, {"type": "echo", "text": message.data})
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
    return socket


async def _forward(events: AsyncIterator[Event], socket: web.WebSocketResponse) -> None:
    async for event in events:
        await _send(socket, event)
    await socket.close(code=1001, message=b"going away")


async def _send(socket: web.WebSocketResponse, event: Event) -> None:
    await socket.send_str(orjson.dumps(event).decode())


@routes.get("/api/stream")
async def stream(request: web.Request) -> web.StreamResponse:
    """The same events as text/event-stream, until the client leaves."""
    caller = authorize(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    async with request.app[HUB].listen(caller.org) as events:
        await response.write(_frame(0, {"type": "hello", "org_id": caller.org}))
        number = 0
        async for event in events:
            number += 1
            try:
                await response.write(_frame(number, event))
            except ConnectionError:
                break
    return response


def _frame(number: int, event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event["type"].encode(), orjson.dumps(event))
