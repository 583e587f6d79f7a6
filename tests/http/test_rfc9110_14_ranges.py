"""RFC 9110 section 14, and RFC 9111 3.3 and 3.4: parts of what is stored whole."""
# ruff: noqa: E501 (one case a line)

from tests.http.plain import Ask, Says, played, table

OLD = "Tue, 14 Nov 2023 21:00:00 GMT"
FRESH = {"Cache-Control": "max-age=60", "Content-Type": "text/plain", "ETag": '"a"', "Last-Modified": OLD}
STORED = Ask(Says(FRESH, body=b"0123456789"))

SATISFY = (
    "If all of the preconditions are true, the server supports Range, and the range set is satisfiable: 206 (14.2)"
)
IGNORE = "A server MUST ignore a Range header field (14.2)"
UNSATISFIABLE = "416: SHOULD generate a Content-Range header field specifying the current length (15.5.17)"
IF_RANGE = "If-Range: if the validator does not match, ignore the Range header field (13.1.5)"
STRONG = "MUST use the strong comparison function (13.1.5)"


@table(
    ("sentence", "asked", "status", "content_range", "body"),
    [
        # realistic
        (SATISFY, {"Range": "bytes=0-1"}, 206, "bytes 0-1/10", b"01"),
        (SATISFY + ": no last position", {"Range": "bytes=8-"}, 206, "bytes 8-9/10", b"89"),
        (SATISFY + ": a suffix", {"Range": "bytes=-1"}, 206, "bytes 9-9/10", b"9"),
        (SATISFY + ": all of it", {"Range": "bytes=0-"}, 206, "bytes 0-9/10", b"0123456789"),
        (SATISFY + ": beyond the end", {"Range": "bytes=5-99"}, 206, "bytes 5-9/10", b"56789"),
        (UNSATISFIABLE, {"Range": "bytes=10-"}, 416, "bytes */10", b""),
        (IF_RANGE + ": it does", {"Range": "bytes=0-1", "If-Range": '"a"'}, 206, "bytes 0-1/10", b"01"),
        (IF_RANGE, {"Range": "bytes=0-1", "If-Range": '"b"'}, 200, None, b"0123456789"),
        (IF_RANGE + ": a date", {"Range": "bytes=0-1", "If-Range": OLD}, 206, "bytes 0-1/10", b"01"),
        (IF_RANGE + ": another date", {"Range": "bytes=0-1", "If-Range": "{now}"}, 200, None, b"0123456789"),
        (STRONG, {"Range": "bytes=0-1", "If-Range": 'W/"a"'}, 200, None, b"0123456789"),
        ("If-None-Match comes first (13.2.2)", {"Range": "bytes=0-1", "If-None-Match": '"a"'}, 304, None, b""),
        ("If-Range without Range is ignored (13.1.5)", {"If-Range": '"b"'}, 200, None, b"0123456789"),
        # pathological
        (IGNORE + ": another unit", {"Range": "pages=1-2"}, 200, None, b"0123456789"),
        (IGNORE + ": no range at all", {"Range": "bytes=cow"}, 200, None, b"0123456789"),
        (IGNORE + ": backwards", {"Range": "bytes=3-1"}, 200, None, b"0123456789"),
        (IGNORE + ": many small ranges", {"Range": "bytes=" + ",".join(["0-0"] * 17)}, 200, None, b"0123456789"),
        (IGNORE + ": overlapping ranges", {"Range": "bytes=0-,0-,0-"}, 200, None, b"0123456789"),
        ("of the identity encoding, whatever is accepted", {"Range": "bytes=0-1", "Accept-Encoding": "gzip"}, 206, "bytes 0-1/10", b"01"),
    ],
)  # fmt: skip
async def test_a_part_of_a_stored_response(sentence, asked, status, content_range, body):
    _, later = await played(STORED, Ask(headers=asked))
    assert later.how == "hit"
    assert (later.answer.status, later.get("content-range"), later.answer.body) == (status, content_range, body)
    if status != 304:
        assert later.get("content-length") == str(len(body))


async def test_several_parts():
    """15.3.7.2: "MUST transmit a multipart/byteranges ... MUST NOT generate a Content-Range header field"."""
    _, later = await played(STORED, Ask(headers={"Range": "bytes=0-1,-2"}))
    media, _, boundary = (later.get("content-type") or "").partition("; boundary=")
    assert (later.answer.status, media, later.get("content-range")) == (206, "multipart/byteranges", None)
    parts = later.answer.body.split(b"--" + boundary.encode())
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [b"01\r\n", b"89\r\n"]
    assert b"Content-Range: bytes 8-9/10\r\n" in parts[2]


async def test_the_fields_of_a_206_are_those_of_the_200():
    """15.3.7: "MUST generate ... Date, Cache-Control, ETag, Expires, Content-Location, and Vary"."""
    _, later = await played(STORED, Ask(headers={"Range": "bytes=0-1"}, after=3))
    assert [later.get(name) for name in ("etag", "cache-control", "age", "cache-status")] == [
        '"a"', "max-age=60", "3", "sidecache; hit; ttl=57",
    ]  # fmt: skip


async def test_a_part_of_what_is_not_stored_is_the_origins_to_send_and_is_not_stored():
    part = Says(FRESH | {"Content-Range": "bytes 0-1/10"}, 206, body=b"01")
    asked = Ask(part, {"Range": "bytes=0-1", "If-Range": '"a"'})
    first, second, whole = await played(asked, asked, STORED)
    assert (first.answer.status, second.how, whole.how) == (206, "fetched", "fetched")
    assert first.upstream is not None
    assert [first.upstream.fields.get(name) for name in ("range", "if-range")] == ["bytes=0-1", '"a"']
    assert first.get("cache-status") == "sidecache; fwd=uri-miss; detail=range"


async def test_a_416_of_the_origin_is_not_stored_for_others():
    _, later = await played(Ask(Says(FRESH, 416), {"Range": "bytes=99-"}), STORED)
    assert (later.how, later.answer.status) == ("fetched", 200)


async def test_a_part_of_a_stale_response_is_served_once_it_is_validated():
    """RFC 9111 4.3.3: a 304 makes it usable, a 200 replaces it and is sent whole (14.2: a server MAY ignore Range)."""
    part = {"Range": "bytes=0-1"}
    _, unchanged = await played(STORED, Ask(Says(FRESH, 304), part, after=99))
    _, changed = await played(STORED, Ask(Says(FRESH | {"ETag": '"b"'}, body=b"new"), part, after=99))
    assert (unchanged.how, unchanged.answer.status, unchanged.answer.body) == ("validated", 206, b"01")
    assert (changed.how, changed.answer.status, changed.answer.body) == ("validated", 200, b"new")
    assert changed.upstream is not None
    assert "range" not in changed.upstream.fields


async def test_head_has_no_parts():
    """14.2: "MUST ignore a Range header field received with a request method ... other than GET"."""
    _, later = await played(STORED, Ask(method="HEAD", headers={"Range": "bytes=0-1"}))
    assert (later.how, later.answer.status, later.get("content-length")) == ("hit", 200, "10")


async def test_no_part_of_our_own_encoding_is_mixed_with_the_origins():
    _, known = await played(STORED, Ask(headers={"Range": "bytes=0-1", "If-Range": '"a--sidecache-gzip"'}))
    assert known.answer.status == 200
    (unknown,) = await played(Ask(headers={"Range": "bytes=0-1", "If-Range": '"a--sidecache-gzip"'}))
    assert unknown.upstream is not None
    assert [unknown.upstream.fields.get(name) for name in ("range", "if-range")] == [None, '"a"']
