"""Which requests never reach the cache, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.lookup import (
    bypass_reason,
    is_ambiguous_path,
    is_keyed_by_body,
    is_permitted,
    is_served,
    is_write,
)
from proxy.policy.outcome import Reason
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
def test_a_hit_needs_every_required_permission(require, caller, permitted):
    assert is_permitted(route(require=require), caller) is permitted
