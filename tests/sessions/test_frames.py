"""Server-Sent Events in pieces of every size."""

import pytest

from proxy.sessions.frames import MOST, Frame, Frames, TooLargeError

STREAM = (
    b':connected\n\nretry: 2000\n\nevent: user.created\nid: a1\ndata: {"x":1}\n\n: heartbeat\n\n'
    b"event: offset-only\r\nid: a2\r\ndata: {\r\ndata: }\r\n\r\ndata:no space\n\nid: b\0d\ndata: y\n\nevent: error\n\n"
    b"unknown: x\nid\ndata: z\n\ndata: unfinished"
)
FRAMES = [
    Frame("user.created", '{"x":1}', "a1"), Frame("offset-only", "{\n}", "a2"), Frame("message", "no space", "a2"),
    Frame("message", "y", "a2"), Frame("error", "", "a2"), Frame("message", "z", ""),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_are_the_same_however_they_arrive(size):
    frames = Frames()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [frame for piece in pieces for frame in frames.feed(piece)] == FRAMES
    assert frames.retry == 2.0


def test_a_message_without_an_end_is_given_up():
    with pytest.raises(TooLargeError):
        list(Frames().feed(b"x" * (MOST + 1)))
    line = b"data: " + b"x" * (MOST // 2) + b"\n"
    with pytest.raises(TooLargeError):
        list(Frames().feed(line * 3))


def test_what_is_no_number_is_no_time_to_wait():
    frames = Frames()
    list(frames.feed("retry: soon\n\nretry: -5\n\nretry: ٣\n\n".encode()))
    assert frames.retry is None
