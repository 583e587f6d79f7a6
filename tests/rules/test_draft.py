"""Settings: route > feature > defaults > built in, and which of them contradict each other."""

import pytest

from proxy.policy.route import Assertion, Kind, Scope
from tests.rules.texts import accepted, features, refused


def route(text: str, **more):
    return accepted(features(text), **more).routes[0]


def test_built_in_settings_are_those_of_the_documentation():
    found = route("a: {read: [GET /a], write: []}")
    assert (found.kind, found.scope, found.ttl, found.grace, found.if_error) == (Kind.READ, Scope.TENANT, 60, 0, 0)
    assert (found.negative, found.compress, found.max_body, found.quota) == ({}, 1024, 1 << 20, None)
    assert (found.honour, found.client_control, found.critical, found.strict) == (True, False, False, False)
    assert (found.query, found.ignore_query, found.vary) == (None, ("utm_*", "gclid", "fbclid"), ())
    assert (found.gzip, found.encrypt) == (False, False)
    assert (found.sensitive, found.require, found.assertion, found.settle) == (False, frozenset(), None, None)
    assert (found.key_name, found.client_cache, found.ignore_headers) == ("", None, frozenset())


def test_the_narrowest_level_wins_and_require_adds_up():
    text = """
        version: 1
        defaults: {ttl: 1m, grace: 1m, if-error: 1m, require: [a], negative: {404: 1m}}
        features:
          f:
            grace: 2m
            if-error: 2m
            require: [b]
            read:
              - {route: GET /a, if-error: 3m, require: [c], negative: {410: 3m}}
            write: []
    """
    found = accepted(text).routes[0]
    assert (found.ttl, found.grace, found.if_error) == (60, 120, 180)
    assert found.require == {"a", "b", "c"}
    assert found.negative == {410: 180}


def test_every_setting_arrives_in_the_route():
    text = """
        a:
          ttl: origin
          key-name: alpha
          vary: [Accept-Language, x-plan]
          ignore-headers: [X-Correlation-Id]
          query: [q, page]
          honour: false
          client-cache: private, max-age=5
          consistency: strict
          critical: true
          quota: 64MiB
          max-body: 2MiB
          compress: 512B
          codec: gzip
          encrypt: all
          assert: response.data.org_id == tenant
          settle: 2s
          read: [GET /a]
          write: [POST /a, {route: PUT /a, settle: 5s}]
    """
    read, post, put = accepted(features(text)).routes
    assert (read.ttl, read.key_name, read.vary) == (None, "alpha", ("accept-language", "x-plan"))
    assert (read.ignore_headers, read.query) == ({"x-correlation-id"}, {"q", "page"})
    assert (read.honour, read.client_cache, read.client_control) == (False, "private, max-age=5", True)
    assert (read.strict, read.critical, read.quota) == (True, True, 64 << 20)
    assert (read.max_body, read.compress, read.gzip, read.encrypt) == (2 << 20, 512, True, True)
    assert read.assertion == Assertion(("data", "org_id"), "tenant")
    assert (post.settle, put.settle) == (2, 5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("ttl: origin", True),
        ("ttl: 1m", False),
        ("ttl: 1m, client-control: honour", True),
        ("ttl: origin, client-control: ignore", False),
    ],
)
def test_a_clients_directives_count_where_the_origin_decides_or_the_rule_says_so(settings, expected):
    assert route(f"a: {{{settings}, read: [GET /a], write: []}}").client_control is expected


def test_a_key_name_of_a_route_wins():
    found = accepted(features("a: {key-name: b, read: [{route: GET /a, key-name: c}, GET /b], write: []}"))
    assert [each.key_name for each in found.routes] == ["c", "b"]


def test_parameters_that_name_the_tenant_are_left_out_of_the_identifier():
    head = "identity: {tenant: [jwt.org_id, path.org-id]}\n"
    read = "read: ['GET /orgs/{org-id}/jobs/{job-id}'], write: []"
    found = accepted(features(f"a: {{{read}}}", head=head)).routes[0]
    assert found.tenant_parameters == ("org-id",)
    assert [part.parameter for part in found.identifier.parts] == ["job-id"]
    public = accepted(features(f"a: {{scope: public, {read}}}", head=head)).routes[0]
    assert public.tenant_parameters == ()
    assert [part.parameter for part in public.identifier.parts] == ["org-id", "job-id"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {ttl: 1m}", "features.a: has neither read nor write routes"),
        ("a: {read: [GET /a], vary: ['*']}", "features.a.vary: '*' names no header: a response that varies by "),
        ("a: {read: [GET /a], vary: [Cookie]}", "features.a.vary: cookie is the caller's own: it needs scope: user"),
        ("a: {read: [GET /a], scope: public, sensitive: true}", "features.a.sensitive: sensitive data cannot have "),
        (
            "a: {read: [GET /a], scope: public, assert: response.o == tenant}",
            "features.a.assert: a public response has",
        ),
        ("a: {read: [GET /a], assert: response.sub == user}", "features.a.assert: comparing with the user needs scope"),
        (
            "a: {read: [{route: GET /a, scope: public}]}",
            "features.a.read[0].scope: a feature is public as a whole, or ",
        ),
        (
            "a: {scope: public, read: [{route: GET /a, scope: role}]}",
            "features.a.read[0].scope: a feature is public as",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(text, expected):
    (found,) = refused(features(text))
    assert found.partition(": ")[2].startswith(expected)


def test_a_read_needs_a_ttl_somewhere():
    assert refused("version: 1\nfeatures:\n  a: {read: [GET /a]}\n") == [
        "3:3: features.a: no ttl: say how long responses are fresh, such as ttl: 15m, or ttl: origin"
    ]
    assert accepted("version: 1\nfeatures:\n  a: {write: [POST /a]}\n").routes[0].kind is Kind.WRITE
    assert accepted("version: 1\nfeatures:\n  a: {read: [{route: GET /a, ttl: 1m}], write: []}\n").routes[0].ttl == 60


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nfeatures:\n  a: {tll: 1m, read: [GET /a]}\n",
        "version: 1\ndefaults: {ttl: x}\nfeatures:\n  a: {read: [GET /a]}\n",
        "version: 1\ndefaults: 5\nfeatures:\n  a: {read: [GET /a]}\n",
        "version: 1\nfeatures:\n  a: {red: [GET /a]}\n",
    ],
)
def test_a_mistake_is_not_told_again_as_something_missing(text):
    assert len(refused(text)) == 1
