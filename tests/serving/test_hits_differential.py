"""The short way and the ordinary one, side by side: the same bytes to both, the same bytes from both, on both sides."""

import asyncio
import json
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from proxy.serving import response as responses
from proxy.serving import unread as module
from proxy.serving.hits import Hits
from proxy.serving.outgoing import Limits
from proxy.serving.upstream import HttpUpstream, Timeouts
from tests.serving.short import DATE, Served, head, prompt, served, turns
from tests.serving.world import unsigned
from tests.wire import LIMIT, Client, Cut, Message, Peer, Upstream, response, until, upstream

STEPS = 3000
FUZZED = 720
BATCH = 24  # fuzzed connections at once

RULES = """
version: 1
identity: {tenant: [jwt.org_id, header.x-org-id], user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 20s, if-error: 1m, negative: {404: 30s}, compress: 500B}
features:
  jobs:
    ttl: 40s
    ignore-headers: [x-noise]
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs, "PUT|DELETE /api/jobs/{job-id}"]
  large:
    ttl: 40s
    read: ["GET /api/large"]
  slow:
    ttl: 40s
    read: ["GET /api/slow"]
  varied:
    ttl: 1m
    read: ["GET /api/by/{name}"]
  themed:
    ttl: 1m
    vary: [priority]
    read: [GET /api/themed]
  mine:
    ttl: 1m
    scope: user
    read: [GET /api/me]
  applications:
    ttl: 1m
    scope: role
    require: [read:applications]
    read: ["GET /api/jobs/{job-id}/applications"]
  open:
    ttl: 1m
    scope: public
    read: ["GET /open/{page}"]
    write: ["POST /open/{page}"]
  origin:
    ttl: origin
    scope: public
    read: ["GET /origin/{page}"]
  fuzzed:
    ttl: 1h
    read: ["GET /fuzzed/{page}"]
"""
OTHERS = RULES.replace("ttl: 1m", "ttl: 50s").replace("vary: [priority]", "vary: [accept-language]")

START = 1_700_000_000
TOKENS = [
    unsigned("org_a", "ada"), unsigned("org_a", "bob"), unsigned("org_b", "eve"),
    unsigned("org_a", "ada", permissions=[]), unsigned("org_a", "ada", permissions=["read:applications", "x"]),
    unsigned("org_b", "eve", permissions=["x"]), *[unsigned("org_a", "ada", exp=START + s) for s in (30, 300, 900)],
    "none", "",
]  # fmt: skip
TARGETS = [
    "/api/jobs", "/api/jobs", "/api/jobs/7", "/api/jobs/404", "/api/jobs?page=2", "/api/jobs?page=2&utm_source=x",
    "/api/large", "/api/large", "/api/slow", "/api/by/referer", "/api/by/accept-language", "/api/by/turns",
    "/api/themed", "/api/me", "/api/jobs/7/applications", "/open/a", "/open/b", "/open/A.b", "/origin/a", "/origin/b",
    "/nowhere", "/api//jobs", "/api/jobs/%37", "/.sidecache/readyz", "http://portal.test/api/jobs",
]  # fmt: skip
READ = [
    "Accept: */*", "Accept: text/csv", "accept: application/json", "Accept-Encoding: gzip",
    "Accept-Encoding: zstd, gzip", "accept-encoding: identity",
    "Accept-Language: de", "Accept-Language: fr",
    "Range: bytes=0-9", "Range: bytes=9999-",
    "Range: lines=1", 'If-None-Match: "1"', 'If-None-Match: "2--sidecache-gzip"', "If-None-Match: *",
    'If-Range: "1"', "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT", 'If-Match: "1"', "Cache-Control: no-cache",
    "Cache-Control: max-age=5", "Cache-Control: min-fresh=20", "Cache-Control: only-if-cached", "Pragma: no-cache",
    "Connection: keep-alive", "Connection: close", "Connection: referer", "Connection: x-theme", "X-Theme: dark",
    "X-Noise: 1", "X-Org-Id: org_a", "X-Org-Id: org_b", "X_Org_Id: org_b", "X-Forwarded-Proto: https", "Via: 1.1 x",
    "Content-Length: 0", "Expect: 100-continue", "Upgrade: h2c", "X-HTTP-Method-Override: PUT", "TE: trailers",
    "Content-Type: text/plain", "Host: portal.test", "Origin: https://x.test", "Priority : u=1", "Keep-Alive: 5",
]  # fmt: skip
UNREAD = [
    "User-Agent", "user-agent", "Referer", "referer", "Cookie", "cookie", "Traceparent", "traceparent", "X-Request-Id",
    "X-Request-ID", "Priority", "From", "X-Real-Ip", "x-forwarded-for", "DNT", "Date", "B3", "Sec-Fetch-Mode",
]  # fmt: skip
VALUES = ["", "a", "b", "c", "a b\tc", "\xe9", "x" * 200, " a", "a,b", '"q"', "org_b"]


