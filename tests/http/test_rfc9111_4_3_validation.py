"""RFC 9111 sections 4.3 and 3.2: asking whether what is stored still holds, and being asked."""
# ruff: noqa: E501 (one case a line)

import pytest

from tests.http.plain import REFUSED, Ask, Says, played, table

SEND = (
    "SHOULD send an entity tag ... in If-None-Match; SHOULD send the Last-Modified value in If-Modified-Since (4.3.1)"
)
OLD = "Tue, 14 Nov 2023 21:00:00 GMT"
BRIEF = {"Cache-Control": "max-age=5"}


@table(
    ("sentence", "validators", "sent"),
    [
        (SEND + ": a strong tag", {"ETag": '"a"'}, {"if-none-match": '"a"'}),
        (SEND + ": a weak tag", {"ETag": 'W/"a"'}, {"if-none-match": 'W/"a"'}),
        (SEND + ": a date", {"Last-Modified": OLD}, {"if-modified-since": OLD}),
        (SEND + ": both", {"ETag": '"a"', "Last-Modified": OLD}, {"if-none-match": '"a"', "if-modified-since": OLD}),
        (SEND + ": the date in the form it is sent in", {"Last-Modified": "Tuesday, 14-Nov-23 21:00:00 GMT"}, {"if-modified-since": OLD}),
        # pathological
        (SEND + ": a tag without quotes is none", {"ETag": "a"}, {}),
        (SEND + ": a date that is none", {"Last-Modified": "yesterday"}, {}),
    ],
)  # fmt: skip
async def test_a_stale_response_is_asked_about_with_its_validators(sentence, validators, sent):
    _, later = await played(Ask(Says(BRIEF | validators)), Ask(after=9))
    conditions = ("if-none-match", "if-modified-since")
    assert later.upstream is not None
    assert {name: later.upstream.fields.get(name) for name in conditions if name in later.upstream.fields} == sent


async def test_the_clients_own_conditions_do_not_reach_the_origin_in_a_fill():
    (only,) = await played(Ask(headers={"If-None-Match": '"x"', "If-Modified-Since": OLD}))
    assert only.upstream is not None
    names = set(only.upstream.fields.names())
    assert names.isdisjoint({"if-none-match", "if-modified-since"})


MATCHED = "if the entity tag matches: 304 (4.3.2, RFC 9110 13.1.2)"
SINCE = "If-Modified-Since: 304 when not later than Last-Modified, or Date (4.3.2)"
PRECEDENCE = "MUST ignore If-Modified-Since if the request contains an If-None-Match (RFC 9110 13.1.3)"


@table(
    ("sentence", "stored", "asked", "status"),
    [
        # realistic
        (MATCHED, {"ETag": '"a"'}, {"If-None-Match": '"a"'}, 304),
        (MATCHED + ": another", {"ETag": '"a"'}, {"If-None-Match": '"b"'}, 200),
        (MATCHED + ": one of a list", {"ETag": '"a"'}, {"If-None-Match": '"x", W/"y" ,"a"'}, 304),
        (MATCHED + ": any", {"ETag": '"a"'}, {"If-None-Match": "*"}, 304),
        (MATCHED + ": any, and nothing to compare", {}, {"If-None-Match": "*"}, 304),
        (MATCHED + ": the weak comparison", {"ETag": 'W/"a"'}, {"If-None-Match": '"a"'}, 304),
        (MATCHED + ": the weak comparison, reversed", {"ETag": '"a"'}, {"If-None-Match": 'W/"a"'}, 304),
        (SINCE, {"Last-Modified": OLD}, {"If-Modified-Since": OLD}, 304),
        (SINCE + ": later", {"Last-Modified": OLD}, {"If-Modified-Since": "{now}"}, 304),
        (SINCE + ": earlier", {"Last-Modified": "{now-9}"}, {"If-Modified-Since": OLD}, 200),
        (SINCE + ": in an old form", {"Last-Modified": OLD}, {"If-Modified-Since": "Tuesday, 14-Nov-23 21:00:00 GMT"}, 304),
        (SINCE + ": no Last-Modified", {}, {"If-Modified-Since": "{now}"}, 304),
        (SINCE + ": no Last-Modified, earlier than Date", {}, {"If-Modified-Since": OLD}, 200),
        (PRECEDENCE, {"ETag": '"a"', "Last-Modified": OLD}, {"If-None-Match": '"b"', "If-Modified-Since": OLD}, 200),
        # pathological
        (MATCHED + ": without quotes", {"ETag": '"a"'}, {"If-None-Match": "a"}, 200),
        (MATCHED + ": a comma inside a tag", {"ETag": '"a,b"'}, {"If-None-Match": '"a,b"'}, 304),
        (MATCHED + ": tags are case-sensitive", {"ETag": '"a"'}, {"If-None-Match": '"A"'}, 200),
        (MATCHED + ": w/ is not W/", {"ETag": '"a"'}, {"If-None-Match": 'w"a'}, 200),
        (SINCE + ": no date", {"Last-Modified": OLD}, {"If-Modified-Since": "soon"}, 200),
    ],
)  # fmt: skip
async def test_a_fresh_response_answers_the_clients_conditions(sentence, stored, asked, status):
    _, later = await played(Ask(Says({"Cache-Control": "max-age=60"} | stored)), Ask(headers=asked))
    assert (later.how, later.answer.status) == ("hit", status)
    assert later.answer.body == (b"" if status == 304 else b"body")


