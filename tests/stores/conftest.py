"""Servers that live as long as the test run: started by the first test that asks, empty for each."""

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from proxy.dev.server import running
from tests import servers


@pytest.fixture(scope="session")
def redis_at():
    if servers.REDIS is None:
        pytest.skip(servers.NO_REDIS)
    with servers.running(servers.redis_server(tls=servers.authority(), acl=True)) as server:
        yield server


@pytest.fixture(scope="session")
def shipped_at():
    """With the users of deploy/redis/users.acl."""
    if servers.REDIS is None:
        pytest.skip(servers.NO_REDIS)
    with servers.running(servers.shipped_server()) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_at():
    with servers.running(servers.valkey_server()) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_at():
    if servers.REDIS is None:
        pytest.skip(servers.NO_REDIS)
    with servers.running_cluster() as cluster:
        yield cluster


@dataclass(frozen=True)
class EmulatedUpstash:
    """The emulator in a thread of its own, over a real server."""

    url: str
    token: str
    server: servers.Server

    def flush(self) -> None:
        self.server.flush()

    def fast_forward(self, seconds: float) -> None:
        self.server.fast_forward(seconds)


@pytest.fixture(scope="session")
def upstash_at(valkey_at):
    token = "emulator-token"
    urls: queue.Queue[str] = queue.Queue()
    stops: queue.Queue[Callable[[], object]] = queue.Queue()

    async def run() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        stops.put(lambda: loop.call_soon_threadsafe(stop.set))
        async with running("127.0.0.1", 0, f"127.0.0.1:{valkey_at.port}", token) as url:
            urls.put(url)
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield EmulatedUpstash(urls.get(timeout=10), token, valkey_at)
    finally:
        stops.get(timeout=10)()
        thread.join(10)
