"""What does an upstream's response say? Its bytes become heads and body pieces; what is not HTTP/1.1 is an error.

Strict where aiohttp's response parser is lax by design (bare LF, obs-fold, control characters), and it knows which byte
is the last of a response: what follows it was not asked for.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from proxy.policy.fields import list_members
from proxy.policy.message import Fields, Response

# Larger than the requests we accept: an upstream is trusted further than a client.
MAX_HEAD = 128 << 10
MAX_LINE = 32 << 10
MAX_FIELDS = 256
MAX_INTERIM = 100
_MAX_REMEMBERED = 2 << 10  # heads that are not read again when they come again
_MAX_CHUNK_LINE = 4 << 10  # extensions included, which nobody reads

# RFC 9112 4; the space before an absent reason is often left out
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
# RFC 9112 5: no space before the colon, no folded lines, no control characters
_FIELD_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)\r\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_START = b"HTTP/1."


class BadResponse(ValueError):
    """The bytes are not a response, or not one whose end can be known."""


class Head(NamedTuple):
    """A response's head and what it says about what follows."""

    response: Response
    framed: bool  # the body's end is known: a length, chunks, or none at all
    length: int | None  # of the body, when the head tells it
    chunked: bool
    bodiless: bool  # the request's method or the status allows no body (RFC 9112 6.3)
    persistent: bool  # another request may follow on the connection (RFC 9112 9.3)
    raw: bytes  # up to and including the line end of its last line

    @property
    def interim(self) -> bool:
        return 100 <= self.response.status < 200 and self.response.status != 101


class ResponseParser:
    """One response: interim heads, the final one, its body. `complete` after its last byte; `rest` is what follows."""

    __slots__ = (
        "_chunk_ends", "_interims", "_left", "_method", "_on_body", "_on_head", "_read", "_tail", "_trailer",
        "_until_end", "complete", "rest",
    )  # fmt: skip

    def __init__(self, method: str, on_head: Callable[[Head], None], on_body: Callable[[bytes], None]) -> None:
        self.complete = False
        self.rest = b""
        self._method = method
        self._on_head = on_head
        self._on_body = on_body
        self._read = ResponseParser._read_head  # not bound: what refers to itself waits for the garbage collector
        self._tail = b""  # what came of a line that is not whole yet
        self._left = 0  # bytes missing of the body, or of a chunk
        self._chunk_ends = False  # the line end behind a chunk's data comes next
        self._interims = 0
        self._trailer = 0
        self._until_end = False

    def feed(self, data: bytes) -> None:
        """Take what arrived. BadResponse when it cannot be the continuation of a response."""
        if self._tail:
            data, self._tail = self._tail + data, b""
        while data and not self.complete:
            data = self._read(self, data)
        if data:
            self.rest += data

    def end(self) -> None:
        """The connection ended in order; a body that only this delimits is complete now."""
        self.complete = self.complete or self._until_end

    def _read_head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(data) >= MAX_HEAD or not data.startswith(_START[: len(data)]) or _has_bare_lf(data):
                raise BadResponse("no head")
            self._tail = data
            return b""
        read = read_head if end > _MAX_REMEMBERED else _read_again
        head = read(data[: end + 2], "HEAD" if self._method == "HEAD" else "")
        rest = data[end + 4 :]
        if head.interim:
            self._interims += 1
            if self._interims > MAX_INTERIM:
                raise BadResponse("too many interim responses")
        else:
            self._begin_body(head)
        self._on_head(head)
        return rest

    def _begin_body(self, head: Head) -> None:
        if head.bodiless or head.length == 0:
            self.complete = True
        elif head.chunked:
            self._read = ResponseParser._read_chunks
        elif head.length is not None:
            self._left = head.length
            self._read = ResponseParser._read_counted
        else:
            self._until_end = True
            self._read = ResponseParser._read_all

    def _read_counted(self, data: bytes) -> bytes:
        if len(data) < self._left:
            self._left -= len(data)
            self._on_body(data)
            return b""
        self.complete = True
        if len(data) == self._left:
            self._on_body(data)
            return b""
        self._on_body(data[: self._left])
        return data[self._left :]

    def _read_all(self, data: bytes) -> bytes:
        self._on_body(data)
        return b""

    def _read_chunks(self, data: bytes) -> bytes:
        """RFC 9112 7.1. All chunks that came together are one piece of the body."""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        last = False
        while at < size and not last:
            if self._left:
                end = min(at + self._left, size)
                pieces.append(data[at:end])
                self._left -= end - at
                self._chunk_ends = not self._left
                at = end
            elif self._chunk_ends:
                if not b"\r\n".startswith(data[at : at + 2]):
                    raise BadResponse("a chunk is longer than its size")
                if size - at < 2:
                    break
                self._chunk_ends = False
                at += 2
            else:
                end = _line_end(data, at, _MAX_CHUNK_LINE)
                if end < 0:
                    break
                line = _CHUNK_LINE.fullmatch(data, at, end)
                if line is None:
                    raise BadResponse("a chunk's size")
                self._left = int(line[1], 16)
                last = not self._left
                at = end + 2
        if pieces:
            self._on_body(b"".join(pieces) if len(pieces) > 1 else pieces[0])
        if last:
            self._read = ResponseParser._read_trailer
            return data[at:]
        self._tail = data[at:]
        return b""

    def _read_trailer(self, data: bytes) -> bytes:
        """Trailer fields are read and dropped (RFC 9112 7.1.2: a recipient MAY)."""
        end = _line_end(data, 0, MAX_LINE)
        if end < 0:
            self._tail = data
            return b""
        if end == 0:
            self.complete = True
        else:
            self._trailer += end
            if self._trailer > MAX_LINE or not _FIELD_LINE.fullmatch(data[: end + 2].decode("latin-1")):
                raise BadResponse("a trailer field")
        return data[end + 2 :]


