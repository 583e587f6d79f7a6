"""Names of counts: nothing that is counted by can make another's name, and all fit into a store's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.analytics import names

AT = 1_767_603_599.9  # 2026-01-05T08:59:59.9Z


@pytest.mark.parametrize(
    ("value", "as_written"),
    [
        ("77", "77"),
        ("", ""),
        ("a-b_C9", "a-b_C9"),
        ("*", "%2A"),
        ("~", "%7E"),
        ("=", "%3D"),
        ("a.b:c{d}", "a%2Eb%3Ac%7Bd%7D"),
        ("c++ grüße", "c%2B%2B%20gr%C3%BC%C3%9Fe"),
        ("\ud800", "%3F"),
        ("x" * 100, "x" * 100),
        ("x" * 101, names.OTHER),
        ("%" * 33, "%25" * 33),
        ("%" * 34, names.OTHER),
        ("é" * 10_000_000, names.OTHER),
    ],
    ids=lambda text: text[:20],
)
def test_a_value_is_written_in_plain_letters(value, as_written):
    assert names.written(value) == as_written


@given(st.text(max_size=30), st.text(max_size=30))
def test_two_values_are_never_written_alike_and_read_as_they_were(one, other):
    def sound(text):
        return text.encode("utf-8", "replace").decode()

    one, other = sound(one), sound(other)
    if names.OTHER not in (names.written(one), names.written(other)):
        assert (names.written(one) == names.written(other)) == (one == other)
        assert names.read(names.written(one)) == one


def test_the_names():
    assert names.by_hour("org_a", "job-views", "77", AT) == "tenant:org_a:metrics:job-views.77.20260102"
    assert names.by_minute("org_a", "job-views", "77", AT) == "tenant:org_a:metrics:job-views.77.2026010508"
    assert names.by_value("org_a", "job-views", AT) == "tenant:org_a:metrics:job-views.=.20260105"
    assert names.uniques("org_a", "job-views", "*", AT) == "tenant:org_a:uniques:{job-views.*}.20260105"
    assert (names.hour_of(AT), names.minute_of(AT)) == ("80", "59")
    assert names.told(AT) == "2026-01-05T08:59:59Z"


def test_the_longest_name_is_one_that_a_store_takes():
    longest = "t" * 64, "n" * 32, "%E2" * 33 + "x", AT
    for name in (names.by_hour(*longest), names.by_minute(*longest), names.uniques(*longest)):
        assert len(name) < 250
        assert name.isascii()
        assert name.isprintable()


def test_five_days_stand_together_each_hour_in_a_field_of_its_own():
    begin = AT // names.DAYS * names.DAYS
    places = {
        (names.by_hour("org_a", "views", "77", begin + hour * 3600), names.hour_of(begin + hour * 3600))
        for hour in range(15 * 24)
    }
    assert len(places) == 15 * 24
    assert len({name for name, _ in places}) == 3
    assert {int(field) for _, field in places} == set(range(120))  # more than 127 would take another byte, and table
