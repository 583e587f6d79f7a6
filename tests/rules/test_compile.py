"""A text becomes rules, or all of its mistakes at once."""

from pathlib import Path

import pytest

from proxy.policy.identity import IdentitySources
from proxy.rules.compile import PROFILES, Rejected, compile_rules
from tests.rules.texts import accepted, features, refused, warned

SHIPPED = Path(__file__).parents[2] / "rules.yaml"

SIX_MISTAKES = """\
version: 1
features:
  search:
    ttl: 10m
    read: [GET /api/search]
    write: []
  jobs:
    tll: 15m
    read:
      - GET /api/jobs
      - route: GET /api/jobs/{job-id}
        count: {name: job-views, by: job}
    write:
      - POST /api/jobs
      - GET /api/jobs/{job-id}/close
    also-purge: [serach]
  analytics:
    ttl: 5m
    grace: 0
    ttl: 6m
    read:
      - GET /api/analytics/**
"""


def test_six_mistakes_are_six_lines_each_at_its_place():
    assert refused(SIX_MISTAKES) == [
        "8:5: features.jobs.tll: unknown key (did you mean 'ttl'?)",
        "12:34: features.jobs.read[1].count.by: 'job' is not a path parameter of /api/jobs/{job-id} "
        "(did you mean 'job-id'?)",
        "15:9: features.jobs.write[1]: GET cannot be a write",
        "16:18: features.jobs.also-purge[0]: also-purge 'serach': unknown feature (did you mean 'search'?)",
        "19:5: features.analytics.grace: '0' is not a duration such as 30s, 15m, 1h",
        "20:5: duplicate key 'ttl' (first at line 18)",
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_shipped_rules_are_right_in_every_profile(profile):
    assert accepted(SHIPPED.read_text(), profile=profile, has_encryption_key=True).warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "a: b: c",
        "version: 1",
        "features:\n  a:\n    ttl",
        "&a [*a]",
        "[" * 9000,
        "{" * 9000,
        "x" * (10 << 20),
    ]
    + [SIX_MISTAKES[:length] for length in range(0, len(SIX_MISTAKES), 7)],
)
def test_a_hostile_or_half_written_text_is_refused_and_never_raises(text):
    rules = compile_rules(text)
    assert isinstance(rules, Rejected)
    assert rules.problems


def test_problems_are_in_the_order_of_the_text():
    rules = compile_rules(SIX_MISTAKES)
    assert isinstance(rules, Rejected)
    assert list(rules.problems) == sorted(rules.problems, key=lambda problem: (problem.line, problem.column))


JOBS = """
    jobs:
      read:
        - GET /api/jobs
        - GET /api/jobs/{job-id}
      write: [POST /api/jobs]
"""


def test_a_rule_set_finds_routes_and_reads_like_a_status_line():
    rules = accepted(features(JOBS))
    match = rules.match("GET", "/api/jobs/77")
    assert match is not None
    assert (match.route.where, match.route.line) == ("features.jobs.read[1]", 7)
    assert match.parameters == {"job-id": "77"}
    assert str(rules) == f"rules {rules.digest}, 3 routes"


