"""Counters and events: every reference names something that exists."""

import pytest

from proxy.policy.route import CountRule
from proxy.rules.effects import ReportRule
from tests.rules.texts import accepted, features, refused, warned


def counted(count: str) -> str:
    return features(f"a: {{read: [{{route: 'GET /jobs/{{job-id}}', count: {count}}}], write: []}}")


def published(publish: str) -> str:
    return features(f"a: {{write: [{{route: 'POST /jobs/{{job-id}}', publish: {publish}}}]}}")


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
        (
            counted("{name: views, by: request.q}"),
            "count.by: 'request.q' is not a reference that begins with path., query., jwt.",
        ),
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
    ("count", "rule"),
    [
        ("{name: views}", CountRule("views")),
        ("{name: views, by: job-id}", CountRule("views", "path.job-id")),
        ("{name: views, by: path.job-id, unique: user}", CountRule("views", "path.job-id", "user")),
        ("{name: views, by: query.q, unique: jwt.https_ns}", CountRule("views", "query.q", "jwt.https_ns")),
    ],
)
def test_what_is_counted_is_part_of_the_route(count, rule):
    rules = accepted(counted(count))
    assert [route.count for route in rules.routes] == [rule]
    assert warned(counted(count)) == []


def two(one: str, other: str) -> str:
    return features(
        f"""
        a: {{read: [{{route: 'GET /jobs/{{job-id}}', count: {one}}}], write: []}}
        b: {{write: [{{route: 'POST /jobs/{{job-id}}', count: {other}}}]}}
        """
    )


def test_routes_may_share_a_report_that_they_count_alike():
    rules = accepted(two("{name: views, by: job-id, unique: user}", "{name: views, by: path.job-id, unique: user}"))
    routes = ("GET /jobs/{job-id}", "POST /jobs/{job-id}")
    assert rules.reports == {"views": ReportRule("views", "job-id", True, routes)}
    assert accepted(features("a: {read: [GET /a], write: []}")).reports == {}


@pytest.mark.parametrize("other", ["{name: views}", "{name: views, by: job-id}", "{name: views, unique: user}"])
def test_one_name_is_one_report(other):
    (found,) = refused(two("{name: views, by: job-id, unique: user}", other))
    assert found.startswith("5:")
    assert "features.b.write[0].count.name: 'views' is counted otherwise in line 4: by and unique must be the" in found


@pytest.mark.parametrize("parameter", ["by", "from", "to", "bucket", "limit"])
def test_what_is_counted_by_is_not_called_like_what_a_report_is_asked_for(parameter):
    text = features(
        f"a: {{read: [{{route: 'GET /j/{{{parameter}}}', count: {{name: v, by: {parameter}}}}}], write: []}}"
    )
    (found,) = refused(text)
    assert f"count.by: '{parameter}' is what every report may be asked for: rename the parameter" in found


def test_who_may_read_reports_is_said_once():
    text = features("a: {read: [GET /a], write: []}") + "reports: {require: [read:analytics]}\n"
    assert accepted(text).reports_require == {"read:analytics"}
    (found,) = refused(features("a: {read: [GET /a], write: []}") + "reports: {requires: [x]}\n")
    assert "reports.requires: unknown key (did you mean 'require'?)" in found


def test_a_rule_set_knows_what_its_routes_count_and_publish():
    rules = accepted(published("{event: a.b, to: tenant}"))
    effects = rules.effects["features.a.write[0]"]
    assert effects.count is None
    assert effects.publish is not None
    assert effects.publish.event == "a.b"
