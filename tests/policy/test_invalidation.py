"""What a finished request makes stale, for whom, and what an attacker cannot flush with one."""

import pytest

from proxy.policy.identity import Identity
from proxy.policy.invalidation import Purge, of, settle_after
from proxy.policy.message import Response
from proxy.policy.route import IdentifierShape, Match, Part, Scope, TagTemplate
from tests.builders import (
    ITEM,
    KEYS,
    NESTED,
    Headers,
    fields,
    identity,
    match,
    origin_route,
    request,
    route,
    write_route,
)

JOBS = route()
JOB = route(identifier=ITEM, pattern="/api/jobs/{job-id}")
COMPANY = route("companies", scope=Scope.PUBLIC, identifier=IdentifierShape((Part("company-id"),)))

READS = {
    "/api/jobs": match(JOBS),
    "/api/live": match(origin_route("live")),
    "/live": match(origin_route("live", scope=Scope.PUBLIC)),
    "/api/jobs/77": match(JOB, job_id="77"),
    "/api/jobs/a%7cb": match(JOB, job_id="a%7cb"),
    "/api/companies/5": match(COMPANY, company_id="5"),
}

WRITE_JOB = match(write_route(identifier=ITEM), job_id="77")
WRITE_COMPANY = match(
    write_route("companies", scope=Scope.PUBLIC, identifier=IdentifierShape((Part("company-id"),))), company_id="5"
)
WRITES = {
    ("PUT", "/api/jobs/77"): match(
        write_route(methods=("PUT",), identifier=ITEM, purges=(TagTemplate("search"),)), job_id="77"
    )
}
APPLY = match(
    write_route(
        "applications",
        identifier=NESTED,
        purges=(
            TagTemplate("jobs", ITEM),
            TagTemplate("analytics"),
            TagTemplate("companies", public=True),
        ),
    ),
    job_id="77",
)


def find(method: str, path: str) -> Match | None:
    return READS.get(path) if method == "GET" else WRITES.get((method, path))


CALLER = identity()


def purged(
    target: str = "/api/unknown",
    found: Match | None = None,
    status: int | None = 200,
    who: Identity | None = CALLER,
    method: str = "POST",
    headers: Headers = (),
    **answer: str,
) -> Purge:
    outcome = None if status is None else Response(status, fields(answer))
    asked = request(target, headers or {"Host": "portal.example"}, method=method)
    return of(asked, found, outcome, who, find, KEYS)


@pytest.mark.parametrize(
    ("found", "purge"),
    [
        # realistic
        (WRITE_JOB, {"org_a": ("jobs:list", "jobs:77")}),
        (WRITE_COMPANY, {"": ("companies:list", "companies:5")}),
        (
            APPLY,
            {"org_a": ("applications:list", "applications:job-77", "jobs:77", "analytics"), "": ("companies",)},
        ),
        (match(write_route()), {"org_a": ("jobs:list",)}),
    ],
)
def test_a_write_purges_what_its_route_says_for_its_tenant(found, purge):
    assert purged(found=found) == purge


@pytest.mark.parametrize(
    ("status", "counts"),
    [(200, True), (201, True), (202, True), (302, True), (500, True), (503, True), (None, True)]
    + [(status, False) for status in (400, 401, 403, 404, 409, 422, 429, 499)],
)
def test_every_outcome_counts_but_a_refusal(status, counts):
    assert bool(purged(found=WRITE_JOB, status=status)) is counts


@pytest.mark.parametrize(("status", "counts"), [(200, True), (303, True), (None, True), (500, True), (404, False)])
def test_where_the_origin_decides_the_same_outcomes_count(status, counts):
    assert bool(purged("/api/live", status=status)) is counts


@pytest.mark.parametrize(
    ("method", "found", "headers"),
    [
        ("GET", None, {}),
        ("HEAD", None, {}),
        ("OPTIONS", None, {}),
        ("QUERY", None, {}),
        ("GET", READS["/api/jobs/77"], {}),
        ("GET", READS["/api/jobs/77"], {"X-Original-URL": "/api/jobs/78"}),
        ("POST", match(route("search", methods=("POST",))), {}),
        ("QUERY", match(route("search", methods=("QUERY",))), {}),
    ],
)
def test_reads_purge_nothing(method, found, headers):
    assert purged("/api/jobs/77", found, method=method, headers=headers) == {}


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_read_with_a_method_override_may_be_a_write(header):
    found = READS["/api/jobs/77"]
    assert purged("/api/jobs/77", found, method="GET", headers={header: "DELETE"}) == {
        "org_a": ("jobs:list", "jobs:77")
    }


