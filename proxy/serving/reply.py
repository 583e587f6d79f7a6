"""What goes back to the client? A head that is complete, and a body that is bytes or a stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from proxy.policy import ranges
from proxy.policy import reply as heads
from proxy.policy.cache_control import of_request
from proxy.policy.entry import Entry
from proxy.policy.fields import end_to_end, parse_http_date
from proxy.policy.message import Fields, Request, Response
from proxy.policy.outcome import CACHE_NAME, Outcome
from proxy.policy.route import Route
from proxy.policy.validation import is_current, not_modified
from proxy.serving.encoding import (
    OFF_LOOP_BYTES,
    compress,
    compressed,
    encoded_fields,
    may_encode,
    preferred,
    varying,
)
from proxy.serving.outlet import Outlet
from proxy.serving.upstream import Stream

VIA = f"1.1 {CACHE_NAME}"


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Reply:
    """A response on its way out. `close` must be called when the body was not read to its end."""

    status: int
    fields: Fields
    body: bytes | AsyncIterator[bytes]
    outcome: Outcome
    reason: str | None = None  # the usual one of the status; the upstream's may be empty
    close: Callable[[], None] = _nothing
    last: bool = False  # the connection ends with it
    lasting: Callable[[Outlet], Awaitable[None]] | None = None  # in place of a body: writes for as long as it likes

    @classmethod
    def own(cls, status: int, fields: Fields, body: bytes, outcome: Outcome, *, last: bool = False) -> "Reply":
        """An answer that sidecache makes itself."""
        sized = (*fields, ("Content-Length", str(len(body))), ("Cache-Status", outcome.cache_status()))
        return cls(status, Fields(sized), body, outcome, last=last)


async def from_entry(entry: Entry, request: Request, route: Route, outcome: Outcome, now: float) -> Reply:
    """A stored response: in the encoding the client prefers, the part it asks for, or 304 when it has it already."""
    reply = from_entry_now(entry, request, route, outcome, now)
    if isinstance(reply, Reply):
        return reply
    await _encode(entry, reply)
    made = from_entry_now(entry, request, route, outcome, now)
    assert isinstance(made, Reply), "its encoding is there"
    return made


def from_entry_now(entry: Entry, request: Request, route: Route, outcome: Outcome, now: float) -> "Reply | str":
    """The same without waiting; the coding, where the body must be encoded first."""
    stored, age = heads.stored_head(entry, route), heads.age(entry, now)
    fields, coding = _negotiated(stored, request, route, entry.status, len(entry.body))
    if entry.status == 200:
        if is_current(request, entry):
            return Reply(304, _finished(heads.not_modified_head(fields).plus(age), outcome), b"", outcome)
        wanted = ranges.select(request, stored, len(entry.body))
        if not isinstance(wanted, ranges.Whole):
            # of the identity encoding, which is the one stored
            return _part(entry, (fields if coding is None else varying(stored)).plus(age), wanted, outcome)
    body = entry.body if coding is None else entry.encodings.get(coding)
    if body is None:
        assert coding is not None
        return coding
    # all at once: a copy for each would cost more than everything else here
    added = age, ("Content-Length", str(len(body))), ("Cache-Status", outcome.cache_status()), ("Via", VIA)
    return Reply(entry.status, Fields(fields.pairs + added), b"" if request.method == "HEAD" else body, outcome)


def is_dated(entry: Entry, route: Route) -> bool:
    """Whether the head of its reply is whole: a response without Date gets one when it is sent."""
    return "date" in heads.stored_head(entry, route)


def _part(entry: Entry, fields: Fields, wanted: ranges.Partial | ranges.Unsatisfiable, outcome: Outcome) -> Reply:
    if isinstance(wanted, ranges.Unsatisfiable):
        status, fields, body = 416, ranges.unsatisfiable_head(fields, len(entry.body)), b""
    else:
        status, (fields, body) = 206, ranges.partial(fields, entry.body, wanted)
    return Reply(status, _finished(fields.with_field("Content-Length", str(len(body))), outcome), body, outcome)


def from_stream(
    stream: Stream,
    request: Request,
    route: Route | None,
    outcome: Outcome,
    body: bytes | AsyncIterator[bytes] | None = None,
) -> Reply:
    """The upstream's response as it arrives. `route` is the matched read, whose bodies may be encoded for the wire.

    `body`, where it was taken from the stream already.
    """
    response = stream.response
    if body is None:
        body = stream.whole()
    if body is None:
        body = stream.chunks()
    if route is None:
        return Reply(response.status, passed(response, outcome), body, outcome, response.reason, stream.close)
    fields, coding = _passing(stream, request, route)
    if coding is not None and isinstance(body, bytes) and 0 < len(body) <= OFF_LOOP_BYTES:
        body = compress(body, coding)
        fields = fields.plus(("Content-Length", str(len(body))))
    elif coding is not None:
        body = compressed(_pieces(body) if isinstance(body, bytes) else body, coding)
    return Reply(response.status, _finished(fields, outcome), body, outcome, response.reason, stream.close)


def passed(response: Response, outcome: Outcome) -> Fields:
    """The head of a response that is passed on as it is."""
    return _finished(end_to_end(response.fields), outcome)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


def unchanged(stream: Stream, request: Request, route: Route, outcome: Outcome) -> Reply | None:
    """A 304 for a client whose condition the upstream's full response answers; the body is not for it then."""
    response = stream.response
    etag = response.fields.get("etag")
    modified = parse_http_date(response.fields.get("last-modified") or "")
    if response.status != 200 or not not_modified(request, etag, modified):
        return None
    fields, _ = _passing(stream, request, route)
    outcome = replace(outcome, fwd_status=response.status)
    return Reply(304, _finished(heads.not_modified_head(fields), outcome), b"", outcome)


def is_event_stream(fields: Fields) -> bool:
    """Whether what has this head goes on for as long as both sides like."""
    kind = fields.get("content-type")
    return kind is not None and kind.lower().startswith("text/event-stream")


def _passing(stream: Stream, request: Request, route: Route) -> tuple[Fields, str | None]:
    fields = heads.passing_head(end_to_end(stream.response.fields), route)
    return _negotiated(fields, request, route, stream.response.status, stream.length)


def _negotiated(
    fields: Fields, request: Request, route: Route, status: int, length: int | None
) -> tuple[Fields, str | None]:
    """The head of the encoding this client gets, and which one that is. `length` None: as long as it takes."""
    if (length is not None and length <= route.compress) or not may_encode(route, status, fields):
        return fields, None
    coding = wished(request.fields)
    return encoded(fields, coding), coding


def wished(fields: Fields) -> str | None:
    """The encoding that a client with this head gets of what may be encoded."""
    coding = preferred(fields.get("accept-encoding"))
    # "the client is asking for intermediaries to avoid transforming the content" (RFC 9111 5.2.1.6)
    return coding if coding is not None and not of_request(fields).no_transform else None


def encoded(fields: Fields, coding: str | None) -> Fields:
    """The head of what may be encoded, in this encoding."""
    fields = varying(fields)
    return encoded_fields(fields, coding) if coding is not None else fields


async def _encode(entry: Entry, coding: str) -> None:
    if len(entry.body) > OFF_LOOP_BYTES:
        entry.encodings[coding] = await asyncio.to_thread(compress, entry.body, coding)
    else:
        entry.encodings[coding] = compress(entry.body, coding)


def _finished(fields: Fields, outcome: Outcome) -> Fields:
    return fields.plus(("Cache-Status", outcome.cache_status()), ("Via", VIA))
