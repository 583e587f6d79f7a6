"""How does a stream look on the wire? Server-Sent Events, each frame made once for all who get it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from proxy.events.audience import Reader, is_personal
from proxy.events.cursor import Cursor
from proxy.events.event import Event
from proxy.events.window import Entry


class Frame(NamedTuple):
    """The bytes of a frame as they are, and as a chunk of a chunked body."""

    plain: bytes
    chunk: bytes

    @classmethod
    def of(cls, plain: bytes) -> "Frame":
        return cls(plain, b"%x\r\n%b\r\n" % (len(plain), plain))


class Batch:
    """Some entries of one mailbox, one behind the other, none of them a gap; and what their readers get of them.

    What a reader gets hangs on their user, roles and topics alone: for all who are alike in these it is made once.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.last = entries[-1].cursor
        self._shown = [(entry.cursor, event) for entry in entries if (event := entry.shown) is not None]
        self._personal = any(is_personal(event.to) for _, event in self._shown)
        self._made: dict[tuple[str | None, frozenset[str], tuple[str, ...]], tuple[Frame, int] | None] = {}

    def of(self, reader: Reader) -> tuple[Frame, int] | None:
        """The events that are for this reader, and how many they are. None: none of them."""
        alike = (reader.user if self._personal else None, reader.roles, reader.topics)
        if alike in self._made:
            return self._made[alike]
        found = [
            _block(event.name, event.data, str(cursor))
            for cursor, event in self._shown
            if reader.gets(event.name, event.to)
        ]
        made = self._made[alike] = (Frame.of(b"".join(found)), len(found)) if found else None
        return made


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
