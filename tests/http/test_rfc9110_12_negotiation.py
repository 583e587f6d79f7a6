"""RFC 9110 sections 8.8.3 and 12.5.3: one body is stored, each client gets its encoding, with a tag of its own."""

import gzip

import pytest
import zstandard

from tests.http.plain import Ask, Says, played, table

JSON = b"[" + b"1," * 2000 + b"1]"
STORED = Ask(Says({"Cache-Control": "max-age=60", "Content-Type": "application/json", "ETag": '"a"'}, body=JSON))

ABSENT = "If no Accept-Encoding header field is in the request, any content coding is considered acceptable"
IDENTITY = "If the representation has no content coding, then it is acceptable by default unless specifically excluded"
ZERO = "a qvalue of 0 means 'not acceptable'"
STAR = "The asterisk '*' symbol matches any available content coding not explicitly listed"
UNACCEPTABLE = "If ... none of the available response codings are listed as acceptable, SHOULD send ... without any"


@table(
    ("sentence", "accepted", "coding"),
    [
        # realistic
        (ABSENT + ": but who did not ask gets none", None, None),
        ("gzip", "gzip", "gzip"),
        ("a browser", "gzip, deflate, br, zstd", "zstd"),
        ("the highest weight", "zstd;q=0.5, gzip;q=0.8", "gzip"),
        (IDENTITY, "br", None),
        ("identity preferred", "gzip;q=0.5, identity", None),
        (ZERO, "gzip;q=0, zstd;q=0", None),
        (STAR, "*", "zstd"),
        (STAR + ": but not what is excluded", "zstd;q=0, *", "gzip"),
        ("An empty value: no coding is wanted", "", None),
        # pathological
        (UNACCEPTABLE + ": identity;q=0", "identity;q=0", None),
        (UNACCEPTABLE + ": *;q=0", "*;q=0", None),
        (UNACCEPTABLE + ": unknown codings", "cow, identity;q=0", None),
        ("identity excluded, gzip not", "identity;q=0, gzip", "gzip"),
        ("in any case", "GZIP", "gzip"),
        ("a weight that is none", "gzip;q=x", None),
        ("a weight beyond 1", "gzip;q=9", "gzip"),
    ],
)
async def test_a_hit_is_sent_as_the_client_asks_and_never_refused(sentence, accepted, coding):
    asked = {} if accepted is None else {"Accept-Encoding": accepted}
    _, later = await played(STORED, Ask(headers=asked))
    assert (later.how, later.answer.status, later.get("content-encoding")) == ("hit", 200, coding)
    assert _plain(later.answer.body, coding) == JSON
    assert later.get("vary") == "Accept-Encoding"
    assert later.get("etag") == ('"a"' if coding is None else f'"a--sidecache-{coding}"')


def _plain(body: bytes, coding: str | None) -> bytes:
    if coding == "gzip":
        return gzip.decompress(body)
    return body if coding is None else zstandard.ZstdDecompressor().decompressobj().decompress(body)


@pytest.mark.parametrize("known", ['"a"', '"a--sidecache-gzip"', '"a--sidecache-zstd"', 'W/"a--sidecache-gzip"'])
async def test_the_tag_of_any_encoding_is_known(known):
    _, later = await played(STORED, Ask(headers={"If-None-Match": known, "Accept-Encoding": "gzip"}))
    assert (later.how, later.answer.status) == ("hit", 304)


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
async def test_the_origin_gets_its_own_tag_back(name):
    (passed,) = await played(Ask(method="PUT", headers={name: '"x", "a--sidecache-gzip"'}))
    assert passed.upstream is not None
    assert passed.upstream.fields.get(name.lower()) == '"x", "a"'


async def test_the_origin_is_asked_for_the_one_that_is_stored():
    (filled,) = await played(Ask(headers={"Accept-Encoding": "br, gzip"}))
    assert filled.upstream is not None
    assert filled.upstream.fields.get("accept-encoding") == "identity"
