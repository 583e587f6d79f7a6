"""Forwarding by the short way and by the ordinary one, side by side: the same bytes to both, the same from both."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.serving import response as responses
from proxy.serving import sending
from proxy.serving.forwarding import Forwarding
from proxy.serving.relay import Relay
from proxy.serving.rewriting import Rewriting
from proxy.serving.upstream import HttpUpstream, Timeouts
from tests.serving.short import DATE, Served, head, prompt, served, turns
from tests.serving.test_hits_differential import OTHERS, RULES, TOKENS, pieces
from tests.wire import CRLF, Client, Cut, Message, Peer, Upstream, chunked, response, until, upstream

STEPS = 600
DATED = f"Date: {DATE}"
BIG = b"0123456789abcdef" * 20_000


def ok(*lines: str, body: bytes = b"ok") -> bytes:
    return response(body, DATED, *lines)


# What the upstream says: pieces of bytes, and "close" or "reset" for the end of its connection.
SAYS: dict[str, list[bytes | str]] = {
    "plain": [ok("Content-Type: text/plain", 'ETag: "1"')],
    "undated": [response(b"ok")],
    "untidy": [b"HTTP/1.1 200  Fine \r\nDate:" + DATE.encode() + b"\t\r\nContent-Length:2\r\nX-A:\r\n\r\nok"],
    "no-reason": [b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"],
    "cut in two": [ok()[:20], ok()[20:]],
    "late body": [ok(body=b"abcdef")[:-6], b"abc", b"def"],
    "big": [ok(body=BIG)],
    "cookies": [ok("Set-Cookie: a=1; Path=/", "set-cookie: b=2", "Vary: *", "Cache-Control: no-store")],
    "other caches": [ok("Via: 1.1 other", "Cache-Status: other; hit", "Age: 7")],
    "hop by hop": [ok("Keep-Alive: timeout=5", "Connection: keep-alive, x-own", "X-Own: 1", "Trailer: x", "TE: x")],
    "nominates length": [ok("Connection: content-length")],
    "chunked": [chunked([b"abc", b"defg"], DATED)],
    "chunked, oddly cut": [chunked([b"abc", b"defg"], DATED)[:-16], chunked([b"abc", b"defg"], DATED)[-16:]],
    "chunked, in bytes": [bytes([each]) for each in chunked([b"abc", b"d" * 11], DATED)],
    "chunked with trailers": [chunked([b"abc"], DATED, end=False), b"0;x=1\r\nX-Sum: 1\r\n\r\n"],
    "until the end": [response(b"abc", DATED, "Connection: close", length=False), b"def", "close"],
    "http/1.0": [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "close"],
    "says close": [ok("Connection: close"), "close"],
    "nothing to say": [response(b"", DATED, status="204 No Content", length=False)],
    "nothing, but a length": [response(b"", DATED, status="204 No Content")],
    "not modified": [response(b"", DATED, 'ETag: "1"', status="304 Not Modified", length=False)],
    "empty": [ok(body=b"")],
    "redirect": [response(b"", DATED, "Location: /x", status="302 Found")],
    "failure": [response(b"sorry", DATED, status="503 Service Unavailable")],
    "hints": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n", ok()],
    "hints at once": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok()],
    "continue": [b"HTTP/1.1 100 Continue\r\n\r\n" + ok()],
    "switches": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "close"],
    "too much": [ok() + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"],
    "too much, later": [ok(), b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"],
    "cut short": [ok(body=b"abcdef")[:-3], "close"],
    "cut short, hard": [ok(body=b"abcdef")[:-3], "reset"],
    "cut within a chunk": [chunked([b"abcdef"], DATED, end=False)[:-4], "close"],
    "cut between chunks": [chunked([b"abcdef"], DATED, end=False), "close"],
    "cut within the head": [ok()[:30], "close"],
    "nothing": ["close"],
    "nothing, hard": ["reset"],
    "not http": [b"SSH-2.0-x\r\n", "close"],
    "bare lf": [ok().replace(CRLF, b"\n"), "close"],
    "folded": [ok("X-A: a\r\n b"), "close"],
    "two lengths": [ok("Content-Length: 3"), "close"],
    "length and chunks": [chunked([b"abc"], "Content-Length: 3"), "close"],
    "bad chunk": [chunked([b"abc"], DATED, end=False) + b"zz\r\n", "close"],
    "bad chunk at once": [response(b"", "Transfer-Encoding: chunked", length=False) + b"x\r\n", "close"],
}
SOUND = ["plain", "undated", "cut in two", "late body", "cookies", "chunked", "hop by hop", "nothing to say"]

READ = [
    "Accept: */*", "accept: a", "Accept:a", "Accept-Encoding: gzip", "If-None-Match: \"1--sidecache-gzip\"",
    "Connection: keep-alive", "connection: Keep-Alive", "Connection: close", "Connection: referer", "Connection: x-own",
    "X-Own: 1", "TE: trailers", "Keep-Alive: 5", "Proxy-Authorization: x", "X-Forwarded-Proto: https",
    "X-Forwarded-Host: other.test", "Forwarded: for=x", "Via: 1.0 x", "Expect: 100-continue", "Range: bytes=0-1",
    "Upgrade: h2c", "X-HTTP-Method-Override: PUT", "Content-Length: 0", "X_Forwarded_For: x",
    "X-ORIGINAL-URL: /api/jobs",
    "User-Agent: a", "If-Range: \"1--sidecache-gzip\"", "X-FORWARDED-FOR: 192.0.2.9", "Authorization: Basic eA==",
]  # fmt: skip
UNREAD = [
    "Referer", "referer", "Cookie", "Traceparent", "traceparent", "X-Request-ID", "x-forwarded-for", "DNT", "From",
    "X-Forwarded-For", "X-Real-Ip",
]  # fmt: skip
VALUES = ["", "a", "b", "192.0.2.7", "a b\tc", "\xe9", "x" * 200, " a", "a ", "a,b", "%s", "%%", "a:  b"]
PATHS = ["/other/%s", "/other/%s/x", "//other/%s", "/other/%%41/%s", "/Other;%s", "/a/../%s", "/api/jobs/%s/9/%s"]


class Says:
    """What this side's upstream answers to the n-th kind that was asked for."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.spoiled: list[Peer] = []

    async def __call__(self, request: Message, peer: Peer) -> None:
        says = SAYS[self.kinds[-1]]
        if self.kinds[-1] == "too much, later":
            self.spoiled.append(peer)
        if request.start[0] == b"HEAD":  # what is too much comes at once: later it might be the next one's
            said, ends = [[each for each in says if isinstance(each, kind)] for kind in (bytes, str)]
            says = [b"".join(said), *ends] if said else ends
        for number, each in enumerate(says):
            if number:
                await asyncio.sleep(0.001)
            if each == "close":
                peer.close()
            elif each == "reset":
                peer.reset()
            else:
                assert isinstance(each, bytes)
                await peer.send(each)


