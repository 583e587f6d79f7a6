"""A whole sidecar on real sockets: what is not cached passes as it is, and nothing broken looks whole (P6, P1)."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zstandard

from tests.serving.world import unsigned
from tests.wire import (
    Answer,
    Client,
    Cut,
    Message,
    Peer,
    Upstream,
    chunked,
    connect,
    fetch,
    response,
    sidecar,
    until,
    upstream,
)

Pair = Callable[..., "asynccontextmanager[tuple[Upstream, int]]"]
BEARER = f"Authorization: Bearer {unsigned()}"
CHUNKS = b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nVia: 1.1 edge\r\n\r\n"
JSON = "Content-Type: application/json"
NAMED = """
version: 1
identity: {tenant: [header.x-org-id]}
features:
  jobs: {ttl: 15m, read: [GET /api/jobs], write: []}
"""


@pytest.fixture
def serving(tmp_path: Path):
    @asynccontextmanager
    async def both(answer: Answer, *, read_bodies: bool = True, **environ: str) -> AsyncIterator[tuple[Upstream, int]]:
        async with (
            upstream(answer, read_bodies=read_bodies) as up,
            sidecar(up.port, tmp_path, **environ) as running,
        ):
            yield up, running.data_port

    return both


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unnoticed(caplog):
    """No lost exception, no traceback: asyncio and aiohttp would log it."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name in ("asyncio", "aiohttp.server")] == []


# Requests


@pytest.mark.parametrize(
    "target", ["/a%2Fb//c/../d?x=%20+%7e&z=%zz", "/x%0ay", "/a;b=1?", "/api/jobs/%2e%2e/me", "//evil.test/", "/?"]
)
async def test_path_and_query_reach_the_upstream_untouched(serving, target):
    async with serving(response(b"ok")) as (up, port):
        assert (await fetch(port, target)).body == b"ok"
        assert up.requests[0].target == target.encode()


async def test_the_request_head_reaches_the_upstream_and_nothing_is_added_but_who_forwards_it(serving):
    sent = ["X-b: 1", "x-A:  two  ", "Cookie: a=1", "X-b: \u00e9", "cookie: b=2", "Accept-Language: de"]
    async with serving(response()) as (up, port):
        await fetch(port, "/", *sent)

    assert up.requests[0].fields == [
        (b"Host", b"portal.test"),
        (b"X-b", b"1"),
        (b"x-A", b"two"),
        (b"Cookie", b"a=1"),
        (b"X-b", "\u00e9".encode()),
        (b"cookie", b"b=2"),
        (b"Accept-Language", b"de"),
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"portal.test"),
        (b"Via", b"1.1 sidecache"),
    ]


async def test_hop_by_hop_and_nominated_fields_stay_here_both_ways(serving):
    answer = response(
        b"", "Connection: x-mine", "X-Mine: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: x", "X-Y: 1"
    )
    async with serving(answer) as (up, port):
        got = await fetch(
            port, "/", "Connection: keep-alive, X-Foo", "X-Foo: 1", "TE: trailers", "Upgrade: h2c", "HTTP2-Settings: A",
            "Proxy-Authorization: x", "Keep-Alive: 5", "Trailer: X", "Max-Forwards: 3",
        )  # fmt: skip

    assert up.requests[0].names[1:2] == ["Max-Forwards"]
    assert set(up.requests[0].names) == {
        "Host", "Max-Forwards", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via",
    }  # fmt: skip
    assert got.names == ["X-Y", "Content-Length", "Cache-Status", "Via", "Date"]


@pytest.mark.parametrize(
    ("trusted", "seen"), [("", [b"127.0.0.1"]), ("127.0.0.0/8", [b"203.0.113.9, 127.0.0.1"])], ids=["not", "trusted"]
)
async def test_what_a_peer_says_about_the_client_counts_when_it_is_trusted(serving, trusted, seen):
    environ = {"SIDECACHE_TRUSTED_PEERS": trusted} if trusted else {}
    async with serving(response(), **environ) as (up, port):
        await fetch(port, "/", "X-Forwarded-For: 203.0.113.9", "Via: 1.1 edge")

    assert up.requests[0].all("x-forwarded-for") == seen
    assert up.requests[0].all("via") == [b"1.1 edge, 1.1 sidecache"]


