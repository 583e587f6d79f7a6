"""One-line makers of what decisions take: requests, responses, routes, matches, entries, callers, a key ring."""

from collections.abc import Iterable, Mapping
from typing import Any

from proxy.policy.entry import Entry, pack_head
from proxy.policy.identity import Identity
from proxy.policy.key import Keyring
from proxy.policy.message import Fields, Request, Response
from proxy.policy.route import IdentifierShape, Kind, Match, Part, Route

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
KEYS = Keyring(b"k" * 32)

ITEM = IdentifierShape((Part("job-id"),))
NESTED = IdentifierShape((Part("job-id", "job"),))
REST = IdentifierShape(rest=True)

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def fields(headers: Headers = (), **named: str) -> Fields:
    """`fields(cache_control="no-store")`, or pairs where order or repetition matters."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return Fields((*pairs, *((name.replace("_", "-"), value) for name, value in named.items())))


def request(target: str = "/api/jobs", headers: Headers = (), *, method: str = "GET", **more: Any) -> Request:
    return Request(method, target, fields(headers), **more)


def response(headers: Headers = (), *, status: int = 200, **named: str) -> Response:
    return Response(status, fields(headers, **named))


def route(feature: str = "jobs", **more: Any) -> Route:
    """A tenant-scoped read of a collection that is kept for 15 minutes, with the guide's windows for stale."""
    settings: dict[str, Any] = {
        "kind": Kind.READ,
        "methods": ("GET",),
        "pattern": "/api/jobs",
        "ttl": 900.0,
        "grace": 120.0,
        "if_error": 3600.0,
        "negative": {404: 30.0, 410: 30.0},
        "digest": b"rule",
    }
    return Route(feature, **(settings | more))


def origin_route(feature: str = "jobs", **more: Any) -> Route:
    """A route that leaves everything to the origin (`ttl: origin`)."""
    return route(
        feature, **{"ttl": None, "grace": 0.0, "if_error": 0.0, "negative": {}, "client_control": True, **more}
    )


def write_route(feature: str = "jobs", **more: Any) -> Route:
    return route(feature, **{"kind": Kind.WRITE, "methods": ("POST",), **more})


def match(of: Route | None = None, **parameters: str) -> Match:
    """`match(route(...), job_id="77")`."""
    return Match(of or route(), {name.replace("_", "-"): value for name, value in parameters.items()})


def identity(tenant: str | None = "org_a", user: str | None = "u1", **more: Any) -> Identity:
    return Identity(tenant, user, **more)


def entry(headers: Headers = (("Content-Type", "application/json"),), **more: Any) -> Entry:
    """Stored at NOW by org_a, fresh for 15 minutes, then stale for 2 minutes, or an hour when the upstream fails."""
    settings: dict[str, Any] = {
        "key": "tenant:org_a:jobs:list",
        "tenant": "org_a",
        "request": "GET /api/jobs",
        "policy": b"rule",
        "status": 200,
        "head": pack_head(fields(headers)),
        "body": b"[]",
        "stored_at": NOW,
        "age": 0.0,
        "fresh_until": NOW + 900,
        "grace_until": NOW + 1020,
        "error_until": NOW + 4500,
        "content_type": fields(headers).get("content-type"),
        "tags": ("jobs", "jobs:list"),
    }
    return Entry(**(settings | more))