class Side:
    def __init__(self, made: Served, up: Upstream, says: Says) -> None:
        self.made = made
        self.up = up
        self.says = says
        self.client: Client | None = None

    async def play(self, kind: str, cut: list[bytes], methods: list[str]) -> list[Any]:
        """Send the pieces; what came back, and how it ended."""
        self.says.kinds.append(kind)
        if self.client is None:
            self.client = await prompt(self.made.port)
            await turns()
        client, got = self.client, []
        for piece in cut:
            await client.send(piece)
            await turns()
        try:
            for method in methods:
                whole = []  # what came before a reset may be lost
                answer = await client.head()
                while answer.status < 200:
                    whole.append(answer.raw)
                    answer = await client.head()
                whole.append(answer.raw)
                if method != "HEAD" and answer.status not in (204, 304):
                    whole.append(await client.body(answer))
                got += whole
                if answer.get("connection") == "close":
                    got.append(await client.ended())
                    await self.hang_up()
                    break
        except Cut:
            got.append("cut")
            await self.hang_up()
        await self.made.settle()
        await until(lambda: all(peer.gone.is_set() for peer in self.says.spoiled))
        return got

    async def hang_up(self) -> None:
        if self.client is not None:
            await self.client.close()
            self.client = None

    def asked(self) -> list[bytes]:
        asked = [request.raw + request.body for request in self.up.requests]
        self.up.requests.clear()
        return asked


@asynccontextmanager
async def side(forwards: bool, **more: Any) -> AsyncIterator[Side]:
    says = Says()
    async with upstream(says) as up:
        through = HttpUpstream(f"http://127.0.0.1:{up.port}/base", Timeouts(connect=5.0))
        async with served(RULES, through=through, forwards=forwards, **more) as made:
            one = Side(made, up, says)
            try:
                yield one
            finally:
                await one.hang_up()
                await through.close()


@pytest.fixture(autouse=True)
def all_is_of_one_second(monkeypatch):
    for module in (responses, sending):
        monkeypatch.setattr(module, "rfc822_formatted_time", lambda: DATE)


class Heads:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.known: list[tuple[str, list[str], str]] = []
        self.sent: list[tuple[bytes, str]] = []

    def next(self) -> tuple[bytes, str]:
        chance = self.chance
        if self.sent and chance.random() < 0.5:
            return chance.choice(self.sent[-3:])
        if self.known and chance.random() < 0.8:
            method, read, token = chance.choice(self.known[-4:])
        else:
            method = chance.choice(["GET"] * 6 + ["HEAD", "OPTIONS", "DELETE", "XYZ"])
            read = chance.sample(READ, chance.choice((0, 0, 0, 1, 1, 2, 4)))
            token = chance.choice([*TOKENS[:3], ""])
            self.known.append((method, read, token))
        number = chance.randrange(20)
        target = chance.choice(PATHS[:1] * 8 + PATHS).replace("%s", str(number))
        target = chance.choice([target] * 12 + ["/api/jobs", "/api/me", "/.sidecache/livez", "http://portal.test/o"])
        target += chance.choice(["", "", "?a=1", f"?n={number}", "?a=%zz&b='(x)'"])
        unread = [
            f"{chance.choice(UNREAD)}: {chance.choice(VALUES[1:4] * 4 + VALUES)}"
            for _ in range(chance.choice((0, 1, 1, 2, 3, 60 if chance.random() < 0.05 else 1)))
        ]
        lines = [*read]
        for line in unread:
            lines.insert(chance.randrange(len(lines) + 1), line)
        made = head(target, *lines, method=method, token=token), method
        self.sent.append(made)
        return made


