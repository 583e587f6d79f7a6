"""Replicas in front of the demo portal, and people who log in, out, and get other roles."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from proxy.app import Running, running
from proxy.demo import api
from proxy.demo.data import Size, fill
from proxy.demo.database import Database
from proxy.demo.issuer import AUDIENCE, Issuer
from proxy.settings import load
from tests.issuer import rsa_key

RULES = """
version: 1
identity: {tenant: [jwt.org_id], user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 2m}
features:
  jobs:
    ttl: 15m
    require: [read:jobs]
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs]
  me:
    ttl: 15m
    scope: user
    read: [GET /api/me]
    write: []
  organization:
    ttl: 15m
    read: [GET /api/organizations/current]
    write: []
session:
  logout: [GET /auth/logout, POST /api/logout]
  role-change:
    - {route: "PUT|PATCH|DELETE /api/members/{user-id}/roles", user: path.user-id}
"""
BOUND = 1.0  # seconds (P10)
ROOM = 4.0  # times that, on a machine that others use as well


@dataclass
class Scene:
    session: aiohttp.ClientSession
    portal: str
    issuer: Issuer
    sidecars: list[Running]

    async def token(self, org: str = "org_acme", user: str = "", **more: Any) -> str:
        async with self.session.post(f"{self.portal}/oauth/token", json={"org": org, "user": user, **more}) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["access_token"])

    async def token_that(self, use: Callable[[str], Awaitable[Any]], is_good: Callable[[Any], bool], **who: str) -> str:
        """Log in until that was in a later second than what was revoked, as `use` shows."""
        async with asyncio.timeout(10):
            while not is_good(await use(token := await self.token(**who))):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return token

    async def ask(
        self, replica: int, path: str, token: str | None, *, method: str = "GET", headers: Mapping[str, str] = {},
        **more: Any,
    ) -> tuple[int, str, bytes, Mapping[str, str]]:  # fmt: skip
        """Status, Cache-Status, body, headers."""
        own = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with self.session.request(
            method, self.url(replica, path), headers={**own, **headers}, allow_redirects=False, **more
        ) as answer:
            return answer.status, answer.headers.get("Cache-Status", ""), await answer.read(), answer.headers

    def url(self, replica: int, path: str) -> str:
        return f"http://127.0.0.1:{self.sidecars[replica].data_port}{path}"

    def admin(self, replica: int, path: str) -> str:
        return f"http://127.0.0.1:{self.sidecars[replica].admin_port}{path}"

    async def hit(self, replica: int, path: str, token: str) -> bytes:
        """Ask until it is answered from the cache."""
        async with asyncio.timeout(10):
            while True:
                status, cache, body, _ = await self.ask(replica, path, token)
                assert status == 200, body
                if cache.startswith("sidecache; hit"):
                    return body
                await asyncio.sleep(0.01)

    async def seconds_until(self, replica: int, path: str, token: str, status: int = 401) -> float:
        """Until this replica answers so; a failure when it takes longer than the promise, with room."""
        began = time.monotonic()
        async with asyncio.timeout(BOUND * ROOM):
            while (await self.ask(replica, path, token))[0] != status:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return time.monotonic() - began


@asynccontextmanager
async def scene(folder: Path, *settings: Mapping[str, str], rules: str = RULES) -> AsyncIterator[Scene]:
    """One replica for each of the settings."""
    async with AsyncExitStack() as stack:
        database = Database(lambda connection: fill(connection, Size(companies=12, jobs=60, applications=100), now=0.0))
        issuer = Issuer("http://portal.test", rsa_key("portal"))
        runner = web.AppRunner(api.make(database, issuer, tick=0.02), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        portal = f"http://127.0.0.1:{runner.addresses[0][1]}"
        sidecars = []
        for number, each in enumerate(settings):
            file = folder / f"{number}.yaml"
            file.write_text(rules)
            loaded = load(
                {"SIDECACHE_DRAIN_S": "1", "SIDECACHE_AUDIT_LOG": "off", **each}, upstream=portal, rules=str(file),
                listen="127.0.0.1:0", admin="127.0.0.1:0", profile="development", jwt_issuer=issuer.name,
                jwt_audience=AUDIENCE, jwks_url=f"{portal}/.well-known/jwks.json",
            )  # fmt: skip
            sidecars.append(await stack.enter_async_context(running(loaded)))
        timeout = aiohttp.ClientTimeout(total=10)
        jar = aiohttp.DummyCookieJar()
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, cookie_jar=jar))
        yield Scene(session, portal, issuer, sidecars)
