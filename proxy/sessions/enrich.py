"""What does the upstream know of the caller's organisation? Asked once for all of its members; nobody waits for it."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from proxy.cache.background import Background
from proxy.errors import UpstreamError
from proxy.policy.agreement import ABSENT, claim
from proxy.policy.cookies import without_ours
from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request, Response
from proxy.policy.session import Enrichment
from proxy.sessions.telling import plain
from proxy.stores.breaker import Breaker

MOST = 64 << 10  # bytes of an answer
PATIENCE = 5.0  # seconds for one
KNOWN = 10_000  # organisations
_AGAIN = 5.0  # seconds until an organisation is asked about again that could not be told of
_CREDENTIALS = frozenset({"authorization", "cookie", "host"})


class Answer(Protocol):
    """A response whose body is read."""

    @property
    def response(self) -> Response: ...

    def whole(self) -> bytes | None: ...

    def chunks(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class Asking(Protocol):
    async def fetch(self, request: Request, body: None) -> Answer: ...


@dataclass(slots=True)
class _Known:
    fields: Mapping[str, str] | None
    document: Mapping[str, Any]
    until: float  # when it is asked about again
    of: Enrichment


class Enriching:
    """Keeps what was told of organisations. `clock` is monotonic seconds."""

    def __init__(
        self,
        rules: Callable[[], Enrichment | None],
        upstream: Asking,
        background: Background,
        clock: Callable[[], float],
        *,
        most: int = KNOWN,
    ) -> None:
        self._rules = rules
        self._upstream = upstream
        self._background = background
        self._clock = clock
        self._most = most
        self._known: OrderedDict[str, _Known] = OrderedDict()  # the one asked for longest ago first
        self._asking: set[str] = set()
        self.breaker = Breaker(clock)
        self._probe_at = float("-inf")
        self.counts = dict.fromkeys(
            "told failed too-slow too-large not-json other-organisation not-asked degraded".split(), 0
        )

    def about(self, identity: Identity, request: Request) -> Mapping[str, str] | None:
        """The fields about this caller's organisation, as last told. None: not known, and asked for meanwhile."""
        rule = self._rules()
        if rule is None:
            return {}
        tenant = identity.tenant
        if tenant is None:
            return None
        known = self._known.get(tenant)
        if known is not None and known.of is not rule:
            known = None
        now = self._clock()
        if (known is None or now >= known.until) and tenant not in self._asking:
            self._ask(rule, tenant, request, now)
        fields = known.fields if known is not None else None
        if fields is None:
            self.counts["degraded"] += 1
        return fields

    def document(self, tenant: str) -> Mapping[str, Any] | None:
        """What was told last, for the session page."""
        known = self._known.get(tenant)
        return known.document if known is not None and known.fields is not None else None

    def forget(self, tenant: str) -> None:
        """It has changed: ask anew."""
        self._known.pop(tenant, None)

    def _ask(self, rule: Enrichment, tenant: str, request: Request, now: float) -> None:
        if self.breaker.state != "closed" and not self._may_probe(now):
            self.counts["not-asked"] += 1
            return
        self._asking.add(tenant)
        pairs = [pair for pair in without_ours(request.fields) if pair[0].lower() in _CREDENTIALS]
        asked = Request("GET", rule.path, Fields((*pairs, ("Accept", "application/json"))), scheme=request.scheme)
        task = self._background.start(self._asked(rule, tenant, asked))
        task.add_done_callback(lambda _: self._asking.discard(tenant))

    def _may_probe(self, now: float) -> bool:
        return now >= self._probe_at and self.breaker.begin_probe()

    async def _asked(self, rule: Enrichment, tenant: str, asked: Request) -> None:
        found = await self._answer(rule, tenant, asked)
        now = self._clock()
        before = self._known.get(tenant)
        good = not isinstance(found, str)
        self.counts["told" if good else str(found)] += 1
        if self.breaker.state == "half-open":
            self.breaker.end_probe(good)
        else:
            self.breaker.record(good)
        if self.breaker.state != "closed":
            self._probe_at = now + self.breaker.pause
        if isinstance(found, str):
            # what was known before stays, until it is told otherwise
            kept = before if before is not None and before.of is rule else _Known(None, {}, 0.0, rule)
            kept.until = now + _AGAIN
        else:
            kept = _Known(_fields(rule, found), found, now + rule.every * random.uniform(0.9, 1.0), rule)
        self._known[tenant] = kept
        self._known.move_to_end(tenant)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    async def _answer(self, rule: Enrichment, tenant: str, asked: Request) -> Mapping[str, Any] | str:
        """The document, or what was wrong."""
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._upstream.fetch(asked, None)
                try:
                    body = await body_of(answer) if answer.response.status == 200 else None
                finally:
                    answer.close()
        except TimeoutError:
            return "too-slow"
        except UpstreamError:
            return "failed"
        if answer.response.status != 200:
            return "failed"
        if body is None:
            return "too-large"
        try:
            document = orjson.loads(body)
        except ValueError:
            return "not-json"
        if not isinstance(document, dict):
            return "not-json"
        # an answer about somebody else, whosever fault it is, is nobody's
        return document if claim(document, rule.tenant) == tenant else "other-organisation"


async def body_of(answer: Answer) -> bytes | None:
    """A body of at most MOST bytes; None: it is larger."""
    whole = answer.whole()
    if whole is not None:
        return whole if len(whole) <= MOST else None
    read = bytearray()
    async for chunk in answer.chunks():
        read += chunk
        if len(read) > MOST:
            return None
    return bytes(read)


def _fields(rule: Enrichment, document: Mapping[str, Any]) -> dict[str, str]:
    found = ((name, claim(document, path)) for name, path in rule.headers)
    values = ((name, plain(value)) for name, value in found if value is not ABSENT)
    return {name: value for name, value in values if value is not None}
