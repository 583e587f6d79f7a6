"""500 random exchanges, each made directly and through the sidecar: what arrives on either side is the same (P6)."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.app import Running
from tests.wire import Message, Peer, connect, response, sidecar, upstream

EXCHANGES = 500
RULES = """
version: 1
features:
  everything:
    ttl: 10m
    scope: public
    client-cache: origin
    read: [GET /cached/**]
"""

# What the sidecar says of itself and of who asked, on top of what it was given.
FOR_THE_UPSTREAM = {b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
FOR_THE_CLIENT = {b"via", b"cache-status"}
OF_A_HIT = FOR_THE_CLIENT | {b"age", b"date"}

PATH = "abcXYZ019-._~!$&'()*+,;=:@"
NAMES = [
    "Accept",
    "X-Trace",
    "x-trace",
    "Accept-Language",
    "Cookie",
    "If-None-Match",
    "Origin",
    "X-a.b!#$%&'*+-^`|~",
    "DNT",
]
SAID = ["X-Said", "x-said", "Set-Cookie", "Content-Language", "ETag", "Link", "Warning", "Server", "X-b", "Allow"]
STATUSES = [200] * 12 + [201, 202, 204, 206, 299, 301, 302, 304, 400, 401, 404, 409, 418, 429, 451, 500, 503, 599]


@dataclass(frozen=True)
class Exchange:
    """What a client sends, byte for byte, and what the upstream answers."""

    number: int
    method: str
    request: bytes
    answer: bytes
    body: bytes  # of the request, without its framing
    length: bool  # whether the answer's end is in its head

    def __str__(self) -> str:
        return f"{self.number}: {self.request[:200]!r} -> {self.answer[:200]!r}"


def _text(chance: random.Random, most: int) -> str:
    visible = [*map(chr, range(0x21, 0x7F)), *map(chr, range(0xA1, 0x100)), " ", "\t"]
    return "".join(chance.choices(visible, k=chance.randrange(most))).strip(" \t")


def _target(chance: random.Random, number: int, prefix: str) -> str:
    def part() -> str:
        return "".join(chance.choice([*PATH, "%2F", "%2e", "%0a", "%c3%a9", "%zz"]) for _ in range(chance.randrange(8)))

    if prefix:
        return f"{prefix}/{number}" + chance.choice(["", "?", "?q", f"?a={number}&b=%20+", "?b=2&a=1&a=1"])
    query = chance.choice(["", "?", f"?{part()}", f"?{part()}={part()}&{part()}", "?a=1?b=/"])
    return "/" + "/".join(part() for _ in range(chance.randrange(5))) + query


def _chunked(chance: random.Random, body: bytes) -> bytes:
    pieces = []
    while body:
        size = chance.randrange(1, len(body) + 1)
        pieces.append(b"%x\r\n%b\r\n" % (size, body[:size]))
        body = body[size:]
    return b"".join(pieces) + b"0\r\n\r\n"


def _framed(chance: random.Random, lines: list[str], body: bytes) -> bytes:
    """Lines and body, framed in one of the two ways; the framing's field stands anywhere."""
    chunks = bool(chance.getrandbits(1))
    field = "Transfer-Encoding: chunked" if chunks else f"Content-Length: {len(body)}"
    lines.insert(chance.randrange(1, len(lines) + 1), field)
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (_chunked(chance, body) if chunks else body)


def _exchange(chance: random.Random, number: int, prefix: str = "") -> Exchange:
    method = chance.choice(["GET"] * 6 + ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "REPORT"])
    method = "GET" if prefix else method
    lines = [f"{method} {_target(chance, number, prefix)} HTTP/1.1", "Host: portal.test"]
    names = [] if prefix else [name for name in NAMES if chance.random() < 0.3]
    lines += [f"{name}: {_text(chance, 60)}" for name in names for _ in range(chance.choice([1, 1, 2]))]
    body = b""
    if method not in ("GET", "HEAD", "OPTIONS") and chance.random() < 0.8:
        body = chance.randbytes(chance.choice([0, 1, 100, 5_000, 200_000]))
        request = _framed(chance, lines, body)
    else:
        request = "\r\n".join([*lines, "", ""]).encode("latin-1")
    answer, length = _answer(chance, method, cached=bool(prefix))
    return Exchange(number, method, request, answer, body, length)


def _answer(chance: random.Random, method: str, *, cached: bool) -> tuple[bytes, bool]:
    status = chance.choice([200] if cached else STATUSES)
    said = [name for name in SAID if chance.random() < 0.3 and not (cached and name == "Set-Cookie")]
    lines = [f"HTTP/1.1 {status} {_text(chance, 20)}", "Content-Type: application/octet-stream"]
    lines += ["Date: Sun, 06 Nov 1994 08:49:37 GMT"] if not cached and chance.random() < 0.5 else []
    lines += [
        f'{name}: "{number}"' if name == "ETag" else f"{name}: {_text(chance, 60)}" for number, name in enumerate(said)
    ]
    chance.shuffle(said)
    body = chance.randbytes(chance.choice([0, 1, 1000, 30_000, 300_000]))
    if status in (204, 304):
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), True
    if method == "HEAD":
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1"), True
    if not cached and chance.random() < 0.1:  # the connection's end is the body's
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body, False
    return _framed(chance, lines, body), True


class Recorder:
    """Answers each request with what its exchange says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.next: Exchange | None = None
        self.asked: list[Message] = []

    async def __call__(self, request: Message, peer: Peer) -> None:
        assert self.next is not None
        self.asked.append(request)
        await peer.send(self.next.answer)
        if not self.next.length:
            peer.close()

    async def play(self, port: int, exchange: Exchange) -> Message:
        self.next = exchange
        async with asyncio.timeout(10), await connect(port) as client:
            await client.send(exchange.request)
            return await client.response(exchange.method)


@pytest.fixture
def playing(tmp_path: Path):
    @asynccontextmanager
    async def both() -> AsyncIterator[tuple[Recorder, int, Running]]:
        recorder = Recorder()
        async with upstream(recorder) as up, sidecar(up.port, tmp_path, RULES) as running:
            yield recorder, up.port, running

    return both


def _lines(message: Message, besides: set[bytes], *, framing: bool = True) -> Counter[tuple[bytes, bytes]]:
    """The field lines, order aside, without the ones `besides`."""
    ours = besides | (set() if framing else {b"transfer-encoding", b"content-length"})
    return Counter((name, value) for name, value in message.fields if name.lower() not in ours)


def _order(message: Message, name: bytes) -> list[bytes]:
    return [value for each, value in message.fields if each.lower() == name]


async def test_what_is_not_cached_is_the_same_with_and_without_the_sidecar(playing):
    chance = random.Random(20260101)
    async with playing() as (recorder, direct, running):
        for number in range(EXCHANGES):
            exchange = _exchange(chance, number)
            plain = await recorder.play(direct, exchange)
            through = await recorder.play(running.data_port, exchange)
            alone, forwarded = recorder.asked[-2:]
            assert forwarded.start == alone.start, exchange
            assert forwarded.body == alone.body == exchange.body, exchange
            assert _lines(forwarded, FOR_THE_UPSTREAM) == _lines(alone, set()), exchange
            assert (through.start, through.body) == (plain.start, plain.body), exchange
            framed = exchange.length  # a body that ends with the connection is sent on in chunks
            dated = set() if plain.all("date") else {b"date"}
            assert _lines(through, FOR_THE_CLIENT | dated, framing=framed) == _lines(plain, set(), framing=framed), (
                exchange
            )
            for name in {name.lower() for name, _ in plain.fields}:
                assert _order(through, name) == _order(plain, name) or name in OF_A_HIT, exchange
            assert through.cache.startswith("sidecache; fwd="), exchange
        assert len(recorder.asked) == 2 * EXCHANGES


async def test_what_is_cached_is_the_same_as_what_was_stored(playing):
    chance = random.Random(20260102)
    hits = 0
    async with playing() as (recorder, _, running):
        for number in range(EXCHANGES // 5):
            exchange = _exchange(chance, number, "/cached")
            miss = await recorder.play(running.data_port, exchange)
            hit = await recorder.play(running.data_port, exchange)
            assert (hit.start[1], hit.body) == (miss.start[1], miss.body), exchange
            assert _lines(hit, OF_A_HIT, framing=False) == _lines(miss, OF_A_HIT, framing=False), exchange
            hits += hit.cache.startswith("sidecache; hit")
        assert hits == EXCHANGES // 5
        assert len(recorder.asked) == EXCHANGES // 5


def test_the_exchanges_are_of_all_kinds():
    chance = random.Random(20260101)
    made = [_exchange(chance, number) for number in range(EXCHANGES)]
    assert len({exchange.method for exchange in made}) == 9
    assert len({exchange.answer.split(b" ")[1] for exchange in made}) > 15
    assert any(not exchange.length for exchange in made)
    assert any(b"Transfer-Encoding: chunked" in exchange.request for exchange in made)
    assert response(b"x") not in {exchange.answer for exchange in made}
