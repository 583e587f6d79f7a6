"""The `session` block: what ends a session, what changes rights, and whose."""

import pytest

from proxy.policy.message import Fields, Request
from proxy.policy.session import Change, Ending, SessionRules
from tests.rules.texts import accepted, refused, warned


def rules(session: str, features: str = "{}") -> SessionRules:
    return accepted(f"version: 1\nfeatures: {features}\nsession: {{{session}}}\n").session


def event(session: str, line: str, **headers: str):
    method, _, target = line.partition(" ")
    return rules(session).event(Request(method, target, Fields(headers.items())))


LOGOUT = "logout: [GET /auth/logout, POST /api/logout]"
ROLES = "role-change: [{route: 'PUT|DELETE /api/members/{user-id}/roles', user: path.user-id}]"


@pytest.mark.parametrize(
    ("session", "line", "expected"),
    [
        (LOGOUT, "GET /auth/logout?federated", Ending()),
        (LOGOUT, "HEAD /auth/logout", Ending()),
        (LOGOUT, "POST /api/logout", Ending()),
        (LOGOUT, "POST /api/logout/", Ending()),  # many servers take it for the same
        (LOGOUT, "POST /api//logout", Ending()),
        (LOGOUT, "POST /api/%6Cogout", Ending()),
        (LOGOUT, "POST /x/../api/logout", Ending()),
        (LOGOUT, "GET /api/logout", None),
        (LOGOUT, "POST /api/logouts", None),
        ("", "POST /api/logout", None),
        (ROLES, "PUT /api/members/u7/roles", Change("u7")),
        (ROLES, "DELETE /api/members/auth0%7Cada/roles", Change("auth0|ada")),
        (ROLES, "PUT /api/members/auth0%7cJos%C3%A9/roles", Change("auth0|José")),
        (ROLES, "PUT /api/members/%FF/roles", Change(None)),  # no text: whose it is cannot be told
        (ROLES, "PUT /api/members/u7/roles/", Change(None)),  # nor what a lenient server reads in it
        (ROLES, "GET /api/members/u7/roles", None),
        ("role-change: [PUT /api/roles]", "PUT /api/roles", Change(None)),
        ("role-change: [{route: PUT /r, user: response.member.id}]", "PUT /r", Change(None, "member.id")),
        ("role-change: [{route: PUT /r, then: reject}]", "PUT /r", Change(None, None, True)),
    ],
)
def test_what_a_request_does_to_sessions(session, line, expected):
    assert event(session, line) == expected


def test_an_overridden_method_counts_as_well():
    assert event(LOGOUT, "GET /api/logout", **{"x-http-method-override": "POST"}) == Ending()


def test_the_features_that_depend_on_rights_or_on_who_asks_are_known():
    features = (
        "{a: {ttl: 1m, read: [GET /a], write: []}, b: {ttl: 1m, scope: role, read: [GET /b], write: []}, "
        "c: {ttl: 1m, scope: user, read: [GET /c], write: []}}"
    )
    assert rules(LOGOUT, features).personal == ("b", "c")


def test_tokens_live_for_a_day_unless_it_is_said():
    assert rules(LOGOUT).token_lifetime == 86400
    assert rules("token-lifetime: 30m").token_lifetime == 1800


def test_nothing_of_it_waits_for_a_later_version():
    assert warned(f"version: 1\nfeatures: {{}}\nsession: {{{LOGOUT}, {ROLES}}}\n") == []


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ("logout: [GET auth]", "session.logout[0]: 'auth': a path begins with /"),
        ("logout: GET auth", "session.logout: 'auth': a path begins with /"),
        ("role-change: [PUT x]", "session.role-change[0]: 'x': a path begins with /"),
        ("role-change: [{route: PUT x}]", "session.role-change[0].route: 'x': a path begins with /"),
        ("role-change: [{route: PUT /x, user: path.u}]", "session.role-change[0].user: 'u' is not a path parameter of"),
        ("role-change: [{route: PUT /x, user: jwt.u}]", "session.role-change[0].user: 'jwt.u' is not a reference that"),
        ("logout: [GET /out, 'GET|POST /out']", "session.logout[1]: GET /out is named in line 3 as well"),
        ("logout: [PUT /r], role-change: [PUT /r]", "session.role-change[0]: PUT /r is named in line 3 as well"),
        (
            "role-change: [{route: PUT /x, then: forget}]",
            "session.role-change[0].then: 'forget' is not one of rehydrate",
        ),
        ("headers: {X-User-Id: email}", "session.headers.X-User-Id: 'email' is not one of user, tenant"),
        ("headers: {Host: user}", "session.headers.Host: Host cannot be set"),
        ("headers: {X_User: user}", "session.headers.X_User: X_User cannot be set"),
        ("headers: {X-A: user, x-a: tenant}", "session.headers.x-a: x-a is set twice"),
        ("assertion: Authorization", "session.assertion: Authorization cannot be set"),
        ("assertion: X-Roles", "session.assertion: X-Roles is set twice"),
        (
            "enrich: {from: GET /o, headers: {X-Roles: r}}, headers: {X-Roles: roles}",
            "session.enrich.headers.X-Roles: X",
        ),
        ("enrich: {from: GET /o, every: 0s, headers: {X-O: r}}", "session.enrich.every: is at least 1s"),
        ("enrich: {from: GET /o/**, headers: {X-O: r}}", "session.enrich.from: must be one GET without parameters"),
        ("token-lifetime: 1s", "session.token-lifetime: a token lives from 1m to 365d"),
        ("token-lifetime: 24", "session.token-lifetime: '24' is not a duration"),
        ("enrich: {from: GET org, headers: {}}", "session.enrich.from: 'org': a path begins with /"),
        ("enrich: {from: POST /org, headers: {}}", "session.enrich.from: must be one GET without parameters"),
        ("enrich: {from: 'GET /o/{x}', headers: {}}", "session.enrich.from: must be one GET without parameters"),
        ("enrich: {from: GET /org}", "session.enrich: missing key 'headers'"),
        ("enrich: {from: GET /org, headers: {'a b': x}}", "session.enrich.headers.'a b': 'a b' is not a header name"),
    ],
)
def test_a_session_names_routes_and_parameters_that_exist(session, expected):
    (found,) = refused(f"version: 1\nfeatures: {{}}\nsession: {{{session}}}\n")
    assert found.partition(": ")[2].startswith(expected)


def test_a_header_that_names_a_caller_cannot_be_set():
    (found,) = refused(
        "version: 1\nidentity: {tenant: header.x-tenant-id}\nfeatures: {}\nsession: {logout: GET /out}\n"
    )
    assert "X-Tenant-Id is where identity finds a caller" in found


def test_the_upstream_is_told_by_the_usual_names_unless_it_is_said():
    assert [name for name, _ in rules(LOGOUT).headers] == [
        "X-User-Id", "X-Tenant-Id", "X-Session-Id", "X-Roles", "X-Session-State",
    ]  # fmt: skip
    assert rules(f"{LOGOUT}, headers: {{}}").headers == ()
    assert accepted("version: 1\nfeatures: {}\n").session.headers == ()
