"""Is it alive, ready, how is its store, what are its figures? What orchestrators and scrapers ask."""

from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from proxy.addresses import Address
from proxy.admin.access import Role
from proxy.admin.asked import Asked
from proxy.admin.endpoint import Endpoint
from proxy.admin.health import Health
from proxy.admin.problems import answer
from proxy.errors import StoreError


class Probes:
    """`inside`: the port listens on loopback, so that whoever asks is on this machine (or in this pod)."""

    def __init__(self, health: Health, exposition: Callable[[], Awaitable[bytes]], *, inside: bool) -> None:
        self._health = health
        self._exposition = exposition
        self._inside = inside

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint("GET", "/livez", self.livez, "Alive. Never asks the store.")
        yield Endpoint(
            "GET", "/readyz", self.readyz, "Ready; with details for who asks on this machine.",
            answers={200: "Ready, perhaps degraded.", 503: "Draining."},
        )  # fmt: skip
        yield Endpoint(
            "GET", "/api/health", self.store_health, "The store's PING.",
            answers={200: "It answers.", 500: "It does not."},
        )  # fmt: skip
        yield Endpoint(
            "GET", "/metrics", self.exposition, "Prometheus metrics.", () if self._inside else (Role.VIEWER,)
        )

    async def livez(self, _: Asked) -> web.Response:
        """Alive: it answers. Never asks the store: an outage there must not make an orchestrator kill the fleet."""
        return answer({"status": "alive"})

    async def readyz(self, asked: Asked) -> web.Response:
        status = 200 if self._health.ready() else 503
        if self._inside and _is_here(asked.actor.peer):
            return answer(await self._health.details(), status=status)
        await self._health.store()
        return answer({"status": self._health.word()}, status=status)

    async def store_health(self, asked: Asked) -> web.Response:
        """The guide's health check: `{"status": "healthy", "result": "PONG"}`, or 500 with the error."""
        store = await self._health.store()
        if not isinstance(store, StoreError):
            return answer({"status": "healthy", "result": store})
        said = str(store) if self._inside else "the store does not answer"
        return answer({"status": "unhealthy", "error": said}, status=500)

    async def exposition(self, _: Asked) -> web.Response:
        return web.Response(
            body=await self._exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        )


def _is_here(peer: str) -> bool:
    return Address(peer, 0).loopback
