"""proxy.serving.upstream: what reaches the upstream, what comes back, and how its failures are told apart."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request, Response
from proxy.serving.upstream import Body, HttpUpstream, Stream, Timeouts
from tests.wire import Answer, Message, Peer, Upstream, chunked, response, until, upstream

QUICK = Timeouts(connect=5.0, first_byte=10.0, idle=10.0)


@asynccontextmanager
async def client(port: int, timeouts: Timeouts = QUICK, **more: Any) -> AsyncIterator[HttpUpstream]:
    made = HttpUpstream(f"http://127.0.0.1:{port}", timeouts, **more)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def both(answer: Answer, timeouts: Timeouts = QUICK, **more: Any) -> AsyncIterator[tuple[Upstream, HttpUpstream]]:
    async with upstream(answer, **more) as up, client(up.port, timeouts) as asking:
        yield up, asking


def request(target: str = "/", *pairs: tuple[str, str], method: str = "GET") -> Request:
    return Request(method, target, Fields((("Host", "portal.test"), *pairs)))


async def whole(stream: Stream) -> bytes:
    body = b"".join([chunk async for chunk in stream.chunks()])
    stream.close()
    return body


async def asked(asking: HttpUpstream, target: str = "/", body: Body = None, method: str = "GET") -> bytes:
    return await whole(await asking.fetch(request(target, method=method), body))


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


TARGETS = [
    "/api/jobs?page=2&sort=-created",  # realistic
    "/a%2Fb//c/../d?x=%20+%7e&z=%zz",  # pathological
    "/x?",
    "//evil.test/x",
    "/%0a;a=b/%00/./%2e%2e/@evil.test:80/",
    "/" + "p" * 8000,
    '/a\\b|c{d}"<e>^`[f]?[]=\\',
]


@pytest.mark.parametrize("target", TARGETS)
async def test_the_target_crosses_byte_for_byte(target):
    async with both(response(b"ok")) as (up, asking):
        assert await asked(asking, target) == b"ok"
        assert up.requests[0].target == target.encode()


async def test_nothing_is_added_to_a_request_and_order_case_and_repetition_stay():
    pairs = [("X-B", "1"), ("x-A", "é".encode().decode("latin-1")), ("Cookie", "a=1"), ("X-B", "2"), ("Cookie", "b=2")]
    async with both(response()) as (up, asking):
        await whole(await asking.fetch(request("/", *pairs), None))

    expected = [(b"Host", b"portal.test"), *((n.encode(), v.encode("latin-1")) for n, v in pairs)]
    assert up.requests[0].fields == expected


async def test_any_bytes_of_a_value_cross():
    value = "".join(map(chr, (*range(0x21, 0x7F), *range(0x80, 0x100))))
    async with both(response()) as (up, asking):
        await whole(await asking.fetch(request("/", ("X-Latin", value)), None))

    assert up.requests[0].all("x-latin") == [value.encode("latin-1")]


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nb", "a\rb", "a\0b", "\u0100", "\udcff"])
async def test_what_would_be_another_line_or_no_byte_is_not_sent(value):
    async with both(response()) as (up, asking):
        with pytest.raises(UpstreamError) as failure:
            await asking.fetch(request("/", ("X", value)), None)

    assert (failure.value.kind, failure.value.delivered, up.peers) == ("http_request_error", False, [])


async def test_a_request_without_a_host_gets_the_upstreams():
    async with both(response()) as (up, asking):
        await whole(await asking.fetch(Request("GET", "/"), None))

    assert up.requests[0].get("host") == f"127.0.0.1:{up.port}"


async def test_interim_responses_are_heard_while_the_request_waits_for_them():
    heard: list[int] = []
    go_on = asyncio.Event()

    async def expecting(_: Message, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.reader.readexactly(4) == b"body"
        await peer.send(response(b"ok"))

    def hear(response: Response) -> None:
        heard.append(response.status)
        if response.status == 100:
            go_on.set()

    async def patient() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield b"body"

    head = request("/", ("Expect", "100-continue"), ("Content-Length", "4"), method="POST")
    async with both(expecting, read_bodies=False) as (up, asking):
        assert await whole(await asking.fetch(head, patient(), interim=hear)) == b"ok"

    assert (heard, up.requests[0].get("expect")) == ([103, 100], "100-continue")


async def test_an_upstream_that_declines_what_it_was_to_expect_gets_no_body_and_no_other_request():
    async def declining(_: Message, peer: Peer) -> None:
        await peer.send(response(b"no", status="417 Expectation Failed"))
        assert await peer.reader.read() == b""

    async def endless() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b"never"

    head = request("/", ("Expect", "100-continue"), ("Content-Length", "4"), method="POST")
    async with both(declining, read_bodies=False) as (up, asking):
        assert await whole(await asking.fetch(head, endless())) == b"no"
        await up.peers[0].gone.wait()


@pytest.mark.parametrize(
    ("pairs", "body", "framing"),
    [
        ([("Content-Length", "4")], lambda: parts(b"ab", b"cd"), ("content-length", b"4")),  # realistic
        ([], lambda: parts(b"ab", b"cd"), ("transfer-encoding", b"chunked")),
        ([], lambda: b"abcd", ("content-length", b"4")),
    ],
)
async def test_a_body_keeps_its_framing(pairs, body, framing):
    async with both(response()) as (up, asking):
        await whole(await asking.fetch(request("/", *pairs, method="POST"), body()))

    assert (up.requests[0].body, up.requests[0].all(framing[0])) == (b"abcd", [framing[1]])


async def test_a_response_head_keeps_its_bytes():
    head = ("Set-Cookie: a=1", "x-LATIN: \xf6\xdf", "Set-Cookie: b=2")
    async with both(response(b"", *head, status="203 Gr\xf6\xdfer")) as (_, asking):
        stream = await asking.fetch(request(), None)
        stream.close()

    assert (stream.response.status, stream.response.reason) == (203, "Gr\xf6\xdfer")
    assert stream.response.fields.pairs[:3] == (("Set-Cookie", "a=1"), ("x-LATIN", "\xf6\xdf"), ("Set-Cookie", "b=2"))


@pytest.mark.parametrize(
    ("raw", "framed", "length", "body"),
    [
        (response(b"abc"), True, 3, b"abc"),  # realistic
        (chunked([b"ab", b"c"]), True, None, b"abc"),
        (response(b"abc", "Connection: close", length=False), False, None, b"abc"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(b"abc"), True, 3, b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + response(b"abc"), True, 3, b"abc"),  # pathological
        (response(b"", status="204 No Content", length=False), True, None, b""),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", False, None, b"abc"),
    ],
)
async def test_bodies_of_every_framing_are_read(raw, framed, length, body):
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(raw)
        if not framed:
            peer.close()

    async with both(answer) as (_, asking):
        stream = await asking.fetch(request(), None)
        assert (stream.framed, stream.length) == (framed, length)
        assert await whole(stream) == body


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        response(b"", "X: a\rSet-Cookie: x=1"),
        response(b"", "X: a\x00b"),
        response(b"", "X: a\x07b"),
        response(b"", "X : a"),
        response(b"", "Content-Length: 5"),
        response(b"", "Transfer-Encoding: chunked"),
        response(b"ab", "Transfer-Encoding: gzip", length=False),
        response(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked", length=False),
        response(b"", *(f"X-{n}: 1" for n in range(300))),
        response(b"", "X: " + "a" * (40 << 10)),
    ],
    ids=range(14),
)  # pathological
async def test_what_is_not_a_sound_response_is_a_protocol_error(raw):
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(raw)
        peer.close()

    async with both(answer) as (_, asking):
        with pytest.raises(UpstreamError) as failure:
            await asking.fetch(request(), None)

    assert (failure.value.kind, failure.value.status, failure.value.delivered) == ("http_protocol_error", 502, True)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        chunked([b"hello"], end=False),
        chunked([b"hello"], end=False) + b"5\r\nab",
    ],
)
async def test_a_body_that_ends_early_is_an_error(raw, reset):
    gate = asyncio.Event()

    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(raw)
        await gate.wait()
        peer.reset() if reset else peer.close()

    async with both(answer) as (_, asking):
        stream = await asking.fetch(request(), None)
        chunks = stream.chunks()
        assert (await anext(chunks)).startswith(b"hello")
        gate.set()
        with pytest.raises(UpstreamError, match="http_response_incomplete"):
            async for _ in chunks:
                pass
        stream.close()


async def test_a_reset_is_not_the_end_of_a_body_that_only_the_connection_ends():
    gate = asyncio.Event()

    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(response(b"hello", length=False))
        await gate.wait()
        peer.reset()

    async with both(answer) as (_, asking):
        stream = await asking.fetch(request(), None)
        chunks = stream.chunks()
        assert await anext(chunks) == b"hello"
        gate.set()
        with pytest.raises(UpstreamError):
            await anext(chunks)
        stream.close()


async def test_a_refused_connection_was_not_delivered():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with client(closed.getsockname()[1]) as asking:
            with pytest.raises(UpstreamError) as failure:
                await asking.fetch(request(method="POST"), parts(b"x"))

    assert (failure.value.kind, failure.value.status, failure.value.delivered) == ("connection_refused", 502, False)


async def test_a_name_that_does_not_resolve_was_not_delivered():
    asking = HttpUpstream("http://nowhere.invalid", QUICK)
    with pytest.raises(UpstreamError) as failure:
        await asking.fetch(request(), None)
    await asking.close()

    assert (failure.value.kind, failure.value.delivered) == ("dns_error", False)


async def silent(_: Message, peer: Peer) -> None:
    await peer.reader.read()


@pytest.mark.parametrize("body", [None, b"abc", parts])
async def test_silence_is_a_timeout_after_which_the_upstream_may_have_acted(body):
    timeouts = Timeouts(connect=5.0, first_byte=0.5, idle=600.0)
    async with both(silent, timeouts) as (up, asking):
        with pytest.raises(UpstreamError) as failure:
            await asking.fetch(request(method="POST"), body(b"x") if body is parts else body)
        await up.peers[0].gone.wait()

    assert (failure.value.kind, failure.value.status, failure.value.delivered) == ("http_response_timeout", 504, True)


async def test_an_upload_that_stands_still_ends_when_the_idle_time_is_over():
    started = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"some"
        started.set()
        await asyncio.Event().wait()

    async with both(silent, Timeouts(connect=5.0, first_byte=600.0, idle=0.05), read_bodies=False) as (_, asking):
        with pytest.raises(UpstreamError) as failure:
            await asking.fetch(request(method="POST"), stalling())

    assert started.is_set()
    assert failure.value.status == 504


async def test_a_response_that_stops_is_a_read_timeout():
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        await peer.reader.read()

    async with both(answer, Timeouts(connect=5.0, first_byte=5.0, idle=0.05)) as (_, asking):
        stream = await asking.fetch(request(), None)
        with pytest.raises(UpstreamError, match="connection_read_timeout"):
            await whole(stream)
        stream.close()


async def test_no_free_connection_is_a_timeout_that_was_not_delivered():
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        await peer.reader.read()

    async with upstream(answer) as up, client(up.port, Timeouts(5.0, 0.2, 5.0), max_connections=1) as asking:
        first = await asking.fetch(request(), None)
        with pytest.raises(UpstreamError) as failure:
            await asking.fetch(request(method="POST"), None)
        first.close()

    assert (failure.value.kind, failure.value.status) == ("connection_limit_reached", 504)
    assert not failure.value.delivered
    assert len(up.requests) == 1


async def test_connections_are_used_again_and_released_when_a_body_is_not_wanted():
    async with both(response(b"ok")) as (up, asking):
        for _ in range(5):
            await asked(asking)
        assert len(up.peers) == 1

    async with both(response(b"x" * (4 << 20))) as (up, asking):
        stream = await asking.fetch(request(), None)
        stream.close()
        await up.peers[0].gone.wait()


# Retrying


async def once_then_hang_up(request_: Message, peer: Peer) -> None:
    """Answers the first request of each connection; the second finds it dead."""
    if peer.answered:
        peer.close()
    else:
        await peer.send(response())


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_request_is_repeated_once_when_a_reused_connection_is_dead(method):
    async with both(once_then_hang_up) as (up, asking):
        await asked(asking)
        await asked(asking, "/again", method=method)

    assert [r.target for r in up.requests] == [b"/", b"/again", b"/again"]


@pytest.mark.parametrize(("method", "body"), [("POST", None), ("PATCH", b"x"), ("PUT", parts)])
async def test_what_may_have_had_an_effect_is_not_repeated(method, body):
    async with both(once_then_hang_up) as (up, asking):
        await asked(asking)
        with pytest.raises(UpstreamError) as failure:
            await asked(asking, "/again", parts(b"x") if body is parts else body, method)

    assert failure.value.delivered
    assert [r.target for r in up.requests] == [b"/", b"/again"]


async def test_a_request_is_not_repeated_when_a_new_connection_fails_it():
    async def hang_up(_: Message, peer: Peer) -> None:
        peer.close()

    async with both(hang_up) as (up, asking):
        with pytest.raises(UpstreamError, match="connection_terminated"):
            await asked(asking)

    assert len(up.requests) == 1


# Poisoning: a response nobody asked for must reach nobody (P1)

EVIL = response(b"EVIL")
SURPLUS = [EVIL, EVIL[:9], EVIL[:-6], b"E", b"garbage\r\n\r\n"]


@pytest.mark.parametrize("surplus", SURPLUS, ids=range(len(SURPLUS)))
@pytest.mark.parametrize("first", [response(b"good"), chunked([b"good"]), response(b"", status="304 Not Modified")])
@pytest.mark.isolation
async def test_what_follows_a_response_in_the_same_segment_is_never_anothers(first, surplus):
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(first + surplus)
        await peer.reader.read()

    async with both(answer) as (up, asking):
        for _ in range(3):
            with suppress(UpstreamError):  # what is garbage may fail the response it follows
                assert await asked(asking) in (b"good", b"")

    assert len(up.peers) == 3


@pytest.mark.parametrize("surplus", SURPLUS, ids=range(len(SURPLUS)))
@pytest.mark.isolation
async def test_what_follows_the_end_of_a_body_that_is_being_read_is_never_anothers(surplus):
    gate = asyncio.Event()

    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(response(b"", "Content-Length: 4", length=False) + b"go")
        await gate.wait()
        await peer.send(b"od" + surplus)
        await peer.reader.read()

    async with both(answer) as (up, asking):
        for _ in range(3):
            gate.clear()
            stream = await asking.fetch(request(), None)
            gate.set()
            with suppress(UpstreamError):
                assert await whole(stream) == b"good"
            stream.close()

    assert len(up.peers) == 3


async def test_what_waits_in_the_socket_when_a_connection_is_to_be_reused_is_not_taken():
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(response(b"good"))

    async with both(answer) as (up, asking):
        assert await asked(asking) == b"good"
        # behind the event loop's back: it has no chance to read this before the next request is sent
        os.write(up.peers[0].writer.get_extra_info("socket").fileno(), EVIL)
        assert await asked(asking, method="POST") == b"good"

    assert len(up.peers) == 2


@pytest.mark.parametrize("surplus", SURPLUS, ids=range(len(SURPLUS)))
async def test_what_arrives_while_nothing_is_asked_ends_the_connection(surplus):
    said = asyncio.Event()

    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(response(b"good"))
        await said.wait()
        await peer.send(surplus)
        await peer.reader.read()

    async with both(answer) as (up, asking):
        assert await asked(asking) == b"good"
        said.set()
        await up.peers[0].gone.wait()
        assert await asked(asking) == b"good"

    assert len(up.peers) == 2


async def test_of_200_requests_after_one_that_was_answered_twice_none_gets_the_second_answer():
    said = asyncio.Event()

    async def twice(_: Message, peer: Peer) -> None:
        await peer.send(response(b"good"))
        await asyncio.sleep(0)
        await peer.send(EVIL)
        said.set()
        await peer.reader.read()

    async with both(twice) as (_, asking):
        for _ in range(200):
            assert await asked(asking) == b"good"
            await said.wait()
            said.clear()


async def test_a_body_that_a_response_to_head_must_not_have_answers_nobody():
    async with both(response(EVIL)) as (up, asking):
        assert await asked(asking, method="HEAD") == b""
        assert await asked(asking) == EVIL  # its own, from a connection of its own
        assert len(up.peers) == 2


async def test_an_answer_before_the_body_was_sent_ends_the_connection():
    async def early(_: Message, peer: Peer) -> None:
        await peer.send(response(b"no", status="413 Content Too Large"))
        await peer.reader.read()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with both(early, read_bodies=False) as (up, asking):
        stream = await asking.fetch(request("/", ("Content-Length", "100"), method="POST"), endless())
        assert (stream.response.status, await whole(stream)) == (413, b"no")
        await up.peers[0].gone.wait()


async def test_a_body_is_read_no_faster_than_it_is_taken():
    sent = 0

    async def answer(_: Message, peer: Peer) -> None:
        nonlocal sent
        await peer.send(response(b"", f"Content-Length: {64 << 20}", length=False))
        for _ in range(64):
            await peer.send(b"x" * (1 << 20))
            sent += 1

    async with both(answer) as (_, asking):
        stream = await asking.fetch(request(), None)
        seen, before = -1, 0
        while seen != sent:  # it moves until every buffer between the two is full
            seen = sent
            await asyncio.sleep(0.1)
        assert 0 < sent < 40
        before = sent
        assert len(await whole(stream)) == 64 << 20
        await until(lambda: sent == 64)
        assert before < sent


async def test_an_upstream_behind_a_unix_socket(tmp_path: Path):
    path = str(tmp_path / "upstream.sock")
    up = Upstream(response(b"ok"))
    server = await asyncio.start_unix_server(up.serve, path)
    asking = HttpUpstream(f"unix:{path}", QUICK)
    assert await asked(asking, "/x?") == b"ok"
    assert (up.requests[0].target, up.requests[0].get("host")) == (b"/x?", "portal.test")
    await asking.close()
    await until(lambda: up.peers[0].gone.is_set())
    server.close()


def test_the_same_on_the_loop_that_is_used_in_production():
    async def asking_twice() -> list[bytes]:
        async with both(chunked([b"a" * 100_000, b"b"])) as (up, asking):
            bodies = [await asked(asking) for _ in range(2)]
            stream = await asking.fetch(request("/", method="POST"), parts(b"x" * (1 << 20), b"y"))
            bodies.append(await whole(stream))
            assert (len(up.peers), len(up.requests[2].body)) == (1, (1 << 20) + 1)
            return bodies

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asking_twice()) == [b"a" * 100_000 + b"b"] * 3
