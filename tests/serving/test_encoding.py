"""proxy.serving.encoding: which coding a client gets, and that it decodes to the same bytes."""

import gzip
import random
from collections.abc import AsyncIterator

import pytest
import zstandard

from proxy.policy.validation import encoded_etag
from proxy.serving.encoding import compress, compressed, encoded_fields, may_encode, preferred, varying
from tests.builders import fields, route


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),  # realistic
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "gzip"),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("identity", None),
        ("br", None),
        ("*", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0.5, zstd;q=0.5", "zstd"),
        ("gzip;q=0.8, *;q=0.1", "gzip"),
        ("zstd;q=0, *;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.2, identity", None),
        ("gzip;q=1, identity;q=1", "gzip"),
        ("gzip, identity;q=0", "gzip"),
        ("", None),  # pathological
        (" , ,", None),
        ("*;q=0", None),
        ("identity;q=0", None),
        ("gzip;q=0, zstd;q=0, *;q=1", None),
        ("gzip;q=abc", None),
        ("gzip;q=nan", None),
        ("gzip;q=-1", None),
        ("gzip;q=9", "gzip"),
        ("gzip ; q = 0.5", "gzip"),
        ("gzip;x=1;q=0", None),
        ("gzip;level=9", "gzip"),
        ("xgzip, zstdx", None),
    ],
)
def test_the_coding_the_client_weighs_highest(accept, coding):
    assert preferred(accept) == coding


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-type": "application/json"}, True),  # realistic
        ({"content-type": "application/vnd.api+json; charset=utf-8"}, True),
        ({"content-type": "TEXT/HTML"}, True),
        ({"content-type": "image/png"}, False),
        ({"content-type": "application/zip"}, False),
        ({}, False),
        ({"content-type": "text/css", "content-encoding": "br"}, False),
        ({"content-type": "text/css", "content-encoding": "identity"}, False),  # pathological
        ({"content-type": "text/css", "content-range": "bytes 0-1/2"}, False),
        ({"content-type": "text/css", "cache-control": "max-age=1, No-Transform"}, False),
    ],
)
def test_only_what_is_plain_and_shrinks_is_encoded(headers, expected):
    assert may_encode(route(), 200, fields(headers)) is expected


def test_never_for_a_sensitive_route_or_a_part():
    plain = fields(content_type="application/json")
    assert not may_encode(route(sensitive=True), 200, plain)
    assert not may_encode(route(), 206, plain)


BODIES = [
    b"",
    b'{"id": 1}' * 1000,  # realistic
    random.Random(1).randbytes(300_000),  # pathological
]


def decoded(body: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.decompress(body)
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


@pytest.mark.parametrize("body", BODIES, ids=["empty", "json", "noise"])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_body_decodes_to_itself_whole_or_streamed(body, coding):
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7919):
            yield body[start : start + 7919]

    assert decoded(compress(body, coding), coding) == body
    assert decoded(b"".join([chunk async for chunk in compressed(chunks(), coding)]), coding) == body


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_what_was_read_can_be_decoded_before_more_is_read(coding):
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        raise AssertionError("nothing may wait for a second chunk")

    first = await anext(compressed(chunks(), coding))
    decoder = zstandard.ZstdDecompressor().decompressobj() if coding == "zstd" else None
    if decoder is None:
        import zlib

        decoder = zlib.decompressobj(31)
    assert decoder.decompress(first) == b"one"


@pytest.mark.parametrize("etag", ['"abc"', 'W/"abc"', "odd"])
def test_an_encoded_representation_has_its_own_tag_and_no_length_yet(etag):
    head = encoded_fields(fields(content_length="10", etag=etag, x="1"), "gzip")

    assert head.pairs == (("etag", encoded_etag(etag, "gzip")), ("x", "1"), ("Content-Encoding", "gzip"))


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        (None, "Accept-Encoding"),  # realistic
        ("Accept-Language", "Accept-Language, Accept-Encoding"),
        ("accept-encoding", "accept-encoding"),
        ("Origin, Accept-Encoding", "Origin, Accept-Encoding"),
        ("*", "*"),  # pathological
        ("", "Accept-Encoding"),
    ],
)
def test_vary_names_accept_encoding_once(vary, expected):
    head = varying(fields({} if vary is None else {"vary": vary}))
    assert head.get("vary") == expected