def test_the_digest_follows_the_effective_document():
    text = features(JOBS)
    digest = accepted(text).digest
    assert accepted(text + "# a comment\n").digest == digest
    assert accepted(text + "tests: [{request: GET /, expect: {because: no-rule}}]\n").digest == digest
    assert accepted(text.replace("1m", "2m")).digest != digest
    elsewhere = text + "environments: {staging: {defaults: {ttl: 3m}}}\n"
    assert accepted(elsewhere).digest == digest
    assert accepted(elsewhere, profile="staging").digest != digest


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"ttl: 1m": "ttl: 2m"}, True),
        ({"ttl: 1m": "ttl: 1m, scope: role"}, True),
        ({"ttl: 1m": "ttl: 1m, honour: false"}, True),
        ({"ttl: 1m": "ttl: 1m, sensitive: true"}, True),
        ({"ttl: 1m": "ttl: 1m, encrypt: all"}, True),
        ({"ttl: 1m": "ttl: 1m, vary: [accept-language]"}, True),
        ({"ttl: 1m": "ttl: 1m, ignore-headers: [x-a]"}, True),
        ({"ttl: 1m": "ttl: 1m, query: [q]"}, True),
        ({"ttl: 1m": "ttl: 1m, assert: response.org == tenant"}, True),
        ({"features:": "identity: {roles: jwt.roles}\nfeatures:"}, True),
        ({"version: 1\n": "\n\nversion: 1\n"}, False),
        ({"ttl: 1m": "ttl: 60s"}, False),
        ({"ttl: 1m": "ttl: 1m, max-body: 2MiB"}, False),
        ({"ttl: 1m": "ttl: 1m, codec: gzip"}, False),
        ({"ttl: 1m": "ttl: 1m, consistency: strict"}, False),
    ],
)
def test_a_routes_digest_follows_what_decides_what_is_served(change, differs):
    text = features(JOBS)
    changed = text
    for old, new in change.items():
        changed = changed.replace(old, new)
    assert changed != text
    before, after = accepted(text).routes[0].digest, accepted(changed).routes[0].digest
    assert len(before) == 8
    assert (before != after) is differs


def test_routes_of_one_file_have_different_digests():
    digests = [route.digest for route in accepted(SHIPPED.read_text()).routes]
    assert len(set(digests)) == len(digests)


def test_identity_sources_are_taken_over_with_header_names_in_lower_case():
    text = features(JOBS, head="identity: {tenant: header.X-Org, user: header.X-User, roles: jwt.Roles}\n")
    assert accepted(text).identity == IdentitySources(("header.x-org",), "header.x-user", "jwt.Roles")


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (
            "user: path.user-id",
            "3:12: identity.user: a path can only contradict, never establish: name a jwt or header source",
        ),
        (
            "roles: path.r",
            "3:12: identity.roles: a path can only contradict, never establish: name a jwt or header source",
        ),
        ("tenant: path.org", "3:12: identity.tenant: at least one jwt or header source must establish the tenant"),
    ],
)
def test_a_path_cannot_establish_anybody(identity, expected):
    assert refused(features(JOBS, head=f"identity: {{{identity}}}\n")) == [expected]


def test_an_environment_changes_its_profile_only():
    text = features(JOBS) + "environments: {staging: {features: {jobs: {ttl: 5m}}}}\n"
    assert accepted(text, profile="staging").routes[0].ttl == 300
    assert accepted(text, profile="production").routes[0].ttl == 60


def test_a_mistake_in_any_environment_counts_in_every_profile():
    text = features(JOBS) + "environments:\n  development: {features: {jobs: {read: [PUT /x]}}}\n"
    for profile in PROFILES:
        assert refused(text, profile=profile) == [
            "10:42: environments.development.features.jobs.read[0]: PUT cannot be a read"
        ]


def test_a_mistake_outside_the_environments_is_told_once():
    text = features(JOBS.replace("GET /api/jobs\n", "GET api\n")) + "environments: {staging: {defaults: {grace: 1m}}}\n"
    assert len(refused(text)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {read: [GET /a]}", "features.a: read without a write: a change is seen when the ttl ends"),
        (
            "a: {read: [GET /api/me], write: []}",
            "features.a.read[0]: GET /api/me looks personal and is shared by scope ",
        ),
        (
            "a: {read: ['GET /api/me/{x}'], write: []}",
            "features.a.read[0]: GET /api/me/{x} looks personal and is shared ",
        ),
        (
            "a: {read: [GET /a], write: [], sensitive: true}",
            "features.a.sensitive: sensitive without an encryption key",
        ),
        (
            "a: {read: [GET /a], write: [], encrypt: all}",
            "features.a.encrypt: encrypt: all without an encryption key",
        ),
        ("a: {read: [GET /a], write: [], honour: false}", "features.a.honour: honour: false stores what the upstream "),
        ("a: {read: [GET /.sidecache/a], write: []}", "features.a.read[0]: shadowed: sidecache answers /.sidecache/a "),
    ],
)
def test_what_is_doubtful_is_a_warning(text, expected):
    (warning,) = warned(features(text))
    assert warning.startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "a: {read: [GET /api/me], write: [], scope: user}",
        "a: {read: [GET /a], write: []}",
        "a: {read: [GET /a]}\nb: {write: [POST /b], also-purge: [a]}",
        "a: {read: [GET /a]}\nb: {write: [{route: POST /b, also-purge: ['a:list']}]}",
        "a: {read: [GET /a], write: [POST /a]}",
    ],
)
def test_what_is_said_to_be_meant_is_no_warning(text):
    assert warned(features(text)) == []


