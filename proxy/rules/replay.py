"""What would rules have made of the requests in an access log? Each is decided again, hits by a simple simulation.

The simulation keeps every answer for its rule's ttl (and grace), unless the log says that the origin does not let it be
stored, and ends it at each write that purges it. It has no memory limit, no jitter and one process: it compares two
rule sets on the same traffic, and is no forecast.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from proxy.policy.identity import Identity
from proxy.policy.invalidation import of
from proxy.policy.key import Key, derive
from proxy.policy.lookup import bypass_reason, is_deceptive, is_write
from proxy.policy.message import Fields, Request, Response
from proxy.policy.outcome import Reason
from proxy.policy.route import Match, Route, Scope
from proxy.policy.storing import STORED_BY_RULE
from proxy.rules.compile import RuleSet
from proxy.rules.explain import KEYS

LONGEST_LINE = 64 << 10
NAMED = 10  # malformed lines that are told one by one
_MOST_KEPT = 1_000_000  # simulated entries, before those that are over are looked for

# What the origin, or a limit, keeps out of any cache; the first two only where `honour` holds.
_BY_ORIGIN = frozenset({"no-store", "private"})
_NOT_STORED = frozenset(
    """
    set-cookie vary-star vary-credentials vary-too-long partial content-encoding event-stream unframed too-large
    incomplete assertion-failed too-many-groups upstream-failed bad-request reserved-path upgrade
    """.split()
)
_TTL = re.compile(r"; ttl=(-?[0-9]{1,10})")
_HASH = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Logged:
    """One line of the access log."""

    at: float
    request: Request
    status: int
    reason: str
    who: Identity | Reason
    origin_ttl: float  # the freshness that was left, where the line says it
    was_hit: bool


def read(line: str) -> Logged | str | None:
    """A request, why the line is none, or None for a line of another kind."""
    if len(line) > LONGEST_LINE:
        return f"is longer than {LONGEST_LINE} characters"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "is no JSON"
    if not isinstance(value, dict):
        return "is no JSON object"
    if value.get("event") != "request":
        return None
    try:
        return _logged(value)
    except (ValueError, OverflowError) as error:
        return str(error)


def _logged(value: Mapping[str, Any]) -> Logged:
    method, path, reason, cache = (_text(value, name) for name in ("method", "path", "reason", "cache"))
    status = value.get("status")
    if not isinstance(status, int) or not path.startswith("/"):
        raise ValueError("has no status, or a path that does not begin with /")
    query = value.get("query")
    target = f"{path}?{query}" if isinstance(query, str) and query else path
    fields = value.get("fields", {})
    if not isinstance(fields, dict):
        raise ValueError("has fields that are no object")
    pairs = [(str(name), str(each)) for name, each in fields.items()]
    if isinstance(host := value.get("host"), str):
        pairs.append(("host", host))
    # the hash stands for the body that nobody kept
    body = str(value["body"]).encode() if "body" in value else None
    found = _TTL.search(cache)
    return Logged(
        at=datetime.fromisoformat(_text(value, "timestamp")).timestamp(),
        request=Request(method, target, Fields(pairs), has_body=body is not None, body=body),
        status=status,
        reason=reason,
        who=_who(value, reason),
        origin_ttl=float(found[1]) if found is not None else 0.0,
        was_hit="; hit" in cache,
    )


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"has no {name}")
    return text


def _who(value: Mapping[str, Any], reason: str) -> Identity | Reason:
    tenant, user, roles = value.get("tenant"), value.get("user"), value.get("roles")
    if not isinstance(tenant, str) or _HASH.fullmatch(tenant) is None:
        # why nobody was known is on the line, where that was what decided
        known = {each.value for each in (Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID, Reason.TENANT_CONFLICT)}
        return Reason(reason) if reason in known else Reason.NO_CREDENTIALS
    return Identity(
        tenant, user if isinstance(user, str) else None, frozenset({roles}) if isinstance(roles, str) else None
    )


@dataclass(frozen=True, slots=True)
class Decided:
    """What one rule set makes of one request."""

    route: Route | None
    reason: str  # why the cache is not used, or "" where it is
    key: str = ""
    hit: bool = False
    splits: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """Who shares the answer, in words."""
        if self.route is None or self.reason:
            return self.reason
        return f"{self.route.feature}, scope {self.route.scope}"


@dataclass(slots=True)
class _Kept:
    until: float
    grace: float
    at: int


class Simulation:
    """One rule set, and what it would hold."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._kept: dict[str, _Kept] = {}
        self._purged: dict[tuple[str, str], int] = {}
        self._turn = 0

    def ask(self, logged: Logged) -> Decided:
        self._turn += 1
        request = logged.request
        match = self._rules.match(request.method, request.path)
        if is_write(request, match):
            return self._write(logged, match)
        if match is None:
            return Decided(None, Reason.NO_RULE)
        reason = self._bypassed(logged, match)
        if reason is not None:
            return Decided(match.route, reason)
        identity = None if isinstance(logged.who, Reason) or match.route.scope is Scope.PUBLIC else logged.who
        key = derive(match, request, identity, KEYS, None)
        if isinstance(key, Reason):
            return Decided(match.route, key)
        return Decided(match.route, "", key.full, self._found(logged, match.route, key), key.split_by)

    def _bypassed(self, logged: Logged, match: Match) -> Reason | None:
        """Why the cache is not asked. What only the log knows counts as it was then."""
        request, route = logged.request, match.route
        if request.method in ("POST", "QUERY") and request.body is None:
            return Reason.BODY_TOO_LARGE
        if is_deceptive(request, match, self._rules.match):
            return Reason.AMBIGUOUS_PATH
        if (reason := bypass_reason(request)) is not None:
            return reason
        if route.scope is not Scope.PUBLIC and isinstance(logged.who, Reason):
            return logged.who
        kept = (Reason.OVERRIDE_HEADER, Reason.REQUEST_BODY, Reason.PRECONDITION, Reason.PERMISSION, Reason.HOST)
        return Reason(logged.reason) if logged.reason in kept else None

    def _write(self, logged: Logged, match: Match | None) -> Decided:
        identity = logged.who if isinstance(logged.who, Identity) else None
        purge = of(logged.request, match, Response(logged.status), identity, self._rules.match, KEYS)
        for space, tags in purge.items():
            for tag in tags:
                self._purged[space, tag] = self._turn
        ruled = match is not None
        return Decided(match.route if match is not None else None, Reason.WRITE if ruled else Reason.UNMATCHED_WRITE)

    def _found(self, logged: Logged, route: Route, key: Key) -> bool:
        kept = self._kept.get(key.full)
        hit = kept is not None and logged.at < kept.until + kept.grace and not self._is_purged(key, kept.at)
        if kept is not None and hit and logged.at < kept.until:
            return True
        lifetime = _lifetime(logged, route)
        if lifetime > 0 and logged.request.method != "HEAD":
            if len(self._kept) >= _MOST_KEPT:
                self._forget(logged.at)
            self._kept[key.full] = _Kept(logged.at + lifetime, route.grace, self._turn)
        return hit

    def _is_purged(self, key: Key, at: int) -> bool:
        names = [(space, tag) for tag in (*key.tags, "*") for space in (key.space, "")]
        return any(self._purged.get(name, 0) > at for name in names)

    def _forget(self, now: float) -> None:
        self._kept = {name: kept for name, kept in self._kept.items() if kept.until + kept.grace > now}
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()


