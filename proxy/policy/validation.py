"""Does a stored response still hold? Asking the origin, and answering the client's own conditions (RFC 9111 4.3)."""

import re

from proxy.policy.entry import Entry
from proxy.policy.fields import end_to_end, format_http_date, parse_http_date
from proxy.policy.message import Fields, Request, Response
from proxy.policy.outcome import Reason

# The encodings that sidecache makes itself: each has an entity tag of its own, with the coding as its suffix.
ENCODINGS = ("gzip", "zstd")

# A suffix no origin uses: Apache's own is `-gzip`, and an origin must get its own tags back unchanged.
_MARK = "--sidecache-"
_SUFFIX = re.compile(rf'{_MARK}(?:{"|".join(ENCODINGS)})"(?=[ \t]*(?:,|\Z))')
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')

# They describe the stored body, which a 304 does not bring along (RFC 9111 3.2).
_OF_THE_BODY = frozenset({"content-digest", "content-encoding", "content-length", "content-md5", "content-range"})


def conditions(entry: Entry, method: str = "GET") -> tuple[tuple[str, str], ...]:
    """The fields that make a fill conditional; none when the entry has no validator (RFC 9111 4.3.1)."""
    found: list[tuple[str, str]] = []
    if method == "POST":
        return ()  # there a tag that still holds means 412, not 304 (RFC 9110 13.1.2)
    if entry.etag is not None:
        found.append(("If-None-Match", entry.etag))
    if entry.last_modified is not None:
        found.append(("If-Modified-Since", format_http_date(entry.last_modified)))
    return tuple(found)


def freshened(entry: Entry, response: Response) -> Response | Reason:
    """The stored response as a 304 to our conditions updates it; `storing.decide` then judges it like any other.

    A Reason when the 304 speaks of another representation: the whole response must then be fetched (RFC 9111 4.3.4).
    """
    if not _selects(entry, response.fields):
        return Reason.VARIANT
    newer = end_to_end(response.fields).without(_OF_THE_BODY)
    replaced = set(newer.names())
    if entry.etag is not None:
        # the weak or strong form that the body came with stays
        newer = newer.without(("etag",))
        replaced.discard("etag")
    # without a new Date the old one would make the response as old as it was before
    kept = entry.fields().without(replaced | {"date"})
    return Response(entry.status, Fields((*kept, *newer)))


def freshened_by_head(entry: Entry, response: Response) -> Response | Reason | None:
    """The stored response as a 200 to HEAD updates it (RFC 9111 4.3.5).

    A Reason when the HEAD shows that it has changed; None when it proves nothing: it has no validator, and what nobody
    has compared must not become fresh again.
    """
    if response.fields.get("content-encoding") != entry.fields().get("content-encoding"):
        return None  # of another representation
    length = response.fields.get("content-length")
    if response.status != entry.status or (length is not None and length != str(len(entry.body))):
        return Reason.EXPIRED
    etag, modified = response.fields.get("etag"), response.fields.get("last-modified")
    if etag is None and modified is None:
        return None
    # "have matching values for any received validator fields ... otherwise, the cache SHOULD consider the stored
    # response to be stale" (4.3.5)
    if etag is not None and etag != entry.etag:
        return Reason.EXPIRED
    if modified is not None and parse_http_date(modified) != entry.last_modified:
        return Reason.EXPIRED
    return freshened(entry, response)


def _selects(entry: Entry, fields: Fields) -> bool:
    etag = fields.get("etag")
    if etag is not None:
        return entry.etag is not None and _opaque(etag) == _opaque(entry.etag)
    modified = fields.get("last-modified")
    # "If the new response does not include any form of validator" there is only the one entry that was asked about
    return modified is None or entry.last_modified is None or parse_http_date(modified) == entry.last_modified


def is_current(request: Request, entry: Entry) -> bool:
    """Whether the client already has what is stored, by its own conditions (RFC 9111 4.3.2)."""
    modified = entry.last_modified
    if modified is None and "if-modified-since" in request.fields:
        # "If Last-Modified is not present, the cache can use Date"
        modified = parse_http_date(entry.fields().get("date") or "")
    return not_modified(request, entry.etag, modified)


def not_modified(request: Request, etag: str | None, last_modified: float | None) -> bool:
    """Whether a 200 with these validators is what the client already has (RFC 9110 13.1.2, 13.1.3)."""
    if request.method not in ("GET", "HEAD"):
        return False
    known = request.fields.get("if-none-match")
    if known is not None:
        # "MUST ignore If-Modified-Since if the request contains an If-None-Match header field"
        return known.strip() == "*" or (etag is not None and _is_listed(etag, known))
    since = request.fields.get("if-modified-since")
    if since is None or last_modified is None:
        return False
    moment = parse_http_date(since)
    return moment is not None and last_modified <= moment


def _is_listed(etag: str, known: str) -> bool:
    # the tags of our own encodings stand for the one stored body
    return _opaque(etag) in {*_TAG.findall(known), *_TAG.findall(plain_etag(known))}


def _opaque(etag: str) -> str:
    """What the weak comparison compares (RFC 9110 8.8.3.2)."""
    return etag.removeprefix("W/")


def encoded_etag(etag: str, coding: str) -> str:
    """The entity tag of the representation in this coding: `"abc"` -> `"abc--sidecache-gzip"`; weak stays weak."""
    return f'{etag[:-1]}{_MARK}{coding}"' if etag.endswith('"') else etag


def plain_etag(value: str) -> str:
    """If-Match, If-None-Match or If-Range as the origin knows its tags: without the suffixes of our encodings."""
    return _SUFFIX.sub('"', value)
