"""proxy.serving.tunnel: what goes in at one end comes out at the other, and so does the end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.serving.tunnel import Tunnel
from tests.serving.ends import End, joined
from tests.wire import LIMIT


class Silent(asyncio.Protocol):
    """Holds a transport until the tunnel takes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()


@asynccontextmanager
async def tunnel(to_client: bytes = b"", to_upstream: bytes = b"") -> AsyncIterator[tuple[End, End, Tunnel]]:
    async with joined(Silent) as (left, client), joined(Silent) as (right, upstream):
        made = Tunnel(left.transport, right.transport)
        made.start(to_client=to_client, to_upstream=to_upstream)
        yield client, upstream, made
        made.close()
        await asyncio.wait_for(made.closed(), LIMIT)


async def test_what_was_there_before_goes_first():
    async with tunnel(b"101", b"early") as (client, upstream, _):
        await upstream.send(b"late")
        assert await client.receive(7) == b"101late"
        assert await upstream.receive(5) == b"early"


async def test_bytes_cross_both_ways_unchanged():
    data = bytes(range(256)) * 1000
    async with tunnel() as (client, upstream, _):
        for one, other in ((client, upstream), (upstream, client)):
            sending = asyncio.create_task(one.send(data))
            assert await other.receive(len(data)) == data
            await sending


@pytest.mark.parametrize("first", ["client", "upstream"])
async def test_one_direction_ends_while_the_other_goes_on(first):
    async with tunnel() as (client, upstream, made):
        one, other = (client, upstream) if first == "client" else (upstream, client)
        await one.send(b"last")
        one.sock.shutdown(socket.SHUT_WR)
        assert await other.receive() == b"last"
        await other.send(b"not yet")
        assert await one.receive(7) == b"not yet"
        other.sock.shutdown(socket.SHUT_WR)
        assert await one.receive() == b""
        await asyncio.wait_for(made.closed(), LIMIT)


@pytest.mark.parametrize("first", ["client", "upstream"])
async def test_a_side_that_is_gone_takes_the_other_with_it(first):
    async with tunnel() as (client, upstream, made):
        one, other = (client, upstream) if first == "client" else (upstream, client)
        await one.send(b"last")
        one.close()
        assert await other.receive(4) == b"last"
        other.sock.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(made.closed(), LIMIT)


async def test_a_side_that_does_not_read_holds_the_other_back():
    async with tunnel() as (client, upstream, _):
        sending = asyncio.create_task(upstream.send(b"x" * (32 << 20)))
        done, _ = await asyncio.wait({sending}, timeout=0.1)
        assert not done
        assert len(await client.receive(32 << 20)) == 32 << 20
        await sending


async def test_closing_ends_both_sides():
    async with tunnel() as (client, upstream, made):
        made.close()
        await asyncio.wait_for(made.closed(), LIMIT)
        assert await client.receive() == b""
        assert await upstream.receive() == b""


async def test_a_side_that_was_gone_before_it_began_ends_it():
    async with joined(Silent) as (left, client), joined(Silent) as (right, upstream):
        left.transport.abort()
        made = Tunnel(left.transport, right.transport)
        made.start(to_client=b"101", to_upstream=b"early")
        await asyncio.wait_for(made.closed(), LIMIT)
        assert await client.receive() == b""
        assert await upstream.receive() == b""


async def test_who_waits_for_the_end_and_is_cancelled_ends_it():
    async with tunnel() as (client, _, made):
        waiting = asyncio.create_task(made.closed())
        await asyncio.sleep(0)
        waiting.cancel()
        assert await client.receive() == b""