def _lifetime(logged: Logged, route: Route) -> float:
    """How long what came then may be kept; 0 where it may not, or nobody can tell."""
    if logged.reason in _NOT_STORED or (route.honour and logged.reason in _BY_ORIGIN):
        return 0.0
    if logged.status in route.negative:
        return route.negative[logged.status]
    if logged.status not in STORED_BY_RULE and logged.status != 304:
        return 0.0
    return route.ttl if route.ttl is not None else max(0.0, logged.origin_ttl)


@dataclass(slots=True)
class Tally:
    """What one feature's requests came to."""

    requests: int = 0
    hits_before: int = 0
    hits_after: int = 0


@dataclass(slots=True)
class Replay:
    """Both rule sets on the same requests."""

    requests: int = 0
    other_lines: int = 0
    malformed: int = 0
    problems: list[str] = field(default_factory=list)  # the first malformed lines, by number
    hits_logged: int = 0
    total: Tally = field(default_factory=Tally)
    features: dict[str, Tally] = field(default_factory=dict)
    changed: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # request, before, after
    unknown_lifetime: int = 0  # `ttl: origin`, and the line does not tell how long


def replay(before: RuleSet, after: RuleSet, lines: Iterable[str]) -> Replay:
    """`lines` are those of an access log, in their order."""
    found, simulations = Replay(), (Simulation(before), Simulation(after))
    for number, line in enumerate(lines, 1):
        logged = read(line) if line.strip() else None
        if isinstance(logged, str):
            found.malformed += 1
            if len(found.problems) < NAMED:
                found.problems.append(f"line {number} {logged}")
        elif logged is None:
            found.other_lines += 1
        else:
            one, other = (simulation.ask(logged) for simulation in simulations)
            _count(found, logged, one, other)
    return found


def _count(found: Replay, logged: Logged, one: Decided, other: Decided) -> None:
    found.requests += 1
    found.hits_logged += logged.was_hit
    for tally in (found.total, *_tallies(found, one, other)):
        tally.requests += 1
        tally.hits_before += one.hit
        tally.hits_after += other.hit
    unknown = other.route is not None and not other.reason and other.route.ttl is None and logged.origin_ttl <= 0
    found.unknown_lifetime += unknown and not other.hit
    if one.key != other.key or one.who != other.who:
        route = other.route if other.route is not None else one.route
        shown = f"{logged.request.method} {route.pattern if route is not None else logged.request.path}"
        found.changed[(shown, _described(one, other), _described(other, one))] += 1


def _tallies(found: Replay, one: Decided, other: Decided) -> Iterator[Tally]:
    names = {each.route.feature for each in (one, other) if each.route is not None}
    for name in names:
        yield found.features.setdefault(name, Tally())


def _described(this: Decided, that: Decided) -> str:
    if this.who != that.who or this.reason:
        return this.who
    splits = f", split by {', '.join(this.splits)}" if this.splits != that.splits else ""
    return f"{this.who}{splits or ', other key'}"
