"""A plain shared cache (`ttl: origin`, public, every path) before a scripted origin: what the tables here run through.

A case is a sentence of the RFC, what the origin said, what is asked later, and how that is answered: from the cache
("hit"), after a conditional request to the origin ("validated"), or with what the origin says now ("fetched").
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.errors import UpstreamError
from proxy.policy.fields import format_http_date
from proxy.policy.message import Fields, Request, Response
from proxy.serving.upstream import Stream
from tests.serving.world import Answer, ScriptedStream, World

RULES = """
version: 1
features:
  everything: {scope: public, ttl: origin, read: ["GET /**", "QUERY /**"], write: []}
"""

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

REFUSED = UpstreamError("connection_refused", delivered=False)


@dataclass(frozen=True)
class Says:
    """What the origin answers. Header values may hold `{now+60}`: the HTTP date that many seconds from now."""

    headers: Headers = ()
    status: int = 200
    body: bytes = b"body"
    delay: float = 0.0  # seconds until its head arrives
    date: bool = True
    cut: bool = False  # the body ends early
    length: bool = True


@dataclass(frozen=True)
class Ask:
    """A client's request, `after` that many seconds, and what the origin says if it is asked."""

    says: Says | UpstreamError = field(default_factory=Says)
    headers: Headers = ()
    after: float = 0.0
    method: str = "GET"
    target: str = "/a"
    body: bytes | None = None


@dataclass(frozen=True)
class Played:
    answer: Answer
    upstream: Request | None  # what the origin was asked; None when it was not

    @property
    def how(self) -> str:
        if self.upstream is None:
            return "hit"
        fields = self.upstream.fields
        return "validated" if "if-none-match" in fields or "if-modified-since" in fields else "fetched"

    def get(self, name: str) -> str | None:
        return self.answer.fields.get(name)


def pairs(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def dated(value: str, now: float) -> str:
    before, mark, rest = value.partition("{now")
    if not mark:
        return value
    offset, _, after = rest.partition("}")
    return before + format_http_date(now + float(offset or 0)) + after


async def played(*asks: Ask, rules: str = RULES) -> list[Played]:
    """What becomes of these requests, one after the other."""
    world = World(rules)
    found = []
    for ask in asks:
        world.clock.advance(ask.after)
        world.upstream.answer = lambda request, n, ask=ask: _spoken(world, ask)
        before = len(world.upstream.asked)
        fields = Fields([("Host", "portal.test"), *_dated_pairs(ask.headers, world.clock())])
        request = Request(ask.method, ask.target, fields, peer="192.0.2.1", has_body=ask.body is not None)
        answer = await Answer.of(await world.exchange.handle(request, ask.body))
        await world.settle()
        # a hit may be refreshed in the background: that is not how it was answered
        asked = [] if "sidecache; hit" in (answer.cache or "") else world.upstream.asked[before:]
        found.append(Played(answer, asked[-1] if asked else None))
    await world.background.drain(1.0)
    assert world.failures == []
    return found


def _dated_pairs(headers: Headers, now: float) -> list[tuple[str, str]]:
    return [(name, dated(value, now)) for name, value in pairs(headers)]


def _spoken(world: World, ask: Ask) -> Stream | UpstreamError:
    says = ask.says
    if isinstance(says, UpstreamError):
        return says
    named = _dated_pairs(says.headers, world.clock())
    names = {name.lower() for name, _ in named}
    if says.date and "date" not in names:
        named.append(("Date", format_http_date(world.clock())))
    bodiless = says.status in (204, 304) or ask.method == "HEAD"
    if says.length and not bodiless and "content-length" not in names:
        named.append(("Content-Length", str(len(says.body))))
    chunks: list[Any] = [] if bodiless else [says.body]
    if says.cut:
        chunks.append(UpstreamError("http_response_incomplete"))
    world.clock.advance(says.delay)
    return ScriptedStream(Response(says.status, Fields(named)), chunks, framed=says.length)


def table(names: str, rows: list[Any]) -> Any:
    """Parametrize over rows whose first value is the sentence, which becomes the id."""
    return pytest.mark.parametrize(names, rows, ids=[str(row[0]) for row in rows])
