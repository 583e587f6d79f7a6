"""Requests of an access log decided again under two rule sets."""

import json

import pytest

from proxy.policy.identity import Identity
from proxy.policy.key import Keyring
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.rules.replay import LONGEST_LINE, Logged, Replay, read, replay
from proxy.telemetry.access_line import access_line
from tests.rules.texts import accepted, features

RULES = features(
    """
    jobs:
      ttl: 60s
      read: [GET /jobs, 'GET /jobs/{job-id}']
      write: [POST /jobs, 'PATCH /jobs/{job-id}']
    search:
      read: [POST /search]
      write: []
    """
)
BEFORE = accepted(RULES)
KEYS = Keyring(b"a name key of tests")


def line(
    at: int, request: str, *, org: str | None = "org_a", user: str = "u1", roles: tuple[str, ...] = ("r",),
    reason: Reason = Reason.COLD, status: int = 200, key: str | None = None, ttl: int | None = None,
    **fields: str,
) -> str:  # fmt: skip
    """As the sidecar writes it."""
    method, target = request.split(" ")
    who = Identity(org, user, frozenset(roles)) if org is not None else None
    outcome = Outcome(reason, forward=Forward.URI_MISS, tenant=org, key=key, ttl=ttl)
    head = Fields((name.replace("_", "-"), value) for name, value in fields.items())
    said = access_line(Request(method, target, head), outcome, status, 0.001, who, KEYS)
    stamp = f"2026-11-26T14:{at // 60:02}:{at % 60:02}.000000Z"
    return json.dumps({**said, "event": "request", "level": "info", "timestamp": stamp})


def run(*lines: str, after: str = RULES) -> Replay:
    return replay(BEFORE, accepted(after), lines)


def hits(found: Replay) -> tuple[int, int]:
    return found.total.hits_before, found.total.hits_after


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([line(0, "GET /jobs"), line(59, "GET /jobs")], 1),
        ([line(0, "GET /jobs"), line(61, "GET /jobs")], 0),
        ([line(0, "GET /jobs"), line(1, "GET /jobs", org="org_b")], 0),
        ([line(0, "GET /jobs"), line(1, "GET /jobs", user="u2", roles=())], 1),
        ([line(0, "GET /jobs?page=1"), line(1, "GET /jobs?page=1")], 1),
        ([line(0, "GET /jobs?page=1"), line(1, "GET /jobs?page=2")], 0),
        ([line(0, "GET /jobs?a=1&b=2"), line(1, "GET /jobs?b=2&a=1")], 1),
        ([line(0, "GET /jobs"), line(1, "GET /jobs?utm_source=x")], 1),
        ([line(0, "GET /jobs", x_unit="1"), line(1, "GET /jobs", x_unit="2")], 0),
        ([line(0, "GET /jobs", host="a"), line(1, "GET /jobs", host="b")], 0),
        ([line(0, "GET /jobs"), line(1, "HEAD /jobs")], 1),
        ([line(0, "HEAD /jobs"), line(1, "GET /jobs")], 0),
        ([line(0, "POST /search", key="k1"), line(1, "POST /search", key="k1")], 1),
        ([line(0, "POST /search", key="k1"), line(1, "POST /search", key="k2")], 0),
        ([line(0, "GET /jobs", org=None, reason=Reason.NO_CREDENTIALS)] * 2, 0),
        ([line(0, "GET /jobs", reason=Reason.PERMISSION)] * 2, 0),
        ([line(0, "GET /jobs", status=500), line(1, "GET /jobs")], 0),
        ([line(0, "GET /jobs", status=304), line(1, "GET /jobs")], 1),
        ([line(0, "GET /jobs", reason=Reason.SET_COOKIE), line(1, "GET /jobs")], 0),
        ([line(0, "GET /jobs", reason=Reason.NO_STORE), line(1, "GET /jobs")], 0),
        ([line(0, "GET /elsewhere"), line(1, "GET /elsewhere")], 0),
        # writes
        ([line(0, "GET /jobs"), line(1, "POST /jobs", reason=Reason.WRITE, status=201), line(2, "GET /jobs")], 0),
        ([line(0, "GET /jobs"), line(1, "POST /jobs", reason=Reason.WRITE, status=400), line(2, "GET /jobs")], 1),
        ([line(0, "GET /jobs"), line(1, "POST /jobs", org="org_b", reason=Reason.WRITE), line(2, "GET /jobs")], 1),
        ([line(0, "GET /jobs/1"), line(1, "PATCH /jobs/2", reason=Reason.WRITE), line(2, "GET /jobs/1")], 1),
        ([line(0, "GET /jobs/1"), line(1, "PATCH /jobs/1", reason=Reason.WRITE), line(2, "GET /jobs/1")], 0),
        ([line(0, "GET /jobs/1"), line(1, "PATCH /jobs/1", org=None, reason=Reason.WRITE), line(2, "GET /jobs/1")], 0),
    ],
)  # fmt: skip
def test_a_hit_is_what_the_rules_would_have_had(lines, expected):
    assert hits(run(*lines)) == (expected, expected)


