"""proxy.serving.reply: the heads and bodies that go back, from the cache and from the upstream."""

import gzip

import pytest

from proxy.policy.outcome import Outcome, Reason
from proxy.policy.validation import encoded_etag
from proxy.serving.encoding import OFF_LOOP_BYTES
from proxy.serving.reply import Reply, from_entry, from_stream, unchanged
from tests.builders import NOW, entry, request, route
from tests.serving.world import answered

HIT = Outcome(Reason.FRESH, hit=True, ttl=900)
MISS = Outcome(Reason.COLD)
LONG = b'{"id": 1, "name": "x"}' * 200
JSON = (("Content-Type", "application/json"),)
GZIP, ZSTD = encoded_etag('"v1"', "gzip"), encoded_etag('"v1"', "zstd")
TAGGED = (*JSON, ("ETag", '"v1"'))


async def whole(reply: Reply) -> bytes:
    return reply.body if isinstance(reply.body, bytes) else b"".join([chunk async for chunk in reply.body])


def asking(**headers: str):
    return request("/api/jobs", {name.replace("_", "-"): value for name, value in headers.items()})


def stored(body: bytes = LONG, headers=TAGGED, **more):
    return entry(headers, body=body, etag='"v1"' if headers is TAGGED else None, **more)


def arriving(body: bytes = LONG, **headers: str):
    return answered(body, **{"etag": '"v1"', **headers})


def test_an_answer_of_our_own_has_a_length_and_one_outcome():
    reply = Reply.own(404, request().fields, b"abc", Outcome(Reason.RESERVED))
    assert reply.fields.get("content-length") == "3"
    assert reply.fields.get_all("cache-status") == ("sidecache; detail=reserved-path",)


@pytest.mark.parametrize(
    ("accept", "coding", "etag"), [("gzip", "gzip", GZIP), ("zstd", "zstd", ZSTD), ("br", None, '"v1"')]
)
async def test_a_hit_and_a_miss_leave_in_the_same_encoding(accept, coding, etag):
    hit = await from_entry(stored(), asking(accept_encoding=accept), route(), HIT, NOW)
    miss = from_stream(arriving(), asking(accept_encoding=accept), route(), MISS, LONG)
    streamed = from_stream(arriving(), asking(accept_encoding=accept), route(), MISS)

    for reply in (hit, miss, streamed):
        assert reply.fields.get("content-encoding") == coding
        assert reply.fields.get("etag") == etag
        assert reply.fields.get("vary") == "Accept-Encoding"
    assert hit.fields.get("content-length") == str(len(await whole(hit)))
    assert miss.fields.get("content-length") == str(len(await whole(miss)))
    assert streamed.fields.get("content-length") == (None if coding else str(len(LONG)))
    if coding == "gzip":
        assert [gzip.decompress(await whole(each)) for each in (hit, miss, streamed)] == [LONG] * 3


async def test_an_encoding_is_made_once():
    kept = stored()
    first = await from_entry(kept, asking(accept_encoding="gzip"), route(), HIT, NOW)
    again = await from_entry(kept, asking(accept_encoding="gzip"), route(), HIT, NOW)
    assert first.body is again.body is kept.encodings["gzip"]


async def test_a_large_body_is_encoded_off_the_loop_to_the_same_bytes():
    body = b"a" * (OFF_LOOP_BYTES + 1)
    reply = await from_entry(stored(body), asking(accept_encoding="gzip"), route(), HIT, NOW)
    assert gzip.decompress(await whole(reply)) == body


@pytest.mark.parametrize(
    ("of", "body", "headers"),
    [
        (route(), b"short", TAGGED),  # realistic
        (route(), LONG, (("Content-Type", "image/png"),)),
        (route(sensitive=True), LONG, TAGGED),
        (route(), LONG, (*TAGGED, ("Cache-Control", "no-transform"))),
    ],
)
async def test_what_must_stay_plain_stays_plain(of, body, headers):
    hit = await from_entry(stored(body, headers), asking(accept_encoding="gzip"), of, HIT, NOW)
    named = {name.lower(): value for name, value in headers}
    miss = from_stream(answered(body, **named), asking(accept_encoding="gzip"), of, MISS)
    for reply in (hit, miss):
        assert await whole(reply) == body
        assert "content-encoding" not in reply.fields
        assert "vary" not in reply.fields


async def test_a_body_of_unknown_length_is_encoded():
    miss = from_stream(answered([b"ab", b"cd"]), asking(accept_encoding="gzip"), route(), MISS)
    assert gzip.decompress(await whole(miss)) == b"abcd"


async def test_what_the_upstream_encoded_although_asked_for_identity_is_left_alone():
    miss = from_stream(arriving(content_encoding="br"), asking(accept_encoding="gzip, br"), route(), MISS)
    assert (miss.fields.get("content-encoding"), miss.fields.get("etag")) == ("br", '"v1"')
    assert await whole(miss) == LONG


@pytest.mark.parametrize("tag", ['"v1"', 'W/"v1"', GZIP, f'"other", {ZSTD}', "*"])
@pytest.mark.parametrize(("accept", "etag"), [("gzip", GZIP), ("identity", '"v1"')])
async def test_a_304_speaks_of_the_representation_a_200_would_have_been(tag, accept, etag):
    conditional = asking(if_none_match=tag, accept_encoding=accept)
    hit = await from_entry(stored(), conditional, route(), HIT, NOW)
    miss = unchanged(arriving(), conditional, route(), MISS)
    for reply in (hit, miss):
        assert reply is not None
        assert (reply.status, reply.body) == (304, b"")
        assert (reply.fields.get("etag"), reply.fields.get("vary")) == (etag, "Accept-Encoding")
        assert "content-type" not in reply.fields


@pytest.mark.parametrize(
    ("answer", "headers"),
    [
        (arriving(), {}),
        (arriving(), {"if_none_match": '"v2"'}),
        (answered(b"no", 404, etag='"v1"'), {"if_none_match": '"v1"'}),
    ],
)
def test_what_the_client_does_not_have_is_no_304(answer, headers):
    assert unchanged(answer, asking(**headers), route(), MISS) is None


async def test_a_hit_for_head_has_the_length_and_no_body():
    reply = await from_entry(stored(), request("/api/jobs", method="HEAD"), route(), HIT, NOW)
    assert (reply.body, reply.fields.get("content-length")) == (b"", str(len(LONG)))


async def test_without_a_route_nothing_is_touched_but_hop_by_hop_fields():
    stream = arriving(connection="x-hop, close", x_hop="1", cache_status="edge; hit", accept_ranges="bytes")
    reply = from_stream(stream, asking(accept_encoding="gzip"), None, MISS)
    assert reply.fields.pairs == (
        ("etag", '"v1"'),
        ("cache-status", "edge; hit"),
        ("accept-ranges", "bytes"),
        ("content-type", "application/json"),
        ("content-length", str(len(LONG))),
        ("Cache-Status", "sidecache"),
        ("Via", "1.1 sidecache"),
    )
    reply.close()
    assert stream.closed
