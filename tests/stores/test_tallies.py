"""Numbers and sets of the embedded store: bounded, and as near to the truth as they say."""

import pytest

from proxy.stores.base import Addition
from proxy.stores.tallies import Tallies
from tests.doubles import FakeClock


def test_those_that_were_added_to_longest_ago_make_room():
    clock = FakeClock()
    tallies = Tallies(2000, clock)
    for number in range(20):
        tallies.add(Addition(f"h{number}", "0", 1, 60))
        assert tallies.bytes <= 2000
    assert tallies.counts("h19") == {"0": 1}
    assert tallies.counts("h0") == {}


def test_one_that_is_larger_than_all_room_is_kept_alone():
    tallies = Tallies(1000, FakeClock())
    for number in range(50):
        tallies.add(Addition("h", str(number), 1, 60))
    assert len(tallies.counts("h")) == 50


def test_what_has_gone_takes_no_room():
    clock = FakeClock()
    tallies = Tallies(1 << 20, clock)
    tallies.add(Addition("h", "0", 1, 10))
    tallies.observe("s", [f"{number}" for number in range(5000)], 10)
    clock.advance(11)
    assert (tallies.counts("h"), tallies.distinct(["s"])) == ({}, 0)
    assert tallies.bytes == 0


@pytest.mark.parametrize("many", [1023, 1025, 3000, 16_000, 50_000, 200_000])
def test_a_union_of_sets_is_within_the_stated_error_at_every_size(many):
    """Sets that share half of their values, one of them small: kept as values, as registers, and as both."""
    tallies = Tallies(1 << 24, FakeClock())
    values = [f"user-{number}" for number in range(many)]
    tallies.observe("a", values[: many * 3 // 4], 60)
    tallies.observe("b", values[many // 4 :], 60)
    tallies.observe("c", values[:500], 60)
    for names in (["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]):
        assert abs(tallies.distinct(names) - many) <= 4 * 0.0081 * many


def test_a_name_is_either_numbers_or_a_set_and_the_last_use_decides():
    tallies = Tallies(1 << 20, FakeClock())
    tallies.add(Addition("x", "0", 1, 60))
    assert tallies.distinct(["x"]) == 0
    tallies.observe("x", ["a"], 60)
    assert tallies.counts("x") == {}
    size = tallies.bytes
    tallies.add(Addition("x", "0", 1, 60))
    tallies.observe("x", ["a"], 60)
    assert tallies.bytes == size
    tallies.clear()
    assert (tallies.distinct(["x"]), tallies.bytes) == (0, 0)