def test_a_longer_ttl_makes_more_hits():
    found = run(line(0, "GET /jobs"), line(100, "GET /jobs"), after=RULES.replace("60s", "5m"))
    assert hits(found) == (0, 1)
    assert found.features["jobs"].hits_after == 1
    assert found.changed == {}


def test_grace_makes_a_stale_hit_that_is_refreshed():
    lines = [line(at, "GET /jobs") for at in (0, 70, 80, 200)]
    assert hits(run(*lines, after=RULES.replace("60s", "60s\n    grace: 30s"))) == (1, 2)


def test_negative_answers_are_kept_as_long_as_the_rule_says():
    lines = [line(at, "GET /jobs/9", status=404) for at in (0, 5, 50)]
    assert hits(run(*lines, after=RULES.replace("60s", "60s\n    negative: {404: 10s}"))) == (0, 1)


def test_honour_false_keeps_what_the_origin_forbids():
    lines = [line(at, "GET /jobs", reason=Reason.NO_STORE) for at in (0, 5)]
    assert hits(run(*lines, after=RULES.replace("60s", "60s\n    honour: false"))) == (0, 1)


def test_with_ttl_origin_the_logged_freshness_counts_and_where_there_is_none_it_is_told():
    lines = [line(0, "GET /jobs", ttl=30), line(20, "GET /jobs"), line(40, "GET /jobs")]
    found = run(*lines, after=RULES.replace("60s", "origin"))
    assert hits(found) == (2, 1)
    assert found.unknown_lifetime == 1


def test_requests_that_are_shared_otherwise_are_told_by_route():
    lines = [line(0, "GET /jobs/1"), line(1, "GET /jobs/2"), line(2, "GET /jobs?page=1"), line(3, "GET /other")]
    found = run(*lines, after=RULES.replace("60s", "60s\n    scope: user"))
    assert found.changed == {
        ("GET /jobs/{job-id}", "jobs, scope tenant", "jobs, scope user"): 2,
        ("GET /jobs", "jobs, scope tenant", "jobs, scope user"): 1,
    }


def test_requests_under_another_key_are_told():
    found = run(
        line(0, "GET /jobs?page=1", x_unit="1"), after=RULES.replace("60s", "60s\n    ignore-headers: [x-unit]")
    )
    ((changed, count),) = found.changed.items()
    assert (changed[0], count) == ("GET /jobs", 1)
    assert "split by" in changed[1] + changed[2]
    found = run(line(0, "GET /jobs?page=1"), after=RULES.replace("60s", "60s\n    query: [q]"))
    assert list(found.changed) == [("GET /jobs", "jobs, scope tenant, other key", "jobs, scope tenant, other key")]


def test_a_new_route_is_what_no_rule_was_before():
    text = RULES + "  members:\n    read: [GET /members]\n    write: []\n"
    found = run(line(0, "GET /members", reason=Reason.NO_RULE), line(1, "GET /members"), after=text)
    assert found.changed == {("GET /members", "no-rule", "members, scope tenant"): 2}
    assert hits(found) == (0, 1)


# Lines

MALFORMED = [
    ("garbage", "is no JSON"),
    ("[1]", "is no JSON object"),
    ("[" * 50_000, "is no JSON"),
    ("x" * (LONGEST_LINE + 1), f"is longer than {LONGEST_LINE} characters"),
    ('{"event": "request"}', "has no method"),
    (line(0, "GET /jobs").replace('"/jobs"', '"jobs"'), "has no status, or a path that does not begin with /"),
    (line(0, "GET /jobs").replace("200", '"200"'), "has no status, or a path that does not begin with /"),
    (line(0, "GET /jobs").replace("2026-11-26", "yesterday"), "Invalid isoformat string: 'yesterdayT14:00:00.000000Z'"),
    (line(0, "GET /jobs", x_a="b").replace('"fields": {', '"fields": 1, "x": {'), "has fields that are no object"),
]


@pytest.mark.parametrize(("text", "problem"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_line_is_named_and_counted(text, problem):
    found = run(line(0, "GET /jobs"), text, line(1, "GET /jobs"))
    assert (found.malformed, found.problems) == (1, [f"line 2 {problem}"])
    assert hits(found) == (1, 1)


def test_of_many_malformed_lines_the_first_are_named():
    found = run(*["garbage"] * 500)
    assert (found.malformed, len(found.problems)) == (500, 10)


def test_lines_of_other_events_and_empty_ones_are_counted_apart():
    found = run('{"event": "listening"}', "", line(0, "GET /jobs"))
    assert (found.other_lines, found.malformed, found.requests) == (2, 0, 1)


def test_what_the_log_says_of_a_caller_is_who_asks_again():
    found = read(line(0, "GET /jobs", org=None, reason=Reason.TOKEN_EXPIRED))
    assert isinstance(found, Logged)
    assert found.who is Reason.TOKEN_EXPIRED
    known = read(line(0, "GET /jobs"))
    assert isinstance(known, Logged)
    assert isinstance(known.who, Identity)
    assert known.who.tenant == "org_a"
