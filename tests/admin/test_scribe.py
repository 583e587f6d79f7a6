"""What is written in a thread: in its order, with its errors, and without keeping anybody."""

import asyncio
import threading

import pytest

from proxy.admin.scribe import Scribe
from tests.doubles import settle


async def test_pieces_are_written_one_after_the_other():
    got: list[bytes] = []
    scribe = Scribe(got.append)
    await asyncio.gather(*(scribe.written(b"%d" % number) for number in range(20)))
    assert got == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("error", [OSError("no space left on device"), ValueError("write to closed file")])
async def test_an_error_is_the_writers_and_the_next_piece_is_tried(error):
    errors = [error]
    got: list[bytes] = []

    def write(data: bytes) -> None:
        if errors:
            raise errors.pop()
        got.append(data)

    scribe = Scribe(write)
    with pytest.raises(type(error), match=str(error)):
        await scribe.written(b"one")
    await scribe.written(b"two")
    assert got == [b"two"]


async def test_one_who_gives_up_leaves_the_piece_to_be_written():
    goes_on, got = threading.Event(), list[bytes]()

    def write(data: bytes) -> None:
        goes_on.wait()
        got.append(data)

    scribe = Scribe(write)
    given_up = asyncio.ensure_future(scribe.written(b"one"))
    await settle()
    given_up.cancel()
    goes_on.set()
    await scribe.written(b"two")
    assert got == [b"one", b"two"]
