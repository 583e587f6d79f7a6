"""What is a cursor and what is none."""

import pytest

from proxy.events.cursor import Cursor, parsed


def test_a_cursor_is_read_as_it_is_written():
    cursor = Cursor((1795705758021, 3), "JMXSCorP-_HN")
    assert parsed(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "1-1", "1-1.", ".x", "1-1.x y", "1-1.ä", "-1-1.x", "1-1-1.x", "1.1.x", "1-1.0123456789abc", " 1-1.x",
        "1-1.x\n",        f"{2**64}-0.x", f"0-{2**64}.x", "٣-1.x", "1-1.x;y", "hello", "1" * 400,
    ],
)  # fmt: skip
def test_what_is_no_cursor(text):
    assert parsed(text) is None
