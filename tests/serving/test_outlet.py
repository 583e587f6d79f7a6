"""Frames on their way to one client: straight to its connection, and whether it has got them."""

import asyncio

import pytest

from proxy.events.frames import Frame
from proxy.serving.outlet import Outlet
from tests import wire

FRAME = Frame.of(b"data: 1\n\n")


@pytest.fixture
async def pair():
    """The transport of a server's side, and its client."""
    accepted = asyncio.get_running_loop().create_future()

    class Side(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.set_result(transport)

    server = await asyncio.get_running_loop().create_server(Side, "127.0.0.1", 0)
    client = await wire.connect(server.sockets[0].getsockname()[1], receive_buffer=4096)
    transport = await accepted
    yield transport, client
    transport.abort()
    await client.close()
    server.close()


@pytest.mark.parametrize(("chunked", "expected"), [(True, FRAME.chunk), (False, FRAME.plain)])
async def test_a_frame_is_written_as_the_client_reads_it(pair, chunked, expected):
    transport, client = pair
    Outlet(transport, chunked=chunked).write(FRAME)
    assert await client.reader.readexactly(len(expected)) == expected


async def test_what_has_arrived_is_taken_and_what_waits_is_not(pair):
    transport, client = pair
    outlet = Outlet(transport, chunked=False)
    outlet.write(FRAME)
    await client.reader.readexactly(len(FRAME.plain))
    await wire.until(lambda: outlet.taken)
    client.writer.transport.pause_reading()
    while not outlet.unsent:
        outlet.write(Frame.of(b"x" * 65536))
    assert not outlet.taken
    client.writer.transport.resume_reading()


async def test_a_client_that_is_gone_takes_nothing_and_hurts_nobody(pair):
    transport, _ = pair
    outlet = Outlet(transport, chunked=True)
    transport.abort()
    outlet.write(FRAME)
    await asyncio.sleep(0)
    assert not outlet.taken