@pytest.mark.isolation
@pytest.mark.parametrize(("speaks", "outcomes"), [("on", ["stored", "hit"]), ("off", ["no-credentials"] * 2)])
async def test_an_ingress_may_say_where_a_client_is_and_not_who(tmp_path, speaks, outcomes):
    environ = {"SIDECACHE_TRUSTED_PEERS": "127.0.0.0/8", "SIDECACHE_PEER_IDENTITY": speaks}
    said = ("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Org-Id: org_a")
    async with upstream(response(b"ok")) as up, sidecar(up.port, tmp_path, NAMED, **environ) as running:
        for outcome in outcomes:
            assert outcome in (await fetch(running.data_port, "/api/jobs", *said)).cache

    assert up.requests[0].all("x-forwarded-proto") == [b"https"]
    assert up.requests[0].all("x-forwarded-for") == [b"203.0.113.9, 127.0.0.1"]


@pytest.mark.parametrize(
    ("head", "body", "framing"),
    [
        ("Content-Length: 5", b"hello", ("content-length", "5")),  # realistic
        ("Transfer-Encoding: chunked", CHUNKS, ("transfer-encoding", "chunked")),
        ("Content-Length: 0", b"", ("content-length", "0")),
    ],
)  # fmt: skip
async def test_an_upload_is_framed_the_way_it_came(serving, head, body, framing):
    async with serving(response()) as (up, port), await connect(port) as client:
        await client.send(f"POST /x HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n".encode() + body)
        await client.response()

    assert up.requests[0].body == (b"hello" if body else b"")
    assert up.requests[0].get(framing[0]) == framing[1]
    assert "trailer" not in up.requests[0].raw.decode().lower()


# Responses


async def test_trailer_fields_never_become_fields_of_a_stored_response(serving):
    """RFC 9111 3.1: "MUST NOT combine trailer fields with header fields"."""
    trailers = b"X-Trailer: 1\r\nCache-Control: no-store\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n"
    async with serving(head + b"5\r\nhello\r\n0\r\n" + trailers) as (_, port):
        for outcome in ("stored", "hit"):
            answer = await fetch(port, "/open/a")
            assert outcome in answer.cache
            assert (answer.body, answer.get("cache-control")) == (b"hello", "max-age=60")
            assert not {"X-Trailer", "Set-Cookie"}.intersection(answer.names)


async def test_a_response_head_reaches_the_client_and_nothing_is_added_but_who_passed_it(serving):
    head = ["Set-Cookie: a=1", "x-LATIN: \xf6", "Set-Cookie: b=2", "Cache-Status: edge; hit", "Date: then"]
    async with serving(response(b"ok", *head, status="418 I'm a t\xe9apot")) as (_, port):
        got = await fetch(port)

    added = ["Content-Length: 2", "Cache-Status: sidecache; fwd=bypass; detail=no-rule", "Via: 1.1 sidecache"]
    assert got.raw.decode("latin-1").split("\r\n") == ["HTTP/1.1 418 I'm a t\xe9apot", *head, *added, "", ""]
    assert (got.body, got.cache) == (b"ok", "sidecache; fwd=bypass; detail=no-rule")


@pytest.mark.parametrize(
    ("answer", "method", "body", "length", "chunks"),
    [
        (response(b"abc"), "GET", b"abc", "3", False),  # realistic
        (chunked([b"ab", b"c"]), "GET", b"abc", None, True),
        (response(), "GET", b"", "0", False),
        (chunked([]), "GET", b"", None, True),
        (response(b"", "Content-Length: 12", length=False), "HEAD", b"", "12", False),
        (response(b"", "Transfer-Encoding: chunked", length=False), "HEAD", b"", None, False),
        (response(b"", status="204 No Content", length=False), "GET", b"", None, False),
        (response(b"", status="204 No Content"), "DELETE", b"", None, False),
        (response(b"", 'ETag: "x"', status="304 Not Modified", length=False), "GET", b"", None, False),
    ],
)  # fmt: skip
async def test_every_framing_arrives_and_the_connection_goes_on(serving, answer, method, body, length, chunks):
    async with serving(answer) as (_, port), await connect(port) as client:
        for _ in range(2):
            got = await client.ask("/", method=method)
            assert (got.body, got.get("content-length")) == (body, length)
            assert got.get("transfer-encoding") == ("chunked" if chunks else None)


