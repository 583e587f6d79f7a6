"""A clock that only moves when told, an issuer that keeps to it, and its key set from memory or over loopback."""

from collections.abc import AsyncIterator

import pytest

from tests.identity.clock import Clock
from tests.issuer import Issuer, JwksServer, serve_jwks


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> Issuer:
    return Issuer(clock=clock)


@pytest.fixture
async def jwks_server(issuer: Issuer) -> AsyncIterator[JwksServer]:
    async with serve_jwks(issuer) as server:
        yield server
