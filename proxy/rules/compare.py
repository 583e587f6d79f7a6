"""What do new rules change? Routes and keys, sharing that widens, and writes that purge less than before (SPEC 4).

Two rule sets are compared where they can differ: on one request for every two routes that can match the same one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxy.policy.identity import Identity, IdentitySources
from proxy.policy.invalidation import of
from proxy.policy.message import Request, Response
from proxy.policy.route import Kind, Match, Route
from proxy.rules.compile import RuleSet
from proxy.rules.explain import KEYS
from proxy.rules.overlap import meetings
from proxy.rules.routes import REST, is_parameter
from proxy.rules.source import Problem
from proxy.rules.values import duration_text
from proxy.rules.widening import WIDTH

_SOMEBODY = Identity(tenant="org")
_BELOW = 2  # segments that stand for `**`


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of a route, as people write it."""

    setting: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.setting} {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class Difference:
    """What becomes of the requests that `request` (`GET /api/jobs/{job-id}`) stands for."""

    request: str
    before: Route | None
    after: Route | None
    changes: tuple[Change, ...] = ()
    widens: tuple[str, ...] = ()
    no_longer_purges: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    @property
    def new_keys(self) -> bool:
        """Whether what is kept now is of no more use."""
        before, after = self.before, self.after
        if before is None or after is None or Kind.WRITE in (before.kind, after.kind):
            return False
        return before.digest != after.digest or before.feature != after.feature


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that differs, in the order of the new file."""

    identity: tuple[Change, ...]
    differences: tuple[Difference, ...]
    widening: tuple[Problem, ...]  # every way in which more people share, at its line in the new file

    @property
    def same(self) -> bool:
        return not (self.identity or self.differences)


def compare(before: RuleSet, after: RuleSet) -> Comparison:
    """Of two rule sets for the same profile."""
    differences = tuple(_differences(before, after))
    identity = tuple(_identity(before.identity, after.identity))
    return Comparison(identity, differences, tuple(_problems(before, after, differences)))


def widening(before: RuleSet, after: RuleSet) -> tuple[Problem, ...]:
    """Only that."""
    return compare(before, after).widening


def forgets(before: RuleSet, after: RuleSet) -> bool:
    """Whether some read is none any more: what comes in its place later has nothing in `after` to be compared with."""
    return any(
        each.before is not None
        and each.before.kind is Kind.READ
        and (each.after is None or each.after.kind is not Kind.READ)
        for each in _differences(before, after)
    )


def _problems(before: RuleSet, after: RuleSet, differences: tuple[Difference, ...]) -> Iterator[Problem]:
    if _asks_differently(before.identity, after.identity):
        yield Problem(after.file, 1, 1, "error", "identity", "changes who is asking")
    if dropped := before.reports_require - after.reports_require:
        message = f"no longer requires {', '.join(sorted(dropped))} to read reports"
        yield Problem(after.file, 1, 1, "error", "reports.require", message)
    told: set[tuple[int, str]] = set()
    for each in differences:
        for message in each.widens:
            assert each.after is not None, "what is gone is not shared"
            if (each.after.line, message) not in told:
                told.add((each.after.line, message))
                yield Problem(after.file, each.after.line, 1, "error", each.after.where, message)


def _asks_differently(before: IdentitySources, after: IdentitySources) -> bool:
    """Whether somebody may be taken for another than before. A further path can only contradict."""
    more = [source for source in after.tenant if source not in before.tenant]
    narrower = all(source.startswith("path.") for source in more)
    kept = tuple(source for source in after.tenant if source not in more)
    return not narrower or replace(after, tenant=kept) != before


def _identity(before: IdentitySources, after: IdentitySources) -> Iterator[Change]:
    for name in IdentitySources.__dataclass_fields__:
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield Change(f"identity.{name}", _text(one), _text(other))


# Where two rule sets can differ


@dataclass(frozen=True, slots=True)
class _Cell:
    """Requests that are matched by one route of the old rules, one of the new ones, or both."""

    method: str
    segments: tuple[str, ...]  # as patterns write them
    before: Match | None
    after: Match | None
    path: str  # one of these requests

    @property
    def routes(self) -> tuple[Route | None, Route | None]:
        return _route(self.before), _route(self.after)

    @property
    def request(self) -> str:
        return f"{self.method} /{'/'.join(self.segments)}"


def _route(match: Match | None) -> Route | None:
    return None if match is None else match.route


def _differences(before: RuleSet, after: RuleSet) -> Iterator[Difference]:
    cells: dict[tuple[str, int, int], _Cell] = {}
    for cell in _cells(before, after):
        one, other = cell.routes
        cells.setdefault((cell.method, id(one), id(other)), cell)
    cached = {route.feature for route in after.routes if route.kind is Kind.READ}
    for cell in sorted(cells.values(), key=_place):
        found = _difference(cell, before, after, cached)
        if found is not None:
            yield found


def _place(cell: _Cell) -> tuple[bool, int]:
    """As the new file has them, then what is gone."""
    one, other = cell.routes
    return other is None, other.line if other is not None else one.line if one is not None else 0


def _cells(before: RuleSet, after: RuleSet) -> Iterator[_Cell]:
    sample = _sample(before, after)
    olds, news = _patterns(before), _patterns(after)
    for method in dict.fromkeys((*news, *olds)):
        seen = set()
        for segments in meetings(olds.get(method, []), news.get(method, [])):
            if segments in seen:
                continue
            seen.add(segments)
            path = "/" + "/".join(sample(index, segment) for index, segment in enumerate(segments))
            one, other = before.match(method, path), after.match(method, path)
            if one is not None or other is not None:
                yield _Cell(method, segments, one, other, path)


def _patterns(rules: RuleSet) -> Mapping[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for route in rules.routes:
        for method in route.methods:
            found[method].append(tuple(route.pattern.split("/")[1:]))
    return found


def _sample(*rules: RuleSet) -> Callable[[int, str], str]:
    """How a segment of a pattern becomes one of a path: parameters have values that no route names."""
    literals = {segment for each in rules for route in each.routes for segment in route.pattern.split("/")}
    mark = "x"
    while any(literal.startswith(mark) and literal[len(mark) :].isdigit() for literal in literals):
        mark += "x"

    def sampled(index: int, segment: str) -> str:
        if segment == REST:
            return "/".join([f"{mark}{index}"] * _BELOW)
        return f"{mark}{index}" if is_parameter(segment) else segment

    return sampled


# How they differ there


def _difference(cell: _Cell, before: RuleSet, after: RuleSet, cached: set[str]) -> Difference | None:
    one, other = cell.routes
    changes = tuple(_changes(one, other)) if one is not None and other is not None else ()
    widens = tuple(_widens(one, other)) if one is not None and other is not None else ()
    lost = tuple(_lost(cell, before, after, cached))
    if one is not None and other is not None and not (changes or widens or lost):
        return None
    return Difference(cell.request, one, other, changes, widens, lost)


# What is compared of a read, in the order people read it, and of a write: its purges are compared by what they do.
_READ = (
    "feature key_name scope require ttl grace if_error negative query ignore_query ignore_headers vary honour "
    "client_control client_cache critical strict sensitive encrypt assertion max_body compress gzip quota count"
).split()
_WRITE = ["feature", "settle", "count"]
_NAMES = {"assertion": "assert", "strict": "consistency", "gzip": "codec"}


def _changes(before: Route, after: Route) -> Iterator[Change]:
    if before.kind is not after.kind:
        yield Change("kind", before.kind, after.kind)
        return
    for name in _READ if after.kind is Kind.READ else _WRITE:
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield Change(_NAMES.get(name, name.replace("_", "-")), _said(name, one), _said(name, other))
    if after.kind is Kind.READ and before.identifier != after.identifier and before.feature == after.feature:
        yield Change("identifier", before.pattern, after.pattern)


def _widens(before: Route, after: Route) -> Iterator[str]:
    """Whoever shares an entry now that did not before."""
    if Kind.WRITE in (before.kind, after.kind):
        return
    if WIDTH[after.scope] > WIDTH[before.scope]:
        yield f"loosens scope {before.scope} to {after.scope} of {after}"
    if before.sensitive and not after.sensitive:
        yield f"drops sensitive from {after}"
    if before.encrypt and not after.encrypt and not after.sensitive:
        yield f"drops encrypt: all from {after}"
    if dropped := before.require - after.require:
        yield f"no longer requires {', '.join(sorted(dropped))} for {after}"
    if before.assertion is not None and before.assertion != after.assertion:
        yield f"no longer asserts {before.assertion} for {after}"
    if before.honour and not after.honour:
        yield f"stores what the upstream marks as private or no-store for {after}"
    if added := after.ignore_headers - before.ignore_headers:
        yield f"shares {after} among requests that differ in {', '.join(sorted(added))}"
    handed = after.client_cache
    if handed is not None and handed != before.client_cache and not {"private", "no-store"} & set(_directives(handed)):
        yield f"lets caches behind the sidecar share {after}: client-cache {handed!r}"


def _directives(text: str) -> list[str]:
    return [part.partition("=")[0].strip().lower() for part in text.split(",")]


def _lost(cell: _Cell, before: RuleSet, after: RuleSet, cached: set[str]) -> Iterator[str]:
    """Tags that this write purged and purges no more, of features that are still cached."""
    old = _purged(cell, before, cell.before)
    new = _purged(cell, after, cell.after)
    # shown with the names that the old pattern had for its values
    names = {value: f"{{{name}}}" for name, value in cell.before.parameters.items()} if cell.before is not None else {}
    for tag in sorted(old - new):
        feature, _, identifier = tag.partition(":")
        if feature in cached and feature not in new:
            yield f"{feature}:{_named(identifier, names)}" if identifier else feature


def _purged(cell: _Cell, rules: RuleSet, match: Match | None) -> set[str]:
    purge = of(Request(cell.method, cell.path), match, Response(200), _SOMEBODY, rules.match, KEYS)
    return {tag for tags in purge.values() for tag in tags}


def _named(identifier: str, names: Mapping[str, str]) -> str:
    if identifier.startswith("h-"):
        return "(this path)"
    parts = []
    for part in identifier.split("~"):
        prefix, dash, value = part.rpartition("-")
        parts.append(f"{prefix}{dash}{names.get(value, value)}")
    return "~".join(parts)


def _said(name: str, value: Any) -> str:
    if name in ("ttl", "grace", "if_error", "settle") and isinstance(value, float):
        return duration_text(value)
    if name == "ttl":
        return "origin"
    if name == "query" and value is None:
        return "all"
    if name == "strict":
        return "strict" if value else "none"
    if name == "gzip":
        return "gzip" if value else "zstd"
    if name == "negative":
        return ", ".join(f"{status}: {duration_text(seconds)}" for status, seconds in sorted(value.items())) or "none"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        value = sorted(value)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)
