"""How can an upstream be sure that it was the sidecar that named the caller? A signed assertion of one minute."""

import json
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.credentials import EncryptionKey
from proxy.policy.identity import Identity, Standing

LIFETIME = 60
ISSUER = "sidecache"
_REUSED = 30.0  # seconds in which the same caller gets the same one: it has as long to live
_REMEMBERED = 8192


class Assertions:
    """Signs by Ed25519 (RFC 8037). The first key signs; all of them are published, so that they can be replaced."""

    def __init__(self, keys: Sequence[EncryptionKey], audience: str, clock: Callable[[], float]) -> None:
        """`keys`: an id and a seed of 32 bytes each."""
        self._keys = [(key.id, Ed25519PrivateKey.from_private_bytes(key.secret)) for key in keys]
        self._audience = audience
        self._clock = clock
        self._made: OrderedDict[tuple[object, ...], tuple[str, float]] = OrderedDict()

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517)."""
        return {
            "keys": [
                {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": name, "x": _segment(_raw(key))}
                for name, key in self._keys
            ]
        }

    def sign(self, identity: Identity, told: frozenset[str]) -> str:
        """A token that says what `told` names of this caller, and that the sidecar says it."""
        now = self._clock()
        session = identity.presented.session if identity.presented is not None else None
        key = (identity.user, identity.tenant, identity.roles, session, identity.standing, told)
        made = self._made.get(key)
        if made is not None and now < made[1]:
            return made[0]
        token = self._signed(self._claims(identity, session, told, int(now)))
        self._made[key] = token, now + _REUSED
        self._made.move_to_end(key)
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        return token

    def _claims(self, identity: Identity, session: str | None, told: frozenset[str], now: int) -> dict[str, Any]:
        roles = None if identity.roles is None or identity.standing is not Standing.GOOD else sorted(identity.roles)
        said = {
            "sub": identity.user if "user" in told else None,
            "org_id": identity.tenant if "tenant" in told else None,
            "sid": session if "session" in told else None,
            "roles": roles if "roles" in told else None,
        }
        own = {"iss": ISSUER, "aud": self._audience, "iat": now, "exp": now + LIFETIME}
        return {**{name: value for name, value in said.items() if value is not None}, **own}

    def _signed(self, claims: dict[str, Any]) -> str:
        name, key = self._keys[0]
        header = {"alg": "EdDSA", "typ": "JWT", "kid": name}
        text = ".".join(_segment(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        return f"{text}.{_segment(key.sign(text.encode()))}"


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
