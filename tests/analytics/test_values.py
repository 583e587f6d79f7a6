"""How many values a count is split by: bounded for each report, and for all."""

import pytest

from proxy.analytics.names import DAY, OTHER
from proxy.analytics.values import Values

AT = 1_767_603_600.0


def test_values_beyond_the_cap_are_the_others_and_those_before_stay():
    values = Values(most=3)
    told = [values.admitted("org_a", "views", str(number % 5), AT) for number in range(10)]
    assert told == ["0", "1", "2", OTHER, OTHER] * 2
    assert values.turned_away == 4


@pytest.mark.isolation
def test_each_tenant_and_report_has_its_own_cap_and_all_have_one():
    values = Values(most=2, in_all=5)
    told = [
        values.admitted(tenant, name, value, AT)
        for tenant in ("org_a", "org_b")
        for name in ("views", "clicks")
        for value in ("1", "2", "3")
    ]
    assert told == ["1", "2", OTHER, "1", "2", OTHER, "1", OTHER, OTHER, OTHER, OTHER, OTHER]
    assert len(values) == 5


def test_the_next_day_begins_anew():
    values = Values(most=1)
    assert [values.admitted("o", "v", value, AT) for value in "ab"] == ["a", OTHER]
    assert [values.admitted("o", "v", value, AT + DAY) for value in "ba"] == ["b", OTHER]
    assert len(values) == 1


def test_a_value_too_long_for_a_name_is_one_of_the_others_and_takes_no_place():
    values = Values(most=1)
    assert values.admitted("o", "v", "x" * 500, AT) == OTHER
    assert values.admitted("o", "v", "a", AT) == "a"
