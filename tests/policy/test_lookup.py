"""Which requests never reach the cache, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.lookup import (
    as_forwarded,
    bypass_reason,
    is_ambiguous_path,
    is_deceptive,
    is_keyed_by_body,
    is_permitted,
    is_served,
    is_write,
    methods_meant,
    plain_path,
    routes_meant,
    sensitive_route,
)
from proxy.policy.outcome import Reason
from proxy.policy.route import IdentifierShape, Scope
from tests.builders import identity, match, request, route, write_route

CLEAN = [
    # realistic
    "/",
    "/api/jobs",
    "/api/jobs/",
    "/api/jobs/77",
    "/.well-known/jwks.json",
    "/api/v1.2/jobs...",
    "/api/~user/a-b_c",
    "/api/jobs/a:b@c,d=e+f!g*(h)'i'$&",
    "/api/jobs/a%20b",
    "/api/jobs/a%7Cb",
    "/api/jobs/auth0%7C1",
    "/api/jobs/a%3Ab",
    "/api/caf%C3%A9",
    "/api/caf%c3%a9/%F0%9F%98%80",
    # odd, but every server reads them alike
    '/api/jobs/a|b"c<d>e[f]g^h`i{j}',
    "/api/...",
    "/api/.hidden/..x/x..",
]

AMBIGUOUS = [
    "",
    "*",
    "api/jobs",
    "//api/jobs",
    "/api//me",
    "/api/jobs//",
    "/api/me;x.css",
    "/api\\me",
    "/api/./me",
    "/api/../me",
    "/api/jobs/..",
    "/api/jobs/.",
    "/api/jobs/../",
    "/x#frag",
    "/api/m\xe9",
    "/api/\x00",
    "/api/me\x0a",
    "/api/me\x7f",
    "/api/a b",
    "/api/%6de",
    "/api/%4De",
    "/api/%2e%2e/me",
    "/static/..%2fapi/me",
    "/api/me%2Fx",
    "/api/me%5cx",
    "/api/me%3bx.css",
    "/api/me%23.css",
    "/api/me%3fx.css",
    "/api/me%25",
    "/api/me%252e",
    "/api/me%00.css",
    "/api/me%0ax.css",
    "/api/me%7f",
    "/api/me%C2%80",
    "/api/me%",
    "/api/me%2",
    "/api/me%zz",
    "/api/me%u0041",
    "/api/%c0%af",
    "/api/%e9",
    "/api/%ED%A0%80",
    "/api/%C3/%A9",
    "/api/a%20b//c",
    "/api/a%20b/../c",
    "/api/%7e%2d%5f",
]


@pytest.mark.parametrize("path", CLEAN)
def test_a_path_that_all_read_alike_is_clean(path):
    assert not is_ambiguous_path(path)
    assert bypass_reason(request(path)) is None


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_a_path_that_some_read_otherwise_is_ambiguous(path):
    assert is_ambiguous_path(path)
    assert bypass_reason(request(path)) is Reason.AMBIGUOUS_PATH


def test_the_query_is_not_part_of_the_path():
    assert bypass_reason(request("/api/jobs?next=//x;..%2f")) is None


@given(st.text(alphabet="/.%2eEfF5cCaA;\\#é0", max_size=12))
def test_no_clean_path_changes_when_a_server_decodes_or_normalises_it(text):
    path = "/" + text
    if not is_ambiguous_path(path):
        assert not {"..", "."} & set(path.split("/"))
        assert not any(hidden in path.lower() for hidden in ("%2e", "%2f", "%5c", "%25", "//", ";", "\\", "#"))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        # realistic
        ({"Accept": "*/*", "Authorization": "Bearer x", "If-None-Match": '"a"'}, None),
        ({"If-Match": '"a"'}, Reason.PRECONDITION),
        ({"If-Unmodified-Since": "x"}, Reason.PRECONDITION),
        ({"Connection": "Upgrade", "Upgrade": "websocket"}, Reason.UPGRADE),
        # pathological
        ({"range": "bytes=cow"}, None),
        ({"X-Original-URL": "/admin"}, Reason.OVERRIDE_HEADER),
        ({"X-Rewrite-URL": "/admin"}, Reason.OVERRIDE_HEADER),
        ({"X-HTTP-Method-Override": "DELETE"}, Reason.OVERRIDE_HEADER),
        ({"X-HTTP-Method": "DELETE"}, Reason.OVERRIDE_HEADER),
        ({"X-Method-Override": ""}, Reason.OVERRIDE_HEADER),
        ({"Range": "bytes=0-1", "X-Original-URL": "/a"}, Reason.OVERRIDE_HEADER),
    ],
)
def test_some_headers_keep_a_request_from_the_cache(headers, reason):
    assert bypass_reason(request(headers=headers)) is reason


@pytest.mark.parametrize(
    ("method", "reason"),
    [("GET", Reason.REQUEST_BODY), ("HEAD", Reason.REQUEST_BODY), ("POST", None), ("QUERY", None)],
)
def test_a_body_bypasses_unless_the_key_includes_it(method, reason):
    assert bypass_reason(request(method=method, has_body=True)) is reason
    assert is_keyed_by_body(request(method=method)) is (reason is None)


@pytest.mark.parametrize(
    ("method", "headers", "found", "write"),
    [
        # realistic
        ("GET", {}, None, False),
        ("GET", {}, match(), False),
        ("POST", {}, None, True),
        ("FOO", {}, None, True),
        ("POST", {}, match(write_route()), True),
        ("POST", {}, match(route(methods=("POST",))), False),
        ("OPTIONS", {}, None, False),
        # pathological
        ("GET", {"X-HTTP-Method-Override": "DELETE"}, match(), True),
        ("POST", {"X-Method-Override": "PUT"}, match(route(methods=("POST",))), True),
        ("GET", {"X-Original-URL": "/x"}, match(), False),
        ("POST", {"X-Original-URL": "/x"}, match(route(methods=("POST",))), True),
        ("QUERY", {"X-Original-URL": "/x"}, match(route(methods=("QUERY",))), False),
        ("GET", {}, match(write_route(methods=("GET",))), True),  # `GET /auth/logout` declared as a write
    ],
)
def test_a_write_is_what_the_upstream_may_take_for_one(method, headers, found, write):
    assert is_write(request(method=method, headers=headers), found) is write


@pytest.mark.parametrize(
    ("hosts", "host", "served"),
    [
        (frozenset(), "anything", True),
        (frozenset({"portal.example"}), "Portal.Example", True),
        (frozenset({"portal.example"}), "portal.example:8080", False),
        (frozenset({"portal.example"}), "evil.example", False),
        (frozenset({"portal.example"}), None, False),
    ],
)
def test_only_named_hosts_are_served_when_any_is_named(hosts, host, served):
    assert is_served(request(headers={} if host is None else {"Host": host}), hosts) is served


@pytest.mark.parametrize(
    ("require", "caller", "permitted"),
    [
        (frozenset(), None, True),
        (frozenset({"read:jobs"}), identity(roles=frozenset({"read:jobs", "x"})), True),
        (frozenset({"read:jobs", "y"}), identity(roles=frozenset({"read:jobs"})), False),
        (frozenset({"read:jobs"}), identity(roles=None), False),
        (frozenset({"read:jobs"}), None, False),
    ],
)
@pytest.mark.isolation
def test_a_hit_needs_every_required_permission(require, caller, permitted):
    assert is_permitted(route(require=require), caller) is permitted


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        # realistic
        ("/api/jobs", "/api/jobs"),
        ("/api/jobs/", "/api/jobs"),
        ("/", "/"),
        # pathological
        ("//api///jobs//", "/api/jobs"),
        ("/x/../api/./jobs", "/api/jobs"),
        ("/../../api/jobs", "/api/jobs"),
        ("/%61pi/jobs;v=1/7;w", "/api/jobs/7"),
        ("/api%2fjobs%2F7", "/api/jobs/7"),
        ("/api\\jobs%5c7", "/api/jobs/7"),
        ("/api/jobs%00.css", "/api/jobs"),
        ("/api/jobs%3fa/b", "/api/jobs"),
        ("/api/jobs%23a/b", "/api/jobs"),
    ],
)
def test_the_most_lenient_reading_of_a_path(path, plain):
    assert plain_path(path) == plain


def test_the_methods_a_request_may_mean():
    assert methods_meant(request(method="POST")) == ("POST",)
    assert methods_meant(request(method="POST", headers={"X_HTTP-Method_Override": " put "})) == ("POST", "PUT")


def test_what_connection_takes_out_is_gone_before_anything_is_decided():
    plain = request(headers={"X-Theme": "dark"})
    assert as_forwarded(plain) is plain
    assert "x-theme" not in as_forwarded(request(headers={"X-Theme": "dark", "Connection": "x-theme"})).fields


ME = match(route("me", scope=Scope.USER, pattern="/api/me"))
ROLES = match(route("roles", scope=Scope.ROLE, pattern="/api/roles"))
FOUND = {"/api/me": ME, "/api/roles": ROLES, "/api": match(route("root", scope=Scope.USER, pattern="/api"))}
REST = route(pattern="/api/**", identifier=IdentifierShape(rest=True))
ITEM = route(pattern="/api/{item}")


@pytest.mark.parametrize(
    ("path", "of", "deceptive"),
    [
        # realistic
        ("/api/me/", REST, True),
        ("/api/me.json", REST, True),
        ("/api/me.json", ITEM, True),
        ("/api/ME", ITEM, True),
        ("/api/reports/2026.5/Q1", REST, False),
        ("/api/jobs", ITEM, False),
        ("/api/aB9", ITEM, False),
        # pathological
        ("/api/me/x.css", REST, True),
        ("/api/Me/a/b/c.js", REST, True),
        ("/api/me.css/x", REST, True),
        ("/api/x/me", REST, False),
        ("/api/roles/x", REST, True),
        ("/api/roles/x", route(pattern="/api/**", identifier=IdentifierShape(rest=True), scope=Scope.ROLE), False),
        ("/api/me/x", route(pattern="/api/**", identifier=IdentifierShape(rest=True), scope=Scope.USER), False),
    ],
)
def test_a_path_that_slips_from_a_narrow_route_under_a_wide_one(path, of, deceptive):
    assert is_deceptive(request(path), match(of, x="x"), lambda method, other: FOUND.get(other)) is deceptive


def test_a_route_that_names_its_path_exactly_means_it():
    assert not is_deceptive(request("/api/me.json"), match(route(pattern="/api/me.json")), lambda *_: ME)


@pytest.mark.parametrize(
    ("target", "headers", "meant"),
    [
        # realistic
        ("/api/jobs", {}, []),
        ("/api/jobs/", {}, ["jobs"]),
        # pathological
        ("/api//jobs", {}, ["jobs"]),
        ("/API/jobs", {}, ["jobs"]),
        ("/api/else", {"X-Original-URL": "/api/jobs"}, ["jobs"]),
        ("/api/%6aobs;x", {}, ["jobs"]),
    ],
)
def test_a_write_may_mean_the_routes_of_other_paths(target, headers, meant):
    known = {("GET", "/api/jobs"): match(route())}
    found = routes_meant(request(target, headers, method="POST"), lambda method, path: known.get((method, path)))
    assert [one.feature for one in found] == meant


@pytest.mark.parametrize(
    ("target", "headers", "asked_for"),
    [
        # realistic
        ("/api/me", {}, True),
        ("/api/jobs", {}, False),
        ("/api/me/", {}, True),
        # pathological
        ("/api/ME", {}, True),
        ("/api/%6de;x", {}, True),
        ("/x", {"X-Original-URL": "/api/me"}, True),
        ("/api/jobs", {"X-Rewrite-URL": "/x"}, False),
        ("/API/jobs", {}, False),
    ],
)
def test_a_sensitive_route_is_asked_for_by_any_spelling_of_its_path(target, headers, asked_for):
    known = {("GET", "/api/me"): match(route(sensitive=True)), ("GET", "/api/jobs"): match(route())}

    def find(method, path):
        return known.get((method, path))

    asked = request(target, headers)
    assert (sensitive_route(asked, find("GET", asked.path), find) is not None) is asked_for
