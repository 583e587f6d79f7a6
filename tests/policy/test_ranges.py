"""Parts of a body: which, in what form, and when the whole is the answer."""

import pytest

from proxy.policy.ranges import MAX_RANGES, Partial, Unsatisfiable, Whole, is_asked, partial, select, unsatisfiable_head
from tests.builders import DATE, fields, request

BODY = b"0123456789"
OLDER = "Tue, 14 Nov 2023 22:13:19 GMT"
HEAD = fields({"ETag": '"a"', "Last-Modified": OLDER, "Date": DATE, "Content-Type": "text/plain"})


def selected(value: str, size: int = 10, **conditions: str):
    return select(request(headers={"Range": value} | conditions), HEAD, size)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        # realistic
        ("bytes=0-1", [(0, 1)]),
        ("bytes=2-", [(2, 9)]),
        ("bytes=-3", [(7, 9)]),
        ("bytes=0-0,-1", [(0, 0), (9, 9)]),
        ("bytes=5-6, 1-2", [(5, 6), (1, 2)]),
        # pathological
        ("bytes=0-999999999999999999", [(0, 9)]),
        ("bytes=-999", [(0, 9)]),
        ("BYTES = 0-1".replace(" ", ""), [(0, 1)]),
        ("bytes=, 0-1 ,", [(0, 1)]),
        ("bytes=0-1,50-", [(0, 1)]),
        ("bytes=0-4,3-7", [(0, 4), (3, 7)]),
    ],
)
def test_a_range_is_resolved_against_the_length(value, parts):
    assert selected(value) == Partial(tuple(parts))


@pytest.mark.parametrize(
    "value",
    [
        "bytes=cow",
        "bytes=",
        "bytes",
        "lines=0-1",
        "bytes=3-2",
        "bytes=0-1,5-2",
        "bytes=--1",
        "bytes=0-1;2-3",
        "bytes=\u0661-",
        "bytes=0-9999999999999999999",
        "bytes=0-,0-",  # more bytes than the whole
        "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)),
    ],
)
def test_what_is_no_range_or_too_many_is_ignored(value):
    assert selected(value) == Whole()


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-12,99-", "bytes=-0"])
def test_a_range_of_nothing_is_unsatisfiable(value):
    assert selected(value) == Unsatisfiable()


def test_an_empty_body_has_no_parts():
    assert selected("bytes=0-1", size=0) == Whole()
    assert selected("bytes=-1", size=0) == Whole()


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('"a"', True),
        ('"b"', False),
        ('W/"a"', False),
        ('"a--sidecache-gzip"', False),
        ('"a', False),
        (OLDER, True),
        (DATE, False),
        ("yesterday", False),
    ],
)
def test_if_range_takes_the_part_only_of_what_the_client_has(condition, holds):
    assert (selected("bytes=0-1", **{"If-Range": condition}) == Partial(((0, 1),))) is holds


@pytest.mark.parametrize(
    "head",
    [
        {"Last-Modified": DATE, "Date": DATE},  # it may have changed twice in that second
        {"Last-Modified": OLDER},
        {"Date": DATE},
    ],
)
def test_a_date_that_may_not_be_strong_does_not_hold(head):
    asked = request(headers={"Range": "bytes=0-1", "If-Range": head.get("Last-Modified", OLDER)})
    assert select(asked, fields(head), 10) == Whole()


def test_a_weak_tag_never_holds():
    asked = request(headers={"Range": "bytes=0-1", "If-Range": 'W/"a"'})
    assert select(asked, fields(etag='W/"a"'), 10) == Whole()


def test_only_get_has_ranges():
    asked = request(headers={"Range": "bytes=0-1"}, method="HEAD")
    assert not is_asked(asked)
    assert select(asked, HEAD, 10) == Whole()
    assert not is_asked(request())


def test_one_part_is_sent_as_it_is():
    head, body = partial(HEAD, BODY, Partial(((2, 4),)))
    assert body == b"234"
    assert head.get("content-range") == "bytes 2-4/10"
    assert head.get("content-type") == "text/plain"


def test_several_parts_are_multipart():
    head, body = partial(HEAD, BODY, Partial(((0, 1), (9, 9))))
    media, _, boundary = (head.get("content-type") or "").partition("; boundary=")
    assert media == "multipart/byteranges"
    assert "content-range" not in head
    assert boundary.encode() not in BODY
    assert (
        body
        == (
            f"--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
            f"--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n"
            f"--{boundary}--\r\n"
        ).encode()
    )


def test_parts_of_no_known_type_have_none():
    _, body = partial(fields(), BODY, Partial(((0, 1), (9, 9))))
    assert b"Content-Type" not in body


def test_a_416_tells_the_length_and_describes_no_body():
    assert list(unsatisfiable_head(HEAD, 10)) == [("ETag", '"a"'), ("Date", DATE), ("Content-Range", "bytes */10")]
