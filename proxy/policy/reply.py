"""Which head does the client get, so that a hit and a miss carry the same? (RFC 9111 4; SPEC 6)"""

from functools import lru_cache

from proxy.policy.entry import Entry, unpack_head
from proxy.policy.message import Fields
from proxy.policy.route import Route, Scope

# Browsers and caches behind us must not keep a tenant's data on their own account.
_PRIVATE = "private, no-cache"

# Age is in whole seconds and never younger than the response is, but for this part of one (RFC 9111 5.1).
ROUNDED_UP = 0.9

# "The server generating a 304 response MUST generate any of" these (RFC 9110 15.4.5); Age keeps Date truthful.
_IN_NOT_MODIFIED = frozenset({"age", "cache-control", "content-location", "date", "etag", "expires", "vary"})


def stored_head(entry: Entry, route: Route) -> Fields:
    """The head of a stored response, without its age and what depends on the body's encoding."""
    return kept_head(entry.head, route)


def kept_head(head: bytes, route: Route) -> Fields:
    """The same of its lines."""
    return _kept_head(head, route.client_cache, route.scope is Scope.PUBLIC)


def age(entry: Entry, now: float) -> tuple[str, str]:
    return "Age", str(int(entry.age_at(now) + ROUNDED_UP))


def passing_head(fields: Fields, route: Route) -> Fields:
    """The head of a response of this route that comes from the upstream."""
    return _with_cache_control(fields, route.client_cache, route.scope is Scope.PUBLIC)


def not_modified_head(fields: Fields) -> Fields:
    """What of a response's head goes into the 304 that stands for it."""
    return Fields(pair for pair in fields if pair[0].lower() in _IN_NOT_MODIFIED)


@lru_cache(maxsize=1024)
def _kept_head(head: bytes, client_cache: str | None, public: bool) -> Fields:
    return _with_cache_control(unpack_head(head), client_cache, public).without(("content-length",))


def _with_cache_control(fields: Fields, client_cache: str | None, public: bool) -> Fields:
    if client_cache is not None:
        # Expires and Pragma would say something else to old caches
        return fields.without(("expires", "pragma")).with_field("Cache-Control", client_cache)
    if public or "cache-control" in fields:
        return fields
    return fields.with_field("Cache-Control", _PRIVATE)