def test_an_encryption_key_ends_the_warning_about_sensitive():
    text = features("a: {read: [GET /a], write: [], sensitive: true}")
    assert warned(text, has_encryption_key=True) == []


def test_one_setting_for_everything_is_one_warning():
    text = "version: 1\ndefaults: {ttl: 1m, encrypt: all}\nfeatures:\n" + "".join(
        f"  {name}: {{read: [GET /{name}], write: []}}\n" for name in "ab"
    )
    (warning,) = warned(text)
    assert warning.startswith("defaults.encrypt: encrypt: all without an encryption key: set SIDECACHE_ENCRYPTION_KEYS")


@pytest.mark.parametrize("how", ["sensitive: true", "encrypt: all", "sensitive: true, encrypt: all"])
def test_where_encryption_is_a_must_rules_that_need_a_missing_key_are_refused(how):
    text = features(f"a: {{read: [GET /a], write: [], {how}}}")
    (problem,) = refused(text, must_encrypt=True)
    assert problem.endswith("without an encryption key: set SIDECACHE_ENCRYPTION_KEYS (`sidecache keygen` makes one)")
    accepted(text, must_encrypt=True, has_encryption_key=True)
    accepted(text)


def test_what_only_another_profile_encrypts_needs_no_key_here():
    text = features(JOBS) + "environments: {staging: {features: {jobs: {sensitive: true}}}}\n"
    accepted(text, profile="production", must_encrypt=True)
    (problem,) = refused(text, profile="staging", must_encrypt=True)
    assert "environments.staging.features.jobs.sensitive: sensitive without" in problem


def test_rules_that_encrypt_nothing_need_no_key():
    accepted(features("a: {read: [GET /a], write: [], encrypt: sensitive}"), must_encrypt=True)


def test_warnings_wait_until_there_are_no_errors():
    assert len(refused(features("a: {read: [GET /a, GET b]}"))) == 1


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("{request: /api/jobs, expect: {key: x}}", "tests[0].request: '/api/jobs' is not a request such as "),
        ("{request: GET /a b, expect: {key: x}}", "tests[0].request: 'GET /a b' is not a request such as "),
        ("{request: GET /é, expect: {key: x}}", "tests[0].request: 'GET /é' is not a request such as "),
        ("{request: GET /, expect: {same-key-as: /x}}", "tests[0].expect.same-key-as: '/x' is not a request such as "),
        ("{request: GET /, expect: {}}", "tests[0].expect: expects nothing: name a key, a ttl, a reason, ..."),
        ("{request: GET /, expect: {kye: x}}", "tests[0].expect.kye: unknown key (did you mean 'key'?)"),
    ],
)
def test_a_test_that_cannot_be_run_is_a_mistake(test, expected):
    (found,) = refused(features(JOBS) + f"tests:\n  - {test}\n")
    assert found.partition(": ")[2].startswith(expected)


def test_an_inline_test_knows_its_line():
    rules = accepted(features(JOBS) + "tests:\n  - request: GET /\n    expect: {because: no-rule}\n")
    assert [(scenario.request, line) for scenario, line in rules.scenarios] == [("GET /", 10)]