class Answers:
    """What the upstream answers: by what it is asked, and by how many writes it has seen."""

    def __init__(self) -> None:
        self.version = 1
        self.turns = 0
        self.waits: Callable[[float], None] = lambda seconds: None

    async def __call__(self, request: Message, peer: Peer) -> None:
        await peer.send(self._answer(request))

    def _answer(self, request: Message) -> bytes:
        target = request.target.decode()
        if request.start[0] != b"GET":
            self.version += request.start[0] != b"HEAD"
            return response(b"", f"Date: {DATE}", status="204 No Content", length=False)
        headers = [f"Date: {DATE}", "Content-Type: application/json", f'ETag: "{self.version}"']
        if target.endswith("/404"):
            return response(b"no", *headers[:2], status="404 Not Found")
        if request.get("if-none-match") == f'"{self.version}"':
            return response(b"", *headers, status="304 Not Modified", length=False)
        said = {"for": request.get("authorization"), "target": target, "version": self.version}
        name = target.rpartition("/")[2]
        if target == "/api/by/turns":
            self.turns += 1
            name = ("referer", "accept-language", "")[self.turns % 3]
        if target.startswith("/api/by/") and name:
            headers.append(f"Vary: {name}")
        said["by"] = [request.get(each) for each in ("referer", "accept-language", "priority")]
        if target == "/api/large":
            said["text"] = "large " * 200
        if target == "/api/slow":
            self.waits(0.2)
        if target.startswith("/origin/"):
            headers += ["Cache-Control: max-age=30", "Last-Modified: Tue, 14 Nov 2023 20:00:00 GMT"]
        return response(json.dumps(said).encode(), *headers)


class Side:
    """One of the two: a sidecar, its upstream, and a client's connection to it."""

    def __init__(self, made: Served, up: Upstream, answers: Answers) -> None:
        self.made = made
        self.up = up
        self.answers = answers
        self.client: Client | None = None

    async def play(self, pieces: list[bytes], methods: list[str]) -> list[Any]:
        """Send the pieces one after the other; what came back, and whether the connection goes on."""
        if self.client is None:
            self.client = await prompt(self.made.port)
        client, got = self.client, []
        for piece in pieces:
            await client.send(piece)
            await turns()
        for method in methods:
            answer = await client.response(method)
            got.append((answer.raw, answer.body))
            if answer.get("connection") == "close":
                got.append(await client.ended())
                await self.hang_up()
                break
        await self.made.settle()
        return got

    async def hang_up(self) -> None:
        if self.client is not None:
            await self.client.close()
            self.client = None

    def asked(self) -> list[bytes]:
        """What the upstream was sent since the last time."""
        asked = [request.raw + request.body for request in self.up.requests]
        self.up.requests.clear()
        return asked


@asynccontextmanager
async def side(**more: Any) -> AsyncIterator[Side]:
    answers = Answers()
    async with upstream(answers) as up:
        through = HttpUpstream(f"http://127.0.0.1:{up.port}", Timeouts(connect=5.0))
        async with served(RULES, through=through, **more) as made:
            answers.waits = made.world.clock.advance
            both = Side(made, up, answers)
            try:
                yield both
            finally:
                await both.hang_up()
                await made.settle()
                await through.close()


@pytest.fixture(autouse=True)
def refusals_are_of_one_second(monkeypatch):
    """A refusal has the Date of the machine's clock."""
    monkeypatch.setattr(responses, "rfc822_formatted_time", lambda: DATE)


