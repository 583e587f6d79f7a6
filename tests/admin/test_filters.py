"""Which tags a filter means, without a port: folding, public features, groups."""

import pytest

from proxy.admin.filters import is_public, key_of_path, tagged
from proxy.admin.problems import Refused
from proxy.rules.compile import RuleSet, compile_rules
from tests.admin.world import RULES
from tests.builders import KEYS


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    found = compile_rules(RULES, has_encryption_key=True)
    assert isinstance(found, RuleSet)
    return found


@pytest.mark.parametrize(
    ("tags", "tenant", "purge"),
    [
        (["jobs:77"], "org_a", {"org_a": ("jobs:77",)}),
        (["jobs:AbC", "jobs:abc"], "org_a", {"org_a": ("jobs:abc",)}),
        (["jobs:h-AbC"], "org_a", {"org_a": ("jobs:h-AbC",)}),
        (["jobs:job-1~5"], "org_a", {"org_a": ("jobs:job-1~5",)}),
        (["countries", "jobs"], "org_a", {"": ("countries",), "org_a": ("jobs",)}),
        (["@:front page"], "org_a", {"org_a": ("@:front page",)}), (["@:x"], None, {"": ("@:x",)}),
    ],
)  # fmt: skip
def test_tags_are_sorted_by_whose_they_are(rules, tags, tenant, purge):
    assert tagged(tags, tenant, rules, "tags") == purge


def test_a_path_gives_the_tag_that_its_entries_carry_however_it_is_spelled(rules):
    for path in ("/api/jobs/A1", "/api/jobs/a1", "/api/jobs/%411"):
        key = key_of_path(path, "org_a", rules, KEYS)
        assert (key.space, key.tags[1]) == ("org_a", "jobs:a1"), path
    assert key_of_path("/api/countries", None, rules, KEYS).space == ""


def test_an_unknown_feature_is_refused_with_what_was_meant(rules):
    with pytest.raises(Refused, match="did you mean jobs"):
        is_public(rules, "jbos", "feature")
    with pytest.raises(Refused, match="there are countries, feed, jobs, secrets"):
        is_public(rules, "zzz", "feature")
    assert is_public(rules, "countries", "feature")
