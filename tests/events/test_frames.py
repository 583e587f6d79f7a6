"""The bytes of a stream: what a browser's EventSource takes them for."""

import pytest

from proxy.events import frames
from proxy.events.audience import Reader
from proxy.events.cursor import Cursor
from proxy.events.event import BEGINNING, Event
from proxy.events.window import Entry

AT = Cursor((5, 1), "tag")


def test_an_event():
    frame = frames.of_event(AT, Event("id", "job.created", "tenant", 1.0, b'{"a":1}'))
    assert frame.plain == b'id: 5-1.tag\nevent: job.created\ndata: {"a":1}\n\n'
    assert frame.chunk == b"%x\r\n%b\r\n" % (len(frame.plain), frame.plain)


@pytest.mark.parametrize("data", [b'{"a":\n1}', b'{"a":\r\n1}', b'{"a":\r1}', b"{\n\nid: 9-9.x\n\nevent: evil}"])
def test_no_data_begins_a_line_or_a_frame_of_its_own(data):
    plain = frames.of_event(AT, Event("id", "a", "tenant", 1.0, data)).plain
    lines = plain.decode().splitlines()
    assert lines[:2] == ["id: 5-1.tag", "event: a"]
    assert all(line.startswith("data: ") for line in lines[2:-1])
    assert plain.count(b"\n\n") == 1


def test_the_first_frame_says_whether_all_is_there():
    assert frames.hello(AT, recovered=True, epoch="e", missed=3, retry=2500).plain == (
        b'retry: 2500\nid: 5-1.tag\nevent: hello\ndata: {"recovered":true,"epoch":"e","missed":3}\n\n'
    )
    assert b"id:" not in frames.hello(None, recovered=False, epoch="", missed=None, retry=1).plain


def test_a_sign_of_life_shows_no_event():
    assert frames.place(AT).plain == b"id: 5-1.tag\n\n"


def test_a_parting_word_says_why_and_when_to_come_back():
    assert frames.parting("drain", 4000).plain == b"retry: 4000\nevent: drain\ndata: {}\n\n"
    assert frames.parting("", 700).plain == b"retry: 700\n\n"


def entries(*audiences, name="job.created"):
    return [
        Entry(Cursor((5, number), f"tag{number}"), Event(f"id{number}", name, to, 1.0, b"{}"))
        for number, to in enumerate(audiences, 1)
    ]


def got(batch, reader):
    found = batch.of(reader)
    if found is None:
        return []
    frame, count = found
    numbers = [int(line[6:7]) for line in frame.plain.decode().splitlines() if line.startswith("id: 5-")]
    assert len(numbers) == count
    return numbers


def test_what_comes_together_is_one_frame_of_what_is_for_its_reader():
    batch = frames.Batch(entries("tenant", "role:read:x", "user:ada", "roles:read:x write:x", "user:bob"))
    assert got(batch, Reader("org_a", "ada", frozenset({"read:x"}))) == [1, 2, 3]
    assert got(batch, Reader("org_a", "bob", frozenset({"read:x", "write:x"}))) == [1, 2, 4, 5]
    assert got(batch, Reader("org_a", None, frozenset())) == [1]
    assert got(batch, Reader("org_a", "ada", frozenset(), ("other.*",))) == []
    assert got(batch, Reader("org_a", "eve", frozenset({"read:x"}), ("job.*",))) == [1, 2]
    assert batch.last == Cursor((5, 5), "tag5")


def test_it_is_made_once_for_all_who_are_alike():
    batch = frames.Batch(entries("tenant", "role:read:x"))
    one, other = (batch.of(Reader("org_a", user, frozenset({"read:x"}))) for user in ("ada", "bob"))
    assert one is other
    personal = frames.Batch(entries("tenant", "user:ada"))
    one, other = (personal.of(Reader("org_a", user, frozenset())) for user in ("ada", "bob"))
    assert (one[1], other[1]) == (2, 1)


def test_marks_repetitions_and_what_cannot_be_read_are_shown_to_nobody():
    (real,) = entries("tenant")
    mark = Entry(Cursor((5, 2), "m"), Event("m", "", BEGINNING, 1.0))
    again = Entry(Cursor((5, 3), "tag1"), real.event, repeated=True)
    unread = Entry(Cursor((5, 4), "-"), None)
    reader = Reader("org_a", "ada", frozenset())
    assert got(frames.Batch([real, mark, again, unread]), reader) == [1]
    assert frames.Batch([mark, again, unread]).of(reader) is None
