"""proxy.serving.sending: the bytes that `HttpResponse` sends, to the letter, and the same ends."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.reply import Reply
from tests.serving.test_listener import Handler, listening
from tests.wire import LIMIT, Client, Cut, connect, until

DATED = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
SIZED = ("Content-Length", "3")
HEAD = b" / HTTP/1.1\r\nHost: h\r\nX-Request: 1\r\n\r\n"


def reply(body: bytes | AsyncIterator[bytes], *pairs: tuple[str, str], status: int = 200, **more: str) -> Reply:
    return Reply(status, Fields((*pairs, DATED)), body, Outcome(Reason.NO_RULE), **more)


async def pieces(*each: bytes) -> AsyncIterator[bytes]:
    for piece in each:
        yield piece


async def breaking() -> AsyncIterator[bytes]:
    yield b"a"
    raise UpstreamError("http_response_incomplete")


async def defective() -> AsyncIterator[bytes]:
    yield b"a"
    raise RuntimeError("a defect")


REPLIES: dict[str, Callable[[], Reply]] = {
    "counted": lambda: reply(b"abc", SIZED),  # realistic
    "in chunks": lambda: reply(pieces(b"ab", b"", b"c")),
    "counted pieces": lambda: reply(pieces(b"ab", b"c"), SIZED),
    "whole, without a length": lambda: reply(b"abc"),
    "304": lambda: reply(b"", status=304),
    "304 with a length": lambda: reply(b"", SIZED, status=304),
    "an end before the last byte": lambda: reply(breaking(), SIZED),
    "an end within chunks": lambda: reply(breaking()),
    "the connection's last": lambda: reply(b"abc", SIZED),
    "204 with a length": lambda: reply(b"", SIZED, status=204),  # pathological
    "nothing, in chunks": lambda: reply(pieces()),
    "nothing at all": lambda: reply(b""),
    "more than its length": lambda: reply(pieces(b"ab", b"cd", b"e"), SIZED),
    "any letters": lambda: reply(b"abc", SIZED, ("x-A", "\xe9"), ("X-a", ""), reason="F\xfcr dich"),
    "no reason": lambda: reply(b"abc", SIZED, reason=""),
    "an unknown status": lambda: reply(b"abc", SIZED, status=599),
}


async def received(port: int, *segments: bytes) -> bytes:
    """All that comes for a request, and for another one behind it. A reset may have overtaken anything."""
    got = b""
    async with await connect(port) as client:
        assert (await client.ask("/first")).status == 200
        try:
            for segment in segments:
                await client.send(segment)
                await asyncio.sleep(0.01)
            await client.send(b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            while data := await asyncio.wait_for(client.reader.read(1 << 16), LIMIT):
                got += data
        except ConnectionError:
            return b"reset"
    return got


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", REPLIES)
async def test_a_reply_has_the_same_bytes_as_by_the_ordinary_way(name, method):
    def make(request: Request, body: bytes) -> Reply:
        return REPLIES[name]() if request.target == "/" else reply(b"abc", SIZED)

    head = method.encode() + HEAD
    async with listening(Handler(make)) as made:
        ordinary = await received(made.port, head[:20], head[20:])
        assert await received(made.port, head) == ordinary
    assert (ordinary == b"reset") is (name.startswith("an end") and method == "GET")


async def test_a_reply_in_the_middle_of_which_something_fails_does_not_look_whole(caplog):
    async with listening(Handler(lambda request, body: reply(defective()))) as made, await connect(made.port) as client:
        await client.send(b"GET" + HEAD)
        with pytest.raises(Cut):
            await client.response()
    assert "a defect" in caplog.text


async def test_a_date_is_added_where_there_is_none():
    bare = Reply(200, Fields((SIZED,)), b"abc", Outcome(Reason.NO_RULE))
    async with listening(Handler(lambda request, body: bare)) as made, await connect(made.port) as client:
        await client.send(b"GET" + HEAD)
        assert (await client.response()).get("date")


async def test_the_head_does_not_wait_for_the_body():
    gate = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        await gate.wait()
        yield b"abc"

    async with listening(Handler(lambda request, body: reply(late(), SIZED))) as made, await connect(made.port) as one:
        await one.send(b"GET" + HEAD)
        head = await one.head()
        gate.set()
        assert await one.body(head) == b"abc"


async def flood(block: bytes, sent: list[int]) -> AsyncIterator[bytes]:
    while True:
        sent.append(len(block))
        yield block


async def test_a_client_that_does_not_read_is_sent_no_more():
    sent: list[int] = []
    handler = Handler(lambda request, body: reply(flood(b"x" * 65536, sent)))
    async with listening(handler) as made:
        client: Client = await connect(made.port, receive_buffer=4096)
        await client.send(b"GET" + HEAD)
        before = -1
        while len(sent) != before:
            before = len(sent)
            await asyncio.sleep(0.05)
        assert sum(sent) < 16 << 20
        client.reset()


async def test_a_client_that_leaves_while_nothing_is_sent_is_noticed():
    left = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    made_reply = reply(never(), SIZED)
    made_reply.close = left.set
    async with listening(Handler(lambda request, body: made_reply)) as made:
        made._drain = 0.05
        client = await connect(made.port)
        await client.send(b"GET" + HEAD)
        await client.head()
        client.reset()
        await until(left.is_set)