@pytest.mark.parametrize(
    ("target", "purge"),
    [
        # realistic
        ("/api/jobs/77", {"org_a": ("jobs:list", "jobs:77")}),
        ("/api/jobs/77?notify=1", {"org_a": ("jobs:list", "jobs:77")}),
        ("/api/companies/5", {"": ("companies:list", "companies:5")}),
        ("/api/unknown", {}),
    ],
)
def test_an_unmatched_write_purges_the_read_of_its_target(target, purge):
    assert purged(target) == purge


def test_a_write_also_purges_the_read_of_its_target_in_another_feature():
    other = match(write_route("applications"))
    assert purged("/api/jobs/77", other) == {"org_a": ("applications:list", "jobs:list", "jobs:77")}


JOB_77 = {"org_a": ("jobs:list", "jobs:77")}


@pytest.mark.parametrize(
    ("location", "status", "purge"),
    [
        # realistic
        ("/api/jobs/77", 201, JOB_77),
        ("http://portal.example/api/jobs/77", 201, JOB_77),
        ("https://Portal.Example/api/jobs/77", 303, JOB_77),
        ("//portal.example/api/jobs/77#top", 201, JOB_77),
        ("jobs/77", 201, JOB_77),
        # pathological
        ("http://evil.example/api/jobs/77", 201, {}),
        ("http://portal.example:81/api/jobs/77", 201, {}),
        ("http://portal.example@evil.example/api/jobs/77", 201, {}),
        ("http://[/api/jobs/77", 201, {}),
        ("/api/jobs;x/77", 201, {}),
        ("", 201, {}),
        ("/api/jobs/77", 500, {}),
    ],
)
@pytest.mark.parametrize("name", ["location", "content-location"])
def test_named_uris_of_the_same_origin_are_purged(name, location, status, purge):
    assert purged(status=status, **{name: location}) == purge


def test_an_unknown_outcome_names_no_uris():
    assert purged("/api/jobs/77", status=None) == JOB_77


NOBODY = [None, identity(tenant=None)]


@pytest.mark.parametrize("who", NOBODY)
def test_without_a_verified_tenant_a_write_purges_the_features_for_all(who):
    assert purged(found=APPLY, who=who) == {"": ("companies", "applications", "jobs", "analytics")}
    assert purged("/api/jobs/77", who=who) == {"": ("jobs",)}


@pytest.mark.parametrize("who", NOBODY)
def test_a_redirect_invalidates_in_a_plain_shared_cache(who):
    assert purged("/live", status=303, who=who) == {"": ("live:list",)}
    assert purged("/live", status=303, who=who, location="/api/jobs/77") == {"": ("live:list",)}


def test_another_reading_of_the_path_flushes_no_plain_shared_cache():
    assert purged("/live/", who=CALLER) == {}
    assert purged("/live", who=CALLER) == {"": ("live:list",)}
    assert purged("/api/companies/5/", who=CALLER) == {"": ("companies",)}


@pytest.mark.parametrize("who", NOBODY)
@pytest.mark.parametrize("found", [WRITE_JOB, WRITE_COMPANY, None])
def test_a_redirect_to_the_login_page_flushes_nothing(who, found):
    assert purged("/api/jobs/77", found, status=302, who=who, location="/login") == {}


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/api/jobs;x/77", {}),
        ("/api//jobs", {}),
        ("/api/%6aobs", {}),
        ("/x", {"X-Original-URL": "/api/jobs/77"}),
        ("/x", {"x-rewrite-url": "/api/jobs/77"}),
    ],
)
def test_a_write_whose_path_cannot_be_told_purges_the_tenant(target, headers):
    assert purged(target, headers=headers) == {"org_a": ("*",)}
    assert purged(target, WRITE_JOB, headers=headers) == {"org_a": ("*",)}
    assert purged(target, match(route("search", methods=("POST",))), headers=headers) == {"org_a": ("*",)}
    assert purged(target, headers=headers, who=None) == {"": ("jobs",)}
    assert purged(target, WRITE_JOB, headers=headers, who=None) == {"": ("jobs",)}


