"""Who is asking, as far as it has been verified? (SPEC 5; only what is in here may establish a cache scope.)"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller. None means "not known", which never widens to "shared": the scope then bypasses.

    `tenant` fully matches `[A-Za-z0-9_-]{1,64}`. An empty set of roles is a value; None is an absent claim.
    `expires` is a unix time in seconds: a hit at or after it must not be served.
    """

    tenant: str | None = None
    user: str | None = None
    roles: frozenset[str] | None = None
    expires: float = float("inf")
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS, hash=False)

    def __str__(self) -> str:
        return f"{self.user or 'somebody'}@{self.tenant or 'no tenant'}"


@dataclass(frozen=True, slots=True)
class IdentitySources:
    """Where the rules look for a caller: `jwt.<claim>`, `header.<name>` or `path.<parameter>`.

    Every tenant source that is present in a request must agree with the others. A path, or a header from a peer that is
    not trusted, can contradict but never establish.
    """

    tenant: tuple[str, ...] = ("jwt.org_id",)
    user: str | None = "jwt.sub"
    roles: str | None = "jwt.permissions"
