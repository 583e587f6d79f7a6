"""Matching: literal > {parameter} > ** segment by segment, on the raw path."""

import pytest

from proxy.policy.route import Kind, Route
from proxy.rules.routes import Routes, canonical

LINES = """
GET /
GET /api/jobs
GET /api/jobs/{job-id}
GET /api/jobs/new
GET /api/jobs/{job-id}/applications
GET /api/jobs/{job-id}/applications/{application-id}
GET /api/**
GET /api/{kind}/latest
GET /api/reports/{year}/**
GET /api/reports/2026/summary
GET /api/tags/
GET /caf%c3%a9/{id}
POST /api/search
POST /api/jobs
PUT|PATCH /api/jobs/{job-id}
""".strip().splitlines()


def table() -> Routes:
    return Routes(
        Route(feature="f", kind=Kind.READ, methods=tuple(line.split()[0].split("|")), pattern=line.split()[1])
        for line in LINES
    )


@pytest.mark.parametrize(
    ("request_line", "pattern", "parameters"),
    [
        # realistic
        ("GET /", "/", {}),
        ("GET /api/jobs", "/api/jobs", {}),
        ("HEAD /api/jobs", "/api/jobs", {}),
        ("GET /api/jobs/77", "/api/jobs/{job-id}", {"job-id": "77"}),
        ("GET /api/jobs/new", "/api/jobs/new", {}),
        ("GET /api/jobs/77/applications", "/api/jobs/{job-id}/applications", {"job-id": "77"}),
        (
            "GET /api/jobs/77/applications/5",
            "/api/jobs/{job-id}/applications/{application-id}",
            {"job-id": "77", "application-id": "5"},
        ),
        ("PATCH /api/jobs/77", "/api/jobs/{job-id}", {"job-id": "77"}),
        ("POST /api/search", "/api/search", {}),
        ("GET /api/other/deep/path", "/api/**", {"**": "other/deep/path"}),
        # back from a more specific branch that leads nowhere
        ("GET /api/jobs/latest", "/api/jobs/{job-id}", {"job-id": "latest"}),
        ("GET /api/people/latest", "/api/{kind}/latest", {"kind": "people"}),
        ("GET /api/jobs/77/elsewhere", "/api/**", {"**": "jobs/77/elsewhere"}),
        ("GET /api/reports/2026/summary", "/api/reports/2026/summary", {}),
        ("GET /api/reports/2026/other", "/api/reports/{year}/**", {"year": "2026", "**": "other"}),
        ("GET /api/reports/2025/summary", "/api/reports/{year}/**", {"year": "2025", "**": "summary"}),
        # pathological
        ("GET /api/jobs/", "/api/**", {"**": "jobs/"}),
        ("GET /api/", None, {}),
        ("GET /api", None, {}),
        ("GET /api//", "/api/**", {"**": "/"}),
        ("GET /api/tags/", "/api/tags/", {}),
        ("GET /api/tags", "/api/**", {"**": "tags"}),
        ("GET /api/jobs//applications", "/api/**", {"**": "jobs//applications"}),
        ("GET /API/jobs", None, {}),
        ("GET /api/jobs/7%2f7", "/api/jobs/{job-id}", {"job-id": "7%2f7"}),
        ("GET /caf%C3%A9/a%c3%a9", "/caf%c3%a9/{id}", {"id": "a%c3%a9"}),
        ("GET /caf%c3%a9/1", "/caf%c3%a9/{id}", {"id": "1"}),
        ("GET /%61pi/jobs", None, {}),
        ("GET /api/jobs/{job-id}", "/api/jobs/{job-id}", {"job-id": "{job-id}"}),
        ("HEAD /api/search", "/api/**", {"**": "search"}),
        ("DELETE /api/jobs/77", None, {}),
        ("get /api/jobs", None, {}),
        ("GET ", None, {}),
        ("GET *", None, {}),
        ("GET /" + "a/" * 50_000, None, {}),
        ("GET /api/" + "a/" * 50_000, "/api/**", {"**": "a/" * 50_000}),
    ],
)
def test_the_most_specific_route_matches(request_line, pattern, parameters):
    method, _, path = request_line.partition(" ")
    match = table().match(method, path)
    if pattern is None:
        assert match is None
    else:
        assert match is not None
        assert (match.route.pattern, dict(match.parameters)) == (pattern, parameters)


def test_no_routes_match_nothing():
    assert Routes([]).match("GET", "/") is None


def test_only_the_case_of_hex_digits_is_normalised():
    assert canonical("/a%2f%C3b/%zz/%41") == "/a%2F%C3b/%zz/%41"


def test_a_choice_with_many_branches_ends_soon():
    """Every segment has a literal and a parameter branch: the search is bounded by the routes there are."""
    lines = []
    for bits in range(256):
        steps = [("a" if bits >> level & 1 else f"{{p{level}}}") for level in range(8)]
        lines.append(Route(feature="f", kind=Kind.READ, methods=("GET",), pattern="/" + "/".join([*steps, "end"])))
    routes = Routes(lines)
    assert routes.match("GET", "/" + "a/" * 8 + "other") is None
    found = routes.match("GET", "/" + "a/" * 7 + "b/end")
    assert found is not None
    assert found.parameters == {"p7": "b"}


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("/api/jobs", None),  # `new` is another's
        ("/api/things", "/api/things/{thing-id}"),
        ("/api/notes", "/api/notes/{note-id}"),  # where it goes on is no matter
        ("/api/tags", None),  # what stands there has no parameter
        ("/api/things/7", None),
        ("/api/nothing", None),
        ("/api", None),
    ],
)
def test_a_folder_of_one_route_is_known(folder, pattern):
    lines = ["/api/things/{thing-id}", "/api/notes/{note-id}", "/api/notes/{note-id}/parts", "/api/tags/all"]
    more = [Route(feature="f", kind=Kind.READ, methods=("GET",), pattern=line) for line in [*lines, "/api/jobs/new"]]
    jobs = [Route(feature="f", kind=Kind.READ, methods=("GET",), pattern="/api/jobs/{job-id}")]
    routes = Routes([*more, *jobs])
    found = routes.below("GET", folder)
    assert (found.pattern if found is not None else None) == pattern
    assert routes.below("PUT", folder) is None
    if found is not None:
        assert {routes.match("GET", f"{folder}/{each}").route for each in ("1", "all", "new")} == {found}  # type: ignore[union-attr]
