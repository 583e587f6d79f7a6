"""proxy.serving.upgrade: who asks for another protocol gets it from the upstream, or its refusal."""

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvloop
from aiohttp import WSMsgType, web

from proxy.serving.exchange import Exchange
from tests.wire import LIMIT, Message, Peer, connect, fetch, response, sidecar, upstream

Serve = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]


@asynccontextmanager
async def portal(serve: Serve, **settings: object) -> AsyncIterator[int]:
    """An upstream that accepts every WebSocket and hands it to `serve`."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        made = web.WebSocketResponse(protocols=("v2", "v1"), autoping=False, max_msg_size=0, **settings)  # type: ignore[arg-type]
        made.headers["Set-Cookie"] = "a=1"
        await made.prepare(request)
        await serve(made, request)
        return made

    app = web.Application()
    app.router.add_get("/{rest:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def bridged(port: int, folder: Path, **options: object) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with sidecar(port, folder) as running, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{running.data_port}/live?x=%20"
        async with session.ws_connect(url, autoping=False, max_msg_size=0, **options) as made:  # type: ignore[arg-type]
            yield made


async def echo(made: web.WebSocketResponse, request: web.Request) -> None:
    async for message in made:
        if message.type is WSMsgType.TEXT:
            await made.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await made.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await made.pong(message.data)


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unnoticed(caplog):
    yield
    assert [
        r.getMessage() for r in caplog.records if r.name in ("asyncio", "aiohttp.server", "aiohttp.websocket")
    ] == []


async def test_messages_cross_unchanged(tmp_path):
    async with portal(echo) as port, bridged(port, tmp_path) as client:
        for text in ("hello", "", "é\u2028😀"):
            await client.send_str(text)
            assert (await client.receive(LIMIT)).data == text
        for data in (b"", b"\x00\xff" * 10, b"x" * (1 << 20)):
            await client.send_bytes(data)
            assert (await client.receive(LIMIT)).data == data
        await client.ping(b"are you there")
        answer = await client.receive(LIMIT)
        assert (answer.type, answer.data) == (WSMsgType.PONG, b"are you there")


async def test_the_handshake_crosses_with_subprotocol_target_and_heads(tmp_path):
    seen: list[web.Request] = []

    async def serve(made: web.WebSocketResponse, request: web.Request) -> None:
        seen.append(request)
        await made.receive()

    headers = {"Origin": "https://portal.test", "Cookie": "s=1", "Host": "portal.test"}
    async with portal(serve) as port, bridged(port, tmp_path, protocols=("v9", "v1"), headers=headers) as client:
        head = client._response.headers
        assert client.protocol == "v1"
        assert head.getall("Cache-Status") == ["sidecache; fwd=bypass; detail=upgrade"]
        assert head.getall("Set-Cookie") == ["a=1"]
        assert len(head.getall("Date")) == 1
        assert "sidecache" in head["Via"]

    assert seen[0].raw_path == "/live?x=%20"
    assert [seen[0].headers[name] for name in headers] == list(headers.values())
    assert seen[0].headers["X-Forwarded-For"] == "127.0.0.1"


@pytest.mark.parametrize("code", [1000, 4001])
async def test_a_close_by_the_upstream_crosses_with_code_and_reason(tmp_path, code):
    async def serve(made: web.WebSocketResponse, request: web.Request) -> None:
        await made.send_str("first")
        await made.close(code=code, message=b"that is why")
        answered.set_result(made.close_code)

    answered: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    async with portal(serve) as port, bridged(port, tmp_path, autoclose=False) as client:
        assert (await client.receive(LIMIT)).data == "first"
        closed = await client.receive(LIMIT)
        assert (closed.type, closed.data, closed.extra) == (WSMsgType.CLOSE, code, "that is why")
        await client.close(code=code)
        assert await asyncio.wait_for(answered, LIMIT) == code


@pytest.mark.parametrize("code", [1000, 4001])
async def test_a_close_by_the_client_crosses_with_code_and_reason(tmp_path, code):
    heard: asyncio.Future[tuple[object, object]] = asyncio.get_running_loop().create_future()

    async def serve(made: web.WebSocketResponse, request: web.Request) -> None:
        message = await made.receive()
        heard.set_result((message.data, message.extra))

    async with portal(serve, autoclose=False) as port, bridged(port, tmp_path) as client:
        await client.close(code=code, message=b"that is why")
        assert await asyncio.wait_for(heard, LIMIT) == (code, "that is why")


async def test_a_client_that_vanishes_ends_the_upstreams_side(tmp_path):
    gone = asyncio.Event()

    async def serve(made: web.WebSocketResponse, request: web.Request) -> None:
        await made.receive()
        gone.set()

    async with portal(serve) as port, bridged(port, tmp_path) as client:
        assert client._conn is not None
        assert client._conn.transport is not None
        client._conn.transport.abort()
        await asyncio.wait_for(gone.wait(), LIMIT)


async def test_an_upstream_that_vanishes_ends_the_clients_side(tmp_path):
    async def serve(made: web.WebSocketResponse, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()

    async with portal(serve) as port, bridged(port, tmp_path, autoclose=False) as client:
        assert (await client.receive(LIMIT)).type is WSMsgType.CLOSED


async def test_a_sidecar_that_stops_ends_both_sides(tmp_path):
    gone = asyncio.Event()

    async def serve(made: web.WebSocketResponse, request: web.Request) -> None:
        await made.receive()
        gone.set()

    async with portal(serve) as port, aiohttp.ClientSession() as session:
        async with asyncio.timeout(LIMIT), sidecar(port, tmp_path) as running:
            client = await session.ws_connect(f"http://127.0.0.1:{running.data_port}/", autoclose=False)
        assert (await client.receive(LIMIT)).type is WSMsgType.CLOSED
        await asyncio.wait_for(gone.wait(), LIMIT)


async def test_compression_is_between_the_ends(tmp_path):
    async with portal(echo) as port, bridged(port, tmp_path, compress=15) as client:
        assert client.compress == 15
        await client.send_str("a" * 1000)
        assert (await client.receive(LIMIT)).data == "a" * 1000


# Any other protocol


async def switching(_: Message, peer: Peer) -> None:
    """Grants `echo/1`, says one thing at once, and then repeats what it hears until it hears no more."""
    granted = response(b"", "Upgrade: echo/1", "connection: keep-alive, upgrade", status="101 Go on", length=False)
    await peer.send(granted + b"\x00first")
    while data := await peer.reader.read(1 << 16):
        await peer.send(data)
    peer.writer.write_eof()


ECHO = b"GET /live HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n"


async def test_any_protocol_crosses_byte_for_byte_and_half_closed(tmp_path):
    sent = bytes(range(256)) * 4096
    async with (
        upstream(switching) as up,
        sidecar(up.port, tmp_path) as running,
        await connect(running.data_port) as end,
    ):
        await end.send(ECHO)
        head = await end.head()
        assert (head.status, head.start[2], head.get("upgrade")) == (101, b"Go on", "echo/1")
        assert head.get("connection") == "Upgrade"
        assert await end.reader.readexactly(6) == b"\x00first"
        sending = asyncio.create_task(end.send(sent))
        assert await end.reader.readexactly(len(sent)) == sent
        await sending
        end.writer.write_eof()
        assert await end.ended()
    assert (up.requests[0].get("connection"), up.requests[0].get("upgrade")) == ("Upgrade", "echo/1")


def test_the_same_on_the_loop_that_is_used_in_production(tmp_path):
    async def echoed() -> None:
        async with upstream(switching) as up, sidecar(up.port, tmp_path) as it, await connect(it.data_port) as end:
            await end.send(ECHO)
            assert (await end.head()).status == 101
            await end.send(b"x" * 100_000)
            assert await end.reader.readexactly(100_006) == b"\x00first" + b"x" * 100_000
            end.writer.write_eof()
            assert await end.ended()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(echoed())


async def test_the_tunnel_is_read_no_faster_than_it_is_taken(tmp_path):
    sent = 0

    async def pouring(_: Message, peer: Peer) -> None:
        nonlocal sent
        await peer.send(response(b"", "Upgrade: echo/1", "Connection: upgrade", status="101 X", length=False))
        for _ in range(64):
            await peer.send(b"x" * (1 << 20))
            sent += 1
        peer.writer.write_eof()

    async with upstream(pouring) as up, sidecar(up.port, tmp_path) as running, await connect(running.data_port) as end:
        await end.send(ECHO)
        await end.head()
        seen = -1
        while seen != sent:  # it moves until every buffer between the two is full
            seen = sent
            await asyncio.sleep(0.1)
        assert sent < 40
        assert len(await asyncio.wait_for(end.reader.read(), LIMIT)) == 64 << 20


async def test_nothing_may_follow_before_the_answer(tmp_path):
    gate = asyncio.Event()

    async def slow(_: Message, peer: Peer) -> None:
        await gate.wait()
        await peer.send(response())

    async with upstream(slow) as up, sidecar(up.port, tmp_path) as running, await connect(running.data_port) as end:
        await end.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        await up.arrived.wait()
        await end.send(ECHO)
        await asyncio.sleep(0.05)  # two segments: what is behind an Upgrade field in its own segment, aiohttp drops
        await end.send(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(0.05)
        gate.set()
        assert (await end.response()).status == 200
        assert (await end.response()).status == 400
        assert await end.ended()
        assert len(up.requests) == 1


async def test_nor_while_it_is_found_out_whose_connection_it_will_be(tmp_path, monkeypatch):
    gate, asked, admit = asyncio.Event(), asyncio.Event(), Exchange.admit

    async def slowly(self, request):
        asked.set()
        await gate.wait()  # as for the keys of an issuer
        return await admit(self, request)

    monkeypatch.setattr(Exchange, "admit", slowly)
    async with upstream(switching) as up, sidecar(up.port, tmp_path) as it, await connect(it.data_port) as end:
        await end.send(ECHO)
        await asked.wait()
        await end.send(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(0.05)  # it was read as HTTP, and may have been meant for the tunnel
        gate.set()
        assert (await end.response()).status == 400
        assert await end.ended()
        assert up.requests == []


# Handshakes that fail

KEY = base64.b64encode(b"k" * 16).decode()
SOUND = {
    "Host": "h", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}  # fmt: skip


async def shaken(port: int, method: str = "GET", **changes: str) -> Message:
    head = {**SOUND, **{name.replace("_", "-"): value for name, value in changes.items()}}
    async with await connect(port) as client:
        lines = [f"{method} /live HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        await client.send("\r\n".join([*lines, "", ""]).encode())
        return await client.response()


@pytest.mark.parametrize(
    "changes", [{"Sec_WebSocket_Version": "777"}, {"Sec_WebSocket_Key": "short"}], ids=["version", "key"]
)
async def test_whether_a_handshake_is_valid_is_for_the_upstream_to_say(tmp_path, changes):
    async with upstream(response(b"13, please", status="426 Upgrade Required")) as up, sidecar(up.port, tmp_path) as it:
        got = await shaken(it.data_port, **changes)
        assert (got.status, got.body, got.cache) == (426, b"13, please", "sidecache; fwd=bypass; detail=upgrade")
        (name, value), *_ = changes.items()
        assert up.requests[0].get(name.replace("_", "-")) == value


@pytest.mark.parametrize(
    ("method", "changes"), [("GET", {"Connection": "keep-alive"}), ("POST", {}), ("GET", {"Upgrade": "h2c"})]
)
async def test_what_is_no_handshake_is_an_ordinary_request(tmp_path, method, changes):
    async with upstream(response(b"plain")) as up, sidecar(up.port, tmp_path) as running:
        got = await shaken(running.data_port, method, **changes)
        assert (got.status, got.body) == (200, b"plain")
        assert up.requests[0].get("upgrade") is None


@pytest.mark.parametrize(
    ("status", "expected"), [("401 Unauthorized", 401), ("302 Found", 302), ("503 Busy", 503), ("200 OK", 200)]
)
async def test_an_upstream_that_declines_is_heard(tmp_path, status, expected):
    refusal = response(b"no", "WWW-Authenticate: Bearer", "Location: http://169.254.0.1/", status=status)
    async with upstream(refusal) as up, sidecar(up.port, tmp_path) as running:
        got = await shaken(running.data_port)
        assert (got.status, got.body, got.get("www-authenticate")) == (expected, b"no", "Bearer")
        assert got.cache == "sidecache; fwd=bypass; detail=upgrade"
        assert len(up.requests) == 1


async def garbage(_: Message, peer: Peer) -> None:
    await peer.send(b"garbage\r\n\r\n")
    peer.close()


async def hang_up(_: Message, peer: Peer) -> None:
    peer.close()


async def wrong_key(_: Message, peer: Peer) -> None:
    accept = base64.b64encode(hashlib.sha1(b"another").digest()).decode()
    fields = ("Upgrade: websocket", "Connection: upgrade", f"Sec-WebSocket-Accept: {accept}")
    await peer.send(response(b"", *fields, status="101 Switching Protocols", length=False))


async def no_key(_: Message, peer: Peer) -> None:
    await peer.send(response(b"", "Upgrade: websocket", "Connection: upgrade", status="101 X", length=False))


async def another_protocol(_: Message, peer: Peer) -> None:
    await peer.send(response(b"", "Upgrade: echo/1", "Connection: upgrade", status="101 X", length=False))


async def no_protocol(_: Message, peer: Peer) -> None:
    await peer.send(response(b"", status="101 X", length=False))


@pytest.mark.parametrize("answer", [garbage, hang_up, wrong_key, no_key, another_protocol, no_protocol])
async def test_an_upstream_that_does_not_speak_it_is_a_502(tmp_path, answer):
    async with upstream(answer) as up, sidecar(up.port, tmp_path) as running:
        got = await shaken(running.data_port)
        assert (got.status, got.get("content-type")) == (502, "application/problem+json")
        assert str(up.port).encode() not in got.raw + got.body


async def test_an_upstream_that_is_dead_is_a_502(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with sidecar(closed.getsockname()[1], tmp_path) as running:
            got = await shaken(running.data_port)
    assert (got.status, got.get("proxy-status")) == (502, "sidecache; error=connection_refused")
    assert got.cache == "sidecache; fwd=bypass; detail=upstream-failed"


async def test_what_may_be_a_write_stays_one_whatever_protocol_it_asks_for(tmp_path):
    """A method override makes a GET a write, which must purge: it is forwarded without its Upgrade."""
    rules = "version: 1\nfeatures: {news: {ttl: 1m, scope: public, read: [GET /news], write: []}}\n"
    asking = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    async with upstream(response(b"ok")) as origin, sidecar(origin.port, tmp_path, rules) as running:
        await fetch(running.data_port, "/news")
        written = await fetch(running.data_port, "/news", *asking, "X-HTTP-Method-Override: DELETE")
        again = await fetch(running.data_port, "/news")

    assert "detail=unmatched-write" in written.cache
    assert "detail=purged" in again.cache