def read_head(raw: bytes, method: str) -> Head:
    """One head, up to and including the line end of its last line."""
    text = raw.decode("latin-1")
    status_line = _STATUS_LINE.match(text)
    if status_line is None:
        raise BadResponse("a status line")
    lines = _FIELD_LINE.findall(text, status_line.end())
    if sum([len(name) + len(value) + 3 for name, value in lines]) != len(text) - status_line.end():
        raise BadResponse("a field line")
    if len(lines) > MAX_FIELDS or (len(text) > MAX_LINE and any(len(value) > MAX_LINE for _, value in lines)):
        raise BadResponse("too many fields, or too long")
    fields = Fields([(name, value.strip(" \t")) for name, value in lines])
    minor, status, reason = status_line.groups()
    return _framed(
        raw, Response(int(status), fields, (reason or "").strip(" \t")), method, persistent_by_default=minor == "1"
    )


_read_again = lru_cache(maxsize=512)(read_head)  # many an upstream says the same for a second


def _framed(raw: bytes, response: Response, method: str, *, persistent_by_default: bool) -> Head:
    """Where the body ends (RFC 9112 6.3). Whatever two recipients could read differently is an error."""
    status, fields = response.status, response.fields
    coding, lengths = fields.get("transfer-encoding"), fields.get_all("content-length")
    if coding is not None and (coding.lower() != "chunked" or lengths or not persistent_by_default):
        # an unknown coding hides the end, both together contradict each other, HTTP/1.0 knows none (6.1)
        raise BadResponse("Transfer-Encoding")
    if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
        raise BadResponse("Content-Length")
    if status < 200 and (coding is not None or any(length != "0" for length in lengths)):
        raise BadResponse("an interim response has no body")
    bodiless = method == "HEAD" or status < 200 or status in (204, 304)
    return Head(
        response,
        framed=bodiless or coding is not None or bool(lengths),
        length=int(lengths[0]) if lengths else None,
        chunked=coding is not None,
        bodiless=bodiless,
        persistent=_is_persistent(fields.get("connection"), persistent_by_default),
        raw=raw,
    )


def _is_persistent(connection: str | None, by_default: bool) -> bool:
    if connection is None:
        return by_default
    options = [option.lower() for option in list_members(connection)]
    return "close" not in options and (by_default or "keep-alive" in options)


def _line_end(data: bytes, at: int, limit: int) -> int:
    """Where the line's CRLF is; -1 when it is still to come."""
    end = data.find(b"\r\n", at, at + limit)
    if end < 0 and (len(data) - at >= limit or _has_bare_lf(data[at:])):
        raise BadResponse("a line without its end")
    return end


def _has_bare_lf(data: bytes) -> bool:
    return data.count(b"\n") != data.count(b"\r\n")
