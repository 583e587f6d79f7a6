"""What happened to a request, and why, in one value that every report is made from?"""

from dataclasses import dataclass
from enum import StrEnum

CACHE_NAME = "sidecache"


class Forward(StrEnum):
    """Why a request went to the upstream: the `fwd` parameter of Cache-Status (RFC 9211 2.2)."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    REQUEST = "request"
    STALE = "stale"


class Reason(StrEnum):
    """The stable code of one cause. The value is what people see in Cache-Status, logs, `explain` and metrics."""

    # served
    FRESH = "fresh"
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    STALE_IF_ERROR = "stale-if-error"
    REVALIDATED = "revalidated"
    COLLAPSED = "collapsed"
    # looked for and not found, or not usable
    COLD = "cold"
    EXPIRED = "expired"
    PURGED = "purged"
    RULES_CHANGED = "rules-changed"
    VARIANT = "variant"
    REQUEST_CONTROL = "request-control"
    ONLY_IF_CACHED = "only-if-cached"
    # never looked for
    NO_RULE = "no-rule"
    WRITE = "write"
    UNMATCHED_WRITE = "unmatched-write"
    NO_CREDENTIALS = "no-credentials"
    TOKEN_INVALID = "token-invalid"
    TOKEN_EXPIRED = "token-expired"
    KEYS_UNAVAILABLE = "keys-unavailable"
    NO_TENANT = "no-tenant"
    TENANT_CONFLICT = "tenant-conflict"
    NO_ROLES = "no-roles"
    NO_USER = "no-user"
    PERMISSION = "permission"
    AMBIGUOUS_PATH = "ambiguous-path"
    AMBIGUOUS_QUERY = "ambiguous-query"
    OVERRIDE_HEADER = "override-header"
    REQUEST_BODY = "request-body"
    BODY_TOO_LARGE = "request-body-too-large"
    RANGE = "range"
    PRECONDITION = "precondition"
    HOST = "host-not-served"
    UPGRADE = "upgrade"
    STORE_UNAVAILABLE = "store-unavailable"
    SWITCHED_OFF = "switched-off"
    RIGHTS_CHANGED = "rights-changed"
    REVOCATIONS_UNKNOWN = "revocations-unknown"
    SESSION_ROUTE = "session-route"
    # fetched and not stored
    STATUS = "status"
    NO_STORE = "no-store"
    PRIVATE = "private"
    SET_COOKIE = "set-cookie"
    VARY_STAR = "vary-star"
    VARY_CREDENTIALS = "vary-credentials"
    VARY_TOO_LONG = "vary-too-long"
    PARTIAL = "partial"
    NOT_FRESH = "no-freshness"
    AUTHORIZATION = "authorization"
    ENCODED = "content-encoding"
    EVENT_STREAM = "event-stream"
    UNFRAMED = "unframed"
    TOO_LARGE = "too-large"
    INCOMPLETE = "incomplete"
    ASSERTION = "assertion-failed"
    TOO_MANY_GROUPS = "too-many-groups"
    QUOTA = "over-quota"
    # answered by sidecache itself
    BAD_REQUEST = "bad-request"
    UPSTREAM_FAILED = "upstream-failed"
    RESERVED = "reserved-path"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cache outcome: the source of the Cache-Status field, the log line, the metrics and `explain`.

    `hit`: the body came from the cache; with `forward`, only after the upstream was asked. `ttl` is the remaining
    freshness lifetime in seconds, negative when stale (RFC 9211 2.4). `fwd_status` is what the upstream answered, where
    that is not what the client gets (2.3).
    """

    reason: Reason
    hit: bool = False
    forward: Forward | None = None
    ttl: int | None = None
    stored: bool = False
    collapsed: bool = False
    fwd_status: int | None = None
    feature: str | None = None
    key: str | None = None
    tenant: str | None = None

    def cache_status(self) -> str:
        """The member sidecache appends to Cache-Status (RFC 9211 2)."""
        parts = [CACHE_NAME]
        if self.forward is not None:
            parts.append(f"fwd={self.forward}")
        elif self.hit:
            # "the request was satisfied by the cache; that is, it was not forwarded" (2.1)
            parts.append("hit")
        if self.fwd_status is not None:
            parts.append(f"fwd-status={self.fwd_status}")
        if self.ttl is not None:
            parts.append(f"ttl={self.ttl}")
        if self.stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.reason not in _SAID_BY_PARAMETERS:
            parts.append(f"detail={self.reason}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Accessed(Outcome):
    """The outcome of a request for a sensitive feature, and who asked, where that was verified: for the audit log."""

    user: str | None = None


# The parameters alone say these: a fresh hit, and a miss on a key never seen.
_SAID_BY_PARAMETERS = frozenset({Reason.FRESH, Reason.COLD, Reason.COLLAPSED})
