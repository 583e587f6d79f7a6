"""A real sidecar between two tenants and a portal, over a real store with which something may be the matter."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from proxy.app import Running
from tests import servers, wire
from tests.chaos import Chaos
from tests.portal import HOST, RULES, TENANTS, History, Portal, User, is_vouched_for, item, traffic

SLACK = 2  # how much longer than promised something may take on a busy machine
BACK = 5.0  # seconds from the end of a fault to hits
LOST, FOUND = "store-unavailable", "store-available"


@dataclass
class Scene:
    sidecar: Running
    portal: Portal
    history: History
    logged: list[dict[str, Any]]
    folder: Path
    _quiet: Iterator[int] = field(default_factory=lambda: iter(range(1000, 2000)))

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in self.logged if line["event"] in names]

    async def hits_again(self, seconds: float = BACK) -> None:
        """Until both tenants have hits that the store vouches for."""
        user, number = User(self.history.ports), next(self._quiet)
        try:
            async with asyncio.timeout(seconds * SLACK):
                for tenant in TENANTS:
                    while not is_vouched_for(await self.history.read(user, 0, tenant, item(number))):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
        finally:
            await user.close()

    @asynccontextmanager
    async def used(self, **more: Any) -> AsyncIterator[None]:
        """Clients read and write all the while."""
        ending = False
        using = asyncio.ensure_future(
            traffic(self.history, users=6, operations=1_000_000, until=lambda: ending, **more)
        )
        try:
            yield
        finally:
            ending = True
            await using

    async def operations(self, count: int) -> None:
        """Until that many more have been answered."""
        goal = self.history.operations + count
        await wire.until(lambda: self.history.operations >= goal)

    async def logs(self, event: str, times: int = 1) -> None:
        await wire.until(lambda: len(self.events(event)) >= times)

    async def endures(
        self,
        begin: Callable[[], Any],
        end: Callable[[], Any],
        *,
        says: str,
        lost: str = LOST,
        found: str | None = FOUND,
    ) -> None:
        """The whole course of a fault, with clients that see nothing of it, told of once."""
        await self.hits_again()
        async with self.used():
            await self.operations(50)
            await _done(begin)
            await self.logs(lost)
            await self.operations(300)
            await _done(end)
            await self.hits_again()
            if found is not None:
                await self.logs(found)
            await self.operations(50)
        assert self.history.wrong == {}
        assert [line["event"] for line in self.events(lost, found or lost)] == [lost, found][: 2 if found else 1]
        (line,) = self.events(lost)
        assert re.search(says, line["error"]), line["error"]
        assert self.events("background-failed") == []


async def _done(step: Callable[[], Any]) -> None:
    result = step()
    if isinstance(result, Awaitable):
        await result


@asynccontextmanager
async def scene(folder: Path, rules: str = RULES, **environ: str) -> AsyncIterator[Scene]:
    portal = Portal()
    environ = {"SIDECACHE_HOSTS": HOST, "SIDECACHE_POOL_SIZE": "5", **environ}
    with structlog.testing.capture_logs() as logged:
        async with (
            wire.upstream(portal.answer) as upstream,
            wire.sidecar(upstream.port, folder, rules, **environ) as sidecar,
        ):
            yield Scene(sidecar, portal, History(portal, [sidecar.data_port]), logged, folder)


def reached_at(server: servers.Server, port: int | None = None, *, login: bool = True) -> dict[str, str]:
    """The settings for this server, or for what stands before it at another port."""
    access = server.access
    settings = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port or server.port)}
    if access.tls_ca is not None:
        settings |= {"REDIS_TLS": "true", "REDIS_TLS_CA": access.tls_ca}
    if access.username is not None and access.password is not None and login:
        settings |= {"REDIS_USERNAME": access.username, "REDIS_PASSWORD": access.password}
    return settings


@asynccontextmanager
async def before(server: servers.Server, folder: Path, **environ: str) -> AsyncIterator[tuple[Scene, Chaos]]:
    """A scene over this server, with chaos on the way."""
    async with (
        Chaos("127.0.0.1", server.port) as chaos,
        scene(folder, **reached_at(server, chaos.port), **environ) as made,
    ):
        yield made, chaos


@contextmanager
def plain() -> Iterator[servers.Server]:
    with servers.running(servers.redis_server()) as server:
        yield server
