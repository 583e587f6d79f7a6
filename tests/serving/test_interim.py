"""proxy.serving.interim: 1xx responses reach those who know them, and a body is asked for in time."""

import asyncio

import pytest

from proxy.policy.message import Fields, Request, Response
from proxy.serving.connection import Interim
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body
from tests.serving.test_listener import Handler, listening, replied
from tests.wire import connect, until

EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
CONTINUE = Response(100, Fields((("X-A", "1"), ("Connection", "x-b"), ("X-B", "2"))), "Go on")
HINTS = Response(103, Fields((("Link", "</a.css>; rel=preload"), ("link", "</b.js>"))), "Early Hints")


class Telling(Handler):
    """Tells of these interim responses, reads the body when it `reads`, and answers."""

    def __init__(self, *interim: Response, reads: bool = True) -> None:
        super().__init__(reads=reads)
        self.interim = interim
        self.later: list[Interim] = []

    async def __call__(self, request: Request, body: Body, interim: Interim) -> Reply:
        for each in self.interim:
            interim(each)
        self.later.append(interim)
        return await super().__call__(request, body, interim)


async def test_interim_responses_are_passed_on_before_the_response():
    async with listening(Telling(HINTS, HINTS)) as made, await connect(made.port) as client:
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            for _ in range(2):
                assert (await client.head()).raw == (
                    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n"
                )
            assert (await client.response()).body == b"/"


async def test_a_client_of_http_1_0_gets_none():
    async with listening(Telling(CONTINUE, HINTS), patience=0.0) as made, await connect(made.port) as client:
        await client.send(EXPECTING.replace(b"1.1", b"1.0") + b"hello")
        assert (await client.response()).status == 200
        assert await client.ended()


async def test_the_upstreams_100_asks_for_the_body_once_and_says_nothing_to_who_does_not_wait():
    async with listening(Telling(CONTINUE, CONTINUE), patience=60.0) as made, await connect(made.port) as client:
        await client.send(EXPECTING)
        assert (await client.head()).raw == b"HTTP/1.1 100 Go on\r\nX-A: 1\r\n\r\n"
        await client.send(b"hello")
        assert (await client.response()).body == b"hello"
        assert (await client.ask("/next")).body == b"/next"


async def test_when_the_upstream_is_silent_the_body_is_asked_for_here():
    async with listening(Telling(), patience=0.05) as made, await connect(made.port) as client:
        await client.send(EXPECTING)
        assert (await client.head()).raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert (await client.response()).body == b"hello"
        assert (await client.ask("/next")).body == b"/next"


async def test_an_answer_before_the_body_was_asked_for_ends_the_connection():
    handler = Telling(reads=False)
    async with listening(handler, patience=60.0) as made, await connect(made.port) as client:
        await client.send(EXPECTING)
        got = await client.response()
        assert (got.status, got.get("connection")) == (200, "close")
        await client.send(b"GET /")  # a body, or a request: nobody can tell
        assert await client.ended()
    assert len(handler.asked) == 1


async def test_what_comes_behind_the_response_is_not_passed_on():
    handler = Telling()
    async with listening(handler) as made, await connect(made.port) as client:
        await client.ask()
        handler.later[0](HINTS)
        assert (await client.ask("/next")).body == b"/next"


async def test_a_client_that_takes_nothing_is_not_sent_more():
    written = 0

    class Many(Handler):
        async def __call__(self, request: Request, body: Body, interim: Interim) -> Reply:
            nonlocal written
            (connection,) = made._runner.server.connections
            while not connection.writing_paused:
                interim(HINTS)
                written += 1
            before = connection.transport.get_write_buffer_size()
            interim(HINTS)
            assert connection.transport.get_write_buffer_size() == before
            return replied(b"at last")

    async with listening(Many()) as made, await connect(made.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: written > 0)
        for _ in range(written):
            assert (await client.head()).status == 103
        assert (await client.response()).body == b"at last"


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_client_that_is_gone_is_told_nothing(leaves):
    gate, told = asyncio.Event(), asyncio.Event()

    class Late(Handler):
        async def __call__(self, request: Request, body: Body, interim: Interim) -> Reply:
            self.asked.append(request)
            await gate.wait()
            interim(HINTS)
            told.set()
            return replied()

    handler = Late()
    async with listening(handler) as made:
        client = await connect(made.port)
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: bool(handler.asked))
        if leaves:
            client.reset()
            (connection,) = made._runner.server.connections
            await until(lambda: connection.transport is None)
        gate.set()
        async with asyncio.timeout(10):
            await told.wait()
        if not leaves:
            assert (await client.head()).status == 103
            await client.close()
