"""Who is asking, as far as it has been verified? (SPEC 5; only what is in here may establish a cache scope.)"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

_NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


class Standing(StrEnum):
    """What has become of a credential since it was issued."""

    GOOD = "good"
    OUTDATED = "outdated"  # its holder's rights have changed: what it says of roles is over
    UNKNOWN = "unknown"  # whether it was revoked is not known here
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Presented:
    """What a verified credential says of itself that a revocation can name. `issued` None: it does not say when."""

    user: str | None = None
    tenant: str | None = None
    session: str | None = None
    issued: float | None = None
    expires: float = float("inf")
    digest: bytes = b""  # of the credential itself


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller. None means "not known", which never widens to "shared": the scope then bypasses.

    `tenant` fully matches `[A-Za-z0-9_-]{1,64}`. An empty set of roles is a value; None is an absent claim.
    `expires` is a unix time in seconds: a hit at or after it must not be served. `presented` None: no credential, a
    trusted peer vouches.
    """

    tenant: str | None = None
    user: str | None = None
    roles: frozenset[str] | None = None
    expires: float = float("inf")
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS, hash=False)
    presented: Presented | None = field(default=None, compare=False)
    standing: Standing = field(default=Standing.GOOD, compare=False)

    def __str__(self) -> str:
        return f"{self.user or 'somebody'}@{self.tenant or 'no tenant'}"


@dataclass(frozen=True, slots=True)
class CookieSource:
    """An opaque cookie, and the GET of the upstream that tells whose it is. `every`: seconds an answer counts."""

    name: str
    path: str
    every: float = 60.0


@dataclass(frozen=True, slots=True)
class IdentitySources:
    """Where the rules look for a caller: `jwt.<claim>`, `header.<name>` or `path.<parameter>`.

    Every tenant source that is present in a request must agree with the others. A path, or a header from a peer that is
    not trusted, can contradict but never establish.
    """

    tenant: tuple[str, ...] = ("jwt.org_id",)
    user: str | None = "jwt.sub"
    roles: str | None = "jwt.permissions"
    session: str | None = field(default="jwt.sid", repr=False)  # it names no scope: no part of a route's digest
    cookie: CookieSource | None = field(default=None, repr=False)
