"""May this request be answered from the cache at all? Asked before anything is looked up."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from urllib.parse import unquote

from proxy.policy.fields import for_the_other_side
from proxy.policy.identity import Identity, Standing
from proxy.policy.message import SAFE_METHODS, Request
from proxy.policy.outcome import Reason
from proxy.policy.route import Kind, Match, Route, Scope


def _spellings(*names: str) -> frozenset[str]:
    """These names with `_` for any `-`: CGI-like servers take one for the other."""
    return frozenset("".join(parts) for name in names for parts in product(*(("-_" if c == "-" else c) for c in name)))


# With one of these the upstream may see another path or method than the key does (SPEC 4).
PATH_OVERRIDES = _spellings("x-original-url", "x-rewrite-url")
METHOD_OVERRIDES = _spellings("x-http-method-override", "x-http-method", "x-method-override")

Find = Callable[[str, str], Match | None]  # the route of (method, path)

_NARROWNESS = {scope: rank for rank, scope in enumerate((Scope.PUBLIC, Scope.TENANT, Scope.ROLE, Scope.USER))}

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
PLAINEST_PATH = re.compile(r"(?:/[a-z0-9_-]+)+")  # it has no other spelling
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# What must not hide behind a percent-encoding: characters that need none, and those that could split or end a path.
_HIDDEN = re.compile(r"[A-Za-z0-9._~/\\;#?%\x00-\x1f\x7f-\x9f-]")


def as_forwarded(request: Request) -> Request:
    """The request without what Connection takes out of it on the way to the upstream."""
    fields = for_the_other_side(request.fields)
    return request if fields is request.fields else request.with_fields(fields)


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


def plain_path(path: str) -> str:
    """The path as the most lenient upstream reads it: decoded, without parameters, dots, doubled or final slashes."""
    if _CLEAN_PATH.fullmatch(path) is not None:
        return path.removesuffix("/") or "/"
    segments: list[str] = []
    readable = re.split(r"[\0?#]", unquote(path, "latin-1"), maxsplit=1)[0].replace("\\", "/")
    for segment in readable.split("/"):
        name = segment.partition(";")[0]
        if name == "..":
            del segments[-1:]
        elif name not in ("", "."):
            segments.append(name)
    return "/" + "/".join(segments)


def methods_meant(request: Request) -> tuple[str, ...]:
    """The request's method, and those that override headers name."""
    overrides = (request.fields.get(name) for name in METHOD_OVERRIDES.intersection(request.fields.names()))
    return request.method, *(method.strip().upper() for method in overrides if method is not None)


def routes_meant(request: Request, find: Find) -> Iterator[Route]:
    """The routes of other paths that an upstream may take this request's for. Which of their entries it means is open.

    Many servers ignore a final slash, some the case of a path.
    """
    overrides = (request.fields.get(name) or "" for name in PATH_OVERRIDES.intersection(request.fields.names()))
    paths = dict.fromkeys(map(plain_path, (request.path, *overrides)))
    others = [path for path in paths if path != request.path]
    methods = ("GET", *methods_meant(request))
    exact = _found(methods, (request.path, *others), find)
    yield from _found(methods, others, find)
    yield from (route for route in _found(methods, map(str.lower, paths), find) if route not in exact)


def sensitive_route(request: Request, match: Match | None, find: Find) -> Route | None:
    """The sensitive route that this asks for, by whatever spelling an upstream may take for its path.

    What the cache does not recognise is forwarded all the same, and must not be asked for untold.
    """
    if match is not None and match.route.sensitive:
        return match.route
    if PLAINEST_PATH.fullmatch(request.path) is not None and PATH_OVERRIDES.isdisjoint(request.fields.names()):
        return None
    return next((route for route in routes_meant(request, find) if route.sensitive), None)


def _found(methods: Iterable[str], paths: Iterable[str], find: Find) -> list[Route]:
    pairs = product(methods, paths)
    return [match.route for method, path in pairs if (match := find(method, path)) is not None]


def is_deceptive(request: Request, match: Match, find: Find) -> bool:
    """Whether the upstream may answer this path by a route whose answers are for fewer (web cache deception).

    Frameworks answer `/api/me/`, `/api/me.json`, `/api/ME` and some `/api/me/x.css` like `/api/me`: what they say to
    one user must not be stored for all who share a `/api/**`.
    """
    path, route = request.path, match.route
    if not match.parameters or (not route.identifier.rest and "." not in path and path == path.lower()):
        return False
    spellings = (spelling for beginning in _beginnings(path, route) for spelling in _spelled(beginning))
    found = (find(request.method, spelling) for spelling in spellings if spelling != path)
    return any(other is not None and _NARROWNESS[other.route.scope] > _NARROWNESS[route.scope] for other in found)


def _beginnings(path: str, route: Route) -> Iterator[str]:
    """The path, and where `**` stands for its end, all that it goes on from."""
    yield path
    if route.identifier.rest:
        segments = path.split("/")
        for length in range(route.pattern.count("/") + 1, len(segments)):
            yield "/".join(segments[:length])


def _spelled(path: str) -> Iterable[str]:
    """With and without a suffix, in its own case and in none."""
    folder, slash, name = path.rpartition("/")
    stem = folder + slash + name.partition(".")[0]
    return dict.fromkeys((path, path.lower(), stem, stem.lower()))


def is_served(request: Request, hosts: frozenset[str]) -> bool:
    """Whether the Host is one we cache for. No hosts named: every one is."""
    return not hosts or (request.fields.get("host") or "").lower() in hosts


def is_permitted(route: Route, identity: Identity | None) -> bool:
    """Whether the caller holds every permission that a hit on this route requires."""
    if not route.require:
        return True
    return identity is not None and identity.roles is not None and route.require <= identity.roles


def doubt(route: Route, identity: Identity | None) -> Reason | None:
    """Why a verified caller gets no stored answer all the same: nobody can tell whether that caller still may."""
    if identity is None or identity.standing is Standing.GOOD:
        return None
    if identity.standing is Standing.UNKNOWN:
        return Reason.REVOCATIONS_UNKNOWN
    if route.scope in (Scope.ROLE, Scope.USER) or route.require:
        return Reason.RIGHTS_CHANGED
    return None
