"""Conditions towards the origin, a 304 that updates an entry, and the client's own conditions."""

from typing import Any

import pytest

from proxy.policy.fields import format_http_date
from proxy.policy.message import Fields, Response
from proxy.policy.outcome import Reason
from proxy.policy.validation import (
    conditions,
    encoded_etag,
    freshened,
    freshened_by_head,
    is_current,
    not_modified,
    plain_etag,
)
from tests.builders import DATE, NOW, Headers, entry, request, response

LATER = format_http_date(NOW + 60)


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"etag": 'W/"a"', "last_modified": NOW}, (("If-None-Match", 'W/"a"'), ("If-Modified-Since", DATE))),
        ({"etag": '"a"'}, (("If-None-Match", '"a"'),)),
        ({"last_modified": NOW}, (("If-Modified-Since", DATE),)),
        ({}, ()),
    ],
)
def test_a_revalidation_sends_the_validators_it_has(more, fields):
    assert conditions(entry(**more)) == fields


def test_a_read_by_post_is_not_asked_about():
    """There a tag that still holds means 412 (RFC 9110 13.1.2)."""
    assert conditions(entry(etag='"a"'), "POST") == ()
    assert conditions(entry(etag='"a"'), "QUERY") == (("If-None-Match", '"a"'),)


STORED = [
    ("Content-Type", "application/json"),
    ("ETag", '"a"'),
    ("X-Kept", "1"),
    ("X-New", "old"),
    ("Date", DATE),
]


def updated(headers: Headers, **more: Any) -> Any:
    return freshened(entry(STORED, **{"etag": '"a"', **more}), response(headers, status=304))


def test_a_304_replaces_what_it_brings_and_keeps_the_rest():
    result = updated(
        [("ETag", 'W/"a"'), ("x-new", "1"), ("X-New", "2"), ("Date", LATER), ("Cache-Control", "max-age=9")]
    )
    assert result == Response(
        200,
        Fields(
            [
                *STORED[:3],
                ("x-new", "1"),
                ("X-New", "2"),
                ("Date", LATER),
                ("Cache-Control", "max-age=9"),
            ]
        ),
    )


@pytest.mark.parametrize(
    "field", [("Content-Length", "0"), ("Content-Encoding", "gzip"), ("Content-Range", "x"), ("Connection", "close")]
)
def test_what_describes_a_304s_own_body_or_connection_is_not_taken_over(field):
    assert field not in updated([field]).fields.pairs


def test_the_media_type_is_updated():
    assert updated([("Content-Type", "text/csv")]).fields.get("content-type") == "text/csv"


def test_an_old_date_does_not_outlive_a_304_without_one():
    assert "date" not in updated([]).fields


def test_an_entity_tag_that_nobody_asked_about_selects_no_entry():
    kept = entry([("Last-Modified", DATE)], last_modified=NOW)
    assert freshened(kept, response({"ETag": '"new"'}, status=304)) is Reason.VARIANT
    assert freshened(kept, response({"Last-Modified": DATE}, status=304)) == Response(200, kept.fields())


@pytest.mark.parametrize(
    ("headers", "more", "selected"),
    [
        # realistic
        ({"ETag": '"a"'}, {}, True),
        ({"ETag": 'W/"a"'}, {}, True),
        ({}, {}, True),
        ({"Last-Modified": DATE}, {"last_modified": NOW}, True),
        ({"Last-Modified": DATE}, {}, True),
        # pathological
        ({"ETag": '"b"'}, {}, False),
        ({"ETag": '"a"'}, {"etag": None}, False),
        ({"Last-Modified": LATER}, {"last_modified": NOW}, False),
        ({"Last-Modified": "garbage"}, {"last_modified": NOW}, False),
        ({"ETag": '"a"', "Last-Modified": LATER}, {"last_modified": NOW}, True),
    ],
)
def test_a_304_for_another_representation_updates_nothing(headers, more, selected):
    assert (updated(headers, **more) is not Reason.VARIANT) is selected


