"""Which bytes of a complete stored body does this request get? (RFC 9110 14)"""

import re
from dataclasses import dataclass
from hashlib import blake2b

from proxy.policy.fields import list_members, parse_http_date
from proxy.policy.message import Fields, Request

# "A server that supports range requests MAY ignore or reject a Range header field that contains ... many small
# ranges" (14.2): beyond this many, or more bytes than the whole has, the whole is the answer.
MAX_RANGES = 16

_SPEC = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})")
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Whole:
    """The Range does not count: answer as if it were not there."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416: it asks for nothing that is there."""


@dataclass(frozen=True, slots=True)
class Partial:
    """206 with these parts: (first, last) positions, both inclusive, in the order they were asked for."""

    parts: tuple[tuple[int, int], ...]


Selected = Whole | Unsatisfiable | Partial

_WHOLE = Whole()
_UNSATISFIABLE = Unsatisfiable()


def is_asked(request: Request) -> bool:
    """Whether only a part is wanted. "Range ... MUST ignore ... with a method other than GET" (14.2)."""
    return request.method == "GET" and "range" in request.fields


def select(request: Request, fields: Fields, size: int) -> Selected:
    """The part of a 200 with this head and a body of `size` bytes; other preconditions come first (13.2.2)."""
    if not is_asked(request) or not _still_holds(request.fields.get("if-range"), fields):
        return _WHOLE
    unit, equals, specs = (request.fields.get("range") or "").partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes" or size == 0:
        return _WHOLE  # "MUST ignore a Range header field ... with a range unit it does not understand" (14.2)
    return _resolved(specs, size)


def _resolved(specs: str, size: int) -> Selected:
    parts: list[tuple[int, int]] = []
    members = list_members(specs)
    if not members or len(members) > MAX_RANGES:
        return _WHOLE
    for member in members:
        found = _SPEC.fullmatch(member)
        if found is None or (found[2] and int(found[2]) < int(found[1])):
            return _WHOLE  # "A recipient of a ... byte range set that includes one or more invalid ... MUST ignore"
        if found[3] is not None:
            first, last = max(0, size - int(found[3])), size - 1
            satisfiable = int(found[3]) > 0
        else:
            first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
            satisfiable = first < size
        if satisfiable:
            parts.append((first, last))
    if not parts:
        return _UNSATISFIABLE
    if len(parts) > 1 and sum(last - first + 1 for first, last in parts) > size:
        return _WHOLE  # they overlap so much that the whole is less
    return Partial(tuple(parts))


def _still_holds(if_range: str | None, fields: Fields) -> bool:
    """If-Range: the strong comparison with the entity tag, or exactly the date, where that is strong (13.1.5)."""
    if if_range is None:
        return True
    if '"' in if_range:
        return _STRONG_TAG.fullmatch(if_range) is not None and if_range == fields.get("etag")
    modified = parse_http_date(fields.get("last-modified") or "")
    date = parse_http_date(fields.get("date") or "")
    # a date is strong when the response is younger than the second in which the representation changed (8.8.2.2)
    return modified is not None and date is not None and parse_http_date(if_range) == modified <= date - 1


def unsatisfiable_head(fields: Fields, size: int) -> Fields:
    """The head of the 416: "SHOULD generate a Content-Range header field specifying the current length" (15.5.17)."""
    kept = Fields(pair for pair in fields if pair[0].lower() in ("age", "cache-control", "date", "etag", "vary"))
    return kept.with_field("Content-Range", f"bytes */{size}")


def partial(fields: Fields, body: bytes, wanted: Partial) -> tuple[Fields, bytes]:
    """Head (but for its length) and body of the 206: one part as it is, several as multipart/byteranges (14.6)."""
    size = len(body)
    if len(wanted.parts) == 1:
        first, last = wanted.parts[0]
        return fields.with_field("Content-Range", f"bytes {first}-{last}/{size}"), body[first : last + 1]
    media = fields.get("content-type")
    described = f"Content-Type: {media}\r\n" if media is not None else ""
    boundary = _boundary(body)
    pieces: list[bytes] = []
    for first, last in wanted.parts:
        head = f"--{boundary}\r\n{described}Content-Range: bytes {first}-{last}/{size}\r\n\r\n"
        pieces += [head.encode("latin-1"), body[first : last + 1], b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    # "MUST NOT generate a Content-Range header field in the header section of a multiple part response" (15.3.7.2)
    return fields.with_field("Content-Type", f"multipart/byteranges; boundary={boundary}"), b"".join(pieces)


def _boundary(body: bytes) -> str:
    # of the body itself: nobody can write one that contains it
    return blake2b(body, digest_size=16).hexdigest()
