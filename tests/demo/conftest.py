"""A small portal on a loopback socket, and its members' headers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.demo import api
from proxy.demo.data import Size, fill
from proxy.demo.database import Database
from proxy.demo.issuer import Issuer

SMALL = Size(companies=12, jobs=60, applications=400)
LONG_AGO = 1_700_000_000.0

Headers = dict[str, str]
Login = Callable[..., Awaitable[Headers]]


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
async def portal(key: rsa.RSAPrivateKey) -> AsyncIterator[TestClient]:
    database = Database(lambda connection: fill(connection, SMALL, now=LONG_AGO))
    app = api.make(database, Issuer("http://portal.test", key), tick=0.02)
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
def login(portal: TestClient) -> Login:
    async def headers(org: str, user: str = "", **more: Any) -> Headers:
        async with portal.post("/oauth/token", json={"org": org, "user": user, **more}) as response:
            assert response.status == 200, await response.text()
            return {"Authorization": f"Bearer {(await response.json())['access_token']}"}

    return headers


@pytest.fixture
async def acme(login: Login) -> Headers:
    return await login("org_acme")


@pytest.fixture
async def globex(login: Login) -> Headers:
    return await login("org_globex")
