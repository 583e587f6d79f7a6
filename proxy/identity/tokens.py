"""Is this bearer token genuine, and what does it say? (RFC 7515, 7519, 8725; RS256 only)

PyJWT's RS256 checks the signature: no other algorithm is at hand that a token could talk us into. Header and claims are
checked here, against the caller's `now`: PyJWT's own checks read a clock and accept what two readers could understand
differently (duplicate members, times as strings, padding).
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from proxy.identity.jwks import Jwks
from proxy.policy.outcome import Reason

ALGORITHM = "RS256"
MAX_TOKEN = 8 << 10
MAX_TIME = 1 << 53  # the largest integer that every JSON reader understands alike
REMEMBERED = 16_384
REFUSALS_REMEMBERED = 4096
REFUSED_FOR = 5.0  # seconds a refusal is remembered: short, as a key or a clock may make it wrong

_RS256 = RSAAlgorithm(RSAAlgorithm.SHA256)
_SEGMENTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # RFC 7519 5.1, RFC 9068 2.1


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """What a genuine token claims. `expires` is its `exp` without leeway: at that moment it is over.

    One token yields one object for as long as it is remembered, so others may key their own memory by it.
    """

    claims: Mapping[str, Any]
    expires: float
    digest: bytes = b""  # of the credential


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Well-formed, but signed with a key that is not known."""

    kid: str


@dataclass(frozen=True, slots=True)
class _Proof:
    """A verified token and the key that proved it; no key: it was accepted unsigned, in development."""

    verified: Verified
    kid: str = ""
    key: RSAPublicKey | None = None


class TokenVerifier:
    """Verifies tokens of one issuer for one audience, and remembers the answers by digest, never the tokens.

    `leeway` forgives a clock that lags behind the issuer's (`nbf`, `iat`). It does not prolong `exp`: forgiving there
    could serve a hit that the upstream would refuse, being strict only costs a request to the upstream.
    `jwks` None means that no issuer is configured: nothing signed can be verified. `allow_unsigned` also accepts
    `alg: none`, for development on loopback; there issuer, audience and exp may be absent.
    """

    def __init__(
        self, jwks: Jwks | None, issuer: str, audience: str, *, leeway: float = 30.0, allow_unsigned: bool = False
    ) -> None:
        if jwks is not None and not (issuer and audience):
            raise ValueError("signed tokens need an issuer and an audience to be checked against")
        self._jwks = jwks
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._allow_unsigned = allow_unsigned
        self._proofs: OrderedDict[bytes, _Proof] = OrderedDict()
        self._refusals: OrderedDict[bytes, tuple[Reason, float]] = OrderedDict()

    def verify_now(self, token: str, now: float) -> Verified | Reason | None:
        """The answer, without waiting. None: await `verify`, the key may be learnt."""
        found = self._look(token, now)
        if not isinstance(found, Unsettled):
            return found
        if self._jwks is not None and self._jwks.may_learn():
            return None
        return self._absence()

    async def verify(self, token: str, now: float) -> Verified | Reason:
        """The answer, after at most one bounded wait for an unknown key."""
        found = self._look(token, now)
        if isinstance(found, Unsettled) and self._jwks is not None:
            await self._jwks.wait_for(found.kid)
            found = self._look(token, now)
        return self._absence() if isinstance(found, Unsettled) else found

    def _absence(self) -> Reason:
        return self._jwks.absence() if self._jwks is not None else Reason.KEYS_UNAVAILABLE

    def _look(self, token: str, now: float) -> Verified | Reason | Unsettled:
        if len(token) > MAX_TOKEN or not token.isascii():
            return Reason.TOKEN_INVALID
        digest = sha256(token.encode()).digest()
        proof = self._proofs.get(digest)
        if proof is not None:
            if proof.verified.expires > now and self._holds(proof):
                self._proofs.move_to_end(digest)
                return proof.verified
            del self._proofs[digest]
        refusal = self._refusals.get(digest)
        if refusal is not None and now < refusal[1] <= now + REFUSED_FOR:
            return refusal[0]
        found = self._examine(token, digest, now)
        if isinstance(found, _Proof):
            _remember(self._proofs, digest, found, REMEMBERED)
            return found.verified
        if isinstance(found, Reason) and found is not Reason.KEYS_UNAVAILABLE:
            _remember(self._refusals, digest, (found, now + REFUSED_FOR), REFUSALS_REMEMBERED)
        return found

    def _holds(self, proof: _Proof) -> bool:
        return proof.key is None or (self._jwks is not None and self._jwks.key(proof.kid) is proof.key)

    def _examine(self, token: str, digest: bytes, now: float) -> _Proof | Reason | Unsettled:
        opened = opened_token(token, _TYPES)
        if opened is None:
            return Reason.TOKEN_INVALID
        if opened.header.get("alg") == "none":
            return self._accept_unsigned(opened, digest, now)
        if opened.kid is None:
            return Reason.TOKEN_INVALID
        if self._jwks is None:
            return Reason.KEYS_UNAVAILABLE
        key = self._jwks.key(opened.kid)
        if key is None:
            return Unsettled(opened.kid)
        if not opened.is_signed_with(key):
            return Reason.TOKEN_INVALID
        verified = self._claims(opened.claims(), digest, now, required=True)
        return verified if isinstance(verified, Reason) else _Proof(verified, opened.kid, key)

    def _accept_unsigned(self, opened: "Opened", digest: bytes, now: float) -> _Proof | Reason:
        if not self._allow_unsigned or opened.segments[3]:
            return Reason.TOKEN_INVALID
        verified = self._claims(opened.claims(), digest, now, required=False)
        return verified if isinstance(verified, Reason) else _Proof(verified)

    def _claims(self, claims: dict[str, Any] | None, digest: bytes, now: float, *, required: bool) -> Verified | Reason:
        if claims is None or not all(is_time(claims[name]) for name in ("exp", "nbf", "iat") if name in claims):
            return Reason.TOKEN_INVALID
        if required and not claims.keys() >= {"iss", "aud", "exp"}:
            return Reason.TOKEN_INVALID
        if self._issuer and claims.get("iss", self._issuer) != self._issuer:
            return Reason.TOKEN_INVALID
        if self._audience and not is_for(self._audience, claims.get("aud", self._audience)):
            return Reason.TOKEN_INVALID
        # RFC 7519 4.1.5: "before which the JWT MUST NOT be accepted"; one issued in the future was not issued
        if max(claims.get("nbf", now), claims.get("iat", now)) > now + self._leeway:
            return Reason.TOKEN_INVALID
        # RFC 7519 4.1.4: "on or after which the JWT MUST NOT be accepted"
        expires = float(claims.get("exp", "inf"))
        return Verified(MappingProxyType(claims), expires, digest) if now < expires else Reason.TOKEN_EXPIRED


