"""What new rules change: what is shared, what is kept, what is purged."""

import pytest

from proxy.rules.compare import Comparison, compare, forgets, widening
from tests.rules.texts import accepted

BASE = """\
version: 1
identity: {tenant: [jwt.org_id]}
defaults: {ttl: 1m}
features:
  jobs:
    scope: role
    require: [read:jobs]
    read: [GET /jobs, 'GET /jobs/{job-id}']
    write: [POST /jobs, 'PATCH /jobs/{job-id}']
    also-purge: [search]
  search:
    read: [{route: POST /search, ttl: 10m, query: [q]}]
    write: []
  notes:
    scope: user
    sensitive: true
    assert: response.owner == user
    read: ['GET /notes/{note-id}']
    write: ['PUT /notes/{note-id}']
"""


def changed(*pairs: tuple[str, str]) -> Comparison:
    text = BASE
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return compare(accepted(BASE, has_encryption_key=True), accepted(text, has_encryption_key=True))


def test_the_same_rules_change_nothing():
    found = changed()
    assert found.same
    assert found.widening == ()


def test_comments_and_the_tests_inside_the_file_change_nothing():
    tests = "# as ever\nversion: 1\ntests: [{request: GET /jobs, as: {org_id: o}, expect: {because: no-roles}}]"
    assert changed(("version: 1", tests)).same


def test_another_name_of_a_parameter_makes_another_rule_of_it():
    found = changed(("{note-id}", "{id}"))
    assert [(each.request, each.new_keys) for each in found.differences] == [("GET /notes/{id}", True)]


@pytest.mark.parametrize(
    ("old", "new", "request_", "what", "changes", "new_keys"),
    [
        (
            "read: [GET /jobs,", "read: [{route: GET /jobs/all, key-name: all}, GET /jobs,", "GET /jobs/all", "changed",
            ["key-name none -> all", "identifier /jobs/{job-id} -> /jobs/all"], True,
        ),
        ("read: [GET /jobs, ", "read: [", "GET /jobs", "removed", [], False),
        ("[GET /jobs,", "[{route: GET /drafts, key-name: d}, GET /jobs,", "GET /drafts", "added", [], False),
        ("ttl: 10m", "ttl: 5m", "POST /search", "changed", ["ttl 10m -> 5m"], True),
        ("ttl: 10m", "ttl: origin", "POST /search", "changed", ["ttl 10m -> origin", "client-control"], True),
        ("query: [q]", "query: [q, page]", "POST /search", "changed", ["query q -> page, q"], True),
        ("query: [q]", "vary: [accept-language]", "POST /search", "changed", ["query", "vary"], True),
        ("query: [q]", "query: [q], negative: {404: 30s}", "POST /search", "changed", ["negative"], True),
        ("query: [q]", "query: [q], max-body: 2MiB", "POST /search", "changed", ["max-body 1048576 -> 2097152"], False),
        ("query: [q]", "query: [q], consistency: strict", "POST /search", "changed", ["consistency"], False),
        ("scope: role", "scope: user", "GET /jobs", "changed", ["scope role -> user"], True),
    ],
)  # fmt: skip
def test_a_route_is_told_with_what_changes_on_it(old, new, request_, what, changes, new_keys):
    found = next(each for each in changed((old, new)).differences if each.request == request_)
    told = [str(change) for change in found.changes]
    assert (found.what, found.new_keys) == (what, new_keys)
    assert len(told) == len(changes)
    assert all(one.startswith(other) for one, other in zip(told, changes, strict=True)), told


def test_a_renamed_feature_starts_with_an_empty_cache():
    found = changed(("  notes:\n", "  memos:\n"))
    read = next(each for each in found.differences if each.request == "GET /notes/{note-id}")
    assert [str(change) for change in read.changes] == ["feature notes -> memos"]
    assert read.new_keys


WIDER = [
    ("scope: role", "scope: tenant", "jobs.read[0]: loosens scope role to tenant of GET /jobs"),
    ("    sensitive: true\n", "", "notes.read[0]: drops sensitive from GET /notes/{note-id}"),
    ("require: [read:jobs]", "require: []", "jobs.read[0]: no longer requires read:jobs for GET /jobs"),
    ("    assert: response.owner == user\n", "", "notes.read[0]: no longer asserts response.owner == user for"),
    ("scope: role", "scope: role\n    honour: false", "jobs.read[0]: stores what the upstream marks as private"),
    ("scope: role", "scope: role\n    ignore-headers: [x-unit]", "jobs.read[0]: shares GET /jobs among requests"),
    ("scope: role", 'scope: role\n    client-cache: "max-age=60"', "jobs.read[0]: lets caches behind the side"),
    ("scope: user", "scope: role", "notes.read[0]: loosens scope user to role of GET /notes/{note-id}"),
    # a route of its own, in place of one that was for fewer
    ("  search:\n", "  x:\n    read: [GET /jobs/open]\n    write: []\n  search:\n", "x.read[0]: loosens scope role"),
    # and the other way round: what was a route of its own falls to a wider one
    ("read: ['GET /notes/{note-id}']", "read: [{route: GET /notes/**, scope: tenant}]", "notes.read[0]: loosens"),
    ("[jwt.org_id]", "[jwt.org_id, header.x-org]", "identity: changes who is asking"),
    ("[jwt.org_id]", "[jwt.org]", "identity: changes who is asking"),
    ("{tenant: [jwt.org_id]}", "{tenant: [jwt.org_id], roles: jwt.roles}", "identity: changes who is asking"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), WIDER)