@pytest.mark.parametrize(
    ("target", "headers", "purge"),
    [
        # realistic: servers that ignore a final slash, or the case of a path
        ("/api/jobs/", {}, {"org_a": ("jobs",)}),
        ("/API/Jobs/77", {}, {"org_a": ("jobs", "search")}),
        ("/api/jobs/77/", {}, {"org_a": ("jobs", "search")}),
        ("/api/companies/5/", {}, {"": ("companies",)}),
        # pathological
        ("/api//companies/5", {}, {"": ("companies",), "org_a": ("*",)}),
        ("/x", {"X_Original-URL": "/api/companies/5?a=/"}, {"": ("companies",), "org_a": ("*",)}),
        ("/api/jobs\x00.css", {}, {"org_a": ("*",)}),
    ],
)
def test_a_write_purges_the_features_that_another_reading_of_its_path_means(target, headers, purge):
    assert purged(target, method="PUT", headers=headers) == purge


@pytest.mark.parametrize(
    ("target", "found", "purge"),
    [
        # realistic: frameworks that read a suffix as the format of the answer
        ("/api/jobs/77.json", None, {"org_a": ("jobs:list", "jobs:77", "search")}),
        ("/api/jobs.json?page=2", None, {"org_a": ("jobs:list",)}),
        # pathological
        ("/api/jobs/77.tar.gz", None, {"org_a": ("jobs:list", "jobs:77", "search")}),
        ("/api/companies/5.json", None, {"": ("companies:list", "companies:5")}),
        ("/api/jobs/.json", None, {}),
        ("/live.json", None, {}),  # what is stale in a plain shared cache is the RFC's to say
    ],
)
def test_a_write_to_a_path_with_a_suffix_purges_what_is_stored_without_it(target, found, purge):
    assert purged(target, found, method="PUT") == purge


def test_what_its_own_route_purges_stays_when_a_path_has_a_suffix():
    found = match(write_route(identifier=ITEM), job_id="77.json")
    (tags,) = purged("/api/jobs/77.json", found, method="PUT").values()
    assert tags[0] == "jobs:list"
    assert tags[1].startswith("jobs:h-")
    assert tags[2:] == ("jobs:77", "search")


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "x_http_method", "X-Method_Override"])
def test_a_method_override_purges_what_that_method_would(name):
    assert purged("/api/jobs/77", headers={name: " put"}) == {"org_a": ("jobs:list", "jobs:77", "search")}


@pytest.mark.isolation
def test_each_tenant_purges_its_own_space_only():
    assert set(purged(found=WRITE_JOB, who=identity("org_b"))) == {"org_b"}


@pytest.mark.parametrize(
    ("found", "answer", "seconds"),
    [
        (match(write_route(settle=2.0)), Response(200), 2.0),
        (match(write_route(settle=2.0)), None, 2.0),
        (match(write_route(settle=0.0)), Response(202), 0.0),
        (match(write_route()), Response(202), 30.0),
        (None, Response(202), 30.0),
        (match(write_route()), Response(200), None),
        (None, None, None),
    ],
)
def test_a_purge_is_repeated_where_the_upstream_lags(found, answer, seconds):
    assert settle_after(found, answer) == seconds


def test_fields_of_the_request_do_not_decide_the_origin_when_host_is_missing():
    asked = request("/api/unknown", method="POST")
    answer = Response(201, fields(location="http://portal.example/api/jobs/77"))
    assert of(asked, None, answer, identity(), find, KEYS) == {}


# Groups (RFC 9875)

GROUPED = Response(200, fields({"Cache-Group-Invalidation": '"a", "b"'}))


@pytest.mark.parametrize(
    ("method", "answer", "who", "purged"),
    [
        # realistic
        ("POST", GROUPED, identity(), {"": {"@:a", "@:b"}, "org_a": {"@:a", "@:b"}}),
        ("POST", GROUPED, None, {"": {"@:a", "@:b"}}),
        ("POST", Response(500, GROUPED.fields), identity(), {"": {"@:a", "@:b"}, "org_a": {"@:a", "@:b"}}),
        # pathological
        ("GET", GROUPED, identity(), {}),
        ("POST", Response(403, GROUPED.fields), identity(), {}),
        ("POST", Response(302, GROUPED.fields), None, {}),
        ("POST", None, identity(), {}),
        ("POST", Response(200, fields({"Cache-Group-Invalidation": "a"})), identity(), {}),
    ],
)
def test_groups_that_an_answer_names_are_stale_for_its_tenant_and_where_everybody_reads(method, answer, who, purged):
    found = of(request("/api/unruled", method=method), None, answer, who, find, KEYS)
    assert {space: set(tags) for space, tags in found.items()} == purged


def test_groups_come_beside_what_a_write_changes():
    found = of(request("/api/jobs/77", method="PUT"), WRITE_JOB, GROUPED, identity(), find, KEYS)
    assert {"@:a", "@:b", "jobs:77", "jobs:list"} <= set(found["org_a"])
    assert set(found[""]) == {"@:a", "@:b"}