async def test_a_stale_one_answers_them_after_validation():
    says, unchanged = Says(BRIEF | {"ETag": '"a"'}), Says(BRIEF | {"ETag": '"a"'}, status=304)
    _, later = await played(Ask(says), Ask(unchanged, {"If-None-Match": '"a"'}, after=9))
    assert (later.how, later.answer.status) == ("validated", 304)


@pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since"])
async def test_conditions_for_the_origin_are_forwarded(name):
    """ "MUST NOT be evaluated by a cache" unless it is the origin for the selected representation (RFC 9110 13.2.1)."""
    condition = {name: '"x"' if name == "If-Match" else OLD}
    _, later = await played(Ask(Says({"Cache-Control": "max-age=60"})), Ask(Says(status=412), condition))
    assert later.answer.status == 412
    assert later.upstream is not None
    assert later.upstream.fields.get(name.lower()) == condition[name]


REUSE = "A 304 (Not Modified) response status code indicates that the stored response can be updated and reused (4.3.3)"
FULL = "A full response ... the cache MUST use the full response to satisfy the request and MAY replace (4.3.3)"
ERROR = "if a cache receives a 5xx ... it can either forward this response or act as if the server failed to respond (4.3.3)"


@table(
    ("sentence", "origin", "status", "body"),
    [
        (REUSE, Says(BRIEF | {"ETag": '"a"'}, status=304), 200, b"body"),
        (FULL, Says(BRIEF | {"ETag": '"b"'}, body=b"new"), 200, b"new"),
        (FULL + ": a 404 too", Says(status=404, body=b"gone"), 404, b"gone"),
        (ERROR + ": forwarded", Says(status=503, body=b"busy"), 503, b"busy"),
        (ERROR + ": the server failed to respond", REFUSED, 200, b"body"),
    ],
)
async def test_what_the_origin_says_to_a_validation(sentence, origin, status, body):
    _, later = await played(Ask(Says(BRIEF | {"ETag": '"a"'})), Ask(origin, after=9))
    assert (later.how, later.answer.status, later.answer.body) == ("validated", status, body)


UPDATE = "the cache MUST add each header field in the provided response to the stored response, replacing (3.2)"
EXCEPT = "MUST NOT update: Content-Length, what depends on the stored body (3.2)"


