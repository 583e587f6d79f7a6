"""Stamps: equal exactly when the epochs of all tags are, and never across a store's word and this process's own."""

import pytest

from proxy.cache.binding import SHARED, Field, covering, hash_of, slot, soft_of
from proxy.cache.stamp import Stamp, is_local, stamp

TAGS = ("jobs", "jobs:77")
ORG_A = hash_of("org_a")


def read(space: str = "org_a", tags: tuple[str, ...] = TAGS, **changed: int) -> dict[Field, bytes]:
    """An epoch for each field; `changed` by the field's name gives it another."""
    return {
        (hashed, name): changed.get(f"{hashed}/{name}", number).to_bytes(16, "big")
        for number, (hashed, name) in enumerate(covering(space, tags))
    }


def test_the_same_epochs_make_the_same_stamp():
    assert stamp("org_a", TAGS, read()) == stamp("org_a", TAGS, read())
    assert hash(stamp("org_a", TAGS, read())) == hash(stamp("org_a", TAGS, read()))


@pytest.mark.parametrize(
    "field", [(SHARED, "*"), (SHARED, "jobs"), (ORG_A, "*"), (ORG_A, "jobs"), (ORG_A, slot("org_a", "jobs:77"))]
)
@pytest.mark.parametrize("soft", [False, True])
def test_any_other_epoch_that_binds_it_makes_another_stamp_of_its_kind(field, soft):
    hashed, name = field
    before = stamp("org_a", TAGS, read())
    after = stamp("org_a", TAGS, read(**{f"{hashed}/{soft_of(name) if soft else name}": 999}))
    assert (after.hard != before.hard, after.soft != before.soft) == (not soft, soft)


def test_epochs_that_do_not_bind_it_change_nothing():
    other = read(**{f"{ORG_A}/{slot('org_a', 'jobs:list')}": 999, f"{ORG_A}/@": 999})
    assert stamp("org_a", TAGS, other) == stamp("org_a", TAGS, read())


def test_the_stamp_of_other_tags_comes_out_of_the_same_read():
    of_list = stamp("org_a", TAGS, read()).of((*TAGS, "jobs:list"))
    assert of_list is not None
    assert of_list == stamp("org_a", (*TAGS, "jobs:list"), read())
    assert of_list.of(TAGS) == stamp("org_a", TAGS, read())


@pytest.mark.parametrize("tags", [("search",), (*TAGS, "@:g"), ("jobs", "jobs:78")])
def test_there_is_none_of_tags_that_were_not_read(tags):
    assert stamp("org_a", TAGS, read()).of(tags) is None


def test_what_only_this_process_says_never_equals_what_the_store_said():
    told, alone = stamp("org_a", TAGS, read()), stamp("org_a", TAGS, read(), local=True)
    assert (told.local, alone.local) == (False, True)
    assert told.hard != alone.hard
    assert told.soft != alone.soft
    assert alone.of(("jobs",)) == stamp("org_a", ("jobs",), read(), local=True)
    assert (is_local(told.hard), is_local(alone.hard)) == (False, True)


def test_what_it_was_made_of_does_not_count_for_equality():
    assert Stamp(b"h", b"s", "org_a", TAGS, read()) == Stamp(b"h", b"s")
