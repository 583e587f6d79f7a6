"""What goes back to the client? A head that is complete, and a body that is bytes or a stream."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from proxy.policy import reply as heads
from proxy.policy.entry import Entry
from proxy.policy.fields import end_to_end, parse_http_date
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import CACHE_NAME, Outcome
from proxy.policy.route import Route
from proxy.policy.validation import not_modified
from proxy.serving.encoding import (
    OFF_LOOP_BYTES,
    compress,
    compressed,
    encoded_fields,
    may_encode,
    preferred,
    varying,
)
from proxy.serving.upstream import Stream

_VIA = ("Via", f"1.1 {CACHE_NAME}")


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Reply:
    """A response on its way out. `close` must be called when the body was not read to its end."""

    status: int
    fields: Fields
    body: bytes | AsyncIterator[bytes]
    outcome: Outcome
    reason: str = ""
    close: Callable[[], None] = _nothing

    @classmethod
    def own(cls, status: int, fields: Fields, body: bytes, outcome: Outcome) -> "Reply":
        """An answer that sidecache makes itself."""
        sized = (*fields, ("Content-Length", str(len(body))), ("Cache-Status", outcome.cache_status()))
        return cls(status, Fields(sized), body, outcome)


async def from_entry(entry: Entry, request: Request, route: Route, outcome: Outcome, now: float) -> Reply:
    """A stored response: in the encoding the client prefers, or 304 when it has it already."""
    fields = heads.stored_head(entry, route, now)
    coding = None
    if len(entry.body) > route.compress and may_encode(route, entry.status, fields):
        fields = varying(fields)
        coding = preferred(request.fields.get("accept-encoding"))
        if coding is not None:
            fields = encoded_fields(fields, coding)
    if entry.status == 200 and not_modified(request, entry.etag, entry.last_modified):
        return Reply(304, _finished(heads.not_modified_head(fields), outcome), b"", outcome)
    body = entry.body if coding is None else await _encoded(entry, coding)
    sized = fields.with_field("Content-Length", str(len(body)))
    return Reply(entry.status, _finished(sized, outcome), b"" if request.method == "HEAD" else body, outcome)


def from_stream(
    stream: Stream, request: Request, route: Route | None, outcome: Outcome, chunks: AsyncIterator[bytes] | None = None
) -> Reply:
    """The upstream's response as it arrives. `route` is the matched read, whose bodies may be encoded for the wire."""
    response = stream.response
    fields = end_to_end(response.fields)
    body = chunks if chunks is not None else stream.chunks()
    if route is not None:
        fields = heads.passing_head(fields, route)
        length = fields.get("content-length")
        big = length is None or not length.isdigit() or int(length) > route.compress
        if big and may_encode(route, response.status, fields):
            fields = varying(fields)
            coding = preferred(request.fields.get("accept-encoding"))
            if coding is not None and request.method != "HEAD":
                fields, body = encoded_fields(fields, coding), compressed(body, coding)
    return Reply(response.status, _finished(fields, outcome), body, outcome, response.reason, stream.close)


def unchanged(stream: Stream, request: Request, route: Route, outcome: Outcome) -> Reply | None:
    """A 304 for a client whose condition the upstream's full response answers; the body is not for it then."""
    response = stream.response
    etag = response.fields.get("etag")
    modified = parse_http_date(response.fields.get("last-modified") or "")
    if response.status != 200 or not not_modified(request, etag, modified):
        return None
    fields = heads.not_modified_head(heads.passing_head(end_to_end(response.fields), route))
    return Reply(304, _finished(fields, outcome), b"", outcome)


async def _encoded(entry: Entry, coding: str) -> bytes:
    body = entry.encodings.get(coding)
    if body is None:
        if len(entry.body) > OFF_LOOP_BYTES:
            body = await asyncio.to_thread(compress, entry.body, coding)
        else:
            body = compress(entry.body, coding)
        entry.encodings[coding] = body
    return body


def _finished(fields: Fields, outcome: Outcome) -> Fields:
    return Fields((*fields, ("Cache-Status", outcome.cache_status()), _VIA))
