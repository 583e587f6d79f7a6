"""Lines that nobody reads stop nothing: they wait, are lost beyond a bound, and counted."""

import os
from collections.abc import Iterator

import pytest

from proxy.telemetry.lines import Lines

LINE = "x" * 1000


@pytest.fixture
def pipe() -> Iterator[tuple[int, Lines]]:
    """The end that reads, which nobody does, and lines that go into the other one."""
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as stream:
        yield reads, Lines(stream, most=100 * len(LINE))
        os.close(reads)


def taken(reads: int, lines: int) -> list[str]:
    text = ""
    while text.count("\n") < lines:
        text += os.read(reads, 1 << 16).decode()
    return text.splitlines()


def test_lines_are_written_whole_and_in_their_order(pipe):
    reads, lines = pipe
    for number in range(50):
        lines.info(str(number))
    assert lines.written(10)
    assert taken(reads, 50) == [str(number) for number in range(50)]


def test_a_reader_that_has_stopped_stops_nobody_and_what_is_lost_is_counted(pipe):
    reads, lines = pipe
    for _ in range(1000):  # far more than a pipe holds
        lines.error(LINE)
    assert not lines.written(0.0)
    assert 0 < lines.lost < 1000
    kept = 1000 - lines.lost
    assert set(taken(reads, kept)) == {LINE}


def test_when_it_reads_again_the_lines_go_on(pipe):
    reads, lines = pipe
    for _ in range(1000):
        lines.info(LINE)
    taken(reads, 1000 - lines.lost)
    assert lines.written(10)
    lines.info("after")
    assert taken(reads, 1) == ["after"]
