"""proxy.serving.connection: when one connection may be used again, and when it must not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.errors import UpstreamError
from proxy.policy.message import Response
from proxy.serving.connection import Connection, Exchange
from tests.serving.ends import End, joined
from tests.wire import until

HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Watched(Connection):
    """Remembers how its exchanges ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[bool] = []
        self.released = lambda _, reusable: self.ends.append(reusable)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Watched, End]]:
    async with joined(Watched) as (connection, end):
        yield connection, end


def ask(connection: Connection, body: AsyncIterator[bytes] | None = None, **more: Any) -> Exchange:
    given = {"length": None, "interim": None, "idle": 10.0, "moved": lambda last: None, "method": "GET", **more}
    return connection.ask(given.pop("method"), HEAD, body, given.pop("length"), **given)


async def whole(exchange: Exchange) -> bytes:
    await exchange.answered()
    return b"".join([chunk async for chunk in exchange.chunks()])


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_it_is_used_again_after_a_whole_response():
    async with connected() as (connection, end):
        for number in (1, 2, 3):
            exchange = ask(connection)
            assert await end.receive(len(HEAD)) == HEAD
            await end.send(OK)
            assert await whole(exchange) == b"ok"
            assert (connection.ends, connection.used) == ([True] * number, number)
            assert connection.is_quiet()


@pytest.mark.parametrize(
    "raw",
    [
        OK[:-2] + b"okX",  # realistic
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"\r\n",  # pathological
        OK + OK,
    ],
)
async def test_it_ends_after_a_response_that_says_more_or_says_so(raw):
    async with connected() as (connection, end):
        exchange = ask(connection)
        await end.send(raw)
        assert await whole(exchange) == b"ok"
        assert connection.ends == [False]
        assert connection.transport.is_closing()


@pytest.mark.parametrize("data", [b"H", OK, b"\r\n", b"\x00"])
async def test_a_byte_that_nobody_asked_for_ends_it(data):
    async with connected() as (connection, end):
        await end.send(data)
        assert not connection.is_quiet()  # seen before the loop has read it
        await until(connection.transport.is_closing)
        assert not connection.is_quiet()
        assert connection.ends == []


async def test_it_ends_when_the_answer_is_here_before_the_body_was_sent():
    gate = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"a"
        await gate.wait()

    async with connected() as (connection, end):
        exchange = ask(connection, waiting(), method="POST")
        assert await end.receive(len(HEAD) + 6) == HEAD + b"1\r\na\r\n"
        await end.send(OK)
        assert await whole(exchange) == b"ok"
        assert connection.ends == [False]


async def test_it_ends_when_the_answer_is_here_before_the_body_was_taken():
    async with connected() as (connection, end):
        exchange = ask(connection, parts(*[b"x" * (1 << 20)] * 64), method="POST")
        await end.send(OK)
        assert await whole(exchange) == b"ok"
        assert connection.ends == [False]


@pytest.mark.parametrize(
    ("chunks", "length", "wire"),
    [
        ([b"ab", b"c"], 3, b"abc"),  # realistic
        ([b"ab", b"c"], None, b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        ([b"", b"a", b""], None, b"1\r\na\r\n0\r\n\r\n"),  # pathological
        ([], None, b"0\r\n\r\n"),
        ([], 0, b""),
    ],
)
async def test_a_body_is_framed_as_its_head_says(chunks, length, wire):
    moves: list[bool] = []
    async with connected() as (connection, end):
        exchange = ask(connection, parts(*chunks), length=length, method="POST", moved=moves.append)
        assert await end.receive(len(HEAD + wire)) == HEAD + wire
        await end.send(OK)
        assert await whole(exchange) == b"ok"
        assert connection.ends == [True]
    assert moves == [False] * len([chunk for chunk in chunks if chunk]) + [True]


@pytest.mark.parametrize(("chunks", "length"), [([b"ab"], 3), ([b"ab", b"cd"], 3), ([], 1)])
async def test_a_body_of_another_length_than_its_head_says_is_cut_off(chunks, length):
    async with connected() as (connection, end):
        exchange = ask(connection, parts(*chunks), length=length, method="POST")
        with pytest.raises(UpstreamError, match="connection_terminated"):
            await exchange.answered()
        assert len(await end.receive()) < len(HEAD) + length
        assert connection.ends == [False]


async def test_a_body_that_breaks_off_does_not_look_complete_and_tells_why():
    class MistakeError(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield b"ab"
        raise MistakeError

    async with connected() as (connection, end):
        exchange = ask(connection, broken(), method="POST")
        with pytest.raises(MistakeError):
            await exchange.answered()
        assert await end.receive() == HEAD + b"2\r\nab\r\n"


async def test_a_body_is_sent_no_faster_than_it_is_taken():
    asked = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(64):
            asked += 1
            yield b"x" * (1 << 20)

    async with connected() as (connection, end):
        exchange = ask(connection, counted(), length=64 << 20, method="POST")
        seen = -1
        while seen != asked:
            seen = asked
            await asyncio.sleep(0.05)
        assert asked < 16
        assert len(await end.receive(len(HEAD) + (64 << 20))) == len(HEAD) + (64 << 20)
        await end.send(OK)
        assert await whole(exchange) == b"ok"


async def test_interim_responses_are_handed_on_in_order():
    seen: list[Response] = []
    async with connected() as (connection, end):
        exchange = ask(connection, interim=seen.append)
        await end.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK)
        assert await whole(exchange) == b"ok"
        assert connection.ends == [True]
    assert [str(response) for response in seen] == ["103 Early Hints", "102 Processing"]


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "connection_terminated"),  # realistic
        (b"HTTP/1.1 200", "http_protocol_error"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "http_protocol_error"),
        (OK[:-1], "http_response_incomplete"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "http_protocol_error"),  # pathological
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n", "http_protocol_error"),
    ],
)
async def test_an_end_before_the_end_is_told_by_what_was_missing(raw, kind):
    async with connected() as (connection, end):
        exchange = ask(connection)
        await end.send(raw)
        end.close()
        with pytest.raises(UpstreamError, match=kind):
            await whole(exchange)
        assert connection.ends == [False]
        assert exchange.began is bool(raw)


