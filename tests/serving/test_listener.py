"""proxy.serving.listener: what is taken for a request, what is refused, and how connections end."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.errors import SidecacheError
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving import listener as module
from proxy.serving.connection import Interim
from proxy.serving.listener import Listener, require_c_parser
from proxy.serving.reply import Reply
from proxy.serving.reserved import Reserved
from proxy.serving.upstream import Body
from tests.wire import (
    LIMIT,
    RULES,
    Client,
    Message,
    Peer,
    Upstream,
    connect,
    fetch,
    refuses,
    response,
    until,
    upstream,
)

OUTCOME = Outcome(Reason.NO_RULE)


def replied(body: bytes | AsyncIterator[bytes] = b"ok", *pairs: tuple[str, str], status: int = 200) -> Reply:
    sized = (("Content-Length", str(len(body))),) if isinstance(body, bytes) else ()
    return Reply(status, Fields((*pairs, *sized, ("Cache-Status", OUTCOME.cache_status()))), body, OUTCOME)


class NoBridge:
    def takes(self, request: Request) -> bool:
        return request.fields.get("upgrade") == "websocket"

    async def __call__(self, incoming: web.BaseRequest, request: Request) -> Reply:
        return replied(b"websocket")

    async def close(self) -> None:
        pass


class Handler:
    """Answers with `make(request, body)` and remembers what it was asked."""

    def __init__(self, make: Callable[[Request, bytes], Any] | None = None, *, reads: bool = True) -> None:
        self.make = make or (lambda request, body: replied(body or request.target.encode()))
        self.reads = reads
        self.asked: list[Request] = []
        self.reported: list[Reason] = []
        self.bodies: list[Body] = []
        self.drain = 5.0

    async def __call__(self, request: Request, body: Body, interim: Interim) -> Reply:
        self.asked.append(request)
        self.bodies.append(body)
        whole = b""
        if self.reads and isinstance(body, AsyncIterator):
            whole = b"".join([chunk async for chunk in body])
        made = self.make(request, whole)
        return await made if isinstance(made, Awaitable) else made


@asynccontextmanager
async def listening(handler: Handler, **more: Any) -> AsyncIterator[Listener]:
    reserved = Reserved("/.sidecache", lambda: "ready", lambda: True)
    made = Listener(
        handler, reserved, drain=handler.drain, upgrade=NoBridge(),
        finished=lambda request, reply, seconds: handler.reported.append(reply.outcome.reason), **more,
    )  # fmt: skip
    await made.open("127.0.0.1", 0)
    try:
        yield made
    finally:
        await made.close()


async def raw(port: int, data: bytes, method: str = "GET") -> tuple[Message, Client]:
    client = await connect(port)
    await client.send(data)
    return await client.response(method), client


OK = b"Host: h\r\n"
REFUSED = {
    "CL and TE": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "TE and CL": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "the same length twice": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    **{
        f"length {value!r}": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + value + b"\r\n\r\nabcde"
        for value in (b"+5", b"-1", b"0x5", b"5,5", b"1_0", b"5 5", b"\xb2")
    },
    **{
        f"coding {value!r}": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding" + value + b"\r\n\r\n0\r\n\r\n"
        for value in b" : chunked|: xchunked|: chunked, cow|: identity, chunked|:\x0bchunked|: gzip|:".split(b"|")
    },
    "a folded field": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    "a bare LF": b"GET / HTTP/1.1\nHost: h\n\n",
    "a bare LF in the head": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\nY: b\r\n\r\n",
    "a bare CR in a value": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
    "BEL in a value": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x07b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nX: 1\r\n\r\n",
    **{
        f"host {value!r}": b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"
        for value in (b"", b"a@evil", b"a/path", b"a, b", b"a b", b"a:b", b"[::1", b"a:123456", b"\xc3\xa9")
    },
    **{
        f"target {value!r}": b"GET " + value + b" HTTP/1.1\r\nHost: h\r\n\r\n"
        for value in b"/x#frag http://evil/x http://h@evil/ * ?x x /\x80 ftp://h/ http://h/#x".split()
    },
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "a tab in the target": b"GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a lower-case method": b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "two credentials": b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nauthorization: b\r\n\r\n",
    **{
        f"Connection: {name}": b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close, " + name.encode() + b"\r\n\r\n"
        for name in ("authorization", "Content-Length", "host", "x-org-id", "Cookie")
    },
    "a name that is not ASCII": b"GET / HTTP/1.1\r\nHost: h\r\nX\xc3\xa9: 1\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_ambiguous_is_refused_unseen_and_ends_the_connection(data, caplog):
    handler = Handler()
    async with listening(handler) as made:
        got, client = await raw(made.port, data)
        assert await client.ended()
        await client.close()

    assert (got.status, got.get("connection")) == (400, "close")
    assert got.names == [
        "Content-Type", "Cache-Control", "Content-Length", "Cache-Status", "Date", "Connection",
    ]  # fmt: skip
    assert got.cache == "sidecache; detail=bad-request"
    assert got.body == (
        b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"The request is malformed or ambiguous."}'
    )
    assert handler.asked == []
    assert caplog.records == []


BAD_CHUNKS = [
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFF0\r\nhello",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloworld\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"2;\n xx\r\nab\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5;\x00\r\nhello\r\n0\r\n\r\n",
    b"0\r\nX: y\n\r\n",
]


@pytest.mark.parametrize("chunks", BAD_CHUNKS, ids=range(len(BAD_CHUNKS)))
@pytest.mark.parametrize("caught", [True, False], ids=["passed on", "read here"])
async def test_a_body_with_a_bad_chunk_is_never_whole_and_its_rest_no_request(chunks, caught, caplog):
    whole: list[bytes] = []

    class Reading(Handler):
        async def __call__(self, request: Request, body: Body, interim: Interim) -> Reply:
            assert isinstance(body, AsyncIterator)
            self.asked.append(request)
            try:
                whole.append(b"".join([chunk async for chunk in body]))
            except ConnectionError:
                if not caught:
                    raise
            return replied(b"", status=502)  # as for an upstream whose request broke off

    handler = Reading()
    async with listening(handler) as made, await connect(made.port) as client:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head)
        await until(lambda: bool(handler.asked))
        await client.send(chunks + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
        got = await client.response()
        assert (got.status, got.cache) == (400, "sidecache; detail=bad-request")
        assert await client.ended()

    assert whole == []
    assert all(request.target == "/" for request in handler.asked)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (b"X: " + b"a" * 16000 + b"\r\n", {200}),  # realistic
        (b"".join(b"X-%d: 1\r\n" % n for n in range(120)), {200}),
        (b"X: " + b"a" * 17000 + b"\r\n", {400, 431}),  # pathological
        (b"".join(b"X-%d: 1\r\n" % n for n in range(140)), {400, 431}),
        (b"".join(b"X-%d: %s\r\n" % (n, b"a" * 9000) for n in range(4)), {431}),
    ],
)
async def test_heads_have_a_size(head, statuses, caplog):
    async with listening(Handler()) as made:
        got, client = await raw(made.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n")
        await client.close()
        assert got.status in statuses
        assert (await fetch(made.port)).status == 200
    assert caplog.records == []


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        (b"/a%2Fb//c/../d?x=%20+%7e&z=%zz", "/a%2Fb//c/../d?x=%20+%7e&z=%zz"),  # realistic
        (b"/%0a;x", "/%0a;x"),
        (b"//evil/x", "//evil/x"),
        (b"http://h/x?y", "/x?y"),
        (b"http://h", "/"),
        (b'/\\a|b"<>^`{}', '/\\a|b"<>^`{}'),  # pathological
        (b"/" + b"p" * 16000, "/" + "p" * 16000),
    ],
)
async def test_targets_are_seen_as_they_came(target, seen):
    handler = Handler(lambda request, body: replied())
    async with listening(handler) as made:
        got, client = await raw(made.port, b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        await client.close()
    assert got.status == 200
    assert handler.asked[0].target == seen


async def test_fields_keep_order_case_number_and_bytes():
    handler = Handler()
    async with listening(handler) as made:
        head = "x-B: 2\r\nX-A: é\r\nX-b: 1\r\n".encode()
        _, client = await raw(made.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n")
        await client.close()
    assert handler.asked[0].fields.pairs == (("Host", "h"), ("x-B", "2"), ("X-A", "Ã©"), ("X-b", "1"))
    assert (handler.asked[0].peer, handler.asked[0].peer_trusted) == ("127.0.0.1", False)


async def test_http_1_0_needs_no_host():
    async with listening(Handler()) as made:
        got, client = await raw(made.port, b"GET /x HTTP/1.0\r\n\r\n")
        assert (got.status, got.body, await client.ended()) == (200, b"/x", True)
        await client.close()


@pytest.mark.parametrize(
    "request_", [b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"]
)
async def test_trace_and_connect_are_not_for_us(request_):
    handler = Handler()
    async with listening(handler) as made:
        got, client = await raw(made.port, request_)
        await client.close()
    assert got.status in (400, 501)
    assert got.cache == "sidecache; detail=bad-request"
    assert handler.asked == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", 200),
        (b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", 200),
        (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: the unexpected\r\nContent-Length: 2\r\n\r\n", 417),
    ],
)
async def test_expectations_without_a_100(head, status):
    async with listening(Handler()) as made:
        got, client = await raw(made.port, head)
        await client.close()
        assert got.status == status


async def test_pipelined_requests_are_answered_in_order():
    gates = {f"/{n}": asyncio.Event() for n in range(50)}

    async def make(request: Request, body: bytes) -> Reply:
        gates[request.target].set()
        return replied(request.target.encode())

    async with listening(Handler(make)) as made, await connect(made.port) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(50)))
        assert [(await client.response()).body for _ in range(50)] == [b"/%d" % n for n in range(50)]


async def test_reserved_paths_are_answered_here_and_the_rest_is_reported_once():
    handler = Handler()
    async with listening(handler) as made:
        got = await fetch(made.port, "/.sidecache/livez")
        await fetch(made.port, "/x")
    assert (got.body, got.cache) == (b"alive\n", "sidecache; detail=reserved-path")
    assert got.names == ["Content-Type", "Cache-Control", "Content-Length", "Cache-Status", "Date"]
    assert ([r.target for r in handler.asked], handler.reported) == (["/x"], [Reason.NO_RULE])


# Leaving


async def test_what_is_under_way_is_finished_and_nothing_new_is_begun():
    handler = Handler()
    async with listening(handler) as made:
        uploading, idle = await connect(made.port), await connect(made.port)
        await idle.ask()
        await uploading.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf")
        await until(lambda: len(handler.asked) == 2)
        closing = asyncio.create_task(made.close())
        await until(lambda: refuses(made.port))
        await uploading.send(b"done")
        got = await uploading.response()
        assert (got.body, got.get("connection")) == (b"halfdone", "close")
        await closing
        assert await idle.ended()
        await uploading.close()
        await idle.close()


async def test_the_drain_time_is_the_limit():
    handler = Handler()
    handler.drain = 0.05
    async with listening(handler) as made:
        client = await connect(made.port)
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf")
        await until(lambda: len(handler.asked) == 1)
        async with asyncio.timeout(LIMIT):
            await made.close()
        assert await client.ended()
        await client.close()


async def test_while_leaving_each_response_ends_its_connection():
    async with listening(Handler()) as made, await connect(made.port) as client:
        assert (await client.ask()).get("connection") is None
        made.leaving()
        assert (await client.ask()).get("connection") == "close"
        assert await client.ended()


async def test_an_address_that_is_taken_is_an_error():
    async with listening(Handler()) as made:
        second = Listener(
            Handler(), Reserved("", str, bool), upgrade=NoBridge(), finished=lambda request, reply, seconds: None
        )
        with pytest.raises(OSError):
            await second.open("127.0.0.1", made.port)
        await second.close()


def test_the_lax_parser_is_refused(monkeypatch):
    require_c_parser()
    monkeypatch.setattr(module, "HttpRequestParser", module.HttpRequestParserPy)
    with pytest.raises(SidecacheError, match="C parser"):
        require_c_parser()


# A real process


@asynccontextmanager
async def process(up: Upstream, folder: Path, **environ: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    (folder / "rules.yaml").write_text(RULES)
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "run", "--upstream", f"http://127.0.0.1:{up.port}", "--rules",
        str(folder / "rules.yaml"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--profile", "staging",
        env={**os.environ, "SIDECACHE_NAME_KEY": "k" * 32, **environ}, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert started.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(LIMIT):
            while not (found := re.search(r'data["=: ]+127\.0\.0\.1:(\d+)', "".join(lines))):
                line = (await started.stdout.readline()).decode()
                assert line, lines
                lines.append(re.sub(r"\x1b\[[0-9;]*m", "", line))
        yield started, int(found[1])
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


@pytest.mark.process
async def test_a_process_that_is_told_to_stop_finishes_what_is_under_way(tmp_path):
    gate = asyncio.Event()

    async def answer(request: Message, peer: Peer) -> None:
        await gate.wait()
        await peer.send(response(b"late"))

    async with upstream(answer) as up, process(up, tmp_path, SIDECACHE_DRAIN_S="20") as (started, port):
        slow, watching = await connect(port), await connect(port)
        assert (await watching.ask("/.sidecache/readyz")).body == b"ready\n"
        await slow.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        await up.arrived.wait()
        started.send_signal(signal.SIGTERM)
        while (ready := await fetch(port, "/.sidecache/readyz")).status == 200:
            pass  # the signal is on its way
        assert (ready.status, ready.body, ready.get("connection")) == (503, b"draining\n", "close")
        await until(lambda: refuses(port))
        gate.set()
        got = await slow.response()
        assert (got.body, got.get("connection")) == (b"late", "close")
        assert await asyncio.wait_for(started.wait(), LIMIT) == 0
        await slow.close()
        await watching.close()


def memory(pid: int) -> int:
    """Resident bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.process
async def test_bodies_of_any_size_pass_in_flat_memory(tmp_path):
    size, block = 256 << 20, b"x" * (1 << 20)

    async def answer(request: Message, peer: Peer) -> None:
        if request.start[0] == b"POST":
            taken = 0
            async for chunk in peer.body(request):
                taken += len(chunk)
            await peer.send(response(b"%d" % taken))
        else:
            await peer.send(response(b"", f"Content-Length: {size}", length=False))
            for _ in range(size >> 20):
                await peer.send(block)

    async with upstream(answer, read_bodies=False) as up, process(up, tmp_path) as (started, port):
        await fetch(port, "/", method="POST", body=b"x")
        before = memory(started.pid)
        async with await connect(port) as client:
            await client.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
            left = int((await client.head()).get("content-length") or 0)
            while left:
                left -= len(await asyncio.wait_for(client.reader.read(1 << 20), LIMIT))
            await client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size >> 20):
                await client.send(block)
            assert (await client.response()).body == b"%d" % size
        assert memory(started.pid) - before < 64 << 20
