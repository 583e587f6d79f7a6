"""Which messages are in a stream of Server-Sent Events? Its lines, put together as the standard says; pure."""

from collections.abc import Iterator
from dataclasses import dataclass

MOST = 1 << 20  # bytes of one line, and of the data of one message


class TooLargeError(ValueError):
    """More than a message of anybody's would have."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. `id` is the last that was named, here or before."""

    event: str
    data: str
    id: str


class Frames:
    """Takes bytes as they arrive; gives messages as they are whole."""

    def __init__(self) -> None:
        self.retry: float | None = None  # seconds that the server wants between two connections
        self._bytes = b""
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._bytes += data
        while (end := self._bytes.find(b"\n")) >= 0:
            line, self._bytes = self._bytes[:end].rstrip(b"\r"), self._bytes[end + 1 :]
            frame = self._line(line.decode("utf-8", "replace"))
            if frame is not None:
                yield frame
        if len(self._bytes) > MOST:
            raise TooLargeError

    def _line(self, line: str) -> Frame | None:
        if not line:
            event, data = self._event, self._data
            self._event, self._data, self._size = "", [], 0
            return Frame(event or "message", "\n".join(data), self._id) if data or event else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "data":
            self._size += len(value)
            if self._size > MOST:
                raise TooLargeError
            self._data.append(value)
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value[:9]) / 1000
        return None