@dataclass
class Heads:
    """A client's requests: heads that come again, alike but for what nobody reads, and new ones."""

    chance: random.Random

    def __post_init__(self) -> None:
        self.known: list[tuple[str, str, list[str], str]] = []
        self.sent: list[tuple[bytes, str]] = []

    def next(self) -> tuple[bytes, str]:
        """Bytes of one head, and its method."""
        chance = self.chance
        if self.sent and chance.random() < 0.7:
            return chance.choice(self.sent[-3:])
        if self.known and chance.random() < 0.8:
            method, target, lines, token = chance.choice(self.known[-5:])
            if chance.random() < 0.2:
                token = chance.choice(TOKENS[:6])
        else:
            method = chance.choice(["GET"] * 12 + ["HEAD"])
            target, token = chance.choice(TARGETS), chance.choice(TOKENS[:3] * 4 + TOKENS)
            lines = chance.sample(READ, chance.choice((0,) * 8 + (1, 1, 1, 2)))
            self.known.append((method, target, lines, token))
        unread = [
            f"{chance.choice(UNREAD)}: {chance.choice(VALUES[:3] * 3 + VALUES)}"
            for _ in range(chance.choice((0, 1, 1, 2, 3, 60 if chance.random() < 0.1 else 1)))
        ]
        both = [*lines, *unread]
        chance.shuffle(both)
        made = head(target, *both, method=method, token=token), method
        self.sent.append(made)
        return made


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    if chance.random() < 0.85:
        return [data]
    cuts = sorted({0, len(data), *(chance.randrange(1, len(data)) for _ in range(chance.randrange(1, 4)))})
    return [data[a:b] for a, b in pairwise(cuts)]


async def together(chance: random.Random, a: Side, b: Side) -> None:
    """Something happens that is no request."""
    what = chance.choice(["time"] * 12 + ["back", "rules", "tenant", "soft", "all", "gone", "gone"])
    seconds = chance.choice((0.05, 0.1, 0.1, 0.3, 0.3, 0.9, 1.0, 2.5, 6.0, 11.0, 45.0))
    token = chance.choice(("org_a", "org_b"))
    rules = chance.choice((RULES, OTHERS))
    for each in (a, b):
        world = each.made.world
        if what == "time":
            world.clock.advance(seconds)
        elif what == "back":
            world.clock.advance(-seconds / 4)
        elif what == "rules":
            each.made.reload(rules)
        elif what == "tenant":
            await world.epochs.advance({token: ["jobs"]})
        elif what == "soft":
            await world.epochs.advance({token: ["jobs:list", "mine"]}, soft=True)
        elif what == "all":
            await world.epochs.advance({"": ["*"], token: ["*"]})
        else:
            for key in sorted(world.cache._memory._table)[:3]:
                await world.cache.drop(key)
        await each.made.settle()


async def compare(
    seed: int, steps: int, made: Callable[..., Hits] = Hits, *, forgetful: float = 0.0, lost: float = 0.0,
    fetches: bool = False, **more: Any,
) -> tuple[int, ...]:  # fmt: skip
    """Play the same to both sides. How many were answered each of the short ways: the last ones by store and upstream,
    or straight by the store.

    `forgetful`: the chance that nothing is left in memory; `lost`: nor in the store. `fetches`: misses take theirs.
    """
    chance = random.Random(seed)
    async with side(made=made, fetches=fetches, **more) as a, side(short=False, **more) as b:
        heads = Heads(chance)
        for step in range(steps):
            if chance.random() < 0.08:
                await together(chance, a, b)
            if forgetful and chance.random() < forgetful:
                for memory in (each.made.world.cache._memory for each in (a, b)):
                    for key in sorted(memory._table):
                        memory.drop(key)
            if lost and chance.random() < lost:
                for each in (a, b):
                    for key in sorted(each.made.world.cache._memory._table):
                        await each.made.world.cache.drop(key)
            if chance.random() < 0.02:
                body = b"GET /api/jobs HTTP/1.1\r\nHost: portal.test\r\n\r\n"
                target = chance.choice(("/api/jobs", "/api/jobs/7", "/open/a", "/nowhere"))
                method = "PUT" if target == "/api/jobs/7" else "POST"
                lines = f"Content-Length: {len(body)}"
                batch = [(head(target, lines, method=method, token=chance.choice(TOKENS[:3])) + body, method)]
            else:
                batch = [heads.next() for _ in range(chance.choice([1] * 12 + [2, 3]))]
            methods = [method for _, method in batch]
            cut = pieces(chance, b"".join(data for data, _ in batch))
            got = await a.play(cut, methods)
            assert got == await b.play(cut, methods), (step, cut)
            assert a.asked() == b.asked(), (step, cut)
            assert step % 50 or a.made.counted() == b.made.counted()
        more_counts = a.made.fetched if fetches else (a.made.hits.straight,)
        return *a.made.counts, a.made.hits.sought, *more_counts


