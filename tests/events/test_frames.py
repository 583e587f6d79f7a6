"""The bytes of a stream: what a browser's EventSource takes them for."""

import pytest

from proxy.events import frames
from proxy.events.cursor import Cursor
from proxy.events.event import Event

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
