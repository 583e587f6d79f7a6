"""What does the admin port answer? Health and metrics; on loopback only, and never for a foreign Host."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from proxy.addresses import Address
from proxy.admin.health import Health
from proxy.errors import StoreError

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(health: Health, exposition: Callable[[], Awaitable[bytes]]) -> web.Application:
    """The admin port's application."""
    api = _Api(health, exposition)
    app = web.Application(middlewares=[_own_host_only])
    app.router.add_get("/livez", api.livez)
    app.router.add_get("/readyz", api.readyz)
    app.router.add_get("/api/health", api.store_health)
    app.router.add_get("/metrics", api.exposition)
    return app


class _Api:
    def __init__(self, health: Health, exposition: Callable[[], Awaitable[bytes]]) -> None:
        self._health = health
        self._exposition = exposition

    async def livez(self, _: web.Request) -> web.Response:
        """Alive: it answers. Never asks the store: an outage there must not make an orchestrator kill the fleet."""
        return _json(200, {"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        return _json(200 if self._health.ready() else 503, await self._health.details())

    async def store_health(self, _: web.Request) -> web.Response:
        """The guide's health check: `{"status": "healthy", "result": "PONG"}`, or 500 with the error."""
        store = await self._health.store()
        if isinstance(store, StoreError):
            return _json(500, {"status": "unhealthy", "error": str(store)})
        return _json(200, {"status": "healthy", "result": store})

    async def exposition(self, _: web.Request) -> web.Response:
        return web.Response(
            body=await self._exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        )


@web.middleware
async def _own_host_only(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """A page in a browser can make a name of its own resolve to 127.0.0.1; its requests then carry that name, and
    those that it sends to the address itself carry the page's origin."""
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    if (host is not None and not _is_loopback(f"//{host}")) or (origin is not None and not _is_loopback(origin)):
        return _json(403, {"status": 403, "title": "Forbidden", "detail": "Ask for this port by its address."})
    return await handler(request)


def _is_loopback(url: str) -> bool:
    try:
        return Address(urlsplit(url).hostname or "", 0).loopback
    except ValueError:
        return False


def _json(status: int, value: object) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE),
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )
