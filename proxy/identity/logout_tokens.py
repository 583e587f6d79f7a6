"""Is this logout token genuine, and whose session has ended? (OpenID Connect Back-Channel Logout 1.0, section 2.6)"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.identity.jwks import Jwks
from proxy.identity.tokens import MAX_TOKEN, is_for, is_time, opened_token
from proxy.policy.agreement import MAX_USER

EVENT = "http://schemas.openid.net/event/backchannel-logout"
LONGEST = 600.0  # seconds from its issue to its end: "two minutes in the future" is what the specification recommends
_TYPES = frozenset({"jwt", "logout+jwt", "application/logout+jwt"})


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """What a genuine one says: a user, one of that user's sessions, or both."""

    user: str | None
    session: str | None
    issued: float
    expires: float
    id: str  # jti


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a token is none. `later`: nobody could tell now."""

    why: str
    later: bool = False


class LogoutTokens:
    """Verifies logout tokens of one issuer for one client."""

    def __init__(self, jwks: Jwks, issuer: str, client: str, *, leeway: float = 30.0) -> None:
        self._jwks = jwks
        self._issuer = issuer
        self._client = client
        self._leeway = leeway

    async def verify(self, token: str, now: float) -> LogoutToken | Unfit:
        """The answer, after at most one bounded wait for an unknown key."""
        opened = opened_token(token, _TYPES) if len(token) <= MAX_TOKEN and token.isascii() else None
        if opened is None:
            return Unfit("not a signed token of a logout")
        if opened.kid is None:
            return Unfit("not signed with RS256 and a key that is named")
        key = self._jwks.key(opened.kid) or await self._jwks.wait_for(opened.kid)
        if key is None:
            known = self._jwks.is_known
            return Unfit("signed with a key that the issuer does not publish" if known else "no keys yet", not known)
        if not opened.is_signed_with(key):
            return Unfit("its signature is wrong")
        claims = opened.claims()
        return self._read(claims, now) if claims is not None else Unfit("its content is no JSON object")

    def _read(self, claims: Mapping[str, Any], now: float) -> LogoutToken | Unfit:
        if claims.get("iss") != self._issuer:
            return Unfit("iss is another issuer")
        if "aud" not in claims or not is_for(self._client, claims["aud"]):
            return Unfit("aud is another client")
        issued, expires = claims.get("iat"), claims.get("exp")
        if not is_time(issued) or not is_time(expires):
            return Unfit("iat or exp is missing, or no time")
        assert issued is not None
        assert expires is not None
        if issued > now + self._leeway:
            return Unfit("iat is in the future")
        if now >= expires + self._leeway:
            return Unfit("it has expired")
        if expires - issued > LONGEST:
            return Unfit("exp is too long after iat")
        if "nonce" in claims:
            return Unfit("nonce must not be there")  # or an ID token could be used as one of these
        if not _is_logout(claims.get("events")):
            return Unfit("events does not say that it is about a logout")
        id = claims.get("jti")
        if not _is_text(id):
            return Unfit("jti is missing, or no text")
        user, session = claims.get("sub"), claims.get("sid")
        for name, value in (("sub", user), ("sid", session)):
            if name in claims and not _is_text(value):
                return Unfit(f"{name} is no text")
        if user is None and session is None:
            return Unfit("neither sub nor sid says whose session has ended")
        return LogoutToken(user, session, float(issued), float(expires), str(id))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_USER


def _is_logout(events: object) -> bool:
    return isinstance(events, dict) and isinstance(events.get(EVENT), dict)
