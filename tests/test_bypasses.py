"""Switches: what they cover, that they end by themselves, how many there may be."""

import pytest

from proxy.bypasses import MAX_SECONDS, MAX_SWITCHES, Bypasses
from tests.doubles import FakeClock


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bypasses(clock, changes) -> Bypasses:
    return Bypasses(clock, lambda: changes.append("changed"))


@pytest.mark.parametrize(
    ("switch", "read", "covered"),
    [
        ((None, None), ("jobs", "org_a"), True), ((None, None), ("countries", None), True),
        (("jobs", None), ("jobs", "org_a"), True), (("jobs", None), ("search", "org_a"), False),
        ((None, "org_a"), ("jobs", "org_a"), True), ((None, "org_a"), ("jobs", "org_b"), False),
        ((None, "org_a"), ("countries", None), False), (("jobs", "org_a"), ("jobs", "org_a"), True),
        (("jobs", "org_a"), ("jobs", "org_b"), False), (("jobs", "org_a"), ("search", "org_a"), False),
    ],
)  # fmt: skip
def test_a_switch_covers_its_feature_and_tenant(bypasses, switch, read, covered):
    bypasses.on(*switch, 60, "otto", None)
    assert bypasses.covers(*read) is covered


def test_it_ends_by_itself_and_only_switching_off_is_a_change(bypasses, clock, changes):
    bypasses.on(None, None, 60, "otto", None)
    clock.advance(59.9)
    assert bypasses.covers("jobs", "org_a")
    clock.advance(0.1)
    assert not bypasses.covers("jobs", "org_a")
    assert (bypasses.active(), changes) == ((), ["changed"])


def test_again_for_the_same_is_until_the_new_time(bypasses, clock):
    bypasses.on("jobs", None, 3600, "otto", None)
    bypasses.on("jobs", None, 60, "anna", "INC-42")
    (switch,) = bypasses.active()
    assert (switch.until, switch.by, switch.reason) == (clock() + 60, "anna", "INC-42")


def test_nothing_lasts_longer_than_a_day(bypasses, clock):
    bypasses.on(None, None, 1e9, "otto", None)
    assert bypasses.active()[0].until == clock() + MAX_SECONDS


def test_there_is_a_most_of_them_until_some_end(bypasses, clock):
    for number in range(MAX_SWITCHES):
        assert bypasses.on(None, f"org_{number}", 60, "otto", None)
    assert bypasses.on(None, None, 60, "otto", None) is None
    assert bypasses.on(None, "org_0", 90, "otto", None)
    clock.advance(60)
    assert bypasses.on(None, None, 60, "otto", None)


@pytest.mark.isolation
def test_off_ends_exactly_what_is_named_or_all_of_ones_own(bypasses):
    for name in ((None, None), ("jobs", None), (None, "org_a"), ("jobs", "org_a")):
        bypasses.on(*name, 60, "otto", None)
    assert [(each.feature, each.tenant) for each in bypasses.off("jobs", None)] == [("jobs", None)]
    assert len(bypasses.off(None, None, only="org_a")) == 2
    assert [(each.feature, each.tenant) for each in bypasses.off(None, None)] == [(None, None)]
    assert bypasses.off(None, None) == ()
