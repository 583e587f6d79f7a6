"""What a reader has missed, and when nobody can say."""

import pytest

from proxy.events.cursor import Cursor
from proxy.events.event import BEGINNING, GAP, Event
from proxy.events.window import Entry, Window


def entry(number: int, *, id: str | None = None, mark: str = "", data: bytes = b"{}") -> Entry:
    id = id if id is not None else f"id-{number}"
    event = Event(id, "" if mark else "a", mark or "tenant", float(number), data)
    return Entry(Cursor((number * 1000, 0), event.tag), event)


def numbers(entries) -> list[int]:
    return [each.cursor.at[0] // 1000 for each in entries]


def test_who_resumes_gets_all_that_came_behind_in_its_order():
    window = Window([entry(1, mark=BEGINNING), *(entry(n) for n in (2, 3, 4))])
    for begin in (1, 2, 3, 4):
        assert numbers(window.resume(window.entries[begin - 1].cursor)) == list(range(begin + 1, 5))


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor((500, 0), "id-0"),  # trimmed
        Cursor((2500, 0), "id-9"),  # between two: it was lost
        Cursor((9000, 0), "id-9"),  # of the future: it was lost
        Cursor((2000, 0), "other"),  # another entry has its place
    ],
)
def test_who_was_where_the_mailbox_does_not_reach_is_told_nothing(cursor):
    assert Window([entry(1), entry(2), entry(3)]).resume(cursor) is None
    assert Window().resume(cursor) is None


def test_over_a_gap_nobody_resumes_but_from_behind_it_one_does():
    window = Window([entry(1), entry(2, mark=GAP), entry(3)])
    assert window.resume(entry(1).cursor) is None
    assert numbers(window.resume(window.entries[1].cursor)) == [3]


def test_an_event_that_was_appended_twice_is_shown_once():
    window = Window([entry(1)])
    taken = window.take([entry(2, id="id-1"), entry(3)])
    assert [each.shown is not None for each in taken] == [False, True]
    assert numbers(window.resume(entry(1).cursor)) == [2, 3]
    assert window.holds(taken[0].cursor)  # it is a place to resume from all the same


def test_marks_and_what_cannot_be_read_are_places_and_no_events():
    unreadable = Entry(Cursor((2000, 0), "-"), None)
    window = Window([entry(1, mark=BEGINNING), unreadable])
    assert [each.shown for each in window.entries] == [None, None]
    assert window.resume(unreadable.cursor) == []


def test_what_the_store_has_lost_is_its_end_or_all_of_it():
    known = Window([entry(n) for n in (1, 2, 3, 4, 5)])
    assert numbers(known.lost_by(Window([entry(n) for n in (1, 2, 3)]))) == [4, 5]
    assert numbers(known.lost_by(Window())) == [1, 2, 3, 4, 5]
    assert numbers(known.lost_by(Window([entry(3), entry(4), entry(5)]))) == []  # those were trimmed
    assert numbers(known.lost_by(Window([entry(1), entry(2), entry(9)]))) == [3, 4, 5]
    assert known.lost_by(known) == []


def test_an_event_that_was_put_back_elsewhere_is_not_lost():
    assert Window([entry(1), entry(2)]).lost_by(Window([entry(1), entry(7, id="id-2")])) == []


def test_it_forgets_what_is_too_old_too_many_or_too_large_and_never_the_last():
    window = Window([entry(n, data=b"x" * 1000) for n in range(1, 11)])
    whole = window.size
    window.cut(oldest=3.0, most_bytes=1 << 20, most=100)
    assert numbers(window.entries) == list(range(3, 11))
    window.cut(oldest=0.0, most_bytes=1 << 20, most=5)
    assert numbers(window.entries) == list(range(6, 11))
    assert window.size == whole // 2
    window.cut(oldest=0.0, most_bytes=3000, most=100)
    assert numbers(window.entries) == [9, 10]
    window.cut(oldest=99.0, most_bytes=1, most=0)
    assert numbers(window.entries) == [10]
    assert not window.has(entry(9).event)
