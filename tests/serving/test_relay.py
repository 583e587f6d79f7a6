"""proxy.serving.relay: a response on its way through, at the client's pace, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.serving.listener import Listener
from proxy.serving.outgoing import Limits
from proxy.serving.turns import TurnTaker
from proxy.serving.upstream import HttpUpstream, Timeouts
from tests.serving.short import Served, head, prompt, served
from tests.wire import LIMIT, Client, Cut, Message, Peer, Upstream, chunked, connect, response, until, upstream

Scene = tuple[Served, Upstream, HttpUpstream]


@asynccontextmanager
async def scene(
    answer: Callable[[Message, Peer], Awaitable[None]], timeouts: Timeouts | None = None, **more: Any
) -> AsyncIterator[Scene]:
    """A sidecar with one idle connection to an upstream that answers /warm by itself."""

    async def answered(request: Message, peer: Peer) -> None:
        if request.target == b"/warm":
            await peer.send(response(b"warm"))
        else:
            await answer(request, peer)

    async with upstream(answered) as up:
        through = HttpUpstream(f"http://127.0.0.1:{up.port}", timeouts or Timeouts(connect=5.0))
        async with served(through=through, forwards=True, **more) as made:
            async with await prompt(made.port) as client:
                assert (await client.ask("/warm")).body == b"warm"
            await until(lambda: through._requests.idle == 1)
            try:
                yield made, up, through
            finally:
                await through.close()


def quiet(made: Served, through: HttpUpstream) -> bool:
    """Nothing is left of any request."""
    relays = made.forwarding._relays
    return not (relays.under_way._count or len(relays.heads) or len(relays.bodies) or through._requests.in_use)


async def hello(request: Message, peer: Peer) -> None:
    await peer.send(response(b"hello " + request.target))


async def test_a_relay_needs_no_task_and_leaves_nothing_behind(monkeypatch):
    gate = asyncio.Event()

    async def answer(request: Message, peer: Peer) -> None:
        await gate.wait()
        await hello(request, peer)

    async with scene(answer) as (made, up, through), await prompt(made.port) as client:
        await until(lambda: made.listener.connections == 1)
        monkeypatch.setattr(TurnTaker, "begin_turn", lambda *_: pytest.fail("a turn with a task"))
        monkeypatch.setattr(Listener, "_answer", lambda *_: pytest.fail("aiohttp's handler"))
        await client.send(head("/x"))
        await until(lambda: len(up.requests) == 2)
        gate.set()
        assert (await client.response()).body == b"hello /x"
        assert sum(made.forwarded) == 1
        await until(lambda: quiet(made, through) and through._requests.idle == 1)


async def test_a_client_that_reads_slowly_slows_the_upstream_down():
    size, sent = 48 << 20, 0

    async def answer(_: Message, peer: Peer) -> None:
        nonlocal sent
        await peer.send(response(b"", f"Content-Length: {size}", length=False))
        for _ in range(size >> 20):
            await peer.send(b"x" * (1 << 20))
            sent += 1

    timeouts = Timeouts(connect=5.0, idle=0.3)  # which does not run while it is the client that takes its time
    async with (
        scene(answer, timeouts) as (made, _, through),
        await connect(made.port, receive_buffer=64 << 10) as client,
    ):
        await client.send(head("/x"))
        await client.head()
        seen = -1
        while seen != sent:  # until every buffer on the way is full
            seen = sent
            await asyncio.sleep(0.4)
        assert sent < 30
        (connection,) = made.listener._runner.server.connections
        assert connection.transport.get_write_buffer_size() < 1 << 20
        left = size
        while left:
            left -= len(await client.reader.read(1 << 20))
        assert (await client.ask("/warm")).body == b"warm"
        assert sum(made.forwarded) == 2
        await until(lambda: quiet(made, through))


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
async def test_a_client_that_leaves_in_the_middle_takes_the_upstreams_connection_with_it(leave):
    async def answer(request: Message, peer: Peer) -> None:
        await peer.send(response(b"", "Transfer-Encoding: chunked", length=False) + b"2\r\nhi\r\n")
        await peer.reader.read()  # says nothing more: only the sidecar can end it

    async with scene(answer) as (made, up, through):
        client = await prompt(made.port)
        await client.send(head("/endless"))
        await client.head()
        assert await client.chunk() == b"hi"
        gone = leave(client)
        if gone is not None:
            await gone
        await asyncio.wait_for(up.peers[-1].gone.wait(), LIMIT)
        await until(lambda: quiet(made, through) and through._requests.idle == 0)
        assert sum(made.forwarded) == 1


async def test_a_client_that_leaves_before_the_head_is_still_counted_and_lets_go_then():
    gate = asyncio.Event()

    async def answer(request: Message, peer: Peer) -> None:
        await gate.wait()
        await peer.send(response(b"", "Content-Length: 9", length=False))

    async with scene(answer) as (made, up, through):
        client = await prompt(made.port)
        await client.send(head("/x"))
        await until(lambda: len(up.requests) == 2)
        (connection,) = made.listener._runner.server.connections
        client.reset()
        await until(lambda: connection.transport is None)
        assert not up.peers[-1].gone.is_set()
        gate.set()
        await asyncio.wait_for(up.peers[-1].gone.wait(), LIMIT)
        await until(lambda: quiet(made, through) and made.listener.connections == 0)
        assert 'sidecache_requests_total{feature="",reason="no-rule",result="pass"} 2.0' in made.counted()


async def test_what_arrives_meanwhile_is_answered_behind_it_in_order():
    gate = asyncio.Event()

    async def answer(request: Message, peer: Peer) -> None:
        if request.target == b"/0":
            await gate.wait()
        await hello(request, peer)

    async with scene(answer) as (made, up, _), await prompt(made.port) as client:
        await client.send(head("/0"))
        await until(lambda: len(up.requests) == 2)
        for n in range(1, 40):
            await client.send(head(f"/{n}"))
        post = b"POST /40 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
        await client.send(post[:-2])
        await client.send(post[-2:])
        assert len(up.requests) == 2
        gate.set()
        bodies = [(await client.response()).body for _ in range(41)]
        assert bodies == [b"hello /%d" % n for n in range(41)]
        assert (await client.ask("/last")).body == b"hello /last"


async def test_heads_within_a_body_that_follows_are_body():
    async def answer(request: Message, peer: Peer) -> None:
        await hello(request, peer)

    async with scene(answer) as (made, up, _), await prompt(made.port) as client:
        inner = head("/inner")
        await client.send(head("/a"))
        assert (await client.response()).body == b"hello /a"
        await client.send(b"PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (2 * len(inner)))
        await client.send(inner)
        await client.send(inner)
        assert (await client.response()).body == b"hello /b"
        assert [request.target for request in up.requests] == [b"/warm", b"/a", b"/b"]
        assert up.requests[-1].body == 2 * inner


async def test_silence_is_a_504_in_time_and_the_client_may_go_on():
    async def answer(request: Message, peer: Peer) -> None:
        await peer.reader.read()

    async with (
        scene(answer, Timeouts(connect=5.0, first_byte=0.3)) as (made, up, through),
        await prompt(made.port) as client,
    ):
        got = await client.ask("/x")
        assert (got.status, got.get("proxy-status")) == (504, "sidecache; error=http_response_timeout")
        assert got.cache == "sidecache; fwd=bypass; detail=upstream-failed"
        await asyncio.wait_for(up.peers[-1].gone.wait(), LIMIT)
        assert (await client.ask("/warm")).body == b"warm"
        await until(lambda: quiet(made, through))
        assert 'sidecache_requests_total{feature="",reason="upstream-failed",result="pass"} 1.0' in made.counted()


async def test_interim_responses_give_no_more_time():
    async def answer(request: Message, peer: Peer) -> None:
        while not peer.reader.at_eof():
            await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await asyncio.sleep(0.02)

    async with (
        scene(answer, Timeouts(connect=5.0, first_byte=0.1)) as (made, _, through),
        await prompt(made.port) as client,
    ):
        await client.send(head("/x"))
        while (got := await client.head()).status == 103:
            pass
        assert got.status == 504
        await until(lambda: quiet(made, through))


async def test_a_body_that_stops_ends_the_connection_and_one_that_goes_on_does_not():
    async def answer(request: Message, peer: Peer) -> None:
        await peer.send(response(b"", "Content-Length: 10", length=False))
        for _ in range(10 if request.target == b"/on" else 5):
            await asyncio.sleep(0.03)
            await peer.send(b"x")
        if request.target == b"/stops":
            await peer.reader.read()

    async with scene(answer, Timeouts(connect=5.0, idle=0.2)) as (made, up, through), await prompt(made.port) as client:
        assert (await client.ask("/on")).body == b"x" * 10
        with pytest.raises(Cut):
            await client.ask("/stops")
        await asyncio.wait_for(up.peers[-1].gone.wait(), LIMIT)
        assert sum(made.forwarded) == 2
        await until(lambda: quiet(made, through))


@pytest.mark.parametrize("again", ["answers", "is gone", "is silent"])
async def test_a_dead_connection_is_replaced_once(again):
    dead = 0

    async def answer(request: Message, peer: Peer) -> None:
        nonlocal dead
        dead += 1
        if dead == 1 or again == "is gone":
            peer.reset()
        elif again == "is silent":
            await peer.reader.read()
        else:
            await hello(request, peer)

    async with (
        scene(answer, Timeouts(connect=5.0, first_byte=0.3)) as (made, up, through),
        await prompt(made.port) as client,
    ):
        got = await client.ask("/x")
        status = {"answers": 200, "is gone": 502, "is silent": 504}[again]
        assert (got.status, dead, len(up.peers)) == (status, 2, 2)
        assert (await client.ask("/warm")).body == b"warm"
        assert sum(made.forwarded) >= 1
        await until(lambda: quiet(made, through))


async def test_an_upstream_that_is_gone_is_reported_once_and_so_is_its_return():
    async def answer(request: Message, peer: Peer) -> None:
        peer.reset()

    async with scene(answer) as (made, up, through), await prompt(made.port) as client:
        origin = through._origin
        object.__setattr__(origin, "port", 1)  # where nobody listens: what is idle still goes there
        got = await client.ask("/x")
        assert (got.status, got.get("proxy-status")) == (502, "sidecache; error=connection_refused")
        assert made.events == ["upstream-unreachable"]
        object.__setattr__(origin, "port", up.port)
        assert [(await client.ask("/warm")).status for _ in range(3)] == [200] * 3
        assert made.events == ["upstream-unreachable", "upstream-reachable"]
        assert sum(made.forwarded) == 3
        await until(lambda: quiet(made, through))


async def test_a_listener_that_closes_waits_for_it_and_says_that_it_is_the_last():
    gate = asyncio.Event()

    async def answer(request: Message, peer: Peer) -> None:
        await gate.wait()
        await hello(request, peer)

    async with scene(answer) as (made, up, _), await prompt(made.port) as client:
        await client.send(head("/x"))
        await until(lambda: len(up.requests) == 2)
        closing = asyncio.create_task(made.listener.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        gate.set()
        got = await client.response()
        assert (got.body, got.get("connection")) == (b"hello /x", "close")
        assert await client.ended()
        await asyncio.wait_for(closing, LIMIT)
        assert sum(made.forwarded) == 1


@pytest.mark.parametrize("begun", [True, False], ids=["in its body", "before its head"])
async def test_one_that_takes_too_long_ends_with_the_listener(begun):
    async def answer(request: Message, peer: Peer) -> None:
        if begun:
            await peer.send(chunked([b"hi"], end=False))
        await peer.reader.read()

    async with scene(answer, drain=0.05) as (made, up, through), await prompt(made.port) as client:
        await client.send(head("/x"))
        await until(lambda: len(up.requests) == 2)
        if begun:
            await client.head()
        await asyncio.wait_for(made.listener.close(), LIMIT)
        with pytest.raises(Cut):
            await (client.chunk() if not begun else client.body(Message((), [(b"content-length", b"99")], b"")))
        await asyncio.wait_for(up.peers[-1].gone.wait(), LIMIT)
        await until(lambda: quiet(made, through))


async def test_an_idle_client_is_given_its_time_anew_behind_it():
    async with scene(hello, limits=Limits(idle=0.2)) as (made, _, _through), await prompt(made.port) as client:
        for n in range(10):
            assert (await client.ask(f"/{n}")).status == 200
            await asyncio.sleep(0.04)
        assert await client.ended()
        assert made.listener.connections == 0


async def test_what_was_not_asked_for_reaches_nobody():
    async def answer(request: Message, peer: Peer) -> None:
        await peer.send(response(b"mine") + response(b"poison"))

    async with scene(answer) as (made, _up, _), await prompt(made.port) as client:
        for n in range(20):
            assert (await client.ask("/warm")).body == b"warm"
            assert (await client.ask(f"/{n}")).body == b"mine"
        assert sum(made.forwarded) >= 20
