"""Which requests are counted, as what: a table of what a rule, a caller and an answer come to."""

import pytest

from proxy.policy.route import CountRule
from proxy.rules.counting import Counted, counted
from tests.builders import identity, match, request, route

VIEWS = route(count=CountRule("views", "path.job-id", "user"))


def told(rule: CountRule, target: str = "/api/jobs/77", **caller):
    return counted(request(target), match(route(count=rule), job_id="77"), identity(**caller), 200)


@pytest.mark.parametrize("status", [200, 201, 204, 206, 226, 299, 304])
def test_what_was_answered_well_counts(status):
    assert counted(request(), match(VIEWS, job_id="77"), identity(), status) == ("org_a", "views", "77", "u1")


@pytest.mark.parametrize("status", [101, 199, 300, 301, 302, 303, 305, 307, 400, 401, 404, 416, 429, 500, 502, 504])
def test_what_was_not_does_not(status):
    assert counted(request(), match(VIEWS, job_id="77"), identity(), status) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "Prefetch; anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
        {"Purpose": "prerender"},
    ],
)
def test_nothing_that_is_fetched_ahead_counts(headers):
    assert counted(request(headers=headers), match(VIEWS, job_id="77"), identity(), 200) is None


def test_a_head_request_does_not_count_and_other_purposes_do():
    assert counted(request(method="HEAD"), match(VIEWS, job_id="77"), identity(), 200) is None
    assert counted(request(headers={"Purpose": "view"}), match(VIEWS, job_id="77"), identity(), 200) is not None


def test_nobody_s_requests_are_not_counted_nor_those_of_routes_that_count_nothing():
    assert counted(request(), match(VIEWS, job_id="77"), identity(tenant=None), 200) is None
    assert counted(request(), match(route(), job_id="77"), identity(), 200) is None


@pytest.mark.parametrize(
    ("rule", "target", "caller", "value", "who"),
    [
        # realistic
        (CountRule("v"), "/x", {}, None, ""),
        (CountRule("v", unique="user"), "/x", {}, None, "u1"),
        (CountRule("v", unique="user"), "/x", {"user": None}, None, ""),
        (CountRule("v", "query.q"), "/x?q=c%2B%2B&q=2", {}, "c++", ""),
        (CountRule("v", "query.q"), "/x?p=1", {}, "", ""),
        (CountRule("v", "jwt.plan"), "/x", {"claims": {"plan": "gold"}}, "gold", ""),
        (CountRule("v", "path.job-id", "query.session"), "/x?session=s1", {}, "77", "s1"),
        # pathological
        (CountRule("v", "jwt.plan"), "/x", {}, "", ""),
        (CountRule("v", "jwt.plan"), "/x", {"claims": {"plan": 7}}, "7", ""),
        (CountRule("v", "jwt.plan"), "/x", {"claims": {"plan": None}}, "", ""),
        (CountRule("v", "jwt.plan"), "/x", {"claims": {"plan": {"b": 1, "a": [2]}}}, '{"a": [2], "b": 1}', ""),
        (CountRule("v", "query.q"), "/x?q", {}, "", ""),
        (CountRule("v", "query.q"), "/x?q=%ff", {}, "\ufffd", ""),
    ],
)
def test_by_what_and_whom_it_is_counted(rule, target, caller, value, who):
    assert told(rule, target, **caller) == Counted("org_a", "v", value, who)


def test_a_value_in_the_path_is_told_decoded():
    found = counted(request(), match(VIEWS, job_id="a%20b%2Bc"), identity(), 200)
    assert found is not None
    assert found.value == "a b+c"
