"""Do the examples inside the rules file hold? The same functions decide here as when serving."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.rules.compile import RuleSet
from proxy.rules.document import Expect, Scenario
from proxy.rules.explain import Caller, Explanation, explain, request_of
from proxy.rules.source import Problem
from proxy.rules.values import duration_text


@dataclass(frozen=True, slots=True)
class Difference:
    """One expectation that does not hold."""

    what: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """One inline test. `problem` is the failure at its line, or None."""

    request: str
    line: int
    differences: tuple[Difference, ...]
    problem: Problem | None

    @property
    def passed(self) -> bool:
        return not self.differences


def run(rules: RuleSet) -> list[ScenarioResult]:
    """Every inline test, in the order of the file."""
    return [_run_one(rules, index, *scenario) for index, scenario in enumerate(rules.scenarios)]


def _run_one(rules: RuleSet, index: int, scenario: Scenario, line: int) -> ScenarioResult:
    caller = _caller(scenario)
    got = _explained(rules, scenario.request, scenario, caller)
    differences = tuple(_differences(rules, scenario, caller, got))
    problem = None
    if differences:
        message = f"{scenario.request}: " + "; ".join(map(str, differences))
        problem = Problem(rules.file, line, 1, "error", f"tests[{index}]", message)
    return ScenarioResult(scenario.request, line, differences, problem)


def _caller(scenario: Scenario) -> Caller:
    said = scenario.as_
    if said is None:
        return Caller()
    permissions = None if said.permissions is None else tuple(said.permissions)
    return Caller(said.org_id, said.sub, permissions, tuple(said.headers.items()))


def _explained(rules: RuleSet, line: str, scenario: Scenario, caller: Caller) -> Explanation:
    body = json.dumps(scenario.json_).encode() if scenario.says("json_") else None
    request = request_of(line, caller, rules.identity, body)
    return explain(rules, request, caller, status=scenario.response.status, document=scenario.response.json_)


def _differences(rules: RuleSet, scenario: Scenario, caller: Caller, got: Explanation) -> Iterator[Difference]:
    expect = scenario.expect
    key = got.key.full if got.key is not None else None
    if expect.key is not None and not _fits(expect.key, key):
        yield Difference("key", expect.key, _or_reason(key, got))
    if expect.same_key_as is not None:
        other = _explained(rules, expect.same_key_as, scenario, caller)
        twin = other.key.full if other.key is not None else None
        if key is None or twin != key:
            yield Difference("same-key-as", _or_reason(twin, other), _or_reason(key, got))
    if expect.cache is not None and got.reason is None:
        yield Difference("cache", "bypass", "used")
    if expect.because is not None and got.reason is not expect.because:
        yield Difference("because", expect.because, got.reason or "the cache is used")
    yield from _differing_rule(expect, got)
    yield from _differing_lists(expect, got)


def _differing_rule(expect: Expect, got: Explanation) -> Iterator[Difference]:
    if expect.says("ttl"):
        ttl = got.route.ttl if got.route is not None and got.key is not None else "none"
        if ttl != expect.ttl:
            yield Difference("ttl", _seconds(expect.ttl), _seconds(ttl))
    if expect.scope is not None:
        scope = got.route.scope if got.route is not None else "none"
        if scope != expect.scope:
            yield Difference("scope", expect.scope, scope)


def _differing_lists(expect: Expect, got: Explanation) -> Iterator[Difference]:
    tags = got.key.tags if got.key is not None else ()
    pairs = (
        ("tags", expect.tags, tags),
        ("purges", expect.purges, got.purges),
        ("publishes", expect.publishes, got.publishes),
        ("counts", expect.counts, got.counts),
    )
    for what, expected, found in pairs:
        if expected is not None and sorted(expected) != sorted(found):
            yield Difference(what, _listed(expected), _listed(found))


def _fits(pattern: str, key: str | None) -> bool:
    if key is None:
        return False
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern


def _or_reason(key: str | None, got: Explanation) -> str:
    return key if key is not None else f"no key ({got.reason})"


def _seconds(ttl: float | str | None) -> str:
    return "origin" if ttl is None else ttl if isinstance(ttl, str) else duration_text(ttl)


def _listed(values: list[str] | tuple[str, ...]) -> str:
    return f"[{', '.join(sorted(values))}]"
