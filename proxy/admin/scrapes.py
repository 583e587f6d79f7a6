"""What does a scraper outside the pod find? The metrics and livez on a port of their own, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from proxy.admin.problems import answer

KEPT = 1.0  # seconds for which one exposition is for all who ask: nobody needs a token here


class Scrapes:
    """`clock` is monotonic."""

    def __init__(self, exposition: Callable[[], Awaitable[bytes]], clock: Callable[[], float]) -> None:
        self._exposition = exposition
        self._clock = clock
        self._making = asyncio.Lock()
        self._made_at = float("-inf")
        self._text = b""

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/livez", self.livez)
        return app

    async def metrics(self, _: web.Request) -> web.Response:
        async with self._making:  # who asks meanwhile gets what is on its way
            if self._clock() - self._made_at >= KEPT:
                self._text = await self._exposition()
                self._made_at = self._clock()
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return web.Response(body=self._text, headers=headers)

    async def livez(self, _: web.Request) -> web.Response:
        return answer({"status": "alive"})
