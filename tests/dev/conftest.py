"""A real server for all of these tests, and the emulator over it for each."""

import aiohttp
import pytest

from proxy.dev.server import running
from tests import servers

TOKEN = "emulator-token"


@pytest.fixture(scope="session")
def server():
    with servers.running(servers.valkey_server()) as running_server:
        yield running_server


@pytest.fixture
def address(server):
    server.flush()
    return f"127.0.0.1:{server.port}"


@pytest.fixture
async def url(address):
    async with running("127.0.0.1", 0, address, TOKEN) as made:
        yield made


@pytest.fixture
async def http(url):
    """Requests with the token."""
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield session
