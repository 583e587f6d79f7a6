"""Wrong shapes: each one problem at its place, and the rest of the document stays usable."""

import pytest

from proxy.rules.source import load
from proxy.rules.validate import Validated, merge, validate


def checked(text: str) -> Validated:
    root, problems = load(text, "rules.yaml")
    assert root is not None
    assert problems == []
    return validate(root, "rules.yaml")


def messages(text: str) -> list[str]:
    return [f"{each.line}:{each.column} {each.path}: {each.message}" for each in checked(text).problems]


GOOD = "version: 1\nfeatures: {}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # realistic
        ("version: 1\nfeatures: {a: {tll: 1m}}", ["2:16 features.a.tll: unknown key (did you mean 'ttl'?)"]),
        (
            GOOD + "defaults: {ttl: 15}",
            ["3:12 defaults.ttl: '15' is not a duration such as 30s, 15m, 1h, nor 'origin'"],
        ),
        (GOOD + "defaults: {grace: 2 m}", ["3:12 defaults.grace: '2 m' is not a duration such as 30s, 15m, 1h"]),
        (
            GOOD + "defaults: {compress: 64KB}",
            ["3:12 defaults.compress: '64KB' is not a size such as 512B, 64KiB, 1MiB"],
        ),
        (
            GOOD + "defaults: {scope: tennant}",
            ["3:12 defaults.scope: 'tennant' is not one of public, tenant, role, user (did you mean 'tenant'?)"],
        ),
        (GOOD + "defaults: {sensitive: yes}", ["3:12 defaults.sensitive: 'yes' is not true or false"]),
        (GOOD + "defaults: {ttl: }", ["3:12 defaults.ttl: has no value"]),
        (GOOD + "defaults: {dry-run: true}", ["3:12 defaults.dry-run: not available in this version"]),
        (
            GOOD + "defaults: {encrypt: everything}",
            ["3:12 defaults.encrypt: 'everything' is not one of sensitive, all"],
        ),
        (GOOD + "defaults: {codec: brotli}", ["3:12 defaults.codec: 'brotli' is not one of zstd, gzip"]),
        (GOOD + "identity: {cookie: {name: x}}", ["3:12 identity.cookie: missing key 'resolve'"]),
        (
            GOOD + "identity: {cookie: {name: 'a b', resolve: GET /me}}",
            ["3:21 identity.cookie.name: 'a b' is not a cookie's name such as __session"],
        ),
        (GOOD + "compress-passthrough: true", ["3:1 compress-passthrough: not available in this version"]),
        (GOOD + "environments: {prod: {}}", ["3:16 environments.prod: unknown key (did you mean 'production'?)"]),
        (
            GOOD + "environments: {staging: {defaults: {ttl: x}}}",
            ["3:37 environments.staging.defaults.ttl: 'x' is not "],
        ),
        ("features: {}", ["1:1 : missing key 'version'"]),
        ("version: 2\nfeatures: {}", ["1:1 version: '2' must be 1"]),
        ("version: 1", ["1:1 : missing key 'features'"]),
        ("version: 1\nfeatures: {a: {read: GET /a}}", ["2:16 features.a.read: 'GET /a' is not a list"]),
        ("version: 1\nfeatures: {a: {read: [{rout: GET /a}]}}", ["2:24 features.a.read[0].rout: unknown key (did you"]),
        ("version: 1\nfeatures: {a: {read: [{ttl: 1m}]}}", ["2:23 features.a.read[0]: missing key 'route'"]),
        (
            "version: 1\nfeatures: {a: {write: [{route: POST /a, ttl: 1m}]}}",
            ["2:41 features.a.write[0].ttl: belongs to a read: it has no effect on a write"],
        ),
        (
            "version: 1\nfeatures: {a: {read: [{route: GET /a, also-purge: b}]}}",
            ["2:39 features.a.read[0].also-purge: belongs to a write: a read purges nothing"],
        ),
        (
            "version: 1\nfeatures: {Jobs: {}}",
            ["2:12 features.Jobs: 'Jobs' is not a kebab-case name such as company-profiles"],
        ),
        (
            "version: 1\nfeatures: {metrics: {}}",
            ["2:12 features.metrics: 'metrics' is reserved: sidecache keeps its own data under this name"],
        ),
        (f"version: 1\nfeatures: {{{'a' * 33}: {{}}}}", [f"2:12 features.{'a' * 33}: '{'a' * 33}' is longer than 32"]),
        (
            GOOD + "defaults: {negative: {200: 1m}}",
            ["3:23 defaults.negative.200: '200' is not a status from 400 to 599"],
        ),
        (
            GOOD + "defaults: {negative: {403: 1m}}",
            ["3:23 defaults.negative.403: '403' says something about the caller"],
        ),
        (GOOD + "defaults: {ttl: 400d}", ["3:12 defaults.ttl: '400d' is not a duration"]),
        (GOOD + "defaults: {grace: 400d}", ["3:12 defaults.grace: '400d' is longer than 365d"]),
        (
            GOOD + "tests: [{request: GET /, expect: {because: tenant-conflct}}]",
            ["3:35 tests[0].expect.because: 'tenant-co"],
        ),
        (
            GOOD + "tests: [{request: GET /, expect: {kye: x}}]",
            ["3:35 tests[0].expect.kye: unknown key (did you mean 'key'?)"],
        ),
        (
            GOOD + "tests: [{request: GET /, as: {org: x}, expect: {key: x}}]",
            ["3:31 tests[0].as.org: unknown key (did you"],
        ),
        (
            GOOD + "tests: [{request: GET /, expect: {key: x}, response: {status: 99}}]",
            ["3:55 tests[0].response.status: '99': input"],
        ),
        # pathological
        ("just a text", ["1:1 : the file must be a mapping with `version: 1`"]),
        ("[a, b]", ["1:1 : the file must be a mapping with `version: 1`"]),
        ("version: 1\nfeatures: 7", ["2:1 features: '7' is not a mapping"]),
        ("version: 1\nfeatures:", ["2:1 features: has no value"]),
        ("version: 1\nfeatures: {a: {read: [GET /a,  ]}}", []),
        ("version: 1\nfeatures:\n  a:\n    read:\n      -\n", ["5:8 features.a.read[0]: has no value"]),
        (GOOD + "defaults: {ttl: [1m]}", ["3:12 defaults.ttl: a list is not a duration"]),
        (GOOD + "defaults: {ttl: {a: 1}}", ["3:12 defaults.ttl: a mapping is not a duration"]),
        (GOOD + "defaults: {ttl: 15:00}", ["3:12 defaults.ttl: '15:00' is not a duration"]),
        (GOOD + "defaults: {ttl: 010}", ["3:12 defaults.ttl: '010' is not a duration"]),
        (GOOD + "defaults: {ttl: 010s}", ["3:12 defaults.ttl: '010s' is not a duration"]),
        (GOOD + "defaults: {ttl: -5s}", ["3:12 defaults.ttl: '-5s' is not a duration"]),
        (GOOD + "defaults: {ttl: .nan}", ["3:12 defaults.ttl: '.nan' is not a duration"]),
        (GOOD + "defaults: {ttl: 1e309}", ["3:12 defaults.ttl: '1e309' is not a duration"]),
        (GOOD + "defaults: {ttl: '1s\n\n'}", ["3:12 defaults.ttl: '1s\\n' is not a duration"]),
        (GOOD + "defaults: {ttl: ١s}", ["3:12 defaults.ttl: '١s' is not a duration"]),
        (
            GOOD + 'defaults: {client-cache: "a\\r\\nb: c"}',
            ["3:12 defaults.client-cache: 'a\\r\\nb: c' is not a header"],
        ),
        (GOOD + "defaults: {ignore-query: ['*a']}", ["3:27 defaults.ignore-query[0]: '*a' is not a query parameter's"]),
        (GOOD + "defaults: {query: ['q*']}", ["3:20 defaults.query[0]: 'q*' is not a query parameter's name"]),
        (GOOD + "identity: {tenant: [org_id]}", ["3:21 identity.tenant[0]: 'org_id' is not jwt.<claim>, header."]),
        (GOOD + "identity: {tenant: {a: 1}}", ["3:12 identity.tenant: a mapping is not a list"]),
        (GOOD + "<<: {a: 1}", ["3:1 <<: unknown key"]),
    ],
)
def test_each_mistake_is_one_problem_at_its_place(text, expected):
    found = messages(text)
    assert len(found) == len(expected), found
    assert all(map(str.startswith, found, expected)), found


