"""Who sent this request: what do its token and its trusted headers, taken together, prove? (SPEC 5)"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from proxy.identity.tokens import TokenVerifier, Verified
from proxy.policy.agreement import agree, presented
from proxy.policy.identity import Identity, IdentitySources, Presented, Standing
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason

REMEMBERED = 16_384
_JUDGED_FOR = 5.0  # seconds: a standing may change by time alone, when a token grows too old to be judged


class Standings(Protocol):
    """Knows which credentials have been revoked."""

    @property
    def any(self) -> bool:
        """Whether one has been, that could still count."""

    @property
    def version(self) -> int:
        """Grows whenever a standing may be another one."""

    def of(self, presented: Presented) -> Standing: ...


class Cookies(Protocol):
    """Knows whose cookies are whose. Reason: it is nobody's; None from `known`: ask `learn`, or there is none."""

    def carries(self, request: Request, sources: IdentitySources) -> bool: ...

    def known(self, request: Request, sources: IdentitySources, now: float) -> Verified | Reason | None: ...

    async def learn(self, request: Request, sources: IdentitySources, now: float) -> Verified | Reason: ...


class AllGood:
    """Nothing is ever revoked."""

    any = False
    version = 0

    def of(self, presented: Presented) -> Standing:
        return Standing.GOOD


class IdentityResolver:
    """Turns a request into a verified caller. A bearer token that is present decides: it is never passed over.

    No verifier means that no issuer is configured: then no token proves anything, but a trusted peer's header may.
    `cookies`: where the rules name a cookie, it speaks for who sends no token.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None,
        standings: Standings | None = None,
        cookies: Cookies | None = None,
        seen: Callable[[Identity], None] | None = None,
        *,
        peers_speak: bool = True,
    ) -> None:
        """`peers_speak`: a trusted peer's headers may name the caller; not, they tell no more than where one is."""
        self._verifier = verifier if verifier is not None else TokenVerifier(None, "", "")
        self._standings: Standings = standings if standings is not None else AllGood()
        self._cookies = cookies
        self._seen = seen  # hears of each caller in good standing
        self._peers_speak = peers_speak
        self._sources = IdentitySources()
        self._headers, self._parameters = _other_than_token(self._sources)
        self._known: dict[Verified, Identity | Reason] = {}
        self._presented: dict[Verified, Presented] = {}
        self._judgements: dict[Verified, tuple[int, float, Standing]] = {}  # by version, until when

    @property
    def headers(self) -> frozenset[str]:
        """The header names, in lower case, in which a caller may be named beside the token: as of the last answer."""
        return self._headers if self._sources.cookie is None else self._headers | {"cookie"}

    @property
    def parameters(self) -> frozenset[str]:
        """The path parameters in which a tenant may be named: as of the last answer."""
        return self._parameters

    def resolve_now(
        self, request: Request, parameters: Mapping[str, str], sources: IdentitySources, now: float
    ) -> Identity | Reason | None:
        """The answer, without waiting. None: await `resolve`, the token's key or the cookie's owner may be learnt."""
        token = bearer_token(request.fields)
        if token is None:
            if self._carries_cookie(request, sources):
                assert self._cookies is not None
                owner = self._cookies.known(request, sources, now)
                return self._judged(owner, request, parameters, sources, now) if owner is not None else None
            return self._agree(None, request, parameters, sources)
        found = token if isinstance(token, Reason) else self._verifier.verify_now(token, now)
        return self._judged(found, request, parameters, sources, now) if found is not None else None

    async def resolve(
        self, request: Request, parameters: Mapping[str, str], sources: IdentitySources, now: float
    ) -> Identity | Reason:
        """The answer, after at most one bounded wait for an unknown key or for whose a cookie is."""
        found = await self._credential(request, sources, now)
        if found is None:
            return self._agree(None, request, parameters, sources)
        return self._judged(found, request, parameters, sources, now)

    async def presented(self, request: Request, sources: IdentitySources, now: float) -> Presented | None:
        """What the request's credential says of itself, whether everything else agrees with it or not."""
        found = await self._credential(request, sources, now)
        return self._of(found, sources) if isinstance(found, Verified) else None

    async def is_revoked(self, request: Request, sources: IdentitySources, now: float) -> bool:
        """Whether the request's token has been revoked. Of a cookie only a request that needs its owner finds out."""
        if not self._standings.any:
            return False
        token = bearer_token(request.fields)
        if not isinstance(token, str):
            return False
        found = await self._verifier.verify(token, now)
        return isinstance(found, Verified) and self._standing(found, sources, now) is Standing.REVOKED

    def is_revoked_now(self, request: Request, sources: IdentitySources, now: float) -> bool | None:
        """The same without waiting; None: ask `is_revoked`."""
        if not self._standings.any:
            return False
        token = bearer_token(request.fields)
        if not isinstance(token, str):
            return False
        found = self._verifier.verify_now(token, now)
        if found is None:
            return None
        return isinstance(found, Verified) and self._standing(found, sources, now) is Standing.REVOKED

    def _carries_cookie(self, request: Request, sources: IdentitySources) -> bool:
        return sources.cookie is not None and self._cookies is not None and self._cookies.carries(request, sources)

    async def _credential(self, request: Request, sources: IdentitySources, now: float) -> Verified | Reason | None:
        token = bearer_token(request.fields)
        if token is None:
            if not self._carries_cookie(request, sources):
                return None
            assert self._cookies is not None
            return await self._cookies.learn(request, sources, now)
        return token if isinstance(token, Reason) else await self._verifier.verify(token, now)

    def _of(self, found: Verified, sources: IdentitySources) -> Presented:
        self._follow(sources)
        said = self._presented.get(found)
        if said is None:
            said = presented(sources, found.claims, found.digest)
            if len(self._presented) >= REMEMBERED:
                self._presented.clear()
            self._presented[found] = said
        return said

    def _standing(self, found: Verified, sources: IdentitySources, now: float) -> Standing:
        """Judged once for as long as nothing else becomes known."""
        self._follow(sources)
        version = self._standings.version
        judged = self._judgements.get(found)
        if judged is not None and judged[0] == version and now < judged[1] <= now + _JUDGED_FOR:
            return judged[2]
        standing = self._standings.of(self._of(found, sources))
        if len(self._judgements) >= REMEMBERED:
            self._judgements.clear()
        self._judgements[found] = version, now + _JUDGED_FOR, standing
        return standing

    def _judged(
        self,
        found: Verified | Reason,
        request: Request,
        parameters: Mapping[str, str],
        sources: IdentitySources,
        now: float,
    ) -> Identity | Reason:
        if isinstance(found, Reason):
            return found
        standing = self._standing(found, sources, now)
        if standing is Standing.REVOKED:
            return Reason.REVOKED
        answer = self._agree(found, request, parameters, sources)
        if isinstance(answer, Reason):
            return answer
        if standing is Standing.GOOD:
            if self._seen is not None:
                self._seen(answer)
            return answer
        return replace(answer, standing=standing)

    def _agree(
        self, found: Verified | None, request: Request, parameters: Mapping[str, str], sources: IdentitySources
    ) -> Identity | Reason:
        self._follow(sources)
        trusted = request.peer_trusted and self._peers_speak
        if found is None:
            return _agreed(None, None, sources, request.fields, trusted, parameters)
        if not self._speaks_alone(request.fields, parameters):
            said = self._of(found, sources)
            return _agreed(found, said, sources, request.fields, trusted, parameters)
        answer = self._known.get(found)
        if answer is None:
            answer = _agreed(found, self._of(found, sources), sources, Fields(), False, {})
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[found] = answer
        return answer

    def _follow(self, sources: IdentitySources) -> None:
        if sources is not self._sources:
            self._sources = sources
            self._headers, self._parameters = _other_than_token(sources)
            self._known.clear()
            self._presented.clear()
            self._judgements.clear()

    def _speaks_alone(self, fields: Fields, parameters: Mapping[str, str]) -> bool:
        """Is the token the only one who says anything? Then its claims alone make the answer, which is remembered."""
        if not self._parameters.isdisjoint(parameters):
            return False
        if not self._headers:
            return True
        names = fields.names()
        # an underscore may spell one of the headers in another way (`x_org_id`): agreement looks closer
        return self._headers.isdisjoint(names) and "_" not in "".join(names)


