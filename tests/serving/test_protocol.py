"""proxy.serving.protocol: what is too large, too slow or too much, on one client's connection."""

import asyncio

import pytest

from proxy.policy.message import Request
from proxy.serving.connection import Interim
from proxy.serving.outgoing import Limits
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body
from tests.serving.test_listener import Handler, listening, replied
from tests.wire import CRLF, Client, connect, fetch, until

GET = b"GET / HTTP/1.1\r\nHost: h\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog):
    yield
    assert [record.getMessage() for record in caplog.records] == []


async def drip(client: Client, data: bytes) -> None:
    """A byte now and then, for as long as they are taken."""
    try:
        for n in range(len(data)):
            await client.send(data[n : n + 1])
            await asyncio.sleep(0.01)
    except ConnectionError:
        pass


async def refusal(client: Client) -> int:
    """The status of the one answer, after which the connection ended."""
    got = await client.response()
    assert got.cache == "sidecache; detail=bad-request"
    assert await client.ended()
    return got.status


# Time for heads


async def test_a_connection_on_which_nothing_comes_is_closed_without_a_word():
    async with listening(Handler(), limits=Limits(head_time=0.05)) as made, await connect(made.port) as client:
        assert await client.ended()


@pytest.mark.parametrize("first", [b"", GET + CRLF], ids=["the first", "a later one"])
@pytest.mark.parametrize("drips", [True, False])
async def test_a_head_has_so_much_time_as_a_whole_however_it_comes(first, drips):
    handler = Handler()
    async with (
        listening(handler, limits=Limits(head_time=0.15, linger=0.1)) as made,
        await connect(made.port) as client,
    ):
        if first:
            await client.send(first)
            await client.response()
        sending = asyncio.create_task(drip(client, GET + b"X: " + b"x" * 10_000) if drips else client.send(GET))
        assert await refusal(client) == 408
        await sending
    assert len(handler.asked) == bool(first)


@pytest.mark.parametrize("together", [True, False])
async def test_a_head_that_waits_for_us_is_not_late(together):
    gate = asyncio.Event()

    async def make(request: Request, body: bytes) -> Reply:
        await gate.wait()
        return replied(request.target.encode())

    async with listening(Handler(make), limits=Limits(head_time=0.1)) as made, await connect(made.port) as client:
        await client.send(GET + CRLF + (GET if together else b""))
        if not together:
            await client.send(GET)
        async with await connect(made.port) as clock:
            assert await clock.ended()  # a head's time is over
        gate.set()
        assert (await client.response()).status == 200
        await client.send(CRLF)
        assert (await client.response()).status == 200


async def test_an_idle_connection_has_more_time_than_a_head_and_then_ends_without_a_word():
    limits = Limits(head_time=0.05, idle=0.4)
    async with listening(Handler(), limits=limits) as made, await connect(made.port) as client:
        await client.ask()
        async with await connect(made.port) as clock:
            assert await clock.ended()
        await client.send(CRLF)  # what some clients send behind a body is not the beginning of a head
        assert (await client.ask()).status == 200
        assert await client.ended()


# Time for bodies


async def test_a_body_that_stands_still_is_given_up():
    handler = Handler()
    async with listening(handler, limits=Limits(body_grace=0.05)) as made, await connect(made.port) as client:
        await client.send(POST + b"Content-Length: 1000\r\n\r\nhalf")
        assert await refusal(client) == 408


@pytest.mark.parametrize("head", [POST + b"Content-Length: 9999\r\n\r\n", CHUNKED + b"270f\r\n"])
async def test_a_body_that_crawls_is_given_up(head):
    async with (
        listening(Handler(), limits=Limits(body_grace=0.2, linger=0.1)) as made,
        await connect(made.port) as client,
    ):
        await client.send(head)
        sending = asyncio.create_task(drip(client, b"x" * 9999))
        assert await refusal(client) == 408
        await sending


async def test_a_chunk_of_a_size_that_nobody_sends_is_refused_at_once():
    async with listening(Handler()) as made, await connect(made.port) as client:
        await client.send(CHUNKED + b"FFFFFFFFFFFFFFED\r\nhello\r\n0\r\n\r\n" + GET + CRLF)
        assert await refusal(client) == 400


async def test_behind_another_request_in_its_segment_it_is_a_body_that_stands_still():
    limits = Limits(body_grace=0.05, linger=0.05)
    async with listening(Handler(), limits=limits) as made, await connect(made.port) as client:
        await client.send(GET + CRLF + CHUNKED + b"FFFFFFFFFFFFFFED\r\nhello\r\n0\r\n\r\n")
        assert (await client.response()).status == 200
        assert await refusal(client) == 408


async def test_a_body_that_keeps_its_rate_may_take_longer_than_the_grace():
    limits = Limits(body_grace=0.3, body_rate=20.0)
    async with listening(Handler(), limits=limits) as made, await connect(made.port) as client:
        await client.send(POST + b"Content-Length: 100\r\n\r\n")
        await drip(client, b"x" * 100)
        assert (await client.response()).body == b"x" * 100


