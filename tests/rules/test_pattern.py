"""Route lines: what is one, which identifier it makes, and which identifiers can meet."""

import pytest

from proxy.policy.route import IdentifierShape, Kind, Part
from proxy.rules.pattern import Pattern, can_be_equal, parse, prefix_of, shape_of


def pattern(text: str, kind: Kind | None = Kind.READ) -> Pattern:
    found = parse(text, kind)
    assert isinstance(found, Pattern), found
    return found


@pytest.mark.parametrize(
    ("text", "kind", "methods", "parameters"),
    [
        ("GET /api/jobs", Kind.READ, ("GET",), ()),
        ("GET   /api/jobs/{job-id}", Kind.READ, ("GET",), ("job-id",)),
        ("POST /api/search", Kind.READ, ("POST",), ()),
        ("GET|QUERY /api/search", Kind.READ, ("GET", "QUERY"), ()),
        ("PUT|PATCH|DELETE /a/{x}/b/{y_id}", Kind.WRITE, ("PUT", "PATCH", "DELETE"), ("x", "y_id")),
        ("GET /api/a/**", Kind.READ, ("GET",), ()),
        ("GET /", Kind.READ, ("GET",), ()),
        ("GET /tags/", Kind.READ, ("GET",), ()),
        ("GET /caf%c3%a9", Kind.READ, ("GET",), ()),
        ("GET /auth/logout", None, ("GET",), ()),
        ("DELETE /session", None, ("DELETE",), ()),
    ],
)
def test_a_route_line_is_methods_and_a_path(text, kind, methods, parameters):
    found = pattern(text, kind)
    assert (found.methods, found.parameters) == (methods, parameters)


def test_two_patterns_that_match_the_same_paths_have_one_skeleton():
    assert pattern("GET /a/{x}/b").skeleton == pattern("GET /a/{y-id}/b").skeleton == "a/{}/b"


def test_a_pattern_reads_like_its_line():
    assert str(pattern("GET|POST /caf%c3%a9/{id}")) == "GET|POST /caf%C3%A9/{id}"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        # realistic
        ("/api/jobs", Kind.READ, "'/api/jobs' is not a route such as GET /api/jobs/{job-id}"),
        ("GET api/jobs", Kind.READ, "'api/jobs': a path begins with /"),
        ("get /api/jobs", Kind.READ, "methods are written in capitals: GET"),
        ("GET /api/jobs", Kind.WRITE, "GET cannot be a write"),
        ("DELETE /api/jobs", Kind.READ, "DELETE cannot be a read"),
        ("QUERY /api/jobs", Kind.WRITE, "QUERY cannot be a write"),
        ("OPTIONS /api/jobs", None, "OPTIONS cannot be a session route"),
        ("HEAD /api/jobs", Kind.READ, "HEAD is answered from GET: write GET"),
        ("HEAD /api/jobs", Kind.WRITE, "HEAD cannot be a write"),
        ("PACTH /api/jobs", Kind.WRITE, "unknown method 'PACTH' (did you mean 'PATCH'?)"),
        ("POST|POST /api/jobs", Kind.WRITE, "a method is named twice"),
        ("GET /api/jobs?page=1", Kind.READ, "a route has no query: name the parameters that count under `query`"),
        ("GET /api/:id", Kind.READ, "':id': a parameter is written {id}"),
        ("GET /api/*", Kind.READ, "'*': write a parameter such as {id}, or ** for everything below"),
        ("GET /api/**/x", Kind.READ, "** can only be the last segment"),
        ("GET /api/job-{id}", Kind.READ, "'job-{id}': a parameter is a whole segment such as {job-id}, "),
        ("GET /api/{Id}", Kind.READ, "'{Id}': a parameter is a whole segment such as {job-id}, "),
        ("GET /api/{a}/{a}", Kind.READ, "parameter {a} is named twice"),
        # pathological
        ("", Kind.READ, "'' is not a route such as "),
        ("GET /a\nGET /b", Kind.READ, "'GET /a\\nGET /b' is not a route such as "),
        ("GET /" + "a" * 600, Kind.READ, "'GET /aaa"),
        ("| /a", Kind.READ, "unknown method ''"),
        ("GET //a", Kind.READ, "an empty segment (//) is ambiguous: such requests always bypass"),
        ("GET /a/../b", Kind.READ, "'..' is ambiguous: such requests always bypass"),
        ("GET /a/%2e%2e", Kind.READ, "'%2E%2E' is ambiguous: such requests always bypass"),
        ("GET /a/x%2Fy", Kind.READ, "'x%2Fy' is ambiguous: such requests always bypass"),
        ("GET /a;x=1", Kind.READ, "'a;x=1' holds characters that must be percent-encoded in a path"),
        ("GET /café", Kind.READ, "'café' holds characters that must be percent-encoded in a path"),
        ("GET /a/{" + "x" * 40 + "}", Kind.READ, "'{xxxx"),
        ("GET /a/{}", Kind.READ, "'{}': a parameter is a whole segment"),
        ("GET /a/{h-id}/b", Kind.READ, "{h-id}: the prefix h- is kept for hashes"),
    ],
)
def test_what_is_no_route_line_says_why(text, kind, message):
    found = parse(text, kind)
    assert isinstance(found, str)
    assert found.startswith(message)


