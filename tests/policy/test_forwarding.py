"""What the upstream gets: the head as it came, who forwarded it, and in a fill nothing that is not in the key."""

import pytest

from proxy.policy.forwarding import filling, passing
from tests.builders import fields, request

OURS = [("X-Forwarded-Proto", "http"), ("Via", "1.1 sidecache")]


def test_what_passes_keeps_order_case_and_repetition():
    lines = [("X-B", "1"), ("accept", "a"), ("X-b", "2"), ("Cookie", "c")]
    assert list(passing(request(headers=lines))) == [*lines, *OURS]


@pytest.mark.parametrize(
    "line", [("Connection", "x-hop"), ("X-Hop", "1"), ("TE", "trailers"), ("Expect", "100-continue")]
)
def test_what_belongs_to_the_connection_stays_behind(line):
    assert line not in passing(request(headers=[("Connection", "x-hop"), line])).pairs


@pytest.mark.parametrize("name", ["If-Match", "if-none-match", "If-Range"])
def test_the_tags_of_our_encodings_are_restored(name):
    assert passing(request(headers={name: '"a--sidecache-gzip"'})).get(name.lower()) == '"a"'
    assert passing(request(headers={"X-Tag": '"a--sidecache-gzip"'})).get("x-tag") == '"a--sidecache-gzip"'


@pytest.mark.parametrize(
    ("headers", "peer", "trusted", "expected"),
    [
        # realistic
        ({}, "10.0.0.1", False, {"x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "http"}),
        ({"Host": "h"}, "", False, {"x-forwarded-host": "h", "x-forwarded-for": None}),
        ({"X-Forwarded-For": "1.1.1.1"}, "10.0.0.1", True, {"x-forwarded-for": "1.1.1.1, 10.0.0.1"}),
        ({"X-Forwarded-Proto": "https"}, "10.0.0.1", True, {"x-forwarded-proto": "https"}),
        ({"X-Forwarded-Host": "a", "Host": "b"}, "10.0.0.1", True, {"x-forwarded-host": "a"}),
        ({"X-Forwarded-For": "1.1.1.1"}, "", True, {"x-forwarded-for": "1.1.1.1"}),
        # pathological: what an untrusted peer claims
        ({"X-Forwarded-For": "6.6.6.6"}, "10.0.0.1", False, {"x-forwarded-for": "10.0.0.1"}),
        ({"X-Forwarded-Host": "evil", "Host": "h"}, "", False, {"x-forwarded-host": "h"}),
        ({"X-Forwarded-Proto": "nothttps"}, "", False, {"x-forwarded-proto": "http"}),
        ({"Forwarded": "for=6.6.6.6"}, "", False, {"forwarded": None}),
    ],
)
@pytest.mark.isolation
def test_only_a_trusted_peer_says_who_the_client_is(headers, peer, trusted, expected):
    sent = passing(request(headers=headers, peer=peer, peer_trusted=trusted))
    assert {name: sent.get(name) for name in expected} == expected


def test_we_add_ourselves_to_via():
    assert passing(request(headers={"Via": "1.0 edge"})).get("via") == "1.0 edge, 1.1 sidecache"


@pytest.mark.parametrize(
    "name",
    [
        "Cache-Control",
        "Pragma",
        "Range",
        "If-Match",
        "If-None-Match",
        "If-Range",
        "If-Modified-Since",
        "If-Unmodified-Since",
    ],
)
def test_a_fill_asks_for_the_whole_unconditional_response(name):
    assert name.lower() not in filling(request(headers={name: "x"}))


def test_cache_directives_go_on_where_they_count_here():
    sent = filling(request(headers={"Cache-Control": "no-cache", "Range": "bytes=0-1", "Pragma": "x"}), directives=True)
    assert sent.get("cache-control") == "no-cache"
    assert {"range", "pragma"}.isdisjoint(sent.names())


@pytest.mark.parametrize("name", ["X-Real-IP", "True-Client-IP", "CF-Connecting-IP"])
@pytest.mark.isolation
def test_only_a_trusted_peer_says_in_a_fill_where_the_client_is(name):
    assert name.lower() not in filling(request(headers={name: "6.6.6.6"}))
    assert name.lower() in filling(request(headers={name: "6.6.6.6"}, peer_trusted=True))
    assert name.lower() in passing(request(headers={name: "6.6.6.6"}))


def test_a_fill_tells_the_type_of_a_body_only_where_there_is_one():
    assert "content-type" not in filling(request(headers={"Content-Type": "text/csv"}))
    assert "content-type" in filling(request(headers={"Content-Type": "text/csv"}, method="POST", has_body=True))


def test_a_fill_asks_for_no_encoding_and_sends_our_own_conditions():
    sent = filling(
        request(headers={"Accept-Encoding": "br", "If-None-Match": '"theirs"'}), [("If-None-Match", '"ours"')]
    )
    assert sent == fields([*OURS, ("Accept-Encoding", "identity"), ("If-None-Match", '"ours"')])


@pytest.mark.parametrize(("condition", "kept"), [('"a"', True), (None, True), ('"a--sidecache-gzip"', False)])
def test_no_part_is_asked_of_the_origin_that_only_we_could_send(condition, kept):
    headers = {"Range": "bytes=0-1"} | ({"If-Range": condition} if condition else {})
    assert ("range" in passing(request(headers=headers))) is kept
