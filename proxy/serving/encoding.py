"""Which encoding does the wire get? One canonical body is stored; identity, gzip and zstd are made from it (SPEC 8)."""

from collections.abc import AsyncIterator
from functools import lru_cache

import zstandard
from isal import isal_zlib

from proxy.cache import pack
from proxy.policy.fields import list_members
from proxy.policy.message import Fields
from proxy.policy.route import Route
from proxy.policy.validation import encoded_etag

OFF_LOOP_BYTES = 256 << 10  # larger bodies are compressed in a thread (DESIGN 3.8)

_GZIP_WINDOW = 31  # zlib's 15 bits, plus 16: a gzip wrapper
_ZSTD_LEVEL = 3
_GZIP_LEVEL = 1  # isal's levels are 0 to 3: 1 has gzip -6's ratio within 20 % at a tenth of its time

_COMMON = 100  # characters of a list that is remembered, at most

# Preferred first where the client weighs them alike.
_CODINGS = ("zstd", "gzip")

_COMPRESSIBLE = ("application/json", "application/javascript", "application/xml", "image/svg+xml", "text/")
_COMPRESSIBLE_SUFFIXES = ("+json", "+xml")


def may_encode(route: Route, status: int, fields: Fields) -> bool:
    """Whether representations of this response may leave in another encoding than the upstream's."""
    if route.sensitive or status != 200 or "content-encoding" in fields or "content-range" in fields:
        return False
    if "no-transform" in (fields.get("cache-control") or "").lower():
        return False  # "MUST NOT transform the content" (RFC 9111 5.2.2.6)
    media = (fields.get("content-type") or "").partition(";")[0].strip().lower()
    return media.startswith(_COMPRESSIBLE) or media.endswith(_COMPRESSIBLE_SUFFIXES)


def preferred(accept_encoding: str | None) -> str | None:
    """The coding the client weighs highest of those we have; None for identity (RFC 9110 12.5.3)."""
    if not accept_encoding:
        return None  # a client that did not ask never gets an encoded body
    return _preferred_of(accept_encoding) if len(accept_encoding) > _COMMON else _known(accept_encoding)


def _preferred_of(accept_encoding: str) -> str | None:
    weights = dict(_weighed(member) for member in list_members(accept_encoding))
    anything = weights.get("*", 0.0)
    best, coding = max((weights.get(name, anything), -rank) for rank, name in enumerate(_CODINGS))
    if best <= 0 or weights.get("identity", 0.0) > best:
        return None
    return _CODINGS[-coding]


_known = lru_cache(maxsize=256)(_preferred_of)  # there are few browsers


def _weighed(member: str) -> tuple[str, float]:
    coding, *parameters = (part.strip().lower() for part in member.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return coding, min(1.0, max(0.0, float(value)))
            except ValueError:
                return coding, 0.0
    return coding, 1.0


def compress(body: bytes, coding: str) -> bytes:
    """The whole body in this coding. Above OFF_LOOP_BYTES call it in a thread."""
    return pack.encoded(body, coding)


async def compressed(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """A body in this coding while it streams; each chunk read is flushed, so nothing waits for the next one."""
    if coding == "zstd":
        zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
        async for chunk in chunks:
            yield zstd.compress(chunk) + zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        yield zstd.flush()
    else:
        gzip = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
        async for chunk in chunks:
            yield gzip.compress(chunk) + gzip.flush(isal_zlib.Z_SYNC_FLUSH)
        yield gzip.flush()


def encoded_fields(fields: Fields, coding: str) -> Fields:
    """The head of the encoded representation: its coding, its own entity tag, no length yet."""
    pairs = (
        (name, encoded_etag(value, coding) if name.lower() == "etag" else value)
        for name, value in fields
        if name.lower() != "content-length"
    )
    return Fields((*pairs, ("Content-Encoding", coding)))


def varying(fields: Fields) -> Fields:
    """Say that the representation depends on Accept-Encoding (RFC 9110 12.5.5), once."""
    vary = fields.get("vary")
    names = [name.lower() for name in list_members(vary)] if vary else []
    if "accept-encoding" in names or "*" in names:
        return fields
    return fields.with_field("Vary", f"{vary}, Accept-Encoding" if vary else "Accept-Encoding")
