"""proxy.serving.turns: a request that is answered beside aiohttp's handler keeps its place, its time and its end."""

import asyncio

import pytest

from proxy.policy.message import Request
from proxy.serving.outgoing import Limits
from proxy.serving.protocol import ServerProtocol
from proxy.serving.reply import Reply
from proxy.serving.turns import TurnTaker
from tests.serving.test_listener import Handler, listening, replied
from tests.wire import LIMIT, connect, until

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"


@pytest.fixture
def turns(monkeypatch) -> list[int]:
    """As many as were begun."""
    begun: list[int] = []
    begin = TurnTaker.begin_turn

    def counted(self: ServerProtocol, turn: object, waiter: object) -> None:
        begun.append(1)
        begin(self, turn, waiter)

    monkeypatch.setattr(TurnTaker, "begin_turn", counted)
    return begun


class Gated(Handler):
    """Answers when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        super().__init__(self._late)

    async def _late(self, request: Request, body: bytes) -> Reply:
        await self.gate.wait()
        return replied(request.target.encode())


async def test_requests_one_after_the_other_take_turns(turns):
    async with listening(Handler()) as made, await connect(made.port) as client:
        await client.ask("/0")
        for n in range(1, 6):
            assert (await client.ask(f"/{n}")).body == b"/%d" % n
            await asyncio.sleep(0.01)
    assert len(turns) >= 5


@pytest.mark.parametrize("later", [GET, POST])
async def test_what_arrives_during_a_turn_is_answered_behind_it(turns, later):
    handler = Gated()
    async with listening(handler) as made, await connect(made.port) as client:
        await client.send(GET % 0)
        await until(lambda: len(turns) == 1)
        for n in range(1, 40):
            await client.send(later % n)
        await asyncio.sleep(0.02)
        assert [request.target for request in handler.asked] == ["/0"]
        handler.gate.set()
        expected = [b"/%d" % n for n in range(40)]
        assert [(await client.response()).body for _ in range(40)] == expected
        assert (await client.ask("/last")).body == b"/last"
    assert [request.target for request in handler.asked] == [*[f"/{n}" for n in range(40)], "/last"]


async def test_a_body_that_follows_a_turn_in_pieces_is_read(turns):
    handler = Gated()
    async with listening(handler) as made, await connect(made.port) as client:
        await client.send(GET % 0)
        await until(lambda: len(turns) == 1)
        await client.send(b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n")
        await client.send(GET % 9 + b"x" * (40 - len(GET % 9)))  # body, not a head
        handler.gate.set()
        assert [(await client.response()).body for _ in range(2)] == [b"/0", b"/1"]
    assert [request.target for request in handler.asked] == ["/0", "/1"]


async def test_a_turn_is_not_idle_time_and_idle_time_follows_it(turns):
    handler = Gated()
    async with listening(handler, limits=Limits(idle=0.1)) as made, await connect(made.port) as client:
        await client.send(GET % 0)
        await until(lambda: len(turns) == 1)
        await asyncio.sleep(0.3)  # longer than a connection may be idle
        handler.gate.set()
        assert (await client.response()).body == b"/0"
        assert await client.ended()


async def test_a_head_that_begins_during_a_turn_has_its_time_when_that_is_over(turns):
    handler = Gated()
    async with listening(handler, limits=Limits(head_time=0.1, linger=0.1)) as made, await connect(made.port) as client:
        await client.send(GET % 0)
        await until(lambda: len(turns) == 1)
        await client.send(b"GET /1 HTTP/1.1\r\n")
        await asyncio.sleep(0.25)
        handler.gate.set()
        assert (await client.response()).status == 200
        assert (await client.response()).status == 408
        assert await client.ended()


async def test_a_shutdown_waits_for_a_turn(turns):
    handler = Gated()
    async with listening(handler) as made:
        client = await connect(made.port)
        await client.send(GET % 0)
        await until(lambda: len(turns) == 1)
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0.02)
        handler.gate.set()
        got = await client.response()
        assert (got.body, got.get("connection")) == (b"/0", "close")
        assert await client.ended()
        await asyncio.wait_for(closing, LIMIT)
        await client.close()


async def test_a_turn_that_takes_too_long_ends_with_the_listener(turns):
    handler = Gated()
    handler.drain = 0.05
    ended = asyncio.Event()

    async def make(request: Request, body: bytes) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return replied()

    handler.make = make
    async with listening(handler) as made:
        client = await connect(made.port)
        await client.send(GET % 0)
        await until(lambda: len(turns) == 1)
        async with asyncio.timeout(LIMIT):
            await made.close()
            await ended.wait()
        assert await client.ended()
        await client.close()


async def test_a_client_that_leaves_during_a_turn_leaves_nothing_behind(turns):
    handler = Gated()
    before = len(asyncio.all_tasks())
    async with listening(handler) as made:
        client = await connect(made.port)
        await client.send(GET % 0)
        await until(lambda: len(turns) == 1)
        client.reset()
        await asyncio.sleep(0.02)
        handler.gate.set()
        await until(lambda: made.connections == 0)
        await until(lambda: len(asyncio.all_tasks()) == before)


async def test_a_handler_that_fails_is_answered_with_500_and_the_end(turns, caplog):
    async def make(request: Request, body: bytes) -> Reply:
        raise RuntimeError("a defect")

    async with listening(Handler(make)) as made, await connect(made.port) as client:
        await client.send(GET % 0)
        got = await client.response()
        assert (got.status, got.get("connection")) == (500, "close")
        assert await client.ended()
    assert len(turns) == 1
    assert [record.getMessage() for record in caplog.records] == ["a request failed"]
