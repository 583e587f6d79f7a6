"""How does an EventSource say who it is, when it can send no header? By a cookie for one minute, made for that.

A ticket holds what a token has proved. Every replica can read it: it is kept nowhere.
"""

import hmac
import zlib
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Any

import orjson

from proxy.policy.cookies import TICKET
from proxy.policy.identity import Identity, Presented

LIFETIME = 60  # seconds in which a stream can be opened with it
MAX_TICKET = 3800  # characters: browsers keep no cookie above 4 KiB
_MAX_CLAIMS = 64 << 10
_MAC = 16


class Tickets:
    """Made and read with the name key, which all replicas have."""

    def __init__(self, name_key: bytes) -> None:
        self._key = blake2b(key=name_key, person=b"sidecache-ticket", digest_size=32).digest()

    def make(self, identity: Identity, now: float) -> str | None:
        """None: the caller has more roles than a cookie can hold."""
        roles = sorted(identity.roles) if identity.roles is not None else None
        expires = identity.expires if identity.expires != float("inf") else None
        shown = _presented(identity.presented)
        said = orjson.dumps([now + LIFETIME, identity.tenant, identity.user, roles, expires, shown])
        packed = zlib.compress(said)
        ticket = urlsafe_b64encode(self._mac(packed) + packed).rstrip(b"=").decode()
        return ticket if len(ticket) <= MAX_TICKET else None

    def read(self, ticket: str, now: float) -> Identity | None:
        """Whose ticket it is; None for any other text, and when its minute is over."""
        try:
            sealed = urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
        except ValueError:
            return None
        mac, packed = sealed[:_MAC], sealed[_MAC:]
        if len(ticket) > MAX_TICKET or not hmac.compare_digest(mac, self._mac(packed)):
            return None
        # ours, by its MAC: what follows cannot be anything else
        until, tenant, user, roles, expires, presented = _said(packed)
        if now >= until or (expires is not None and now >= expires):
            return None
        return Identity(
            tenant, user, frozenset(roles) if roles is not None else None,
            float("inf") if expires is None else float(expires),
            presented=None if presented is None else _again(*presented),
        )  # fmt: skip

    def _mac(self, packed: bytes) -> bytes:
        return blake2b(packed, key=self._key, digest_size=_MAC).digest()


def _presented(presented: Presented | None) -> list[Any] | None:
    """What a revocation may be about."""
    if presented is None:
        return None
    expires = presented.expires if presented.expires != float("inf") else None
    said = [presented.user, presented.tenant, presented.session, presented.issued, expires]
    return [*said, b64encode(presented.digest).decode()]


def _again(
    user: str | None, tenant: str | None, session: str | None, issued: float | None, expires: float | None, digest: str
) -> Presented:
    return Presented(user, tenant, session, issued, float("inf") if expires is None else expires, b64decode(digest))


def _said(packed: bytes) -> Any:
    return orjson.loads(zlib.decompressobj().decompress(packed, _MAX_CLAIMS))


def in_cookies(cookies: str | None) -> str | None:
    """The ticket among the cookies of a request; None when there is none, or more than one."""
    pairs = (part.strip(" \t").partition("=") for part in (cookies or "").split(";"))
    found = [value for name, _, value in pairs if name == TICKET]
    return found[0] if len(found) == 1 else None
