"""The tests inside the file: they hold, or say what differs at their line."""

from pathlib import Path

import pytest

from proxy.rules.compile import PROFILES
from proxy.rules.scenarios import run
from tests.rules.texts import accepted, features

PORTAL = """
    jobs:
      read: [GET /jobs, 'GET /jobs/{job-id}']
      write:
        - route: PUT /jobs/{job-id}
          publish: {event: job.changed, to: tenant}
          count: {name: changes}
    live: {ttl: origin, read: [GET /live], write: []}
    search: {read: [POST /search], write: []}
"""
AS = "as: {org_id: org_a, sub: u1, permissions: [a]}"


def results(*tests: str):
    lines = "".join(f"  - {{{test}}}\n" for test in tests)
    return run(accepted(features(PORTAL) + f"tests:\n{lines}"))


@pytest.mark.parametrize(
    "test",
    [
        f"request: GET /jobs/7, {AS}, expect: {{key: 'tenant:org_a:jobs:7', ttl: 1m, scope: tenant}}",
        f"request: GET /jobs/7, {AS}, expect: {{tags: ['jobs:7', jobs]}}",
        f"request: GET /jobs/list, {AS}, expect: {{key: 'tenant:org_a:jobs:h-*'}}",
        f"request: 'GET /jobs?b=1&a=2', {AS}, expect: {{same-key-as: 'GET /jobs?a=2&b=1&utm_x=1'}}",
        f"request: GET /live, {AS}, expect: {{ttl: origin}}",
        "request: GET /jobs, expect: {cache: bypass, because: no-credentials}",
        "request: GET /jobs, as: {org_id: a, headers: {if-match: '*'}}, expect: {because: precondition}",
        f"request: PUT /jobs/7, {AS}, expect: {{purges: ['jobs:7', 'jobs:list'], because: write, counts: [changes]}}",
        f"request: PUT /jobs/7, {AS}, response: {{status: 409}}, expect: {{purges: [], publishes: []}}",
        f"request: PUT /jobs/7, {AS}, response: {{json: null}}, expect: {{publishes: [job.changed to tenant]}}",
        f"request: POST /search, {AS}, json: {{q: x}}, expect: {{key: 'tenant:org_a:search:list.q-*'}}",
    ],
)
def test_an_expectation_that_holds_passes(test):
    (result,) = results(test)
    assert result.passed, result.differences
    assert result.problem is None


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (f"request: GET /jobs/7, {AS}, expect: {{key: x}}", "key: expected x, got tenant:org_a:jobs:7"),
        ("request: GET /jobs/7, expect: {key: x*}", "key: expected x*, got no key (no-credentials)"),
        (f"request: GET /jobs/7, {AS}, expect: {{ttl: 2m}}", "ttl: expected 2m, got 1m"),
        (f"request: GET /jobs/7, {AS}, expect: {{ttl: origin}}", "ttl: expected origin, got 1m"),
        ("request: GET /jobs/7, expect: {ttl: 1m}", "ttl: expected 1m, got none"),
        (f"request: GET /jobs/7, {AS}, expect: {{scope: user}}", "scope: expected user, got tenant"),
        (f"request: GET /x, {AS}, expect: {{scope: user}}", "scope: expected user, got none"),
        (f"request: GET /jobs/7, {AS}, expect: {{tags: [jobs]}}", "tags: expected [jobs], got [jobs, jobs:7]"),
        (f"request: GET /jobs/7, {AS}, expect: {{cache: bypass}}", "cache: expected bypass, got used"),
        (
            f"request: GET /jobs/7, {AS}, expect: {{because: no-rule}}",
            "because: expected no-rule, got the cache is used",
        ),
        ("request: GET /x, expect: {because: no-tenant}", "because: expected no-tenant, got no-rule"),
        (f"request: GET /jobs/7, {AS}, expect: {{purges: [a]}}", "purges: expected [a], got []"),
        (
            f"request: PUT /jobs/7, {AS}, expect: {{publishes: []}}",
            "publishes: expected [], got [job.changed to tenant]",
        ),
        (f"request: GET /jobs/7, {AS}, expect: {{counts: [a]}}", "counts: expected [a], got []"),
        (
            f"request: GET /jobs/7, {AS}, expect: {{same-key-as: GET /jobs/8}}",
            "same-key-as: expected tenant:org_a:jobs:8, got tenant:org_a:jobs:7",
        ),
        # two requests without a key have no equal keys
        (
            "request: GET /x, expect: {same-key-as: GET /y}",
            "same-key-as: expected no key (no-rule), got no key (no-rule)",
        ),
    ],
)
def test_an_expectation_that_does_not_hold_is_a_difference(test, expected):
    (result,) = results(test)
    assert [str(each) for each in result.differences] == [expected]
    assert result.problem is not None
    request = result.request
    assert str(result.problem) == f"rules.yaml:13:1: error: tests[0]: {request}: {expected}"


def test_every_difference_of_every_test_is_told():
    found = results(
        "request: GET /x, expect: {cache: bypass}", f"request: GET /jobs, {AS}, expect: {{key: x, ttl: 5m}}"
    )
    assert [len(result.differences) for result in found] == [0, 2]
    assert [result.line for result in found] == [13, 14]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_tests_of_the_shipped_rules_hold(profile):
    text = (Path(__file__).parents[2] / "rules.yaml").read_text()
    found = run(accepted(text, profile=profile))
    assert len(found) >= 12
    assert [str(result.problem) for result in found if not result.passed] == []
