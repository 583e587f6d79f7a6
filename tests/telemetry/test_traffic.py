"""Reasons by route: no path, no id, no more than a bound; writes near a path."""

import pytest

from proxy.policy.message import Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.policy.route import Match
from proxy.telemetry.traffic import MOST_ROUTES, MOST_TENANTS, Traffic, template, unmatched_writes
from tests.builders import route
from tests.doubles import FakeClock

NO_RULE = Outcome(Reason.NO_RULE, forward=Forward.BYPASS)
WRITE = Outcome(Reason.UNMATCHED_WRITE, forward=Forward.METHOD)


@pytest.fixture
def traffic() -> Traffic:
    jobs = route(pattern="/api/jobs/{job-id}")
    return Traffic(lambda method, path: Match(jobs) if path.startswith("/api/jobs/") else None, FakeClock())


def note(traffic: Traffic, line: str, outcome: Outcome = NO_RULE) -> None:
    traffic.note(Request(*line.split(" ", 1)), outcome)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        # realistic
        ("/api/jobs", "/api/jobs"), ("/api/jobs/77", "/api/jobs/{id}"), ("/robots.txt", "/robots.txt"),
        ("/api/users/auth0%7C5f7c8ec7", "/api/users/{id}"), ("/api/company-profiles", "/api/company-profiles"),
        ("/api/x/550e8400-e29b-41d4-a716-446655440000", "/api/x/{id}"), ("/", "/"), ("/api/me/", "/api/me"),
        # pathological
        ("/" + "a/" * 50, "/a/a/a/a/a/a/a/a/**"), ("/<script>", "/{id}"), ("/api/\x1b[31m", "/api/{id}"),
        ("/api/eyJhbGciOiJub25lIn0", "/api/{id}"), ("/Anna.Smith@example.com", "/{id}"), ("/" + "a" * 5000, "/{id}"),
        ("/api/../etc", "/etc"), ("*", "/{id}"),
    ],
)  # fmt: skip
def test_a_path_is_shown_without_anybodys_ids(path, shown):
    assert template(path) == shown


def test_misses_are_counted_by_the_rules_route_or_by_the_shape_of_the_path(traffic):
    for line in ("GET /api/jobs/1", "GET /api/jobs/2", "GET /api/users/1", "BREW! /api/users/2"):
        note(traffic, line)
    assert [(cause.route, count.count) for cause, count in traffic.causes()] == [
        ("GET /api/jobs/{job-id}", 2), ("GET /api/users/{id}", 1), ("(other) /api/users/{id}", 1),
    ]  # fmt: skip


def test_hits_are_no_causes_and_only_what_went_to_the_upstream_counts_for_a_tenant(traffic):
    note(traffic, "GET /api/jobs/1", Outcome(Reason.FRESH, hit=True, feature="jobs", tenant="org_a"))
    note(traffic, "GET /api/jobs/1", Outcome(Reason.COLD, forward=Forward.URI_MISS, feature="jobs", tenant="org_a"))
    note(traffic, "GET /api/jobs/1", Outcome(Reason.REVALIDATED, hit=True, forward=Forward.STALE, tenant="org_a"))
    assert {cause.reason for cause, _ in traffic.causes()} == {Reason.COLD, Reason.REVALIDATED}
    assert traffic.tenants() == {"org_a": 2}


def test_a_scanner_cannot_make_it_grow_nor_push_out_what_goes_on(traffic):
    letters = "abcdefghij"
    for index in range(MOST_ROUTES + 50):
        name = "".join(letters[int(digit)] for digit in str(index))
        note(traffic, f"GET /{name}")
        note(traffic, "GET /api/jobs/1")
    assert len(traffic.causes()) == MOST_ROUTES
    assert traffic.causes()[0][0].route == "GET /api/jobs/{job-id}"


def test_tenants_have_a_bound_as_well(traffic):
    for index in range(MOST_TENANTS + 5):
        note(traffic, "GET /api/jobs/1", Outcome(Reason.COLD, tenant=f"org_{index}"))
    assert len(traffic.tenants()) == MOST_TENANTS
    assert "org_0" not in traffic.tenants()


@pytest.mark.parametrize(
    ("written", "read", "near"),
    [
        ("/api/things/7", "/api/things/7", True), ("/api/things/7/status", "/api/things", True),
        ("/api/things", "/api/things/7", True), ("/api/things/7", "/api/things/8", True),
        ("/api/other/7", "/api/things/7", False), ("/api", "/api/things", False), ("/", "/api/things", False),
    ],
)  # fmt: skip
def test_writes_without_a_rule_are_found_near_a_path(traffic, written, read, near):
    note(traffic, f"PATCH {written}", WRITE)
    note(traffic, "GET /api/things")
    assert bool(unmatched_writes(traffic.causes(), read)) is near