@table(
    ("sentence", "name", "updated"),
    [
        *[(UPDATE, name, True) for name in ("X-Test", "Content-Foo", "Content-Type", "Expires", "Content-Security-Policy", "Link")],
        *[(EXCEPT, name, False) for name in ("Content-Encoding", "Content-Length", "Content-MD5", "Content-Digest", "Content-Range")],
    ],
)  # fmt: skip
async def test_a_304_updates_the_stored_head(sentence, name, updated):
    odd = name in ("Content-Encoding", "Content-Length")  # a stored value would not describe the body
    first = BRIEF | {"ETag": '"a"'} | ({} if odd else {name: "old"})
    renewed = {"Cache-Control": "max-age=60", "ETag": '"a"', name: "9" if odd else "new"}
    _, validated, later = await played(Ask(Says(first)), Ask(Says(renewed, status=304), after=9), Ask(after=1))
    assert (validated.how, later.how) == ("validated", "hit")
    kept = {"Content-Length": "4", "Content-Encoding": None}.get(name, "old")
    assert [validated.get(name.lower()), later.get(name.lower())] == ["new" if updated else kept] * 2


async def test_what_a_304_leaves_out_stays():
    says = Says(BRIEF | {"ETag": '"a"', "X-Kept": "1"})
    _, validated, later = await played(
        Ask(says), Ask(Says({"Cache-Control": "max-age=60"}, status=304), after=9), Ask()
    )
    assert [validated.get("x-kept"), later.get("x-kept"), later.how] == ["1", "1", "hit"]


async def test_after_a_304_the_age_begins_anew():
    says = Says(BRIEF | {"ETag": '"a"'})
    _, validated, later = await played(Ask(says), Ask(Says(BRIEF, status=304), after=9), Ask(after=3))
    assert [validated.get("age"), later.get("age")] == ["0", "3"]


async def test_a_304_that_may_not_be_stored_is_used_once():
    says = Says(BRIEF | {"ETag": '"a"'})
    forbidden = Says({"Cache-Control": "no-store", "ETag": '"a"'}, status=304)
    _, validated, later = await played(Ask(says), Ask(forbidden, after=9), Ask())
    assert (validated.answer.body, validated.get("age"), later.how) == (b"body", "0", "fetched")


@table(
    ("sentence", "news"),
    [
        ("strong validators: the stored responses with the same validator (4.3.4)", {"ETag": '"b"'}),
        ("weak validators: the most recent of the matching stored responses (4.3.4)", {"ETag": 'W/"b"'}),
        ("If no stored response matches, MUST NOT use the new response to update (4.3.4)", {"ETag": "b"}),
    ],
)
async def test_a_304_about_something_else_is_not_used(sentence, news):
    says = Says(BRIEF | {"ETag": '"a"'})
    _, later = await played(Ask(says), Ask(Says(BRIEF | news, status=304), after=9))
    assert later.how == "fetched"  # asked again, for the whole


HEAD = "When a cache makes an inbound HEAD request ... if they match, SHOULD be updated; otherwise considered stale (4.3.5)"
STORED = {"Cache-Control": "max-age=5", "ETag": '"a"', "X-Test": "old"}
NEWS = {"Cache-Control": "max-age=60", "X-Test": "new"}


@table(
    ("sentence", "news", "how", "told"),
    [
        (HEAD + ": the tag", NEWS | {"ETag": '"a"'}, "hit", "new"),
        (HEAD + ": the length too", NEWS | {"ETag": '"a"', "Content-Length": "4"}, "hit", "new"),
        (HEAD + ": another tag", NEWS | {"ETag": '"b"'}, "fetched", None),
        (HEAD + ": another length", NEWS | {"ETag": '"a"', "Content-Length": "5"}, "fetched", None),
        (
            HEAD + ": any received validator, here one that is not stored",
            NEWS | {"ETag": '"a"', "Last-Modified": "{now-60}"},
            "fetched",
            None,
        ),
        (HEAD + ": nothing to compare makes nothing fresh (our own rule)", NEWS, "validated", None),
    ],
)
async def test_a_head_tells_about_the_stored_get(sentence, news, how, told):
    _, head, later = await played(Ask(Says(STORED)), Ask(Says(news), method="HEAD", after=9), Ask())
    assert (head.answer.body, later.how) == (b"", how)
    assert told is None or later.get("x-test") == told


async def test_a_fresh_response_answers_head_without_its_body():
    _, later = await played(Ask(Says({"Cache-Control": "max-age=60"})), Ask(method="HEAD"))
    assert (later.how, later.answer.body, later.get("content-length")) == ("hit", b"", "4")
