"""proxy.serving.outgoing: what waits for a client that takes nothing is bounded in size and in time."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.policy.message import Request
from proxy.serving.outgoing import Limits
from proxy.serving.reply import Reply
from tests.serving.test_listener import Handler, listening, replied
from tests.wire import CRLF, LIMIT, connect, until

GET = b"GET / HTTP/1.1\r\nHost: h\r\n"


async def test_requests_behind_unread_answers_wait():
    body = b"x" * 1000
    handler = Handler(lambda request, _: replied(request.target.encode() + body))
    async with listening(handler) as made, await connect(made.port, receive_buffer=4096) as client:
        requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(10_000))
        sending = asyncio.create_task(client.send(requests))
        seen = -1
        while seen != len(handler.asked) or not seen:
            seen = len(handler.asked)
            await asyncio.sleep(0.1)
        assert seen < 9000
        (connection,) = made._runner.server.connections
        assert connection.transport.get_write_buffer_size() < 128 << 10
        assert len(connection._messages) <= 32
        received = bytearray()
        while not received.endswith(b"/9999" + body):
            received += await asyncio.wait_for(client.reader.read(1 << 20), LIMIT)
            assert not client.reader.at_eof()
        assert re.findall(rb"\r\n\r\n/(\d+)x", received) == [b"%d" % n for n in range(10_000)]
        await sending


async def test_a_client_that_takes_nothing_is_given_up():
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1 << 20)

    def make(request: Request, body: bytes) -> Reply:
        reply = replied(endless())
        reply.close = ended.set
        return reply

    limits = Limits(unsent=0.05)
    async with listening(Handler(make), limits=limits) as made, await connect(made.port, receive_buffer=4096) as client:
        await client.send(GET + CRLF)
        async with asyncio.timeout(LIMIT):
            await ended.wait()
        await until(lambda: made.connections == 0)


@pytest.mark.parametrize("last", [True, False], ids=["closed", "idle"])
async def test_a_client_that_never_takes_the_end_of_the_last_answer_is_given_up(last):
    def make(request: Request, body: bytes) -> Reply:
        (connection,) = made._runner.server.connections
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        reply = replied(b"x" * (60 << 10))  # more than the kernel takes, less than what makes us wait
        reply.last = last
        return reply

    limits = Limits(unsent=0.05, idle=0.05, linger=0.05)
    async with listening(Handler(make), limits=limits) as made, await connect(made.port, receive_buffer=2048) as client:
        client.writer.transport.pause_reading()
        await client.send(GET + CRLF)
        await until(lambda: made.connections == 1)
        await until(lambda: made.connections == 0)