def test_what_widens_sharing_is_found(old, new, expected):
    # comparing with the user needs the scope
    pairs = [(old, new), *([("    assert: response.owner == user\n", "")] if "loosens" in expected else [])]
    found = changed(*pairs).widening
    assert any(f"{each.path}: {each.message}".removeprefix("features.").startswith(expected) for each in found), found
    assert all(each.line >= 1 and each.severity == "error" for each in found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scope: role", "scope: user"),
        ("require: [read:jobs]", "require: [read:jobs, write:jobs]"),
        ("scope: role", "scope: role\n    sensitive: true"),
        ("scope: role", 'scope: role\n    client-cache: "private, max-age=60"'),
        ("[jwt.org_id]", "[jwt.org_id, path.org-id]"),
        ("ttl: 10m", "ttl: 20m"),
        ("  search:\n", "  x:\n    read: [GET /x]\n    write: []\n  search:\n"),
    ],
)
def test_what_narrows_it_or_leaves_it_does_not(old, new):
    assert changed((old, new)).widening == ()


def test_sharing_is_wider_in_one_direction_only():
    one = accepted(BASE, has_encryption_key=True)
    other = accepted(BASE.replace("scope: role", "scope: tenant"), has_encryption_key=True)
    assert widening(one, other) != ()
    assert widening(other, one) == ()


LOST = [
    ("also-purge: [search]", "also-purge: []", "POST /jobs", ("search",)),
    ("also-purge: [search]", "also-purge: ['search:list']", "POST /jobs", ("search",)),
    (
        "write: [POST /jobs, 'PATCH /jobs/{job-id}']",
        "write: [POST /jobs]",
        "PATCH /jobs/{job-id}",
        ("search",),
    ),
]


@pytest.mark.parametrize(("old", "new", "request_", "lost"), LOST)
def test_a_write_that_purges_less_is_told_with_what_it_leaves(old, new, request_, lost):
    found = next(each for each in changed((old, new)).differences if each.request == request_)
    assert found.no_longer_purges == lost


def test_what_is_purged_as_a_whole_instead_of_one_by_one_is_not_lost():
    found = changed(("also-purge: [search]", "also-purge: [search, jobs]"))
    assert [each.no_longer_purges for each in found.differences if each.no_longer_purges] == []


def test_what_is_cached_no_more_need_not_be_purged():
    text = BASE.partition("  search:\n")
    gone = text[0].replace("    also-purge: [search]\n", "") + "  notes:\n" + text[2].partition("  notes:\n")[2]
    found = compare(accepted(BASE, has_encryption_key=True), accepted(gone, has_encryption_key=True))
    assert [each.no_longer_purges for each in found.differences if each.no_longer_purges] == []


def test_a_value_that_stands_for_a_parameter_is_no_routes_own_word():
    text = "version: 1\ndefaults: {ttl: 1m}\nfeatures:\n  a:\n    read: ['GET /{x}', GET /x0]\n    write: []\n"
    other = text.replace("'GET /{x}', ", "")
    found = compare(accepted(text), accepted(other))
    assert [(each.request, each.what) for each in found.differences] == [("GET /{x}", "removed")]


def test_reports_for_whoever_asks_widen_sharing_too():
    one = accepted(BASE + "reports: {require: [read:analytics, read:jobs]}\n", has_encryption_key=True)
    other = accepted(BASE + "reports: {require: [read:jobs]}\n", has_encryption_key=True)
    (problem,) = widening(one, other)
    assert (problem.path, problem.message) == ("reports.require", "no longer requires read:analytics to read reports")
    assert widening(other, one) == ()


def test_what_a_route_counts_is_a_change_that_keeps_its_entries():
    found = changed(("'GET /jobs/{job-id}'", "{route: 'GET /jobs/{job-id}', count: {name: views, by: job-id}}"))
    (difference,) = found.differences
    assert [str(each) for each in difference.changes] == ["count none -> views by path.job-id"]
    assert not difference.new_keys


@pytest.mark.parametrize(
    ("old", "new", "forgotten"),
    [
        ("ttl: 10m", "ttl: 20m", False),
        ("  search:\n", "  x:\n    read: [GET /x]\n    write: []\n  search:\n", False),
        ("read: ['GET /notes/{note-id}']", "read: [GET /notes/1]", True),
        ("read: ['GET /notes/{note-id}']", "read: [{route: GET /notes/**, scope: user}]", False),
    ],
)
def test_a_read_that_is_none_any_more_is_told(old, new, forgotten):
    text = BASE.replace(old, new)
    assert text != BASE
    one, other = (accepted(each, has_encryption_key=True) for each in (BASE, text))
    assert forgets(one, other) is forgotten
