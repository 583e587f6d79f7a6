"""HTTP/1.1 on bare sockets: a client that reads strictly, and an upstream that keeps every byte it was sent."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from proxy.app import Running, running
from proxy.settings import load

LIMIT = 20.0  # seconds after which anything awaited here has failed
CRLF = b"\r\n"

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 0s, if-error: 0s, compress: 1KiB}
features:
  open:
    ttl: 10m
    scope: public
    read: [GET /open/**]
    write: [POST /open/**]
  jobs:
    ttl: 10m
    read: [GET /api/jobs]
    write: [POST /api/jobs]
  secret:
    ttl: 10m
    sensitive: true
    read: [GET /secret]
"""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
_TARGET = re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.1")
_VALUE = re.compile(rb"[\t \x21-\x7e\x80-\xff]*")


class NotHttp(AssertionError):
    """What arrived is not strictly HTTP/1.1."""


class Cut(Exception):
    """The connection ended inside a message: nobody can take it for a whole one."""


def _line(data: bytes) -> bytes:
    if not data.endswith(CRLF):
        raise Cut(data[-80:])
    if b"\r" in data[:-2] or b"\n" in data[:-2]:
        raise NotHttp(data)
    return data[:-2]


def _limit() -> asyncio.Timeout:
    """Around what is awaited here. Not `asyncio.wait_for`, which makes a task of each line until Python 3.12."""
    return asyncio.timeout(LIMIT)


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return _line(await reader.readline())
    except ConnectionError as error:
        raise Cut(str(error)) from None


