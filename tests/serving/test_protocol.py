"""proxy.serving.protocol: what goes wrong in between is neither echoed nor mistaken for the end."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from proxy.errors import UpstreamError
from proxy.policy.message import Request
from proxy.serving.reply import Reply
from tests.serving.test_listener import Handler, listening, raw, replied
from tests.wire import LIMIT, Cut, connect, until


async def test_a_failure_of_our_own_is_a_500_that_tells_the_log_and_nobody_else(caplog):
    def make(request: Request, body: bytes) -> Reply:
        raise LookupError("secret")

    with caplog.at_level(logging.ERROR):
        async with listening(Handler(make)) as made:
            got, client = await raw(made.port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert await client.ended()
            await client.close()
    assert (got.status, got.cache) == (500, "sidecache; detail=bad-request")
    assert b"secret" not in got.body
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


@pytest.mark.parametrize("error", [UpstreamError("http_response_incomplete"), LookupError("a defect")])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_that_fails_half_way_never_looks_whole(error, version):
    closed: list[bool] = []

    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        await gate.wait()
        raise error

    def make(request: Request, body: bytes) -> Reply:
        reply = replied(half())
        reply.close = lambda: closed.append(True)
        return reply

    gate = asyncio.Event()
    async with listening(Handler(make)) as made, await connect(made.port) as client:
        await client.send(f"GET / HTTP/{version}\r\nHost: h\r\n\r\n".encode())
        head = await client.head()
        gate.set()
        with pytest.raises(Cut):
            await client.body(head)
    assert closed


async def test_a_client_that_takes_nothing_is_given_up():
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1 << 20)

    def make(request: Request, body: bytes) -> Reply:
        reply = replied(endless())
        reply.close = ended.set
        return reply

    async with listening(Handler(make), stalled=0.05) as made, await connect(made.port, receive_buffer=4096) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            await ended.wait()
        await until(lambda: made.connections == 0)