@pytest.mark.parametrize("trusts", [False, True], ids=["untrusted peers", "trusted peers"])
async def test_the_two_ways_give_the_same_answers_and_ask_the_same(trusts):
    repeated, chosen, decided, *_ = await compare(20261126 + trusts, STEPS // 2, trusts=trusts)
    assert min(repeated, chosen, decided) > 30  # it was about all three


async def test_the_two_ways_are_the_same_where_room_is_short_and_epochs_are_read_again():
    counts = await compare(20261127, STEPS // 4, sole=False, l1_bytes=12_000, max_bytes=6_000)
    assert sum(counts) > 60


@pytest.mark.parametrize("sole", [False, True], ids=["epochs are read again", "epochs last"])
async def test_the_two_ways_are_the_same_where_most_is_in_the_store(sole):
    *_, sought, straight = await compare(20261129, STEPS // 3, sole=sole, forgetful=0.4)
    assert (sought > 60, straight > 30) == (True, True)


@pytest.mark.parametrize("sole", [False, True], ids=["epochs are read again", "epochs last"])
@pytest.mark.parametrize("trusts", [False, True], ids=["untrusted peers", "trusted peers"])
async def test_the_two_ways_are_the_same_where_most_is_missing(sole, trusts):
    *_, begun, answered = await compare(
        20261130, STEPS // 3, sole=sole, trusts=trusts, forgetful=0.1, lost=0.5, fetches=True
    )
    assert (begun > 60) is (answered > 60) is True


# The same bytes, whatever they are

SPECIAL = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\x7f", b"\xe9", b"\r\n\r\n", b"\r\n ", b"_", b"\x0b",
    b"\r\r\n", b"\r\nUser-Agent: x", b"\r\nuser-agent: y", b"\r\nReferer: x", b"\r\nreferer:x", b"\r\nReferer : x",
    b"\r\n Referer: x", b"\r\nHost: portal.test", b"\r\nContent-Length: 4", b"\r\nTransfer-Encoding: chunked",
    b"\r\nReferer: \0", b"\r\nCookie: \x80", b"\r\nReferer: a\r\n b", b"\r\nReferer: a\nHost: b",
    b"\r\nConnection: close", b"\r\nConnection: authorization", b"\r\nExpect: 100-continue",
    b"\r\nUpgrade: websocket\r\nConnection: upgrade", b"\r\nAuthorization: Bearer x", b"\r\nX-Org-Id: org_b",
    b"\r\nX_Org_Id: org_b", b"\r\nMax-Forwards: 0\r\nMax-Forwards: 0", b"GET / HTTP/1.1\r\n", b"HTTP/1.0",
    b"\r\nRange: bytes=0-1", b"\r\nCookie: " + b"c" * 17_000, b"\r\nX: " + b"c" * 16_000, b"\r\nDate: d" * 90,
    b"\r\nReferer: r" * 60, b"\r\nX-A: a" * 60, b"\r\nX-A: a" * 130,
]  # fmt: skip


def mutated(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.choice((0, data.find(b"\r\n"), data.rfind(b"\r\n\r\n"), chance.randrange(len(data) + 1)))
        at = max(at, 0)
        what = chance.randrange(5)
        if what < 2:
            data = data[:at] + chance.choice(SPECIAL) + data[at:]
        elif what == 2:
            data = data[:at] + data[at + chance.randrange(1, 5) :]
        elif what == 3:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        else:
            lines = data.split(b"\r\n")
            chance.shuffle(lines)
            data = b"\r\n".join(lines)
        data = data or b"\n"
    return data


async def quiet(side: Side, listening: asyncio.Task[None]) -> None:
    """Until the connection ended, or nothing is under way: then what was sent is not whole and never will be."""
    async with asyncio.timeout(LIMIT):
        rounds = 0
        while rounds < 5 and not listening.done():
            await turns()
            rounds = 0 if side.made.listener._under_way or len(side.made.world.background) else rounds + 1


async def spoken(side: Side, warm: list[bytes], data: list[bytes], last: bytes) -> bytes:
    """What one connection brings: heads that are answered, then anything, then a head that ends it."""
    loop, got = asyncio.get_running_loop(), bytearray()

    async def listen() -> None:
        with suppress(ConnectionError):
            while chunk := await loop.sock_recv(sock, 1 << 16):
                got.extend(chunk)

    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", side.made.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening = asyncio.create_task(listen())
        for each in warm:
            before = got.count(b"HTTP/1.1 200 OK")
            await loop.sock_sendall(sock, each)
            await until(lambda: got.count(b"HTTP/1.1 200 OK") > before)  # noqa: B023
            await side.made.settle()
        with suppress(OSError):  # it said no, and the client goes on
            for piece in [*data, last]:
                await loop.sock_sendall(sock, piece)
                await turns()
            await quiet(side, listening)
            sock.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(listening, LIMIT)
    return bytes(got)


async def fuzz(seed: int, cases: int, made: Callable[..., Hits] = Hits) -> tuple[int, int, int]:
    chance = random.Random(seed)
    limits = Limits(body_grace=0.5)
    async with side(made=made, limits=limits) as a, side(short=False, limits=limits) as b:
        for first in range(0, cases, BATCH):
            tries = []
            for number in range(first, first + BATCH):
                plain = head(f"/fuzzed/p{number}", "Referer: r", "User-Agent: u")
                lines = chance.sample(UNREAD[2:], 2)
                alike = head(
                    f"/fuzzed/p{number}", *(f"{name}: {chance.choice(VALUES)}" for name in lines), "User-Agent: u"
                )
                odd = [mutated(chance, chance.choice((plain, alike, head(f"/fuzzed/p{number}")))) for _ in range(2)]
                data = odd if chance.random() < 0.5 else pieces(chance, odd[0])
                tries.append(
                    ([plain, plain, alike, plain, plain, plain], data, head(f"/fuzzed/p{number}", "Connection: close"))
                )
            for one, other, (_, data, _) in zip(
                await asyncio.gather(*[spoken(a, *each) for each in tries]),
                await asyncio.gather(*[spoken(b, *each) for each in tries]),
                tries,
                strict=True,
            ):
                assert one == other, data
            assert sorted(a.asked()) == sorted(b.asked())
        assert a.made.counted() == b.made.counted()
        return a.made.counts


async def test_the_two_ways_say_the_same_to_bytes_of_any_kind():
    repeated, chosen, decided = await fuzz(20261128, FUZZED)
    assert min(repeated, chosen, decided) > FUZZED // 3


# What these tests would find


class Trusting(Hits):
    """Takes whoever asks for the same for the same caller."""

    def known(self, data, trusted):
        return super().known(
            b"\r\n".join(x for x in data.split(b"\r\n") if not x.startswith(b"Authorization")), trusted
        )

    def _anew(self, data, message, peer, trusted):
        data = b"\r\n".join(x for x in data.split(b"\r\n") if not x.startswith(b"Authorization"))
        return super()._anew(data, message, peer, trusted)


class Timeless(Hits):
    """Looks at no clock once an answer is prepared."""

    def _prepared(self, hit, reply, cell, now):
        prepared = super()._prepared(hit, reply, cell, now)
        if prepared is not None:
            prepared.valid_until = float("inf")
        return prepared


class Faithful(Hits):
    """Holds to what the rules were when an answer was prepared."""

    def _answer(self, prepared, trusted):
        prepared.number = self._serving.number
        return super()._answer(prepared, trusted)


class Deaf(Hits):
    """Hears of no purge."""

    def _answer(self, prepared, trusted):
        prepared.known.own_generation = prepared.known.own.generation
        prepared.known.shared_generation = prepared.known.shared.generation
        prepared.known.good_until = float("inf")
        return super()._answer(prepared, trusted)


class Uncounted(Hits):
    def _answer(self, prepared, trusted):
        prepared.cell = [0, 0, 0]
        return super()._answer(prepared, trusted)


class Undated(Hits):
    """Writes the head once and for all."""

    def _answer(self, prepared, trusted):
        prepared.head_until = float("inf")
        return super()._answer(prepared, trusted)


class Anonymous(Hits):
    """Knows callers without their credentials."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        find, keep = self._callers.find, self._callers.keep

        def without(rest):
            return b"\r\n".join(x for x in rest.split(b"\r\n") if not x.startswith(b"Authorization"))

        self._callers.find = lambda rest, *more: find(without(rest), *more)
        self._callers.keep = lambda rest, *more: keep(without(rest), *more)


@pytest.mark.parametrize("broken", [Trusting, Timeless, Faithful, Deaf, Uncounted, Undated, Anonymous])
async def test_a_broken_short_way_is_found_out(broken):
    with pytest.raises((AssertionError, Cut)):
        await compare(20261126, STEPS, made=broken)


async def test_a_choice_that_leaves_out_too_much_is_found_out(monkeypatch):
    monkeypatch.setattr(module, "UNREAD", re.compile(rb"(?i)\r\n(?:user-agent|referer)[^\n]*(?=\r\n)"))
    with pytest.raises(AssertionError):
        await fuzz(20261128, FUZZED)
