"""Whose is this session cookie? Only the upstream can read it: it is asked once, before anything else (SPEC 5).

memory      by a digest of the cookie, for at most `every`; a refusal for a moment
coalesced   all who ask with the same cookie wait for one answer, for PATIENCE at most
forgotten   when something was revoked that means the answer: the upstream is asked anew. A cookie that was itself
            revoked, as its logout was seen passing, is nobody's from then on, whatever the upstream says
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import orjson

from proxy.cache.background import Background
from proxy.errors import UpstreamError
from proxy.identity.sources import Standings
from proxy.identity.tokens import TokenVerifier, Verified
from proxy.policy.agreement import presented
from proxy.policy.cookies import parts_of
from proxy.policy.identity import CookieSource, IdentitySources, Presented, Standing
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason
from proxy.sessions.enrich import Asking, body_of

REMEMBERED = 16_384
AT_ONCE = 256  # questions under way; beyond that a cookie is nobody's for the moment
PATIENCE = 2.0  # seconds that a request waits for an answer
_TIMEOUT = 5.0  # seconds that one question may take
_REFUSED_FOR = 5.0
_FAILED_FOR = 1.0
_MAX_COOKIE = 32 << 10
_TOKENS = ("token", "accessToken", "access_token")  # where answers of nextjs-auth0 (4, 3) and others have it
_PASSED = frozenset({"host"})


@dataclass(frozen=True, slots=True)
class _Answer:
    found: Verified | Reason
    until: float
    version: int  # of what was known to be revoked when it was asked for


class CookieOwners:
    """Asks, and remembers. `version` grows with each revocation."""

    def __init__(
        self,
        upstream: Asking,
        verifier: TokenVerifier,
        standings: Standings,
        background: Background,
        clock: Callable[[], float],
        version: Callable[[], int],
    ) -> None:
        self._upstream = upstream
        self._verifier = verifier
        self._standings = standings
        self._background = background
        self._clock = clock
        self._version = version
        self._answers: OrderedDict[tuple[CookieSource, bytes], _Answer] = OrderedDict()
        self._asking: dict[tuple[CookieSource, bytes], asyncio.Task[Verified | Reason]] = {}
        self.counts = dict.fromkeys("known resolved refused failed crowded".split(), 0)

    def carries(self, request: Request, sources: IdentitySources) -> bool:
        source = sources.cookie
        return (
            source is not None
            and source.name in (request.fields.get("cookie") or "")
            and bool(parts_of(request.fields, source.name))
        )

    def known(self, request: Request, sources: IdentitySources, now: float) -> Verified | Reason | None:
        place, _ = _place(request, sources)
        return place if isinstance(place, Reason) else self._remembered(place, sources, now)

    async def learn(self, request: Request, sources: IdentitySources, now: float) -> Verified | Reason:
        place, cookies = _place(request, sources)
        if isinstance(place, Reason):
            return place
        found = self._remembered(place, sources, now)
        if found is not None:
            return found
        asking = self._asking.get(place)
        if asking is None:
            if len(self._asking) >= AT_ONCE:
                self.counts["crowded"] += 1
                return Reason.KEYS_UNAVAILABLE
            asking = self._background.start(self._ask(place, cookies, request))
            self._asking[place] = asking
            asking.add_done_callback(lambda _: self._asking.pop(place, None))
        done, _ = await asyncio.wait((asking,), timeout=PATIENCE)
        if not done or asking.cancelled():
            return Reason.KEYS_UNAVAILABLE
        return asking.result()

    def _remembered(
        self, place: tuple[CookieSource, bytes], sources: IdentitySources, now: float
    ) -> Verified | Reason | None:
        if self._standings.any and self._standings.of(Presented(digest=place[1])) is Standing.REVOKED:
            return Reason.REVOKED
        answer = self._answers.get(place)
        if answer is None:
            return None
        if now >= answer.until or self._is_void(answer, sources):
            del self._answers[place]
            return None
        self._answers.move_to_end(place)
        self.counts["known"] += 1
        return answer.found

    def _is_void(self, answer: _Answer, sources: IdentitySources) -> bool:
        """Whether something was revoked since that means it: then the upstream has the word, once."""
        found = answer.found
        if isinstance(found, Reason) or answer.version == self._version():
            return False
        said = presented(sources, found.claims, found.digest)
        return self._standings.of(said) in (Standing.REVOKED, Standing.OUTDATED)

    async def _ask(self, place: tuple[CookieSource, bytes], cookies: str, request: Request) -> Verified | Reason:
        source, digest = place
        asked_at, version = self._clock(), self._version()
        pairs = [pair for pair in request.fields if pair[0].lower() in _PASSED]
        fields = Fields((*pairs, ("Cookie", cookies), ("Accept", "application/json")))
        found, kept = await self._answered(Request("GET", source.path, fields, scheme=request.scheme), source, asked_at)
        if not isinstance(found, Reason):
            found = Verified(found.claims, min(found.expires, asked_at + source.every), digest)
        self.counts[
            "resolved" if not isinstance(found, Reason) else "failed" if kept == _FAILED_FOR else "refused"
        ] += 1
        self._answers[place] = _Answer(found, asked_at + kept, version)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return found

    async def _answered(self, asked: Request, source: CookieSource, asked_at: float) -> tuple[Verified | Reason, float]:
        """Whose it is, and for how long that counts."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._upstream.fetch(asked, None)
                try:
                    body = await body_of(answer) if answer.response.status == 200 else b""
                finally:
                    answer.close()
        except (TimeoutError, UpstreamError):
            return Reason.KEYS_UNAVAILABLE, _FAILED_FOR
        status = answer.response.status
        if status >= 500 or status == 429:
            return Reason.KEYS_UNAVAILABLE, _FAILED_FOR
        document = _object(body) if status == 200 and body is not None else None
        if document is None:
            return Reason.NO_CREDENTIALS, min(_REFUSED_FOR, source.every)  # a refused cookie is nobody's
        token = next((document[name] for name in _TOKENS if isinstance(document.get(name), str)), None)
        if token is None:
            # when its holder logged in is not said; that the upstream vouches now is
            claims = MappingProxyType({"iat": asked_at, **document})
            return Verified(claims, float("inf")), source.every
        found = await self._verifier.verify(token, asked_at)
        if isinstance(found, Reason):
            return found, _FAILED_FOR if found is Reason.KEYS_UNAVAILABLE else min(_REFUSED_FOR, source.every)
        return found, source.every


def _place(request: Request, sources: IdentitySources) -> tuple[tuple[CookieSource, bytes] | Reason, str]:
    """By what the answer is remembered, and the cookies to ask with."""
    source = sources.cookie
    assert source is not None, "asked for only where the rules name one"
    parts = sorted(parts_of(request.fields, source.name))
    cookies = "; ".join(f"{name}={value}" for name, value in parts)
    if len({name for name, _ in parts}) != len(parts) or not parts or len(cookies) > _MAX_COOKIE:
        return Reason.TOKEN_INVALID, ""  # which of two the upstream obeys is anybody's guess
    return (source, sha256(cookies.encode("utf-8", "surrogateescape")).digest()), cookies


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = orjson.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) and document else None
