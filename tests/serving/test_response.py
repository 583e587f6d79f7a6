"""proxy.serving.response: a reply's bytes, to the letter; what goes wrong is neither echoed nor looks whole."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.reply import Reply
from proxy.serving.response import REFUSALS, refused
from tests.serving.test_listener import Handler, listening, raw, replied
from tests.wire import Cut, connect

DATED = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")


def reply(body: bytes | AsyncIterator[bytes], *pairs: tuple[str, str], status: int = 200, **more: str) -> Reply:
    return Reply(status, Fields((*pairs, DATED)), body, Outcome(Reason.NO_RULE), **more)


async def pieces() -> AsyncIterator[bytes]:
    yield b"ab"
    yield b""
    yield b"c"


LENGTH = ("Content-Length", "3")
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


@pytest.mark.parametrize(
    ("request_", "make", "wire"),
    [
        ("GET / HTTP/1.1", lambda: reply(b"abc", LENGTH),
         b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + DATE + b"Connection: close\r\n\r\nabc"),  # realistic
        ("HEAD / HTTP/1.1", lambda: reply(b"abc", LENGTH),
         b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + DATE + b"Connection: close\r\n\r\n"),
        ("GET / HTTP/1.1", lambda: reply(pieces()),
         b"HTTP/1.1 200 OK\r\n" + DATE + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
         b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        ("GET / HTTP/1.0", lambda: reply(pieces()), b"HTTP/1.1 200 OK\r\n" + DATE + b"Connection: close\r\n\r\nabc"),
        ("GET / HTTP/1.1", lambda: reply(pieces(), LENGTH),
         b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + DATE + b"Connection: close\r\n\r\nabc"),
        ("GET / HTTP/1.1", lambda: reply(b"", status=304),
         b"HTTP/1.1 304 Not Modified\r\n" + DATE + b"Connection: close\r\n\r\n"),
        ("GET / HTTP/1.1", lambda: reply(b"", LENGTH, status=304),
         b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n" + DATE + b"Connection: close\r\n\r\n"),
        ("GET / HTTP/1.1", lambda: reply(b"", LENGTH, status=204),  # pathological
         b"HTTP/1.1 204 No Content\r\n" + DATE + b"Connection: close\r\n\r\n"),
        ("GET / HTTP/1.1", lambda: reply(b"abc", LENGTH, ("x-A", "\xe9"), ("X-a", ""), reason="F\xfcr dich"),
         b"HTTP/1.1 200 F\xfcr dich\r\nContent-Length: 3\r\nx-A: \xe9\r\nX-a: \r\n" + DATE
         + b"Connection: close\r\n\r\nabc"),
        ("GET / HTTP/1.1", lambda: reply(b"", ("Content-Length", "0"), status=599),
         b"HTTP/1.1 599 \r\nContent-Length: 0\r\n" + DATE + b"Connection: close\r\n\r\n"),
    ],
)  # fmt: skip
async def test_the_bytes_of_a_reply(request_, make, wire):
    async with listening(Handler(lambda request, body: make())) as made, await connect(made.port) as client:
        await client.send(f"{request_}\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert await asyncio.wait_for(client.reader.read(), 10) == wire


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_says_nothing_of_the_request_and_ends_the_connection(status):
    got = refused(status)
    assert (got.status, got.last, got.outcome.reason) == (status, True, Reason.BAD_REQUEST)
    assert got.fields.get("content-type") == "application/problem+json"


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
