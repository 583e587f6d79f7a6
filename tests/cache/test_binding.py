"""Which fields an entry is bound to: the names are in stores that outlive a release, so they are pinned here."""

import itertools

import pytest

from proxy.cache.binding import (
    SHARED,
    binding,
    covering,
    group_fields,
    hash_of,
    may_be_absent,
    purged_fields,
    slot,
    soft_of,
)  # fmt: skip

TAGS = ("jobs", "jobs:77")
LIST = ("jobs", "jobs:list")
ORG_A = "tenant:org_a:epochs"


def test_the_slot_of_an_item_never_changes():
    tags = ("jobs:77", "jobs:list", "search:h-x~y")
    assert [slot("org_a", tag) for tag in tags] == ["slot:c4", "slot:2e", "slot:18"]
    assert [slot("", tag) for tag in tags] == ["slot:9816", "slot:47cf", "slot:a343"]


def test_a_tenant_s_entry_is_bound_to_the_feature_everywhere_and_to_its_own_item():
    hard = binding("org_a", TAGS)[::2]
    assert hard == ((SHARED, "*"), (SHARED, "jobs"), (ORG_A, "*"), (ORG_A, "jobs"), (ORG_A, slot("org_a", "jobs:77")))


def test_a_public_entry_is_bound_to_the_shared_hash_alone():
    assert binding("", TAGS)[::2] == ((SHARED, "*"), (SHARED, "jobs"), (SHARED, slot("", "jobs:77")))


def test_each_hard_epoch_is_followed_by_its_soft_one():
    fields = binding("org_a", TAGS)
    assert all(soft == (hard[0], f"soft:{hard[1]}") for hard, soft in zip(fields[::2], fields[1::2], strict=True))


def test_two_items_in_one_slot_are_bound_once_and_a_read_still_begins_with_the_binding():
    names = (f"jobs:{number}" for number in itertools.count())
    twin = next(name for name in names if slot("org_a", name) == slot("org_a", "jobs:77") and name != "jobs:77")
    tags = ("jobs", "jobs:77", twin)
    assert len(binding("org_a", tags)) == len(binding("org_a", TAGS))
    assert covering("org_a", tags)[: len(binding("org_a", tags))] == binding("org_a", tags)


def test_a_read_covers_the_list_of_the_feature():
    assert set(binding("org_a", LIST)) < set(covering("org_a", TAGS))


def test_no_feature_s_field_is_a_slot_or_everything():
    # a feature is kebab-case; the names of slots and of soft epochs hold a colon
    assert ":" in slot("org_a", "jobs:77")
    assert ":" in slot("", "jobs:77")
    assert hash_of("epochs") != SHARED


def test_a_purge_replaces_a_feature_s_field_an_item_s_slot_or_everything():
    purged = [purged_fields("org_a", tag) for tag in ("jobs", "jobs:77", "*")]
    assert purged == [("jobs",), (slot("org_a", "jobs:77"),), ("*",)]


def test_a_purge_of_a_group_replaces_the_guard_of_all_groups_too():
    assert purged_fields("org_a", "@:featured") == (slot("org_a", "@:featured"), "@")


def test_an_entry_is_bound_to_its_groups_but_not_to_the_guard():
    tags = (*TAGS, "@:featured", "@:jobs")
    own = [name for hashed, name in binding("org_a", tags) if hashed == ORG_A]
    assert {slot("org_a", "@:featured"), slot("org_a", "@:jobs")} < set(own)
    assert "@" not in own
    assert group_fields("org_a", tags)[::2] == (slot("org_a", "@:featured"), slot("org_a", "@:jobs"))
    assert not any(name.startswith("@") for _, name in binding("org_a", tags))


@pytest.mark.parametrize(("space", "hashed"), [("org_a", ORG_A), ("", SHARED)])
def test_every_read_covers_the_guard_of_the_groups(space, hashed):
    assert covering(space, TAGS)[-1] == (hashed, "@")


def test_only_soft_fields_and_the_guard_may_be_absent():
    fields = ["*", soft_of("*"), "soft", slot("org_a", "a:b"), "@"]
    assert [may_be_absent(name) for name in fields] == [False, True, False, False, True]


def test_all_256_slots_of_a_tenant_are_in_use():
    assert len({slot("org_a", f"jobs:{number}") for number in range(5000)}) == 256


def test_public_items_seldom_share_one_of_65_536_slots():
    # 1,000 of them make 0.76 % pairs on average; one in 256 would leave 256
    assert len({slot("", f"jobs:{number}") for number in range(1000)}) > 980
