"""A clock that only moves when told, an issuer that keeps to it, and its key set, known already, or over loopback."""

from collections.abc import AsyncIterator

import pytest

from proxy.identity.jwks import Jwks
from tests.identity.clock import Clock, KeySource
from tests.issuer import Issuer, JwksServer, serve_jwks


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> Issuer:
    return Issuer(clock=clock)


@pytest.fixture
def source(issuer: Issuer) -> KeySource:
    return KeySource(issuer)


@pytest.fixture
async def jwks(source: KeySource, clock: Clock) -> Jwks:
    jwks = Jwks("https://issuer.test/jwks", source, clock)
    await jwks.wait_for("k1")
    return jwks


@pytest.fixture
async def jwks_server(issuer: Issuer) -> AsyncIterator[JwksServer]:
    async with serve_jwks(issuer) as server:
        yield server