@pytest.mark.parametrize("target", ["/x", "/open/x"])
async def test_interim_responses_come_before_the_response_and_not_from_the_cache(serving, target):
    async with serving(HINTS * 3 + b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"abc")) as (_, port):
        async with await connect(port) as client:
            await client.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            for _ in range(3):
                assert (await client.head()).raw == HINTS
            assert (await client.response()).body == b"abc"
            if target == "/open/x":
                assert (await client.ask(target, host="h")).cache.startswith("sidecache; hit")
        async with await connect(port) as old:
            await old.send(f"GET {target} HTTP/1.0\r\nHost: other\r\n\r\n".encode())
            assert (await old.response()).body == b"abc"


async def test_an_expectation_is_the_upstreams_to_meet_or_to_refuse(serving):
    async def answer(request: Message, peer: Peer) -> None:
        if request.target == b"/refused":
            await peer.send(response(b"too much", status="413 Content Too Large"))
        else:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = b"".join([chunk async for chunk in peer.body(request)])
            await peer.send(response(b"%d" % len(body)))

    async with serving(answer, read_bodies=False) as (up, port):
        for target, status in (("/taken", 100), ("/refused", 413)):
            async with await connect(port) as client:
                head = f"POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {1 << 20}\r\n\r\n"
                await client.send(head.encode())
                if status == 100:
                    assert (await client.head()).status == 100
                    await client.send(b"x" * (1 << 20))
                    assert (await client.response()).body == b"%d" % (1 << 20)
                else:
                    got = await client.response()
                    assert (got.status, got.body, got.get("connection")) == (413, b"too much", "close")
                    assert await client.ended()
            assert up.requests[-1].get("expect") == "100-continue"
        assert (await fetch(port, "/taken", method="POST", body=b"x")).body == b"1"
        assert len(up.peers) == 2  # what was half asked of one is not asked of by the next


async def test_an_answer_that_comes_before_the_body_is_passed_on_and_the_connection_not_used_again(serving):
    async def answer(request: Message, peer: Peer) -> None:
        await peer.send(response(b"enough", status="413 Content Too Large"))

    async with serving(answer, read_bodies=False) as (up, port), await connect(port) as client:
        await client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf")
        got = await client.response()
        assert (got.status, got.body) == (413, b"enough")
        await client.send(b"x" * 996)
        assert (await client.ask("/y")).body == b"enough"
        assert [peer.answered for peer in up.peers] == [1, 1]


async def test_a_body_that_only_the_connection_ends(serving):
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(response(b"abc", length=False))
        peer.close()

    async with serving(answer) as (_, port), await connect(port) as client:
        assert (await client.ask()).body == b"abc"
        assert (await client.ask()).body == b"abc"


@pytest.mark.parametrize("head", ["", "Connection: keep-alive\r\n", "Host: h\r\n"])
async def test_a_client_that_speaks_http_1_0(serving, head):
    async with serving(chunked([b"ab", b"c"])) as (_, port), await connect(port) as client:
        await client.send(f"GET / HTTP/1.0\r\n{head}\r\n".encode())
        got = await client.response()
        assert (got.body, got.get("transfer-encoding"), got.get("connection")) == (b"abc", None, "close")

    async with serving(response(b"abc")) as (_, port), await connect(port) as client:
        await client.send(f"GET / HTTP/1.0\r\n{head}\r\n".encode())
        got = await client.response()
        keep = "keep-alive" in head
        assert (got.body, got.get("connection")) == (b"abc", "keep-alive" if keep else "close")
        assert keep or await client.ended()


# Broken upstreams


CUT = [
    (response(b"", "Content-Length: 5000", JSON, length=False) + b"hello", Peer.close),
    (response(b"", "Content-Length: 5000", JSON, length=False) + b"hello", Peer.reset),
    (chunked([b"hello"], JSON, end=False), Peer.close),
    (chunked([b"hello"], JSON, end=False), Peer.reset),
    (response(b"hello", JSON, length=False), Peer.reset),  # FIN is such a body's end
]


@pytest.mark.parametrize("target", ["/x", "/open/x", "/open/zipped"])
@pytest.mark.parametrize(
    ("raw", "leave"), CUT, ids=["length-FIN", "length-RST", "chunks-FIN", "chunks-RST", "close-RST"]
)
async def test_a_truncated_body_is_never_whole_and_never_stored(serving, raw, leave, target):
    gate = asyncio.Event()

    async def answer(request: Message, peer: Peer) -> None:
        await peer.send(raw)
        await gate.wait()
        leave(peer)

    async with serving(answer) as (up, port):
        for _ in range(2):
            gate.clear()
            async with await connect(port) as client:
                zipped = "Accept-Encoding: gzip" if target.endswith("zipped") else "X: 1"
                await client.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n{zipped}\r\n\r\n".encode())
                got = await client.head()
                gate.set()
                with pytest.raises(Cut):
                    await client.body(got)
        assert len(up.requests) == 2