class Holding(Handler):
    """Reads bodies only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def __call__(self, request: Request, body: Body, interim: Interim) -> Reply:
        await self.gate.wait()
        return await super().__call__(request, body, interim)


async def test_a_body_that_waits_for_us_is_not_late():
    handler, size = Holding(), 8 << 20
    async with listening(handler, limits=Limits(body_grace=0.3)) as made, await connect(made.port) as client:
        sending = asyncio.create_task(client.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size))
        await until(lambda: any(each._reading_paused for each in made._runner.server.connections))
        async with await connect(made.port) as clock:
            await clock.send(POST + b"Content-Length: 9\r\n\r\n")
            await until(lambda: any(each._refused for each in made._runner.server.connections))
        handler.gate.set()
        assert len((await client.response()).body) == size
        await sending


@pytest.mark.parametrize("rest", [b"", b"x" * 1000])
async def test_the_rest_of_a_body_that_nobody_wants_is_not_awaited_for_long(rest):
    handler = Handler(reads=False)
    async with listening(handler, limits=Limits(linger=0.05)) as made, await connect(made.port) as client:
        await client.send(POST + b"Content-Length: 1000000\r\n\r\n" + rest)
        assert (await client.response()).status == 200
        assert await client.ended()


async def test_a_body_that_breaks_after_its_head_was_taken_is_broken_for_who_reads_it():
    handler = Handler()
    async with listening(handler) as made, await connect(made.port) as client:
        await client.send(CHUNKED + b"5\r\nhello\r\n")
        await until(lambda: bool(handler.asked))
        await client.send(b"no chunk\r\n" + GET + CRLF)
        assert await refusal(client) == 400
    assert len(handler.asked) == 1


# Sizes

LINE = b"X: " + b"a" * 9000 + CRLF
HEADS = {
    "just so": (GET + LINE * 3, 200),  # realistic
    "a long line": (GET + b"X: " + b"a" * 16300 + CRLF, 200),
    "many lines": (GET + b"".join(b"X-%d: 1\r\n" % n for n in range(120)), 200),
    "together too much": (GET + LINE * 4, 431),  # pathological
    "too much of little": (GET + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 320) for n in range(120)), 431),
    "a line too long": (GET + b"X: " + b"a" * 16400 + CRLF, 431),
    "a name too long": (GET + b"X" * 16400 + b": 1\r\n", 431),
    "too many lines": (GET + b"X: 1\r\n" * 140, 431),
    "a target too long": (b"GET /" + b"a" * 16400 + b" HTTP/1.1\r\nHost: h\r\n", 414),
    "a target without end": (b"GET /" + b"a" * 100_000, 414),
    "a field without end": (GET + b"X: " + b"a" * 100_000, 431),
    "many fields": (GET + b"X: 123456789\r\n" * 100, 200),
}  # fmt: skip


@pytest.mark.parametrize(("head", "status"), HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("piece", [1 << 20, 5000], ids=["at once", "in pieces"])
@pytest.mark.parametrize("before", [b"", GET + CRLF], ids=["alone", "behind another"])
async def test_heads_have_a_size(head, status, piece, before):
    handler = Handler()
    async with listening(handler) as made, await connect(made.port) as client:
        whole = before + head + CRLF
        try:
            for n in range(0, len(whole), piece):
                await client.send(whole[n : n + piece])
        except ConnectionError:
            pass  # refused before it was all there
        got = await client.response()
        if status == 200 or got.status == 200:
            assert got.status == 200
            got = await client.response() if before else got
        assert got.status == status
        assert status == 200 or await client.ended()


@pytest.mark.parametrize(
    "chunks",
    [
        b"5;" + b"a" * (64 << 10) + b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0;" + b"a" * (64 << 10) + b"\r\n\r\n",
        b"5;" + b"a" * (64 << 10),
        b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 5000 + b"0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("apart", [True, False])
async def test_a_body_of_chunk_extensions_is_refused(chunks, apart):
    async with listening(Handler()) as made, await connect(made.port) as client:
        await client.send(CHUNKED if apart else CHUNKED + chunks)
        if apart:
            await until(lambda: any(not each._arriving.is_eof() for each in made._runner.server.connections))
            await client.send(chunks)
        assert await refusal(client) == 400


@pytest.mark.parametrize(
    "chunks",
    [b"1\r\nx\r\n" * 50_000, b"5;name=value\r\nhello\r\n" * 20_000, b"ffff;x\r\n" + b"x" * 0xFFFF + b"\r\n"],
)
async def test_a_body_of_small_chunks_is_not(chunks):
    async with listening(Handler()) as made, await connect(made.port) as client:
        sending = asyncio.create_task(client.send(CHUNKED + chunks + b"0\r\n\r\n" + GET + CRLF))
        assert (await client.response()).status == 200
        assert (await client.response()).body == b"/"
        await sending


async def test_an_upgrade_that_was_not_made_ends_the_connection():
    handler = Handler()
    head = b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with listening(handler) as made, await connect(made.port) as client:
        await client.send(GET + head + POST + b"Content-Length: 3\r\n\r\nabc")
        got = await client.response()
        assert (got.body, got.get("connection")) == (b"websocket", "close")
        assert await client.ended()
        assert (await fetch(made.port)).status == 200
