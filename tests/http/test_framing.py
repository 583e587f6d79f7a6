"""Requests that could be read in two ways (RFC 9112, and the attacks on its readers): what the upstream is sent then.

Each is sent to a real sidecar on a bare socket, in front of an upstream that keeps every byte it receives and reads
strictly. Afterwards: every request the upstream got is one that was answered (O1), with one Host and one framing (O2);
a request behind it gets its own answer (O3); nothing was stored for it (O4).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.wire import Message, Peer, Upstream, connect, fetch, response, sidecar, upstream

CANARY = "/open/canary"
LIMIT = 3.0  # seconds within which each of these is over

HOST = b"Host: h\r\n"
GET = b"GET /open/x HTTP/1.1\r\n" + HOST
POST = b"POST /open/x HTTP/1.1\r\n" + HOST
END = b"0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


@dataclass
class World:
    up: Upstream
    port: int
    answer: Message = field(init=False)

    async def send(self, data: bytes, *, pieces: int = 0) -> int:
        """Send this on a connection of its own: the status of the first answer. A refusal is the last one."""
        async with asyncio.timeout(LIMIT), await connect(self.port) as client:
            for start in range(0, len(data), pieces or len(data)):
                await client.send(data[start : start + (pieces or len(data))])
                await asyncio.sleep(0)  # in which the other side reads it
            self.answer = await client.response()
            if self.answer.status >= 400:
                assert await client.ended()
        return self.answer.status

    async def check(self, *targets: bytes) -> None:
        """The oracles. `targets` are all that the upstream may have been asked for."""
        marked = (await fetch(self.port, CANARY, "Cache-Control: no-cache")).body
        assert marked == b"GET " + CANARY.encode()  # O3
        *asked, _ = self.up.requests  # O1: read strictly, or the fixture fails
        assert [request.target for request in asked] == list(targets)
        for request in self.up.requests:  # O2
            assert len(request.all("host")) == 1
            assert len(request.all("content-length")) + len(request.all("transfer-encoding")) <= 1
            assert b"smuggled" not in request.raw
        for target in {b"/smuggled", b"/open/x", *targets}:  # O4
            if target.startswith(b"/open/") or target == b"/smuggled":
                again = await fetch(self.port, target.decode())
                assert "hit" not in again.cache


async def echo(request: Message, peer: Peer) -> None:
    body = request.start[0] + b" " + request.target + (b" " + request.body if request.body else b"")
    await peer.send(response(body, "Content-Type: text/plain"))


@pytest.fixture
def world(tmp_path: Path):
    @asynccontextmanager
    async def made() -> AsyncIterator[World]:
        async with upstream(echo) as up, sidecar(up.port, tmp_path) as running:
            yield World(up, running.data_port)

    return made


def lines(*fields: bytes) -> bytes:
    return b"".join(each + b"\r\n" for each in fields)


LENGTHS = [b"+5", b"-1", b"0x5", b"5,5", b"5, 5", b"1_0", b"5 5", b"", b"5;", b"\xd9\xa5", b"9" * 30, b"1e1", b"0.5"]
CODINGS = (
    b" : chunked|: xchunked|: chunked, cow|: cow, chunked|: identity, chunked|:\x0bchunked|:\x0cchunked|: gzip|:"
    b'|: chunked\x00|: "chunked"|: chunked;q=1|: chunked, chunked|: chunked,|: , chunked|:\n chunked|: identity'
).split(b"|")
CHUNKED = lines(b"Transfer-Encoding: chunked")
FIVE = b"Content-Length: 5"

# 17 to 20: two lengths, or one that two readers read differently
TWO_FRAMINGS = {
    "CL and TE": POST + lines(b"Content-Length: 6") + CHUNKED + b"\r\n" + END + b"G",
    "TE and CL": POST + CHUNKED + lines(b"Content-Length: 3") + b"\r\n" + b"8\r\nSMUGGLED\r\n" + END,
    "CL 0 and TE": POST + lines(b"Content-Length: 0") + CHUNKED + b"\r\n" + END + SMUGGLED,
    "CL twice, differing": POST + lines(b"Content-Length: 1", FIVE) + b"\r\nabcde",
    "CL twice, the same": POST + lines(FIVE, FIVE) + b"\r\nabcde",
    "CL in two cases": POST + lines(FIVE, b"content-length: 6") + b"\r\nabcdef",
    "TE twice": POST + CHUNKED + CHUNKED + b"\r\n" + END,
    "TE twice, the second odd": POST + CHUNKED + lines(b"Transfer-encoding: cow") + b"\r\n" + END,
    "TE behind a folded line": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END,
    "TE in a folded line": POST + b"X: x\r\n Transfer-Encoding: chunked\r\n\r\n" + END,
    "TE behind a tab": POST + b"\tTransfer-Encoding: chunked\r\n\r\n" + END,
    "TE behind a bare CR": POST + b"X: x\rTransfer-Encoding: chunked\r\n\r\n" + END,
    "TE behind a bare LF": POST + b"X: x\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "TE behind a NUL": POST + b"X: x\x00\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "TE in HTTP/1.0": b"POST /open/x HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + END + SMUGGLED,
    "TE in a GET with CL": GET + lines(FIVE) + CHUNKED + b"\r\n" + END,
    "CL disguised": POST + lines(b"Content_Length: 99", FIVE) + b"\r\nabcde",
    "TE disguised": POST + lines(b"Transfer_Encoding: chunked", FIVE) + b"\r\nabcde",
    "Connection nominates CL": POST + lines(b"Connection: content-length", FIVE) + b"\r\nabcde",
    **{f"CL {value!r}": POST + b"Content-Length: " + value + b"\r\n\r\nabcde" for value in LENGTHS},
    **{f"TE{value!r}": POST + b"Transfer-Encoding" + value + b"\r\n\r\n" + END for value in CODINGS},
}  # fmt: skip


@pytest.mark.parametrize("behind", [b"", SMUGGLED], ids=["alone", "with another behind"])
@pytest.mark.parametrize("data", TWO_FRAMINGS.values(), ids=TWO_FRAMINGS)
async def test_a_request_of_two_lengths_reaches_nobody(world, data, behind):
    async with world() as made:
        assert await made.send(data + behind) == 400
        await made.check()


# 21: chunks. "Funky chunks": each ends for one reader where it goes on for another
CHUNKS = {
    "an extension ended by LF": b"2;\n xx\r\nab\r\n" + END,
    "an extension with CR": b"5;a\rb\r\nhello\r\n" + END,
    "an extension with NUL": b"5;\x00\r\nhello\r\n" + END,
    "a size ended by LF": b"5\nhello\r\n" + END,
    "a size ended by CR": b"5\rhello\r\n" + END,
    "data ended by LF": b"5\r\nhello\n" + END,
    "data ended by CR": b"5\r\nhello\r" + END,
    "data ended by nothing": b"5\r\nhello" + END,
    "data ended by two bytes": b"5\r\nhelloXX" + END,
    "a spill": b"5\r\nhelloworld\r\n" + END,
    "a spill into the last chunk": b"5\r\nhello\r\n0\r\nX\r\n",
    "a size with a sign": b"+5\r\nhello\r\n" + END,
    "a size in C": b"0x5\r\nhello\r\n" + END,
    "a size of Python": b"5_0\r\nhello\r\n" + END,
    "a size with a space before": b" 5\r\nhello\r\n" + END,
    "a size that wraps to 0": b"10000000000000000\r\nhello\r\n" + END,
    "a size of 16 digits": b"FFFFFFFFFFFFFFED\r\nhello\r\n" + END,
    "a size beyond 2^63": b"5\r\nhello\r\n8000000000000000\r\nhello\r\n" + END,
    "a size of nothing": b"\r\nhello\r\n" + END,
    "an extension without size": b";x\r\nhello\r\n" + END,
    "64 KiB of extension": b"5;" + b"a" * (64 << 10) + b"\r\nhello\r\n" + END,
    "a trailer ended by LF": b"5\r\nhello\r\n0\r\nX: y\n\r\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    "a trailer without colon": b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "a trailer that frames": b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "200 trailers": b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("pieces", [50, 33_000, 0], ids=["in pieces", "in two", "at once"])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
async def test_a_body_of_odd_chunks_is_refused_and_never_whole(world, chunks, pieces):
    async with world() as made:
        assert await made.send(POST + CHUNKED + b"\r\n" + chunks + SMUGGLED, pieces=pieces) in (400, 431)
        await made.check()  # what the upstream saw of a body had no end, so that it was no request


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 12, 21])
async def test_a_size_of_16_digits_is_refused_wherever_the_segments_end(world, cut):
    head = POST + CHUNKED + b"\r\n"
    async with world() as made, asyncio.timeout(LIMIT), await connect(made.port) as client:
        await client.send(b"\r\n" + head[:-cut])
        await asyncio.sleep(0.02)  # a segment of its own
        await client.send(head[-cut:] + b"FFFFFFFFFFFFFFED\r\nhello")
        assert (await client.response()).status == 400
        assert await client.ended()
        assert made.up.requests == []


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        (b"5\r\nhello\r\n" + END, b"hello"),  # realistic
        (b"5;name=value\r\nhello\r\n0;x\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\nX-Org-Id: evil\r\n\r\n", b"hello"),
        (b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),  # pathological
        (b'5;a="\\";b"\r\nhello\r\n' + END, b"hello"),
    ],
)
async def test_a_body_is_framed_anew_without_extensions_and_trailers(world, chunks, body):
    async with world() as made:
        assert await made.send(POST + CHUNKED + b"\r\n" + chunks) == 200
        (request,) = made.up.requests
        assert request.body == body
        assert b"checksum" not in request.raw.lower()
        await made.check(b"/open/x")


# 22: targets
def asking(target: bytes, *fields: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + lines(*(fields or (b"Host: h",))) + b"\r\n"


REFUSED = {
    **{
        f"target {target!r}": asking(target)
        for target in b"/x#frag|http://evil/x|https://evil/x|http://h@evil/x|http://h:80@evil/|ftp://h/x|*|?x|x"
        b"|\\x|/a b|/a\tb|/\x80|/\xc3\xa9|/\x00|/\x7f|http://h/#x|http:/h/x|h:80|http://".split(b"|")
    },
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    # 23: who is asked
    **{
        f"host {value!r}": asking(b"/x", b"Host:" + value)
        for value in b"| a@evil| a/path| a, b| a b| a:b| [::1| a:123456| \xc3\xa9| a\x0bb| a#| a?| http://a| %61".split(
            b"|"
        )
    },
    "two hosts": asking(b"/x", b"Host: a", b"Host: b"),
    "the same host twice": asking(b"/x", b"Host: a", b"host: a"),
    "a host disguised": asking(b"/x", b"Host: a", b"HOST_: b", b"host : b"),
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "an absolute target of another host": asking(b"http://h/x", b"Host: evil"),
    "an absolute target without host": b"GET http://h/x HTTP/1.1\r\n\r\n",
    # 24: what Connection may not take away
    **{
        f"Connection: {name.decode()}": asking(b"/x", b"Host: h", b"Connection: close, " + name)
        for name in b"authorization Content-Length host x-org-id cookie Via Cache-Control".split()
    },
    # 28, 29: methods and versions
    **{f"method {m.decode()}": m + b" /x HTTP/1.1\r\n" + HOST + b"\r\n" for m in (b"get", b"G T", b"FOO", b"GET\x00")},
    **{
        f"version {v!r}": b"GET /x" + v + b"\r\n" + HOST + b"\r\n"
        for v in b"| HTTP/0.9| HTTP/1.2| HTTP/1.10| HTTP/2.0| HTTP/1| HTTP/1.1 | HTTP /1.1| http/1.1|"
        b" XTTP/1.1".split(b"|")
    },
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a line before": b"X: 1\r\nGET /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space before the first field": b"GET /x HTTP/1.1\r\n Host: h\r\nX: 1\r\n\r\n",
    "a field without name": asking(b"/x", b"Host: h", b": x"),
    "a field without colon": asking(b"/x", b"Host: h", b"GET / HTTP/1.1"),
    "bare LF everywhere": b"GET /x HTTP/1.1\nHost: h\n\n",
    "two credentials": asking(b"/x", b"Host: h", b"Authorization: Bearer a", b"authorization: Bearer b"),
    "a name that is not ASCII": asking(b"/x", b"Host: h", b"X\xc3\xa9: 1"),
    **{
        f"control {c:#x}": asking(b"/x", b"Host: h", b"X: a" + bytes([c]) + b"b")
        for c in (0, 7, 8, 11, 12, 13, 27, 127)
    },
    "X-Forwarded-For disguised": asking(b"/x", b"Host: h", b"X_Forwarded_For: 1.2.3.4"),
}  # fmt: skip


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
async def test_what_is_ambiguous_reaches_nobody(world, data):
    async with world() as made:
        assert await made.send(data + SMUGGLED) == 400
        assert data[:8] not in made.answer.body  # nothing of it is echoed
        await made.check()


ODD_BUT_CLEAR = {
    "an absolute target of the same host": (asking(b"http://h/x?y", b"Host: h"), b"/x?y"),  # realistic
    "an absolute target without path": (asking(b"http://h", b"Host: h"), b"/"),
    "two slashes": (asking(b"//evil/x"), b"//evil/x"),
    "dots and escapes": (asking(b"/a/../b/%2e%2e/%0a%00;x"), b"/a/../b/%2e%2e/%0a%00;x"),
    "a lone question mark": (asking(b"/x?"), b"/x?"),
    "8,000 characters": (asking(b"/" + b"x" * 8000), b"/" + b"x" * 8000),
    "two spaces": (b"GET  /x HTTP/1.1\r\nHost: h\r\n\r\n", b"/x"),  # pathological
    "empty lines before": (b"\r\n\r\n" + asking(b"/x"), b"/x"),
    "a length with zeros": (asking(b"/x", b"Host: h", b"Content-Length: 000"), b"/x"),
    "a field of 8,189 bytes": (asking(b"/x", b"Host: h", b"X: " + b"a" * 8186), b"/x"),
    "HTTP/1.0 without host": (b"GET /x HTTP/1.0\r\n\r\n", b"/x"),
    "not UTF-8": (asking(b"/x", b"Host: h", b"X: \xc3\xa9\xff"), b"/x"),
    "PURGE": (b"PURGE /x HTTP/1.1\r\nHost: h\r\n\r\n", b"/x"),
}


@pytest.mark.parametrize(("data", "target"), ODD_BUT_CLEAR.values(), ids=ODD_BUT_CLEAR)
async def test_what_is_odd_but_clear_reaches_the_upstream_as_it_is(world, data, target):
    async with world() as made:
        assert await made.send(data) == 200
        await made.check(target)


# 24
async def test_what_connection_names_stays_here(world):
    async with world() as made:
        fields = [b"Host: h", b"Connection: X-Foo, keep-alive, upgrade, HTTP2-Settings", b"X-Foo: 1", b"Upgrade: h2c"]
        fields += [b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", b"Keep-Alive: 5", b"TE: trailers", b"Trailer: X"]
        assert await made.send(asking(b"/x", *fields, b"Proxy-Connection: keep-alive")) == 200
        assert set(made.up.requests[0].names) == {
            "Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via",
        }  # fmt: skip
        await made.check(b"/x")


# 26
async def test_an_expectation_of_something_else_is_refused(world):
    async with world() as made:
        data = POST + lines(b"Expect: 200-ok", FIVE) + b"\r\nhello" + SMUGGLED
        assert await made.send(data) == 417
        await made.check()


# 27: a body where none is expected, and what is behind it
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
@pytest.mark.parametrize(
    "body",
    [lines(b"Content-Length: 35") + b"\r\n" + SMUGGLED, CHUNKED + b"\r\n23\r\n" + SMUGGLED + b"\r\n" + END],
)  # fmt: skip
async def test_a_body_of_a_request_that_needs_none_is_its_body(world, method, body):
    assert len(SMUGGLED) == 35
    async with world() as made, await connect(made.port) as client:
        await client.send(method + b" /open/fat HTTP/1.1\r\nHost: h\r\n" + body)
        got = await client.response(method.decode())
        assert (got.status, made.up.requests[0].body) == (200, SMUGGLED)
        assert "stored" not in got.cache
        slim = await fetch(made.port, "/open/fat", host="h")
        assert (slim.body, "hit" in slim.cache) == (b"GET /open/fat", False)
        assert [request.target for request in made.up.requests] == [b"/open/fat"] * 2


# 28
@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT"])
async def test_trace_and_connect_are_not_for_us(world, method):
    async with world() as made:
        target = b"h:443" if method == b"CONNECT" else b"/x"
        status = await made.send(method + b" " + target + b" HTTP/1.1\r\nHost: h\r\nMax-Forwards: 1\r\n\r\n")
        assert status in (400, 501)
        await made.check()


# 29
async def test_a_websocket_that_is_not_granted_opens_no_tunnel(tmp_path):
    async def answer(request: Message, peer: Peer) -> None:
        await peer.send(response(b"", "Sec-WebSocket-Version: 13", status="426 Upgrade Required"))

    async with (
        upstream(answer) as up,
        sidecar(up.port, tmp_path) as running,
        await connect(running.data_port) as client,
    ):
        head = (
            "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n"
        )
        await client.send(head.encode() + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + SMUGGLED)
        got = await client.response()
        assert (got.status, got.get("connection")) == (426, "close")
        assert await client.ended()
        assert [request.target for request in up.requests] == [b"/x"]


# 32
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (lines(b"X: " + b"a" * 17_000), 431),
        (b"X: 1\r\n" * 140, 431),
        (lines(b"X: " + b"a" * 9_000) * 4, 431),
        (lines(b"X" * 17_000 + b": 1"), 431),
    ],
    ids=["a line", "lines", "together", "a name"],
)
async def test_a_head_that_is_too_large_reaches_nobody(world, fields, status):
    async with world() as made:
        assert await made.send(GET + fields + b"\r\n" + SMUGGLED) == status
        assert await made.send(asking(b"/" + b"a" * 17_000)) == 414
        await made.check()


# TE.0, CL.0, 0.CL: an upstream that answers before it has read the body
async def test_the_rest_of_a_body_is_nobodys_request(tmp_path):
    async def early(request: Message, peer: Peer) -> None:
        await peer.send(response(request.target))

    async with (
        upstream(early, read_bodies=False) as up,
        sidecar(up.port, tmp_path) as running,
        await connect(running.data_port) as client,
    ):
        await client.send(b"POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED))
        assert (await client.response()).body == b"/first"
        await client.send(SMUGGLED)
        assert (await client.ask("/second")).body == b"/second"
        assert (await fetch(running.data_port, "/third")).body == b"/third"
    assert [request.target for request in up.requests] == [b"/first", b"/second", b"/third"]


async def test_requests_behind_each_other_get_each_their_own(world):
    async with world() as made:
        data = asking(b"/a") + POST + lines(FIVE) + b"\r\nhello" + asking(b"/b") + POST + CHUNKED + b"\r\n" + END
        async with await connect(made.port) as client:
            await client.send(data)
            bodies = [(await client.response()).body for _ in range(4)]
        assert bodies == [b"GET /a", b"POST /open/x hello", b"GET /b", b"POST /open/x"]
        await made.check(b"/a", b"/open/x", b"/b", b"/open/x")