@pytest.mark.parametrize(
    ("headers", "etag", "modified", "unmodified"),
    [
        # realistic
        ({"If-None-Match": '"a"'}, '"a"', None, True),
        ({"If-None-Match": 'W/"a"'}, '"a"', None, True),
        ({"If-None-Match": '"a"'}, 'W/"a"', None, True),
        ({"If-None-Match": '"x", W/"a" ,"y"'}, '"a"', None, True),
        ({"If-None-Match": "*"}, '"a"', None, True),
        ({"If-None-Match": " * "}, None, None, True),
        ({"If-None-Match": '"b"'}, '"a"', None, False),
        ({"If-None-Match": '"a--sidecache-gzip"'}, '"a"', None, True),
        ({"If-None-Match": 'W/"a--sidecache-zstd", "x"'}, '"a"', None, True),
        ({"If-None-Match": '"a--sidecache-gzip"'}, '"a--sidecache-gzip"', None, True),
        ({"If-None-Match": '"a,b"'}, '"a,b"', None, True),
        ({"If-Modified-Since": DATE}, None, NOW, True),
        ({"If-Modified-Since": LATER}, None, NOW, True),
        ({"If-Modified-Since": DATE}, None, NOW + 1, False),
        ({}, '"a"', NOW, False),
        # pathological
        ({"If-None-Match": '"b"', "If-Modified-Since": LATER}, '"a"', NOW, False),
        ({"If-None-Match": '"a"'}, None, NOW, False),
        ({"If-None-Match": "a"}, '"a"', None, False),
        ({"If-None-Match": '"ba"'}, '"a"', None, False),
        ({"If-None-Match": '"A"'}, '"a"', None, False),
        ({"If-None-Match": ""}, '"a"', None, False),
        ({"If-Modified-Since": "garbage"}, None, NOW, False),
        ({"If-Modified-Since": DATE}, None, None, False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_gets_304_for_what_it_has(method, headers, etag, modified, unmodified):
    assert not_modified(request(method=method, headers=headers), etag, modified) is unmodified


def test_no_other_method_is_answered_with_304():
    assert not not_modified(request(method="POST", headers={"If-None-Match": "*"}), '"a"', NOW)


@pytest.mark.parametrize(
    ("etag", "coding", "expected"),
    [
        ('"abc"', "gzip", '"abc--sidecache-gzip"'),
        ('W/"abc"', "zstd", 'W/"abc--sidecache-zstd"'),
        ('""', "gzip", '"--sidecache-gzip"'),
        ("abc", "gzip", "abc"),
    ],
)
def test_each_encoding_has_an_entity_tag_of_its_own(etag, coding, expected):
    assert encoded_etag(etag, coding) == expected


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        # realistic
        ('"abc--sidecache-gzip"', '"abc"'),
        ('W/"abc--sidecache-zstd"', 'W/"abc"'),
        ('"a--sidecache-gzip", "b" , W/"c--sidecache-zstd"', '"a", "b" , W/"c"'),
        ("*", "*"),
        (DATE, DATE),
        # pathological
        ('"abc-br"', '"abc-br"'),
        ('"a--sidecache-gzip,b"', '"a--sidecache-gzip,b"'),
        ('"a--sidecache-gzip--sidecache-gzip"', '"a--sidecache-gzip"'),
        ('"--sidecache-gzip"', '""'),
        ("abc--sidecache-gzip", "abc--sidecache-gzip"),
    ],
)
def test_the_origin_sees_its_own_tags(value, plain):
    assert plain_etag(value) == plain


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("etag", ['"abc"', 'W/"abc"', '""'])
def test_a_suffix_comes_off_as_it_went_on(coding, etag):
    assert plain_etag(encoded_etag(etag, coding)) == etag


def test_a_304_changes_nothing_that_describes_the_body():
    stored = [*STORED, ("Content-MD5", "old"), ("Content-Digest", "old")]
    news = [("Content-MD5", "new"), ("Content-Digest", "new"), ("Content-Encoding", "gzip"), ("Content-Range", "x")]
    result = freshened(entry(stored, etag='"a"'), response(news, status=304))
    assert isinstance(result, Response)
    assert [result.fields.get(name) for name in ("content-md5", "content-digest")] == ["old", "old"]
    assert "content-encoding" not in result.fields
    assert "content-range" not in result.fields


BODY = {"body": b"[]", "etag": '"a"', "last_modified": NOW}


@pytest.mark.parametrize(
    ("headers", "status", "more", "verdict"),
    [
        # realistic
        ({"ETag": '"a"', "X-New": "1"}, 200, BODY, Response),
        ({"ETag": '"a"', "Content-Length": "2"}, 200, BODY, Response),
        ({"Last-Modified": DATE}, 200, BODY, Response),
        ({"ETag": '"b"'}, 200, BODY, Reason),
        ({"ETag": '"a"', "Content-Length": "3"}, 200, BODY, Reason),
        ({"Last-Modified": LATER}, 200, BODY, Reason),
        ({"ETag": '"a"'}, 200, BODY | {"status": 404}, Reason),
        # pathological
        ({}, 200, BODY, None),
        ({"Content-Length": "2"}, 200, {"body": b"[]"}, None),
        ({"ETag": '"a"'}, 200, {"body": b"[]"}, Reason),
        ({"Last-Modified": DATE}, 200, {"body": b"[]", "etag": '"a"'}, Reason),
        ({"ETag": '"a"', "Last-Modified": LATER}, 200, BODY, Reason),
        ({"ETag": '"a"', "Last-Modified": DATE}, 200, BODY, Response),
        ({"ETag": '"a"', "Content-Encoding": "gzip", "Content-Length": "9"}, 200, BODY, None),
        ({"ETag": 'W/"a"'}, 200, BODY, Reason),
    ],
)
def test_a_head_freshens_or_condemns_only_what_it_can_be_compared_with(headers, status, more, verdict):
    result = freshened_by_head(entry(**more), response(headers, status=status))
    assert result is verdict if verdict is None else isinstance(result, verdict)


@pytest.mark.parametrize(
    ("headers", "more", "since", "current"),
    [
        ([("Date", DATE)], {}, DATE, True),
        ([("Date", DATE)], {}, LATER, True),
        ([("Date", LATER)], {}, DATE, False),
        ([("Date", DATE)], {"last_modified": NOW + 9}, DATE, False),
        ([], {}, DATE, False),
    ],
)
def test_without_last_modified_a_date_is_compared_with_date(headers, more, since, current):
    asked = request(headers={"If-Modified-Since": since})
    assert is_current(asked, entry(headers, **more)) is current
    assert not is_current(request(), entry(headers, **more))
