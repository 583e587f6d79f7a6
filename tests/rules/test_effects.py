"""Counters and events: every reference names something that exists."""

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
        published("{event: a.b, to: tenant}"),
        published("{event: a.b, to: role:read:jobs, data: {x: path.job-id, y: response.id.z, z: request.a}}"),
        published("{event: a.b, to: user:response.owner}"),
    ],
)
def test_what_acts_in_a_later_version_is_one_warning(text):
    (warning,) = warned(text)
    assert warning.endswith("is checked and has no effect yet: count and publish act in a later version")


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


def test_a_rule_set_knows_what_its_routes_count_and_publish():
    rules = accepted(published("{event: a.b, to: tenant}"))
    effects = rules.effects["features.a.write[0]"]
    assert effects.count is None
    assert effects.publish is not None
    assert effects.publish.event == "a.b"