def test_all_mistakes_are_found_at_once():
    text = "version: 1\ndefaults: {ttl: x, scope: y}\nother: 1\n"
    text += "features: {A: {}, b: {ttl: z, red: [], write: [{route: 1}]}}\n"
    assert len(messages(text)) == 7


def test_what_is_left_is_a_document_without_the_mistakes():
    sound = checked("version: 1\nfeatures: {a: {ttl: x, read: [{rout: 1}, GET /a]}, b: {ttl: 1m}}")
    assert list(sound.document.features) == ["a", "b"]
    assert [read.route for read in sound.document.features["a"].read] == ["GET /a"]
    assert sound.root.at("features", "a", "read", 0).path == "features.a.read[1]"
    assert sound.damaged("features.a")
    assert sound.damaged("features.a.read")
    assert not sound.damaged("features.b")


def test_json_of_a_test_may_hold_null():
    sound = checked(GOOD + "tests: [{request: GET /, json: {a: null}, response: {json: null}, expect: {key: x}}]")
    assert sound.problems == []
    assert sound.document.tests[0].json_ == {"a": None}


def test_an_environment_is_merged_key_by_key_and_keeps_its_places():
    base, _ = load("a: {b: 1, c: {d: 2}}\ne: [1, 2]\n", "f")
    over, _ = load("\n\na: {c: {d: 3, f: 4}}\ne: [5]\n", "f")
    assert base is not None
    assert over is not None
    merged = merge(base, over)
    assert merged.plain() == {"a": {"b": 1, "c": {"d": 3, "f": 4}}, "e": [5]}
    assert merged.at("a", "b").line == 1
    assert merged.at("a", "c", "d").line == 3
