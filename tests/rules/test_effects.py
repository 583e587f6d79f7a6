"""Counters, events and sessions: every reference names something that exists."""

import pytest

from tests.rules.texts import accepted, features, refused, warned


def counted(count: str) -> str:
    return features(f"a: {{read: [{{route: 'GET /jobs/{{job-id}}', count: {count}}}], write: []}}")


def published(publish: str) -> str:
    return features(f"a: {{write: [{{route: 'POST /jobs/{{job-id}}', publish: {publish}}}]}}")


@pytest.mark.parametrize(
    "text",
    [
        counted("{name: views}"),
        counted("{name: views, by: job-id}"),
        counted("{name: views, by: path.job-id, unique: user}"),
        counted("{name: views, by: query.q, unique: jwt.https_ns}"),
        "version: 1\nfeatures: {}\nsession: {logout: GET /auth/logout}",
        "version: 1\nfeatures: {}\nsession: {logout: [GET /auth/logout, POST /api/logout]}",
        "version: 1\nfeatures: {}\nsession: {role-change: [PUT /roles, {route: 'PUT /m/{u}/roles', user: path.u}]}",
        "version: 1\nfeatures: {}\nsession: {enrich: {from: GET /org, every: 15m, headers: {X-Org: plan.name}}}",
    ],
)
def test_what_acts_in_a_later_version_is_one_warning(text):
    (warning,) = warned(text)
    assert warning.endswith("is checked and has no effect yet: count and session act in a later version")


@pytest.mark.parametrize(
    "publish",
    [
        "{event: a.b, to: tenant}",
        "{event: a.b, to: role:read:jobs, data: {x: path.job-id, y: response.id.z, z: request.a}}",
        "{event: a.b, to: user:response.owner}",
    ],
)
def test_events_are_published_by_these(publish):
    rules = accepted(published(publish))
    assert rules.warnings == ()
    assert rules.events == {"a.b"}


def test_events_of_the_backend_are_named_at_the_top():
    rules = accepted("version: 1\nfeatures: {}\nevents: [plan.changed, maintenance]\n")
    assert rules.events == {"plan.changed", "maintenance"}


@pytest.mark.parametrize("name", ["hello", "error", "message", "session.revoked", "metrics"])
def test_what_streams_say_of_themselves_is_no_name_for_an_event(name):
    (told,) = refused(published(f"{{event: {name}, to: tenant}}"))
    assert "publish.event: " in told
    assert "is reserved: streams tell something else by this name" in told
    assert "is reserved" in refused(f"version: 1\nfeatures: {{}}\nevents: [{name}]\n")[0]


def test_the_one_warning_is_at_the_first_place():
    text = counted("{name: views}") + "session: {logout: GET /out}\n"
    assert [each.partition(":")[0] for each in warned(text)] == ["features.a.read[0].count"]
    assert warned(features("a: {read: [GET /a], write: []}")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (counted("{name: views, by: job}"), "count.by: 'job' is not a path parameter of /jobs/{job-id} (did you mean"),
        (counted("{name: views, unique: usr}"), "count.unique: 'usr' is not a path parameter of /jobs/{job-id}"),
        (counted("{name: views, by: path.id}"), "count.by: 'id' is not a path parameter of /jobs/{job-id}"),
        (
            counted("{name: views, by: response.id}"),
            "count.by: 'response.id' is not a reference that begins with path.",
        ),
        (counted("{name: views, by: query.}"), "count.by: 'query.' is not a reference that begins with path."),
        (counted("{name: Views}"), "count.name: 'Views' is not a kebab-case name"),
        (counted("{by: job-id}"), "count: missing key 'name'"),
        (published("{event: A, to: tenant}"), "publish.event: 'A' is not an event name such as application.submitted"),
        (published("{event: a, to: everyone}"), "publish.to: 'everyone' is not tenant, role:<permission> or user:<"),
        (published("{event: a, to: 'user:path.x'}"), "publish.to: 'x' is not a path parameter of /jobs/{job-id}"),
        (published("{event: a, to: tenant, data: {x: path.x}}"), "publish.data.x: 'x' is not a path parameter of"),
        (published("{event: a, to: tenant, data: {x: id}}"), "publish.data.x: 'id' is not a reference such as path."),
    ],
)
def test_a_reference_that_names_nothing_is_refused(text, expected):
    (found,) = refused(text)
    assert found.partition("[0].")[2].startswith(expected)


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ("logout: [GET auth]", "session.logout[0]: 'auth': a path begins with /"),
        ("logout: GET auth", "session.logout: 'auth': a path begins with /"),
        ("role-change: [PUT x]", "session.role-change[0]: 'x': a path begins with /"),
        ("role-change: [{route: PUT x}]", "session.role-change[0].route: 'x': a path begins with /"),
        ("role-change: [{route: PUT /x, user: path.u}]", "session.role-change[0].user: 'u' is not a path parameter of"),
        ("role-change: [{route: PUT /x, user: jwt.u}]", "session.role-change[0].user: 'jwt.u' is not a reference that"),
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


def test_a_rule_set_knows_what_its_routes_count_and_publish():
    rules = accepted(published("{event: a.b, to: tenant}"))
    effects = rules.effects["features.a.write[0]"]
    assert effects.count is None
    assert effects.publish is not None
    assert effects.publish.event == "a.b"
