"""Groups of responses: what the fields say, and what is not stored because nobody could invalidate it (RFC 9875)."""

import pytest

from proxy.policy.groups import MAX_GROUPS, invalidated, tags_of
from proxy.policy.outcome import Reason
from tests.builders import fields

MANY = ", ".join(f'"{number}"' for number in range(MAX_GROUPS))


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        # realistic
        (None, ()),
        ('"scripts"', ("@:scripts",)),
        ('"featured", "page 1"', ("@:featured", "@:page 1")),
        ('"a";x=1, "b"', ("@:a", "@:b")),
        # pathological
        ("", ()),
        ('""', ("@:",)),
        ('"a", "a"', ("@:a",)),
        ('"A", "a"', ("@:A", "@:a")),
        (r'"a \"b\" \\"', ('@:a "b" \\',)),
        ('"jobs:77", "@:x", "*"', ("@:jobs:77", "@:@:x", "@:*")),
        ("scripts", ()),
        ('"a", b', ()),
        ('"a",', ()),
        ("'a'", ()),
        ('"ä"', ()),
    ],
)
def test_a_response_belongs_to_the_groups_it_names(value, tags):
    named = {} if value is None else {"Cache-Groups": value}
    assert tags_of(fields(named)) == tags
    named = {} if value is None else {"Cache-Group-Invalidation": value}
    assert invalidated(fields(named)) == tags


def test_several_lines_are_one_list():
    assert tags_of(fields([("Cache-Groups", '"a"'), ("Cache-Groups", '"b"')])) == ("@:a", "@:b")


def test_what_is_in_more_groups_than_are_kept_is_not_stored():
    assert len(tags_of(fields(cache_groups=MANY))) == MAX_GROUPS
    assert tags_of(fields(cache_groups=f'{MANY}, "one more"')) is Reason.TOO_MANY_GROUPS


def test_any_number_of_groups_can_be_invalidated():
    assert len(invalidated(fields(cache_group_invalidation=f'{MANY}, "one more"'))) == MAX_GROUPS + 1