@pytest.mark.parametrize(
    ("raw", "status", "error"),
    [
        (b"", 502, "connection_terminated"),  # realistic
        (b"HTTP/1.1 200 OK\r\nContent-Le", 502, "http_protocol_error"),
        (b"garbage\r\n\r\n", 502, "http_protocol_error"),  # pathological
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 502, "http_protocol_error"),
        (response(b"", "X: a\x00b"), 502, "http_protocol_error"),
    ],
)
@pytest.mark.parametrize("target", ["/x", "/open/x"])
async def test_an_upstream_that_gives_no_response_is_a_502_without_a_trace_of_it(serving, raw, status, error, target):
    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(raw)
        peer.close()

    async with serving(answer) as (up, port):
        got = await fetch(port, target)

    assert (got.status, got.get("content-type")) == (status, "application/problem+json")
    assert got.get("proxy-status") == f"sidecache; error={error}"
    assert "upstream-failed" in got.cache
    assert json.loads(got.body)["status"] == status
    assert b"127.0.0.1" not in got.raw + got.body
    assert str(up.port).encode() not in got.raw + got.body


async def test_an_upstream_that_is_not_there_or_silent(serving, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with sidecar(closed.getsockname()[1], tmp_path) as running:
            got = await fetch(running.data_port, "/x")
            assert (got.status, got.get("proxy-status")) == (502, "sidecache; error=connection_refused")

    async def silent(_: Message, peer: Peer) -> None:
        await peer.reader.read()

    async with serving(silent, SIDECACHE_FIRST_BYTE_TIMEOUT_MS="50") as (_, port):
        got = await fetch(port, "/x")
        assert (got.status, got.get("proxy-status")) == (504, "sidecache; error=http_response_timeout")


# Streaming


async def test_events_reach_the_client_one_by_one_and_the_head_before_them(serving):
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(_: Message, peer: Peer) -> None:
        await peer.send(response(b"", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", length=False))
        while event := await events.get():
            await peer.send(b"%x\r\n%b\r\n" % (len(event), event))
        await peer.send(b"0\r\n\r\n")

    async with serving(answer) as (_, port):
        for target in ("/x", "/open/events"):
            async with await connect(port) as client:
                await client.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                assert (await client.head()).get("content-type") == "text/event-stream"
                for event in (b"data: 1\n\n", b"data: 2\n\n"):
                    events.put_nowait(event)
                    assert await client.chunk() == event
                events.put_nowait(b"")
                assert await client.chunk() == b""


async def test_a_client_that_reads_slowly_slows_the_upstream_down(serving):
    sent = 0

    async def answer(_: Message, peer: Peer) -> None:
        nonlocal sent
        await peer.send(response(b"", f"Content-Length: {64 << 20}", length=False))
        for _ in range(64):
            await peer.send(b"x" * (1 << 20))
            sent += 1

    async with serving(answer) as (_, port), await connect(port, receive_buffer=64 << 10) as client:
        await client.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        await client.head()
        seen = -1
        while seen != sent:  # until every buffer on the way is full
            seen = sent
            await asyncio.sleep(0.1)
        assert sent < 40
        left = 64 << 20
        while left:
            left -= len(await client.reader.read(1 << 20))
        await until(lambda: sent == 64)


async def test_an_upload_is_taken_no_faster_than_the_upstream_takes_it(serving):
    gate = asyncio.Event()
    size = 0

    async def answer(request: Message, peer: Peer) -> None:
        nonlocal size
        await gate.wait()
        async for chunk in peer.body(request):
            size += len(chunk)
        await peer.send(response(b"thanks"))

    async with serving(answer, read_bodies=False) as (_, port), await connect(port) as client:
        client.writer.transport.set_write_buffer_limits(high=1 << 16)
        client.writer.write(f"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {64 << 20}\r\n\r\n".encode())
        sent = 0

        async def push() -> None:
            nonlocal sent
            for _ in range(64):
                await client.send(b"x" * (1 << 20))
                sent += 1

        pushing = asyncio.create_task(push())
        seen = -1
        while seen != sent or not sent:
            seen = sent
            await asyncio.sleep(0.1)
        assert sent < 40
        gate.set()
        await pushing
        assert (await client.response()).body == b"thanks"
        assert size == 64 << 20


# Clients that leave


async def test_a_client_that_leaves_in_the_middle_of_a_response_releases_the_upstream(serving):
    async def answer(request: Message, peer: Peer) -> None:
        if request.target == b"/quick":
            await peer.send(response(b"ok"))
        else:
            await peer.send(response(b"", "Transfer-Encoding: chunked", length=False) + b"2\r\nhi\r\n")
            await peer.reader.read()  # says nothing more: only the sidecar can end it

    async with serving(answer) as (up, port):
        for leave in (Client.close, Client.reset):
            client = await connect(port)
            await client.send(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
            await client.head()
            assert await client.chunk() == b"hi"
            peer = up.peers[-1]
            gone = leave(client)
            if gone is not None:
                await gone
            async with asyncio.timeout(10):
                await peer.gone.wait()
            assert (await fetch(port, "/quick")).body == b"ok"


async def test_a_client_that_leaves_in_the_middle_of_a_write_still_purges(serving):
    answers = iter(range(100))

    async def answer(request: Message, peer: Peer) -> None:
        if request.start[0] == b"GET":
            await peer.send(response(b"%d" % next(answers), JSON))
        else:
            await peer.reader.read()  # the upload never ends

    async with serving(answer, read_bodies=False) as (up, port):
        assert (await fetch(port, "/api/jobs", BEARER)).body == b"0"
        assert (await fetch(port, "/api/jobs", BEARER)).cache.startswith("sidecache; hit")
        client = await connect(port)
        await client.send(
            f"POST /api/jobs HTTP/1.1\r\nHost: portal.test\r\n{BEARER}\r\nContent-Length: 99\r\n\r\nhalf".encode()
        )
        await until(lambda: len(up.requests) == 2)
        client.reset()
        await up.peers[-1].gone.wait()

        async def fresh() -> bytes:
            return (await fetch(port, "/api/jobs", BEARER)).body

        async with asyncio.timeout(10):
            while (got := await fresh()) == b"0":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert got == b"1"


# Encodings


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_miss_and_hit_decode_to_the_same_body_and_the_304_is_for_that_coding(serving, coding):
    body = json.dumps([{"id": n, "title": "engineer"} for n in range(500)]).encode()

    def decoded(message: Message) -> bytes:
        assert message.get("content-encoding") == coding
        if coding == "gzip":
            return gzip.decompress(message.body)
        return zstandard.ZstdDecompressor().decompressobj().decompress(message.body)

    async with serving(response(body, JSON, 'ETag: "v1"')) as (up, port):
        miss = await fetch(port, "/open/x", f"Accept-Encoding: {coding}")
        hit = await fetch(port, "/open/x", f"Accept-Encoding: {coding}")
        plain = await fetch(port, "/open/x")
        assert decoded(miss) == decoded(hit) == plain.body == body
        assert (miss.cache, hit.cache.split(";")[1]) == ("sidecache; fwd=uri-miss; stored", " hit")
        assert miss.get("etag") == hit.get("etag") != plain.get("etag") == '"v1"'
        assert miss.get("vary") == hit.get("vary") == plain.get("vary") == "Accept-Encoding"
        assert "content-encoding" not in plain.raw.decode().lower()

        same = await fetch(port, "/open/x", f"Accept-Encoding: {coding}", f"If-None-Match: {hit.get('etag')}")
        assert (same.status, same.get("etag"), same.body) == (304, hit.get("etag"), b"")
        assert len(up.requests) == 1
        assert up.requests[0].all("accept-encoding") == [b"identity"]


async def test_sensitive_short_and_uncached_bodies_stay_plain(serving):
    long = b'{"a": 1}' * 500

    async def answer(request: Message, peer: Peer) -> None:
        await peer.send(response(b"{}" if request.target == b"/open/short" else long, JSON))

    async with serving(answer) as (_, port):
        for target in ("/secret", "/open/short", "/uncached"):
            for _ in range(2):
                got = await fetch(port, target, BEARER, "Accept-Encoding: gzip, zstd")
                assert got.get("content-encoding") is None, target
                assert got.body in (long, b"{}")
