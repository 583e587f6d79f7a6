"""Why was it not a hit, on which route, how often? Counted by route and reason, bounded, without a path or an id.

Hits in memory never come here: their counters are the metrics'. What comes here went to the upstream, or took the long
way.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from proxy.policy.lookup import plain_path
from proxy.policy.message import Request
from proxy.policy.outcome import Outcome, Reason
from proxy.policy.route import Match

MOST_ROUTES = 1024  # of (route, reason); those that have not been seen for longest make room
MOST_TENANTS = 1024

_WORD = re.compile(r"[a-z]{1,20}(?:[-_][a-z]{1,20}){0,3}(?:\.[a-z]{1,5})?")
_METHOD = re.compile(r"[A-Z]{1,10}")
_MOST_SEGMENTS = 8

Find = Callable[[str, str], Match | None]
K = TypeVar("K")
V = TypeVar("V")


class Cause(NamedTuple):
    route: str  # "GET /api/jobs/{job-id}"
    feature: str  # "" where no rule matches
    reason: Reason


@dataclass(slots=True)
class Count:
    count: int = 0
    last_at: float = 0.0


class Traffic:
    """What one process has seen. `find` is the rules' matcher of now."""

    def __init__(self, find: Find, clock: Callable[[], float]) -> None:
        self._find = find
        self._clock = clock
        self._causes: dict[Cause, Count] = {}
        self._tenants: dict[str, Count] = {}

    def note(self, request: Request, outcome: Outcome) -> None:
        if outcome.hit and outcome.forward is None:
            return
        self._fetched(self.cause(request, outcome), outcome.tenant)

    def fetched(self, method: str, match: Match, outcome: Outcome) -> None:
        """The same for a miss whose match is known."""
        self._fetched(Cause(_route(method, match), outcome.feature or "", outcome.reason), outcome.tenant)

    def _fetched(self, cause: Cause, tenant: str | None) -> None:
        if tenant:
            _moved_up(self._tenants, tenant, Count, MOST_TENANTS).count += 1
        self.caused(cause)

    def cause(self, request: Request, outcome: Outcome) -> Cause:
        """What a request that is no hit is counted under."""
        return Cause(self.route_of(request.method, request.path), outcome.feature or "", outcome.reason)

    def caused(self, cause: Cause) -> None:
        counted = _moved_up(self._causes, cause, Count, MOST_ROUTES)
        counted.count += 1
        counted.last_at = self._clock()

    def causes(self) -> list[tuple[Cause, Count]]:
        """The most frequent first."""
        return sorted(self._causes.items(), key=lambda pair: -pair[1].count)

    def tenants(self) -> Mapping[str, int]:
        """For how many requests of each the upstream was asked."""
        return {tenant: counted.count for tenant, counted in self._tenants.items()}

    def route_of(self, method: str, path: str) -> str:
        """What this request is counted under."""
        found = self._find(method, path)
        if found is not None:
            return _route(method, found)
        return f"{method if _METHOD.fullmatch(method) else '(other)'} {template(path)}"


def _route(method: str, match: Match) -> str:
    return f"{method} {match.route.pattern}"


def unmatched_writes(causes: Iterable[tuple[Cause, Count]], path: str) -> list[tuple[Cause, Count]]:
    """Of these, the writes without a rule on the path itself, or above or below it."""
    near = template(path).split("/")
    return [
        (cause, count)
        for cause, count in causes
        if cause.reason is Reason.UNMATCHED_WRITE and _related(cause.route.partition(" ")[2].split("/"), near)
    ]


def template(path: str) -> str:
    """A path with every segment that is not plainly a word replaced: nobody's ids, and not one line for each."""
    segments = [each for each in plain_path(path).split("/") if each]
    shown = [each if _WORD.fullmatch(each) else "{id}" for each in segments[:_MOST_SEGMENTS]]
    return "/" + "/".join([*shown, *(["**"] if len(segments) > _MOST_SEGMENTS else [])])


def _related(written: list[str], read: list[str]) -> bool:
    shorter = min(len(written), len(read))
    return shorter > 2 and all(
        mine == theirs or "{" in mine or "{" in theirs
        for mine, theirs in zip(written[:shorter], read[:shorter], strict=True)
    )


def _moved_up(table: dict[K, V], name: K, make: Callable[[], V], most: int) -> V:
    """The entry of this name, as the last one to make room for others."""
    value = table.pop(name, None)
    if value is None:
        if len(table) >= most:
            del table[next(iter(table))]
        value = make()
    table[name] = value
    return value
