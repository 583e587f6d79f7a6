"""May this request be answered from the cache at all? Asked before anything is looked up."""

import re

from proxy.policy.identity import Identity
from proxy.policy.message import SAFE_METHODS, Request
from proxy.policy.outcome import Reason
from proxy.policy.route import Kind, Match, Route

# With one of these the upstream may see another path or method than the key does (SPEC 4).
PATH_OVERRIDES = frozenset({"x-original-url", "x-rewrite-url"})
METHOD_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})

# Header fields that keep a request from the cache, the first found tells why.
_REASONS = {
    "upgrade": Reason.UPGRADE,
    **dict.fromkeys(sorted(PATH_OVERRIDES | METHOD_OVERRIDES), Reason.OVERRIDE_HEADER),
    "if-match": Reason.PRECONDITION,
    "if-unmodified-since": Reason.PRECONDITION,
}
_REFUSED_HEADERS = frozenset(_REASONS)

# Whole segments of visible ASCII that every server reads alike: not empty, not dots, nothing encoded, no `\`, `;`, `#`.
_CLEAN_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[!-\"$&-.0-:<->@-\[\]-~]+)*/?")
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# What must not hide behind a percent-encoding: characters that need none, and those that could split or end a path.
_HIDDEN = re.compile(r"[A-Za-z0-9._~/\\;#?%\x00-\x1f\x7f-\x9f-]")


def bypass_reason(request: Request) -> Reason | None:
    """Why a request that matches a read route is forwarded without a look at the cache; None when it is not."""
    if is_ambiguous_path(request.path):
        return Reason.AMBIGUOUS_PATH
    if request.has_body and not is_keyed_by_body(request):
        # "content received in a GET request has no generally defined semantics" (RFC 9110 9.3.1)
        return Reason.REQUEST_BODY
    names = request.fields.names()
    if _REFUSED_HEADERS.isdisjoint(names):
        return None
    return next(reason for name, reason in _REASONS.items() if name in names)


def is_ambiguous_path(path: str) -> bool:
    """Whether two servers might read this raw path differently (DESIGN 3.6)."""
    if path and _CLEAN_PATH.fullmatch(path) is not None:
        return False
    if "%" not in path:
        return True
    if any(_hides(run) for run in _ENCODED.findall(path)):
        return True
    return _CLEAN_PATH.fullmatch(_ENCODED.sub("x", path)) is None


def _hides(encoded: str) -> bool:
    try:
        text = bytes.fromhex(encoded.replace("%", "")).decode("utf-8")
    except UnicodeDecodeError:
        return True
    return _HIDDEN.search(text) is not None


def is_keyed_by_body(request: Request) -> bool:
    """Whether the body of a read is part of its key: it must be known before anything is looked up."""
    return request.method in ("POST", "QUERY")


def is_write(request: Request, match: Match | None) -> bool:
    """Whether the upstream may take this request for a write, so that what it names becomes stale."""
    if not METHOD_OVERRIDES.isdisjoint(request.fields.names()):
        return True
    if match is not None and match.route.kind is Kind.WRITE:
        return True
    if request.method in SAFE_METHODS:
        return False
    # a read by POST is safe by the rule's contract, as long as the upstream sees the path that the rule means
    return match is None or is_path_doubtful(request)


def is_path_doubtful(request: Request) -> bool:
    """Whether the upstream may act on another path than the one that was matched."""
    return is_ambiguous_path(request.path) or not PATH_OVERRIDES.isdisjoint(request.fields.names())


def is_served(request: Request, hosts: frozenset[str]) -> bool:
    """Whether the Host is one we cache for. No hosts named: every one is."""
    return not hosts or (request.fields.get("host") or "").lower() in hosts


def is_permitted(route: Route, identity: Identity | None) -> bool:
    """Whether the caller holds every permission that a hit on this route requires."""
    if not route.require:
        return True
    return identity is not None and identity.roles is not None and route.require <= identity.roles