async def test_what_is_not_read_to_the_end_is_let_go_with_its_connection():
    async with connected() as (connection, end):
        exchange = ask(connection)
        await end.send(OK[:-1])
        await exchange.answered()
        exchange.close()
        exchange.close()
        assert connection.ends == [False]
        assert await end.receive() == HEAD
        with pytest.raises(UpstreamError, match="http_response_incomplete"):
            await whole(exchange)


async def test_letting_go_of_what_is_over_disturbs_nobody():
    async with connected() as (connection, end):
        first = ask(connection)
        await end.send(OK)
        await first.answered()
        await until(lambda: bool(connection.ends))
        second = ask(connection)
        first.close()
        await end.send(OK)
        assert await whole(second) == b"ok"
        assert connection.ends == [True, True]


async def test_a_response_is_read_no_further_than_it_is_taken_and_its_rest_after_that():
    size = 8 << 20
    async with connected() as (connection, end):
        exchange = ask(connection)
        sending = asyncio.create_task(end.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size))
        await exchange.answered()
        done, _ = await asyncio.wait({sending}, timeout=0.1)
        assert not done
        assert len(await whole(exchange)) == size
        await sending
        assert connection.ends == [True]


async def test_after_a_101_the_transport_is_somebody_elses():
    async with connected() as (connection, end):
        exchange = ask(connection)
        await end.send(b"HTTP/1.1 101 Go on\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x00more")
        await exchange.answered()
        transport, rest = connection.switch()
        assert (rest, connection.ends) == (b"\x00more", [])
        await end.send(b"later")  # stays where it is: the transport is silent
        await asyncio.sleep(0)
        assert not transport.is_closing()
        connection.end()
        assert (connection.ends, transport.is_closing()) == ([False], True)


async def test_a_connection_that_breaks_while_a_body_waits_for_room_ends_the_exchange():
    async with connected() as (connection, end):
        exchange = ask(connection, parts(*[b"x" * (1 << 20)] * 16), method="POST")
        await asyncio.sleep(0.02)
        end.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(UpstreamError, match="connection_terminated"):
            await exchange.answered()
        assert connection.ends == [False]


async def test_a_connection_that_is_gone_when_it_is_asked_says_so_at_once():
    async with connected() as (connection, end):
        await end.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        await until(connection.transport.is_closing)
        exchange = ask(connection)
        with pytest.raises(UpstreamError, match="connection_terminated"):
            await exchange.answered()
        assert connection.ends == [False]


async def test_a_connection_that_breaks_after_its_101_cannot_be_switched():
    async with connected() as (connection, end):
        exchange = ask(connection)
        await end.send(b"HTTP/1.1 101 Go on\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        await exchange.answered()
        connection.transport.abort()
        await until(lambda: bool(connection.ends))
        with pytest.raises(UpstreamError, match="connection_terminated"):
            connection.switch()


@pytest.mark.parametrize("cuts", [(), (len(OK) - 1,), (len(OK) - 2, len(OK) - 1)])
async def test_a_body_that_is_here_can_be_taken_whole_and_only_once(cuts):
    async with connected() as (connection, end):
        exchange = ask(connection)
        at = 0
        for cut in (*cuts, len(OK)):
            await end.send(OK[at:cut])
            at = cut
            if cut < len(OK) and cut >= OK.index(b"\r\n\r\n") + 4:
                await exchange.answered()
                assert exchange.whole() is None  # some of it is missing
        await until(lambda: connection.ends == [True])
        assert exchange.whole() == b"ok"
        assert [chunk async for chunk in exchange.chunks()] == []


async def test_what_ended_early_is_never_whole():
    async with connected() as (connection, end):
        exchange = ask(connection)
        await end.send(OK[:-1])
        await exchange.answered()
        exchange.close()
        assert exchange.whole() is None


async def test_a_head_that_is_late_ends_the_exchange_unless_it_was_put_off():
    async with connected() as (connection, end):
        exchange = ask(connection)
        now = asyncio.get_running_loop().time()
        exchange.expect_head(now)
        exchange.expect_head(now + 60.0)
        await end.send(OK)
        assert await whole(exchange) == b"ok"
        late = ask(connection)
        late.expect_head(now)
        with pytest.raises(UpstreamError) as caught:
            await late.answered()
        assert (caught.value.kind, caught.value.status) == ("http_response_timeout", 504)
        assert connection.ends == [True, False]
