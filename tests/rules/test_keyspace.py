"""No two routes match the same request or make the same key: proved, or refused at the later line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.key import identifier
from proxy.rules.compile import RuleSet, compile_rules
from tests.builders import KEYS
from tests.rules.texts import accepted, features, refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: {read: [GET /a/{x}, 'GET /a/{y}'], write: []}",
            "features.a.read[1]: GET /a/{y} matches the same requests as GET /a/{x} (read of a, line 4)",
        ),
        (
            "a: {read: [POST /a], write: [POST|PUT /a]}",
            "features.a.write[0]: POST|PUT /a matches the same requests as POST /a (read of a, line 4)",
        ),
        (
            "a: {read: [GET /a/**]}\nb: {read: [GET /a/**]}",
            "features.b.read[0]: GET /a/** matches the same requests as GET /a/** (read of a, line 4)",
        ),
        (
            "a: {read: [GET /a/%c3%a9]}\nb: {read: [GET /a/%C3%A9]}",
            "features.b.read[0]: GET /a/%C3%A9 matches the same requests as GET /a/%C3%A9 (read of a, line 4)",
        ),
    ],
)
def test_equal_specificity_is_refused(text, expected):
    text = text.replace("[GET /a/{x}", "['GET /a/{x}'")
    assert [found.partition(": ")[2] for found in refused(features(text))] == [expected]


@pytest.mark.parametrize(
    "text",
    [
        # realistic
        "a: {read: ['GET /a/{x}', 'GET /b/{x}']}",
        "a: {read: [GET /a, GET /b]}",
        "a: {read: ['GET /a/{x}/b', 'GET /c/{x}/b']}",
        "a: {read: [GET /a]}\nb: {key-name: a, read: [GET /b]}",
        "a: {key-name: c, read: [GET /a]}\nb: {key-name: c, read: [GET /b]}",
        "a: {read: [POST /a, POST /b]}",
        # pathological
        "a: {read: ['GET /a/{job}/b', 'GET /c/{job-app}/b']}",
        "a: {read: [GET /a, 'GET /orgs/{org}']}",
    ],
)
def test_two_reads_that_can_make_one_key_are_refused(text):
    (found,) = refused(features(text, head="identity: {tenant: [jwt.org_id, path.org]}\n"))
    assert "can make the same key as" in found
    assert found.endswith("give one of them another key-name")


@pytest.mark.parametrize(
    "text",
    [
        "a: {read: [GET /a, 'GET /a/{x}', 'GET /a/{x}/b', 'GET /a/{x}/b/{y}', GET /a/all/**]}",
        "a: {read: ['GET /a/{x}']}\nb: {read: ['GET /b/{x}']}",
        "a: {read: [GET /a, {route: GET /b, key-name: b}]}",
        "a: {read: [GET /a, POST /b, QUERY /c]}",
        "a: {read: [GET /a, {route: GET /b, scope: user}]}",
        "a: {read: [GET /a/**, GET /b/**]}",
        "a: {read: [GET /a/new, {route: 'GET /a/{x}', key-name: item}]}",
    ],
)
def test_reads_whose_keys_differ_are_accepted(text):
    accepted(features(text))


def test_three_routes_with_one_key_are_two_problems():
    assert len(refused(features("a: {read: [GET /a, GET /b, GET /c]}"))) == 2


def test_a_pair_that_meets_by_two_methods_is_one_problem():
    assert len(refused(features("a: {read: [GET|POST /a, GET|POST /b]}"))) == 1


def test_a_route_that_is_refused_once_is_not_refused_again():
    assert len(refused(features("a: {read: [GET /a, GET /a]}"))) == 1


def test_nested_prefixes_are_reserved_in_every_feature_of_a_key_space():
    text = """
        a: {read: ['GET /a/{x}']}
        b: {key-name: a, read: ['GET /b/{job-id}/c']}
        c: {read: ['GET /c/{x}'], write: ['POST /c/{app-id}/d']}
    """
    reserved = {route.pattern: route.identifier.reserved for route in accepted(features(text)).routes}
    assert reserved == {
        "/a/{x}": ("job-",),
        "/b/{job-id}/c": ("job-",),
        "/c/{x}": ("app-",),
        "/c/{app-id}/d": ("app-",),
    }


SEGMENT = st.sampled_from(["a", "b", "{x}", "{job-id}", "{job}", "{job-app}", "{h2}"])
PATTERNS = st.lists(
    st.lists(SEGMENT, min_size=1, max_size=4, unique=True).map(lambda parts: "/" + "/".join(parts)),
    min_size=2,
    max_size=4,
    unique=True,
)
VALUE = st.sampled_from(["1", "list", "a", "app-1", "job-1", "job-app-1", "h-1", "x-a", "x", "a~b", "%41", "b" * 70])


@settings(max_examples=150, deadline=None)
@given(PATTERNS, st.lists(VALUE, min_size=4, max_size=4))
def test_different_paths_of_accepted_routes_never_make_one_identifier(patterns, values):
    """The proof against the real identifiers: whatever is accepted keeps every two paths apart."""
    lines = "".join(f"\n      - '{'GET ' + pattern}'" for pattern in patterns)
    rules = compile_rules(f"version: 1\nfeatures:\n  f:\n    ttl: 1m\n    write: []\n    read:{lines}\n")
    if not isinstance(rules, RuleSet):
        return
    made: dict[str, str] = {}
    for pattern in patterns:
        for turn in range(len(values)):
            supply = iter(values[turn:] + values[:turn])
            path = "/".join(next(supply) if part.startswith("{") else part for part in pattern.split("/"))
            match = rules.match("GET", path)
            assert match is not None
            name = identifier(match.route.identifier, match.route.feature, match.parameters, path, KEYS)
            assert made.setdefault(name, path) == path