@dataclass(frozen=True, slots=True)
class Opened:
    """A token in its three parts. Nothing of it is to be believed before its signature was looked at."""

    segments: re.Match[str]
    header: Mapping[str, Any]

    @property
    def kid(self) -> str | None:
        """The key that is said to have signed it; None where that is none of ours to verify."""
        kid = self.header.get("kid")
        return kid if self.header.get("alg") == ALGORITHM and isinstance(kid, str) else None

    def is_signed_with(self, key: RSAPublicKey) -> bool:
        signature = _decode(self.segments[3])
        signed = self.segments[0][: self.segments.end(2)].encode()
        return signature is not None and _RS256.verify(signed, key, signature)

    def claims(self) -> dict[str, Any] | None:
        return _parse(self.segments[2])


def opened_token(token: str, types: frozenset[str]) -> Opened | None:
    """The parts of a token of one of these types; None for what nobody should look at further."""
    segments = _SEGMENTS.fullmatch(token)
    header = _parse(segments[1]) if segments is not None else None
    if segments is None or header is None or not _is_plain_header(header, types):
        return None
    return Opened(segments, header)


def _is_plain_header(header: Mapping[str, Any], types: frozenset[str]) -> bool:
    """No extension that must be understood (RFC 7515 4.1.11, RFC 7797), and one of these types.

    jku, jwk, x5u and x5c are ignored: keys come from the configured issuer and from nowhere else.
    """
    kind = header.get("typ", "jwt")
    return "crit" not in header and "b64" not in header and isinstance(kind, str) and kind.lower() in types


def is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_TIME


def is_for(audience: str, value: object) -> bool:
    named = value if isinstance(value, list) else [value]
    return audience in named and all(isinstance(name, str) for name in named)


def _decode(segment: str) -> bytes | None:
    """The bytes of one segment, or None when this is not their only spelling (stray bits in the last character)."""
    try:
        data = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        return None
    return data if urlsafe_b64encode(data).rstrip(b"=").decode() == segment else None


def _parse(segment: str) -> dict[str, Any] | None:
    """The JSON object in one segment, or None unless every reader would read the same members."""
    data = _decode(segment)
    if data is None:
        return None
    try:
        orjson.loads(data)  # stricter than json about Unicode (no lone surrogates), numbers and depth
        value = json.loads(data.decode(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _remember(memory: "OrderedDict[bytes, Any]", digest: bytes, value: object, limit: int) -> None:
    memory[digest] = value
    memory.move_to_end(digest)
    if len(memory) > limit:
        memory.popitem(last=False)