def _agreed(
    found: Verified | None, said: Presented | None, sources: IdentitySources, fields: Fields, trusted: bool,
    parameters: Mapping[str, str],
) -> Identity | Reason:  # fmt: skip
    answer = agree(
        sources, claims=None if found is None else found.claims, headers=fields, peer_trusted=trusted,
        parameters=parameters,
    )  # fmt: skip
    if found is None or isinstance(answer, Reason):
        return answer
    return replace(answer, presented=said, expires=min(answer.expires, found.expires))


def bearer_token(fields: Fields) -> str | Reason | None:
    """The token of RFC 6750 2.1; None when there is none. Tokens in a query or a form are not looked for."""
    value = fields.get("authorization")
    if value is None:
        return None
    if value[:7].lower() == "bearer ":
        return value[7:].strip(" ")  # several fields, combined by commas, make no valid token either
    if len(fields.get_all("authorization")) > 1:
        return Reason.TOKEN_INVALID  # which one the upstream obeys is anybody's guess
    return Reason.TOKEN_INVALID if value.lstrip(" \t")[:6].lower() == "bearer" else None


def _other_than_token(sources: IdentitySources) -> tuple[frozenset[str], frozenset[str]]:
    """The header names (in both spellings of their hyphens) and path parameters that can speak."""
    named = [source.partition(".") for source in (*sources.tenant, sources.user or "", sources.roles or "")]
    headers = {name for kind, _, name in named if kind == "header"}
    return (
        frozenset(headers | {name.replace("_", "-") for name in headers}),
        frozenset(name for kind, _, name in named if kind == "path"),
    )
