"""Which of the last purges touched an entry: by the epochs that bind it, not by how their names look."""

import pytest

from proxy.cache.purges import MOST, Purged, Purges
from tests.doubles import FakeClock

ENTRY = ("org_a", ("jobs", "jobs:77"))


@pytest.mark.parametrize(
    ("tags", "touched"),
    [
        ({"org_a": ("jobs:77",)}, True), ({"org_a": ("jobs",)}, True), ({"org_a": ("*",)}, True), ({"": ("*",)}, True),
        ({"": ("jobs",)}, True), ({"org_a": ("jobs:list", "jobs:77")}, True), ({"org_a": ("jobs:list",)}, False),
        ({"org_b": ("jobs:77",)}, False), ({"org_b": ("*",)}, False), ({"": ("search",)}, False),
        ({"org_a": ("@:front",)}, False), ({}, False),
    ],
)  # fmt: skip
def test_a_purge_touches_what_its_epochs_bind(tags, touched):
    assert Purged(0.0, "otto", tags).touches(*ENTRY) is touched


def test_a_group_touches_what_is_in_it():
    assert Purged(0.0, "otto", {"org_a": ("@:front",)}).touches("org_a", ("jobs", "jobs:77", "@:front"))


def test_the_last_ones_are_kept_the_newest_first_and_counted():
    clock = FakeClock()
    purges = Purges(clock)
    for number in range(MOST + 3):
        purges.note(f"by {number}", {"org_a": ("jobs",)})
        clock.advance(1)
    last = purges.last()
    assert (len(last), last[0].by, purges.count) == (MOST, f"by {MOST + 2}", MOST + 3)
