"""One connection at a time, those with fewer first, and none is left behind when the socket closes."""

import asyncio
import socket

import pytest
from aiohttp import web

from proxy.serving.accepting import SharedSite


class Given:
    """A share as the test says."""

    def __init__(self) -> None:
        self.waits = False
        self.told: list[int] = []
        self.left = False

    def has(self, connections: int) -> None:
        self.told.append(connections)

    def leaves(self) -> None:
        self.left = True

    def is_before_others(self) -> bool:
        return self.waits


@pytest.fixture
async def runner():
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text="here")

    made = web.ServerRunner(web.Server(answer))
    await made.setup()
    yield made
    await made.cleanup()


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


async def asked(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(5):
        said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


@pytest.mark.parametrize("waits", [False, True])
async def test_connections_are_answered_whoevers_turn_it_is(runner, listening, waits):
    """Whose share it is not waits a moment, and then takes what nobody else has taken."""
    share = Given()
    share.waits = waits
    site = SharedSite(runner, listening, share)
    await site.start()
    port = listening.getsockname()[1]
    assert site.name == f"http://127.0.0.1:{port}"
    for said in await asyncio.gather(*(asked(port) for _ in range(5))):
        assert said.endswith(b"here")
    assert share.told[0] == 0
    assert max(share.told) >= 1


async def test_two_sites_share_the_connections_of_one_socket(runner, listening):
    other = listening.dup()
    for sock in (listening, other):
        await SharedSite(runner, sock).start()
    said = await asyncio.gather(*(asked(listening.getsockname()[1]) for _ in range(8)))
    assert all(each.endswith(b"here") for each in said)


async def test_what_waits_when_the_socket_closes_is_taken_still(runner, listening):
    share = Given()
    site = SharedSite(runner, listening, share)
    await site.start()
    with socket.create_connection(listening.getsockname(), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await site.stop()
        assert await asyncio.to_thread(client.recv, 4096)
    assert share.left
    assert listening.fileno() == -1
