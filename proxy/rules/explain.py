"""What do these rules do with one request? The engine behind `explain` and the inline tests."""

import json
from dataclasses import dataclass, replace
from typing import Any

from proxy.policy.agreement import ABSENT, agree
from proxy.policy.identity import Identity, IdentitySources
from proxy.policy.invalidation import of
from proxy.policy.key import Key, Keyring, derive
from proxy.policy.lookup import bypass_reason, is_deceptive, is_permitted, is_write
from proxy.policy.message import Fields, Request, Response
from proxy.policy.outcome import Reason
from proxy.policy.route import Kind, Match, Route, Scope
from proxy.rules.compile import RuleSet
from proxy.rules.document import Count, Publish
from proxy.rules.references import References

# Hashes in explained keys are only compared with each other: a fixed key makes them the same everywhere.
KEYS = Keyring(b"sidecache explain")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as `as:` and the flags of `explain` say it. Nothing said: nobody is logged in."""

    org_id: str | None = None
    sub: str | None = None
    permissions: tuple[str, ...] | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def claims(self, sources: IdentitySources) -> dict[str, Any] | None:
        """A verified token that says this, under the names where these rules look."""
        claims: dict[str, Any] = {}
        said = [*((source, self.org_id) for source in sources.tenant), (sources.user, self.sub)]
        permissions = None if self.permissions is None else list(self.permissions)
        for source, value in (*said, (sources.roles, permissions)):
            if source is not None and source.startswith("jwt.") and value is not None:
                claims[source[4:]] = value
        nobody = self.org_id is None and self.sub is None and self.permissions is None
        return None if nobody else claims

    def trusted_headers(self, sources: IdentitySources) -> list[tuple[str, str]]:
        """Where no token establishes the tenant, a trusted peer's headers do."""
        if any(source.startswith("jwt.") for source in sources.tenant):
            return []
        said = [*((source, self.org_id) for source in sources.tenant), (sources.user, self.sub)]
        roles = None if self.permissions is None else " ".join(self.permissions)
        return [
            (source[7:], value)
            for source, value in (*said, (sources.roles, roles))
            if source is not None and source.startswith("header.") and value is not None
        ]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen, and by which line. `reason` says why the cache is not used; None: it is."""

    request: str
    reason: Reason | None
    route: Route | None = None
    key: Key | None = None
    purges: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """The explanation as names and plain values, in the order people read them."""
        facts: dict[str, Any] = {"request": self.request, "cache": _cache(self.reason)}
        if self.reason is not None:
            facts["because"] = str(self.reason)
        if self.route is not None:
            facts |= {"rule": str(self.route), "where": self.route.where, "line": self.route.line}
            facts |= {"feature": self.route.feature, "scope": str(self.route.scope)}
            if self.route.require and self.route.kind is Kind.READ:
                facts["requires"] = sorted(self.route.require)
        if self.key is not None and self.route is not None:
            facts |= {"key": self.key.full, "split_by": list(self.key.split_by), "tags": list(self.key.tags)}
            facts |= {"upstream": self.key.target, "ttl": "origin" if self.route.ttl is None else self.route.ttl}
            facts |= {"grace": self.route.grace, "if_error": self.route.if_error, "sensitive": self.route.sensitive}
        for name in ("purges", "counts", "publishes"):
            if getattr(self, name):
                facts[name] = list(getattr(self, name))
        return facts


def _cache(reason: Reason | None) -> str:
    return "used" if reason is None else "write" if reason in (Reason.WRITE, Reason.UNMATCHED_WRITE) else "bypass"


def request_of(line: str, caller: Caller, sources: IdentitySources, body: bytes | None = None) -> Request:
    """The request that `GET /api/jobs/77` stands for."""
    method, _, target = line.partition(" ")
    trusted = caller.trusted_headers(sources)
    kind = [("content-type", "application/json")] if body is not None else []
    return Request(
        method,
        target.strip(),
        Fields((*trusted, *caller.headers, *kind)),
        peer_trusted=bool(trusted),
        has_body=body is not None,
        body=body if body is not None else b"",
    )


def explain(
    rules: RuleSet,
    request: Request,
    caller: Caller,
    *,
    status: int = 200,
    document: object = None,
    keys: Keyring = KEYS,
    home: str | None = None,
) -> Explanation:
    """`status` and `document` are what the upstream answers: a write purges and publishes by them."""
    match = rules.match(request.method, request.path)
    who = agree(
        rules.identity,
        claims=caller.claims(rules.identity),
        headers=request.fields,
        peer_trusted=request.peer_trusted,
        parameters=match.parameters if match is not None else {},
    )
    if is_write(request, match):
        found = _explain_write(rules, request, match, who, status, keys)
    elif match is None:
        found = Explanation(str(request), Reason.NO_RULE)
    else:
        found = _explain_read(rules, request, match, who, keys, home)
    if match is None:
        return found
    effects = rules.effects.get(match.route.where)
    if effects is None:
        return found
    values = _Values(match, request, who if isinstance(who, Identity) else None, document)
    succeeded = 200 <= status < 300
    return replace(
        found,
        counts=(values.count(effects.count),) if effects.count is not None and succeeded else (),
        publishes=(values.publish(effects.publish),) if effects.publish is not None and succeeded else (),
    )


def _explain_read(
    rules: RuleSet, request: Request, match: Match, who: Identity | Reason, keys: Keyring, home: str | None
) -> Explanation:
    route = match.route
    identity = who if isinstance(who, Identity) else None
    reason = bypass_reason(request)
    if reason is None and is_deceptive(request, match, rules.match):
        reason = Reason.AMBIGUOUS_PATH
    if reason is None and route.scope is not Scope.PUBLIC and isinstance(who, Reason):
        reason = who
    if reason is not None:
        return Explanation(str(request), reason, route)
    key = derive(match, request, None if route.scope is Scope.PUBLIC else identity, keys, home)
    # a caller without the permission is told what is kept for those who have it
    if not is_permitted(route, identity):
        return Explanation(str(request), Reason.PERMISSION, route, None if isinstance(key, Reason) else key)
    if isinstance(key, Reason):
        return Explanation(str(request), key, route)
    return Explanation(str(request), None, route, key)


def _explain_write(
    rules: RuleSet, request: Request, match: Match | None, who: Identity | Reason, status: int, keys: Keyring
) -> Explanation:
    identity = who if isinstance(who, Identity) else None
    purge = of(request, match, Response(status), identity, rules.match, keys)
    tags = tuple(dict.fromkeys(tag for found in purge.values() for tag in found))
    reason = Reason.WRITE if match is not None and match.route.kind is Kind.WRITE else Reason.UNMATCHED_WRITE
    return Explanation(str(request), reason, match.route if match is not None else None, purges=tags)


@dataclass(frozen=True, slots=True)
class _Values:
    """What the references of `count` and `publish` stand for in one exchange."""

    match: Match
    request: Request
    identity: Identity | None
    document: object

    def count(self, count: Count) -> str:
        by = "" if count.by is None else f" by {self._value(count.by if '.' in count.by else f'path.{count.by}')}"
        return f"{count.name}{by}{' unique' if count.unique is not None else ''}"

    def publish(self, publish: Publish) -> str:
        kind, _, reference = publish.to.partition(":")
        to = f"user:{self._value(reference)}" if kind == "user" else publish.to
        return f"{publish.event} to {to}"

    def _value(self, reference: str) -> str:
        claims = self.identity.claims if self.identity is not None else None
        named = References(self.match.parameters, self.request.query, claims, self._json(), self.document)
        found = named.value(reference)
        return found if isinstance(found, str) else "nothing" if found is ABSENT else json.dumps(found)

    def _json(self) -> object:
        try:
            return json.loads(self.request.body or b"null")
        except ValueError:
            return None