@dataclass
class Message:
    """One message's head as it was on the wire, and its body when it was read."""

    start: tuple[bytes, ...]
    fields: list[tuple[bytes, bytes]]
    raw: bytes
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start[1])

    @property
    def target(self) -> bytes:
        return self.start[1]

    def all(self, name: str) -> list[bytes]:
        return [value for each, value in self.fields if each.lower() == name.lower().encode()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return b", ".join(values).decode("latin-1") if values else None

    @property
    def names(self) -> list[str]:
        return [name.decode() for name, _ in self.fields]

    @property
    def cache(self) -> str:
        """The one member that sidecache adds to Cache-Status; more or none is a failure."""
        members = [m.strip() for m in (self.get("cache-status") or "").split(",") if m.strip().startswith("sidecache")]
        assert len(members) == 1, self.fields
        return members[0]


async def read_head(reader: asyncio.StreamReader, start: re.Pattern[bytes]) -> Message:
    async with _limit():
        return await _read_head(reader, start)


async def _read_head(reader: asyncio.StreamReader, start: re.Pattern[bytes]) -> Message:
    raw = [await _read_line(reader)]
    match = start.fullmatch(raw[0])
    if match is None:
        raise NotHttp(raw[0])
    fields = []
    while line := await _read_line(reader):
        raw.append(line)
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise NotHttp(line)
        fields.append((name, value.strip(b" \t")))
    return Message(match.groups(), fields, CRLF.join(raw) + CRLF * 2)


def _is_chunked(message: Message) -> bool:
    coding, lengths = message.all("transfer-encoding"), message.all("content-length")
    if coding and (lengths or coding != [b"chunked"]):
        raise NotHttp(message.raw)
    if len(lengths) > 1 or any(not length.isdigit() for length in lengths):
        raise NotHttp(message.raw)
    return bool(coding)


async def read_body(reader: asyncio.StreamReader, message: Message, *, to_end: bool) -> AsyncIterator[bytes]:
    """The body by its framing; `to_end`: without any it goes on until the connection ends."""
    lengths = message.all("content-length")
    if _is_chunked(message):
        while size := int(await _size(reader), 16):
            yield await _exactly(reader, size)
            if await _exactly(reader, 2) != CRLF:
                raise NotHttp("a chunk without its end")
        async with _limit():
            if await _read_line(reader):
                raise NotHttp("a trailer")
    elif lengths:
        left = int(lengths[0])
        while left:
            chunk = await _some(reader, min(left, 1 << 20))
            if not chunk:
                raise Cut(f"{left} bytes missing")
            left -= len(chunk)
            yield chunk
    elif to_end:
        while chunk := await _some(reader, 1 << 20):
            yield chunk


async def _size(reader: asyncio.StreamReader) -> bytes:
    async with _limit():
        line = await _read_line(reader)
    if not re.fullmatch(rb"[0-9a-f]+", line):
        raise NotHttp(line)
    return line


async def _some(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        async with _limit():
            return await reader.read(size)
    except ConnectionError as error:
        raise Cut(str(error)) from None


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        async with _limit():
            return await reader.readexactly(size)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise Cut(str(error)) from None


class Client:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with _limit():
            await self.writer.drain()

    async def head(self) -> Message:
        return await read_head(self.reader, _STATUS)

    async def response(self, method: str = "GET") -> Message:
        """One final response with its whole body. Cut when it ends early."""
        message = await self.head()
        if method != "HEAD" and message.status not in (204, 304):
            message.body = await self.body(message)
        return message

    async def body(self, head: Message) -> bytes:
        """The body that follows this head. Cut when it ends early."""
        return b"".join([chunk async for chunk in read_body(self.reader, head, to_end=True)])

    async def ask(
        self, target: str = "/", *headers: str, method: str = "GET", body: bytes = b"", host: str = "portal.test"
    ) -> Message:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)
        return await self.response(method)

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body."""
        data = await _exactly(self.reader, int(await _size(self.reader), 16))
        await _exactly(self.reader, 2)
        return data

    async def ended(self) -> bool:
        """Whether the other side has nothing more to say and closes."""
        try:
            async with _limit():
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """End with RST."""
        _reset(self.writer)

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def connect(port: int, *, receive_buffer: int | None = None) -> Client:
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return Client(*await asyncio.open_connection(sock=sock, limit=1 << 18))


async def refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        await (await connect(port)).close()
    except OSError:
        return True
    return False


async def fetch(port: int, target: str = "/", *headers: str, **more: Any) -> Message:
    """One request on a connection of its own."""
    async with await connect(port) as client:
        return await client.ask(target, *headers, **more)


class Peer:
    """The upstream's end of one connection: `received` holds every byte that came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.answered = 0
        self.gone = asyncio.Event()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with _limit():
            await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """RST, once what was written before is on its way."""
        _reset(self.writer)

    def body(self, request: Message) -> AsyncIterator[bytes]:
        return read_body(self.reader, request, to_end=False)


Answer = bytes | Callable[[Message, Peer], Awaitable[None]]


@dataclass
class Upstream:
    """Answers each request with `answer`: bytes, or a coroutine function that speaks for itself.

    `keeps`: requests and connections are there to be looked at afterwards, for which a long run has no room.
    """

    answer: Answer
    read_bodies: bool = True
    keeps: bool = True
    requests: list[Message] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    bad: list[BaseException] = field(default_factory=list)
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        if self.keeps:
            self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing() and not reader.at_eof():
                await self._one(peer)
        except (Cut, ConnectionError, asyncio.CancelledError):
            pass  # cancelled by `stop`: asyncio's callback would log it
        except TimeoutError:
            if self.keeps:
                raise  # in a long run a connection may be idle, or its reader slow
        except NotHttp as error:
            self.bad.append(error)
        finally:
            self._tasks.discard(task)
            peer.gone.set()
            writer.close()

    async def _one(self, peer: Peer) -> None:
        request = await read_head(peer.reader, _TARGET)
        if self.read_bodies:
            request.body = b"".join([chunk async for chunk in peer.body(request)])
        if self.keeps:
            self.requests.append(request)
        self.arrived.set()
        if isinstance(self.answer, bytes):
            await peer.send(self.answer)
        else:
            await self.answer(request, peer)
        peer.answered += 1

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def upstream(answer: Answer, **more: Any) -> AsyncIterator[Upstream]:
    """A recording upstream on a free port. What it was sent must have been strict HTTP/1.1."""
    made = Upstream(answer, **more)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=1 << 18, backlog=1024)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.stop()
    assert not made.bad, made.bad


@asynccontextmanager
async def sidecar(port: int, folder: Path, rules: str = RULES, **environ: str) -> AsyncIterator[Running]:
    """A real sidecar in this process, in front of the upstream at `port`."""
    file = folder / "rules.yaml"
    file.write_text(rules)
    environ = {
        "SIDECACHE_DEV_AUTH": "1", "SIDECACHE_DRAIN_S": "2", "SIDECACHE_CONNECT_TIMEOUT_MS": "5000", **environ,
    }  # fmt: skip
    settings = load(
        environ, upstream=f"http://127.0.0.1:{port}", rules=str(file), listen="127.0.0.1:0", admin="127.0.0.1:0",
        profile="development",
    )  # fmt: skip
    async with running(settings) as started:
        yield started


def response(body: bytes = b"", *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """The bytes of a response."""
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(chunks: Iterable[bytes], *headers: str, end: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return response(b"", "Transfer-Encoding: chunked", *headers, length=False) + body + (b"0\r\n\r\n" if end else b"")


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that will be so soon; a failure when it is not."""
    async with asyncio.timeout(LIMIT):
        while not (await seen if isinstance(seen := condition(), Awaitable) else seen):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
