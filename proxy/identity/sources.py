"""Who sent this request: what do its token and its trusted headers, taken together, prove? (SPEC 5)"""

from collections.abc import Mapping

from proxy.identity.tokens import TokenVerifier, Verified
from proxy.policy.agreement import agree
from proxy.policy.identity import Identity, IdentitySources
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason

REMEMBERED = 16_384


class IdentityResolver:
    """Turns a request into a verified caller. A bearer token that is present decides: it is never passed over.

    No verifier means that no issuer is configured: then no token proves anything, but a trusted peer's header may.
    """

    def __init__(self, verifier: TokenVerifier | None) -> None:
        self._verifier = verifier if verifier is not None else TokenVerifier(None, "", "")
        self._sources = IdentitySources()
        self._headers, self._parameters = _other_than_token(self._sources)
        self._known: dict[Verified, Identity | Reason] = {}

    @property
    def headers(self) -> frozenset[str]:
        """The header names, in lower case, in which a caller may be named beside the token: as of the last answer."""
        return self._headers

    @property
    def parameters(self) -> frozenset[str]:
        """The path parameters in which a tenant may be named: as of the last answer."""
        return self._parameters

    def resolve_now(
        self, request: Request, parameters: Mapping[str, str], sources: IdentitySources, now: float
    ) -> Identity | Reason | None:
        """The answer, without waiting. None: await `resolve`, the token's key may be learnt."""
        token = bearer_token(request.fields)
        if token is None:
            return self._agree(None, request, parameters, sources)
        found = token if isinstance(token, Reason) else self._verifier.verify_now(token, now)
        return self._agree(found, request, parameters, sources) if isinstance(found, Verified) else found

    async def resolve(
        self, request: Request, parameters: Mapping[str, str], sources: IdentitySources, now: float
    ) -> Identity | Reason:
        """The answer, after at most one bounded wait for an unknown key."""
        token = bearer_token(request.fields)
        if token is None:
            return self._agree(None, request, parameters, sources)
        found = token if isinstance(token, Reason) else await self._verifier.verify(token, now)
        return self._agree(found, request, parameters, sources) if isinstance(found, Verified) else found

    def _agree(
        self, found: Verified | None, request: Request, parameters: Mapping[str, str], sources: IdentitySources
    ) -> Identity | Reason:
        self._follow(sources)
        if found is None or not self._speaks_alone(request.fields, parameters):
            return agree(
                sources,
                claims=None if found is None else found.claims,
                headers=request.fields,
                peer_trusted=request.peer_trusted,
                parameters=parameters,
            )
        answer = self._known.get(found)
        if answer is None:
            answer = agree(sources, claims=found.claims, headers=Fields(), peer_trusted=False, parameters={})
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[found] = answer
        return answer

    def _follow(self, sources: IdentitySources) -> None:
        if sources is not self._sources:
            self._sources = sources
            self._headers, self._parameters = _other_than_token(sources)
            self._known.clear()

    def _speaks_alone(self, fields: Fields, parameters: Mapping[str, str]) -> bool:
        """Is the token the only one who says anything? Then its claims alone make the answer, which is remembered."""
        if not self._parameters.isdisjoint(parameters):
            return False
        if not self._headers:
            return True
        names = fields.names()
        # an underscore may spell one of the headers in another way (`x_org_id`): agreement looks closer
        return self._headers.isdisjoint(names) and "_" not in "".join(names)


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
