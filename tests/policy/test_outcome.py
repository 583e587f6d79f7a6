"""Each outcome renders as one member of Cache-Status (RFC 9211)."""

from typing import Any

import http_sf
import pytest

from proxy.policy.outcome import Forward, Outcome, Reason

CASES = [
    # realistic
    (Outcome(Reason.FRESH, hit=True, ttl=540), "sidecache; hit; ttl=540"),
    (
        Outcome(Reason.COLD, forward=Forward.URI_MISS, fwd_status=200, stored=True),
        "sidecache; fwd=uri-miss; fwd-status=200; stored",
    ),
    (Outcome(Reason.COLLAPSED, forward=Forward.MISS, collapsed=True), "sidecache; fwd=miss; collapsed"),
    (
        Outcome(Reason.STALE_WHILE_REVALIDATE, hit=True, ttl=-3),
        "sidecache; hit; ttl=-3; detail=stale-while-revalidate",
    ),
    (Outcome(Reason.NO_RULE, forward=Forward.BYPASS), "sidecache; fwd=bypass; detail=no-rule"),
    # pathological
    (Outcome(Reason.FRESH, hit=True, ttl=0), "sidecache; hit; ttl=0"),
    (Outcome(Reason.RESERVED), "sidecache; detail=reserved-path"),
]


@pytest.mark.parametrize(("outcome", "expected"), CASES)
def test_an_outcome_renders_its_parameters(outcome, expected):
    assert outcome.cache_status() == expected


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_makes_a_valid_structured_field(reason):
    members: Any = http_sf.parse(Outcome(reason, hit=True).cache_status().encode(), tltype="list")
    assert str(members[0][0]) == "sidecache"


@pytest.mark.isolation
def test_keys_and_tenants_are_not_told_to_clients():
    outcome = Outcome(Reason.FRESH, feature="hidden", key="hidden", tenant="hidden")
    assert "hidden" not in outcome.cache_status()
