"""How does a stream look on the wire? Server-Sent Events, each frame made once for all who get it."""

from typing import Any, NamedTuple

import orjson

from proxy.events.cursor import Cursor
from proxy.events.event import Event


class Frame(NamedTuple):
    """The bytes of a frame as they are, and as a chunk of a chunked body."""

    plain: bytes
    chunk: bytes

    @classmethod
    def of(cls, plain: bytes) -> "Frame":
        return cls(plain, b"%x\r\n%b\r\n" % (len(plain), plain))


def of_event(cursor: Cursor, event: Event) -> Frame:
    return Frame.of(_block(event.name, event.data, str(cursor)))


def passing(event: Event) -> Frame:
    """One that is kept nowhere: nobody resumes from it."""
    return Frame.of(_block(event.name, event.data, None))


def hello(cursor: Cursor | None, *, recovered: bool, epoch: str, missed: int | None, retry: int) -> Frame:
    """The first frame; and one more whenever something may be missing, of which then nothing is told."""
    said = orjson.dumps({"recovered": recovered, "epoch": epoch, "missed": missed})
    return Frame.of(b"retry: %d\n" % retry + _block("hello", said, None if cursor is None else str(cursor)))


def place(cursor: Cursor) -> Frame:
    """A sign of life that moves on the reader's `Last-Event-ID`, and shows no event."""
    return Frame.of(f"id: {cursor}\n\n".encode())


def parting(name: str, retry: int, **said: Any) -> Frame:
    """Why a stream ends, and after how many milliseconds to come back. Without a name: for no reason but its age."""
    wait = b"retry: %d\n" % retry
    return Frame.of(wait + (_block(name, orjson.dumps(said), None) if name else b"\n"))


def _block(name: str, data: bytes, id: str | None) -> bytes:
    lines = b"\ndata: ".join(data.splitlines()) or b"{}"
    head = b"" if id is None else b"id: %b\n" % id.encode()
    return head + b"event: %b\ndata: %b\n\n" % (name.encode(), lines)
