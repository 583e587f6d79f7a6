"""What streams of the embedded store promise beyond the contract: bounds, and ids whatever the clock does."""

import pytest

from proxy.stores.streams import MOST_STREAMS, Streams, first_after, is_id, last_before, position
from tests.doubles import FakeClock

LAST = 2**64 - 1


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def streams(clock):
    return Streams(100_000, clock)


def test_the_streams_that_were_appended_to_longest_ago_make_room(streams):
    for number in range(20):
        streams.append(f"s{number}", {"n": b"x" * 9000}, 10, 60)
        streams.append("kept", {"n": b"1"}, 10, 60)
        assert streams.bytes <= 100_000
    assert streams.range("s0", "", 1) == []
    assert len(streams.range("s19", "", 1)) == 1
    assert len(streams.range("kept", "", 100)) == 10


def test_an_item_larger_than_all_of_it_is_not_kept(streams):
    streams.append("s", {"n": b"x" * 200_000}, 10, 60)
    assert streams.range("s", "", 1) == []
    assert streams.bytes == 0


def test_there_is_a_bound_on_their_number(clock):
    streams = Streams(1 << 30, clock)
    for number in range(MOST_STREAMS + 5):
        streams.append(f"s{number}", {}, 1, 60)
    assert [bool(streams.range(f"s{number}", "", 1)) for number in (0, 4, 5)] == [False, False, True]


def test_bytes_are_given_back_by_what_is_cut_off_and_what_expires(streams, clock):
    for _ in range(100):
        streams.append("s", {"n": b"x" * 1000}, 2, 60)
    assert streams.bytes < 3000
    clock.advance(61)
    assert streams.range("s", "", 5) == []
    assert streams.bytes == 0


def test_ids_grow_when_the_clock_goes_back(streams, clock):
    first = streams.append("s", {}, 10, 60)
    clock.advance(-5)
    second = streams.append("s", {}, 10, 60)
    assert position(second) > position(first)
    assert [item.id for item in streams.range("s", first, 5)] == [second]


@pytest.mark.parametrize("text", ["0-0", "1700000000000-3", f"{LAST}-{LAST}"])
def test_what_is_an_id(text):
    assert is_id(text)


@pytest.mark.parametrize(
    "text", ["", "1", "-", "+", "$", "1-", "-1", "1-2\n", "1-٣", "1-2-3", f"1-{LAST + 1}", "1" * 21 + "-0"]
)
def test_what_is_none(text):
    assert not is_id(text)


@pytest.mark.parametrize(
    ("id", "before", "after"),
    [
        ("5-3", "5-2", "5-4"),
        ("5-0", f"4-{LAST}", "5-1"),
        (f"5-{LAST}", f"5-{LAST - 1}", "6-0"),
        ("0-0", "0-0", "0-1"),
    ],
)
def test_the_ids_beside_an_id(id, before, after):
    assert (last_before(id), first_after(id)) == (before, after)