def test_the_prefix_of_a_hash_is_free_for_the_last_segment():
    assert isinstance(parse("GET /a/{h}", Kind.READ), Pattern)


@pytest.mark.parametrize(
    ("parameter", "prefix"), [("job-id", "job"), ("job_id", "job"), ("job", "job"), ("id", "id"), ("paid", "paid")]
)
def test_a_prefix_is_the_parameter_without_id(parameter, prefix):
    assert prefix_of(parameter) == prefix


@pytest.mark.parametrize(
    ("text", "left_out", "shape"),
    [
        ("GET /api/jobs", (), IdentifierShape()),
        ("GET /api/jobs/{job-id}", (), IdentifierShape((Part("job-id"),))),
        ("GET /api/jobs/{job-id}/", (), IdentifierShape((Part("job-id", "job"),))),
        ("GET /api/jobs/{job-id}/applications", (), IdentifierShape((Part("job-id", "job"),))),
        ("GET /a/{x-id}/b/{y-id}", (), IdentifierShape((Part("x-id", "x"), Part("y-id")))),
        ("GET /orgs/{org-id}/jobs/{job-id}", ("org-id",), IdentifierShape((Part("job-id"),))),
        ("GET /orgs/{org-id}", ("org-id",), IdentifierShape()),
        ("GET /a/{x}/**", (), IdentifierShape(rest=True)),
    ],
)
def test_an_identifier_is_made_of_the_parameters_in_order(text, left_out, shape):
    assert shape_of(pattern(text), left_out) == shape


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a", "/b", True),
        ("/a/{x}", "/b/{y}", True),
        ("/a/{x}/c", "/b/{x}/d", True),
        ("/a/{x}/c", "/b/{x-id}/d", True),
        # `app-7` after `job-` is `7` after `job-app-`
        ("/a/{job}/c", "/b/{job-app}/d", True),
        ("/b/{job-app}/d", "/a/{job}/c", True),
        ("/a/{x}/b/{y}", "/c/{x}/d/{z}", True),
        ("/a", "/a/{x}", False),
        ("/a/{x}", "/a/{x}/b", False),
        ("/a/{x}/c", "/a/{y}/c", False),
        ("/a/{x}/b/{y}", "/a/{x}", False),
        ("/a/{x}/b/{y}", "/a/{x}/b/{y}/c", False),
        ("/a/{job}/c", "/b/{jobs}/d", False),
        ("/a/**", "/b/**", False),
        ("/a/**", "/b/{x}", False),
    ],
)
def test_identifiers_meet_only_where_like_parts_meet(one, other, expected):
    shapes = [shape_of(pattern(f"GET {text}"), ()) for text in (one, other)]
    assert can_be_equal(*shapes) is expected