async def compare(seed: int, steps: int, **more: Any) -> tuple[int, int, int]:
    """Play the same to both sides. How many requests were forwarded each of the short ways."""
    chance = random.Random(seed)
    async with side(True, **more) as a, side(False, **more) as b:
        heads = Heads(chance)
        for step in range(steps):
            if chance.random() < 0.02:
                rules = chance.choice((RULES, OTHERS, OTHERS.replace("/api/jobs", "/other")))
                for each in (a, b):
                    each.made.reload(rules)
            batch = [heads.next() for _ in range(chance.choice([1] * 12 + [2, 3]))]
            kind = chance.choice(SOUND * 4 + list(SAYS))
            if len(batch) > 1 and kind == "too much, later":  # it might be the next one's
                kind = "too much"
            methods = [method for _, method in batch]
            cut = pieces(chance, b"".join(data for data, _ in batch))
            got, expected = await asyncio.gather(a.play(kind, cut, methods), b.play(kind, cut, methods))
            assert got == expected, (step, kind, cut)
            assert a.asked() == b.asked(), (step, kind, cut)
            assert a.made.events == b.made.events
            assert step % 50 or a.made.counted() == b.made.counted()
        return a.made.forwarded


@pytest.mark.parametrize("trusts", [False, True], ids=["untrusted peers", "trusted peers"])
async def test_the_two_ways_give_the_same_answers_and_ask_the_same(trusts):
    repeated, alike, decided = await compare(20261126 + trusts, STEPS, trusts=trusts)
    assert min(repeated, alike, decided) > 5  # it was about all three


async def test_the_two_ways_are_the_same_where_room_is_short():
    counts = await compare(20261128, STEPS // 3, forwarded_bytes=12_000)
    assert sum(counts) > 30


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", SAYS)
async def test_whatever_the_upstream_says_comes_out_alike(kind, method):
    lines = ("/other/1", "Referer: a"), ("/other/1", "Referer: a"), ("/other/2", "Referer: b")
    async with side(True) as a, side(False) as b:
        for target, *more in (*lines, *lines):
            for each in (a, b):  # so that a connection waits for the request
                assert (await each.play("plain", [head("/other/0")], ["GET"]))[0].startswith(b"HTTP/1.1 200")
            sent = [head(target, *more, method=method)]
            assert await a.play(kind, sent, [method]) == await b.play(kind, sent, [method])
            assert a.asked() == b.asked()
        assert a.made.counted() == b.made.counted()
        assert sum(a.made.forwarded) >= 6


# Positive controls: broken short ways, each of which must be found out


async def found_out() -> None:
    with pytest.raises((AssertionError, Cut)):
        await compare(20261126, STEPS)


async def test_one_that_leaves_out_nothing_is_found_out(monkeypatch):
    made = Rewriting.__init__

    def broken(self, prefix, dropped, added, *, trusted):
        made(self, prefix, (), added, trusted=trusted)

    monkeypatch.setattr(Rewriting, "__init__", broken)
    monkeypatch.setattr("proxy.serving.forwarding.rewriting", _unchecked)
    await found_out()


def _unchecked(data, choice, target, peer, made, *, trusted):
    line = made.partition(CRLF)[0]
    added = CRLF + made.rpartition(b"\r\nX-Forwarded-For: ")[2].partition(CRLF)[2]
    return Rewriting(line.removesuffix(target + b" HTTP/1.1"), (), added, trusted=trusted)


async def test_one_that_forgets_the_rules_is_found_out(monkeypatch):
    monkeypatch.setattr(Forwarding, "_is_reserved", lambda self, path: False, raising=False)
    made = Forwarding.__init__

    def broken(self, relays, **more):
        made(self, relays, **{**more, "has_no_rule": lambda method, path: True})

    monkeypatch.setattr(Forwarding, "__init__", broken)
    await found_out()


async def test_one_that_does_not_repeat_is_found_out(monkeypatch):
    monkeypatch.setattr("proxy.serving.relay.may_repeat", lambda *_: False)
    await found_out()


async def test_one_that_ends_orderly_what_was_cut_short_is_found_out(monkeypatch):
    fail = Relay.fail

    def broken(self, error):
        if self.head is not None:
            self.finish()
        else:
            fail(self, error)

    monkeypatch.setattr(Relay, "fail", broken)
    await found_out()
