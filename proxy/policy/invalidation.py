"""What does this finished request make stale? Tags by space; the space "" is shared by all tenants (RFC 9111 4.4)."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from proxy.policy import groups
from proxy.policy.identity import Identity
from proxy.policy.key import Keyring, purge_tags, without_suffix
from proxy.policy.lookup import Find, is_ambiguous_path, is_path_doubtful, is_write, methods_meant, routes_meant
from proxy.policy.message import Request, Response
from proxy.policy.route import Kind, Match, Route, Scope

SHARED = ""
SETTLE_AFTER_ACCEPTED = 30.0  # seconds
EVERYTHING = "*"  # the tenant's own epoch: all that is stored for it

Purge = dict[str, tuple[str, ...]]


def of(
    request: Request,
    match: Match | None,
    response: Response | None,
    identity: Identity | None,
    find: Find,
    keys: Keyring,
) -> Purge:
    """The tags to advance before the client has its answer.

    `response` None is an unknown outcome: the upstream may have acted.
    """
    status = None if response is None else response.status
    if not is_write(request, match) or (status is not None and 400 <= status < 500):
        return {}
    tenant = None if identity is None else identity.tenant
    if tenant is None and status is not None and 300 <= status < 400:
        # a redirect of nobody known goes to the login page: anybody could flush a tenant's entries with it
        return _plain_only(request, match, response, find, keys)
    private: dict[str, None] = {}
    shared: dict[str, None] = {}
    for written, target in _written(request, match, response, find):
        for public, tags in purge_tags(written, target, keys).items():
            (shared if public else private).update(dict.fromkeys(tags))
    for route in routes_meant(request, find):
        if _is_plain(route):
            continue
        (shared if route.scope is Scope.PUBLIC else private)[route.feature] = None
        for template in route.purges:
            (shared if template.public else private)[template.feature] = None
    # "scoped to the request's tenant" (SPEC 6), and to what belongs to nobody
    grouped = dict.fromkeys(() if response is None else groups.invalidated(response.fields))
    shared |= grouped
    purge = {SHARED: shared}
    if tenant is None:
        # nobody knows whose entries these are: the features' shared epochs, which every entry carries
        shared.update(dict.fromkeys(tag.partition(":")[0] for tag in private))
    else:
        if is_path_doubtful(request):
            private = {EVERYTHING: None}
        purge[tenant] = private | grouped
    return {space: tuple(tags) for space, tags in purge.items() if tags}


def _plain_only(request: Request, match: Match | None, response: Response | None, find: Find, keys: Keyring) -> Purge:
    """What is stale in plain shared caches."""
    found = [
        tag
        for written, target in _written(request, match, response, find)
        if _is_plain(written.route)
        for tag in purge_tags(written, target, keys)[True]
    ]
    return {SHARED: tuple(dict.fromkeys(found))} if found else {}


def _is_plain(route: Route) -> bool:
    """Whether it is the route of a plain shared cache: what invalidates there is the RFC's to say, not ours."""
    return route.kind is Kind.READ and route.ttl is None and route.scope is Scope.PUBLIC


def settle_after(match: Match | None, response: Response | None) -> float | None:
    """After how many seconds the same purge is repeated, for an upstream that reads from a lagging replica."""
    if match is not None and match.route.settle is not None:
        return match.route.settle
    # "the request has been accepted for processing, but the processing has not been completed" (RFC 9110 15.3.3)
    return SETTLE_AFTER_ACCEPTED if response is not None and response.status == 202 else None


def _written(
    request: Request, match: Match | None, response: Response | None, find: Find
) -> Iterator[tuple[Match, Request]]:
    """The routes whose entries the request may have changed, each with the target it changed there."""
    matches = [match, *(find(method, request.path) for method in methods_meant(request)[1:])]
    for written in matches:
        if written is not None and written.route.kind is Kind.WRITE:
            yield written, request
    yield from _without_suffix(request, find)
    # "A cache MUST invalidate the target URI ... when it receives a non-error status code" (4.4). A 5xx is no exception
    # here, which the RFC allows: it may have come after the change.
    for path in (request.path, *_named_paths(request, response)):
        read = find("GET", path)
        if read is not None:
            yield read, replace(request, target=path)


def _without_suffix(request: Request, find: Find) -> Iterator[tuple[Match, Request]]:
    """The same for frameworks to which `/api/jobs/77.json` is `/api/jobs/77` in a format."""
    path = without_suffix(request.path)
    if path == request.path:
        return
    for found in (find(method, path) for method in ("GET", *methods_meant(request))):
        if found is not None and not _is_plain(found.route):
            yield found, replace(request, target=path)


def _named_paths(request: Request, response: Response | None) -> Iterator[str]:
    """The paths in Location and Content-Location of the same origin (4.4: other origins MUST NOT be invalidated)."""
    if response is None or not 200 <= response.status < 400:
        return
    host = (request.fields.get("host") or "").lower()
    for name in ("location", "content-location"):
        value = response.fields.get(name)
        if value is None:
            continue
        try:
            parts = urlsplit(urljoin(f"//{host}{request.path}", value))
        except ValueError:
            continue
        if parts.netloc.lower() == host and not is_ambiguous_path(parts.path):
            yield parts.path
