"""Counts by upper bound."""

import pytest

from proxy.telemetry.distribution import Distribution


@pytest.mark.parametrize(
    ("value", "place"), [(-1, 0), (0, 0), (1, 0), (1.5, 1), (10, 1), (10.01, 2), (float("inf"), 2)]
)
def test_a_value_counts_under_the_first_bound_that_it_does_not_exceed(value, place):
    found = Distribution((1, 10))
    found.observe(value)
    assert found.counts == [int(place == index) for index in range(3)]


def test_buckets_hold_all_that_are_smaller_too():
    found = Distribution((1, 10))
    for value in (0.5, 5, 50):
        found.observe(value)
    assert found.cumulated() == ([("1.0", 1), ("10.0", 2), ("+Inf", 3)], 55.5)
    assert found.cumulated(2)[0] == [("1.0", 3), ("10.0", 4), ("+Inf", 5)]
