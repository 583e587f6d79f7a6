"""Sidecars that count, before a portal that answers what its path says; and what their reports say of it."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.app import Running
from tests import wire
from tests.serving.world import unsigned

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 0s, negative: {404: 30s}}
features:
  jobs:
    ttl: 15m
    read:
      - GET /api/jobs
      - route: GET /api/jobs/{job-id}
        count: {name: job-views, by: job-id, unique: user}
    write:
      - route: POST /api/jobs/{job-id}/applications
        count: {name: applications, by: job-id}
  guarded:
    ttl: 15m
    require: [read:guarded]
    read: [{route: 'GET /api/guarded/{id}', count: {name: guarded, by: id}}]
    write: []
  uncached:
    ttl: 0s
    read: [{route: GET /api/uncached, count: {name: uncached}}]
    write: []
  open:
    ttl: 15m
    scope: public
    read: [{route: 'GET /open/{page}', count: {name: pages, by: page, unique: user}}]
    write: []
  strict:
    ttl: 15m
    consistency: strict
    read: [{route: GET /api/strict, count: {name: strict}}]
    write: []
"""
HOST = "portal.test"


def bearer(org: str = "org_a", sub: str = "u1", **claims: Any) -> str:
    return f"Authorization: Bearer {unsigned(org, sub, **claims)}"


async def portal(request: wire.Message, peer: wire.Peer) -> None:
    """`/api/jobs/404` is answered with 404; everything else with a validator."""
    path = request.target.decode().partition("?")[0]
    last = path.rpartition("/")[2]
    status = f"{last} Something" if len(last) == 3 and last.isdigit() and int(last) >= 200 else "200 OK"
    kind = "Content-Type: application/json"
    await peer.send(wire.response(b'{"ok":true}', kind, 'ETag: "v1"', "Date: " + DATE, status=status))


DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


@dataclass
class Scene:
    upstream: wire.Upstream
    sidecars: list[Running]

    @property
    def port(self) -> int:
        return self.sidecars[0].data_port

    async def report(self, name: str, query: str = "", *, token: str | None = None, port: int | None = None) -> Any:
        answer = await wire.fetch(port or self.port, f"/.sidecache/reports/{name}{query}", token or bearer(), host=HOST)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    async def counts(self, name: str, query: str = "", *, token: str | None = None) -> int:
        found: int = (await self.report(name, query, token=token))["count"]
        return found

    async def reaches(self, count: int, name: str = "job-views", query: str = "", **more: Any) -> None:
        """Until the report says so much; what was counted too much would be seen after it."""

        async def said() -> bool:
            return await self.counts(name, query, **more) >= count

        await wire.until(said)
        assert await self.counts(name, query, **more) == count


async def asked(port: int, path: str, *headers: str, times: int = 1, method: str = "GET", **more: Any) -> list[int]:
    """On one connection; the statuses."""
    async with await wire.connect(port) as client:
        return [(await client.ask(path, *headers, method=method, host=HOST, **more)).status for _ in range(times)]


@asynccontextmanager
async def scene(folder: Path, *environs: dict[str, str], rules: str = RULES) -> AsyncIterator[Scene]:
    """One sidecar for each of these environments."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(wire.upstream(portal))
        sidecars = []
        for number, environ in enumerate(environs or ({},)):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            environ = {"SIDECACHE_HOSTS": HOST, **environ}
            sidecars.append(await stack.enter_async_context(wire.sidecar(upstream.port, own, rules, **environ)))
        yield Scene(upstream, sidecars)
