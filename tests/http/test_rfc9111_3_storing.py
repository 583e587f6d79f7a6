"""RFC 9111 section 3: what is stored. "A cache MUST NOT store a response to a request unless" all of this holds."""
# ruff: noqa: E501 (one case a line)

import pytest

from tests.http.plain import RULES, Ask, Says, played, table

FRESH = {"Cache-Control": "max-age=60"}

FINAL = "the response status code is final"
UNDERSTOOD = "if the response status code is 206 or 304, or the must-understand cache directive is present"
NO_STORE = "the no-store cache directive is not present in the response"
PRIVATE = "if the cache is shared: the private response directive is either not present or allows"
AUTHORIZED = "if the cache is shared: the Authorization header field is not present in the request or explicitly allows"
CONTAINS = "the response contains at least one of the following"
PRESERVE = "caches MUST include all received response header fields, including unrecognized ones"
CONNECTION = "the Connection header field and fields whose names are listed in it are required to be removed"
INCOMPLETE = "MUST NOT store an incomplete response without marking it so"


@table(
    ("sentence", "says", "how"),
    [
        # realistic
        (CONTAINS + ": max-age", Says(FRESH), "hit"),
        (CONTAINS + ": s-maxage", Says({"Cache-Control": "s-maxage=60"}), "hit"),
        (CONTAINS + ": Expires", Says({"Expires": "{now+60}"}), "hit"),
        (CONTAINS + ": heuristic", Says({"Last-Modified": "{now-86400}"}), "hit"),
        (CONTAINS + ": public, with Last-Modified", Says({"Cache-Control": "public", "Last-Modified": "{now-86400}"}, 599), "hit"),
        (CONTAINS + ": nothing", Says(), "fetched"),
        (CONTAINS + ": nothing but a tag", Says({"ETag": '"a"'}), "fetched"),
        (CONTAINS + ": public alone, no ground for a lifetime", Says({"Cache-Control": "public"}), "fetched"),
        *[(f"{FINAL}: {status}", Says(FRESH, status), "hit") for status in (200, 203, 204, 299, 300, 301, 302, 303, 307, 308)],
        *[(f"{FINAL}: {status}", Says(FRESH, status), "hit") for status in (400, 404, 410, 414, 451, 499, 500, 502, 503, 504, 599)],
        (NO_STORE, Says({"Cache-Control": "no-store, max-age=60"}), "fetched"),
        (NO_STORE + ": on another line", Says([("Cache-Control", "max-age=60"), ("Cache-Control", "No-Store")]), "fetched"),
        (PRIVATE, Says({"Cache-Control": "private, max-age=60"}), "fetched"),
        (PRIVATE + ": with fields", Says({"Cache-Control": 'private="x-a", max-age=60'}), "hit"),
        (UNDERSTOOD + ": 206", Says(FRESH | {"Content-Range": "bytes 0-3/9"}, 206), "fetched"),
        (UNDERSTOOD + ": 304", Says(FRESH, 304), "fetched"),
        (UNDERSTOOD + ": a code not understood", Says({"Cache-Control": "max-age=60, must-understand"}, 599), "fetched"),
        (UNDERSTOOD + ": a code understood", Says({"Cache-Control": "max-age=60, must-understand"}, 404), "hit"),
        (UNDERSTOOD + ": SHOULD ignore no-store (5.2.2.3)", Says({"Cache-Control": "max-age=60, must-understand, no-store"}), "hit"),
        (UNDERSTOOD + ": but not for others (5.2.2.3)", Says({"Cache-Control": "max-age=60, must-understand, no-store"}, 599), "fetched"),
        (INCOMPLETE, Says(FRESH, cut=True), "fetched"),
        # pathological
        (FINAL + ": out of range", Says(FRESH, 999), "hit"),
        (CONTAINS + ": heuristic, a status that has none", Says({"Last-Modified": "{now-86400}"}, 403), "fetched"),
        (CONTAINS + ": inside a quoted string", Says({"Cache-Control": 'x="max-age=60"'}), "fetched"),
        (NO_STORE + ": in a member without grammar", Says({"Cache-Control": "max-age=60; no-store"}), "fetched"),
        (PRIVATE + ": with an empty list", Says({"Cache-Control": 'private="", max-age=60'}), "fetched"),
        (INCOMPLETE + ": its end cannot be told", Says(FRESH, length=False), "fetched"),
        ("never Set-Cookie (our own rule)", Says(FRESH | {"Set-Cookie": "a=1"}), "fetched"),
        ("never an event stream (our own rule)", Says(FRESH | {"Content-Type": "text/event-stream"}), "fetched"),
    ],
)  # fmt: skip
async def test_what_is_stored_answers_the_next_request(sentence, says, how):
    _, later = await played(Ask(says), Ask(after=1))
    assert later.how == how


@table(
    ("sentence", "method", "how"),
    [
        ("the request method is understood by the cache: GET", "GET", "hit"),
        ("HEAD brings no body to store", "HEAD", "fetched"),
        ("the request method is understood by the cache: POST (not kept for GET: see docs/conformance.md)", "POST", "fetched"),
        ("OPTIONS responses are not cacheable (RFC 9110 9.3.7)", "OPTIONS", "fetched"),
        ("a method that is not known", "FOO", "fetched"),
    ],
)  # fmt: skip
async def test_only_a_response_to_get_answers_get(sentence, method, how):
    _, later = await played(Ask(Says(FRESH | {"Content-Location": "/a"}), method=method), Ask(after=1))
    assert later.how == how


@table(
    ("sentence", "control", "how"),
    [
        (AUTHORIZED, "max-age=60", "fetched"),
        ("must-revalidate, public, and s-maxage (3.5): must-revalidate", "max-age=60, must-revalidate", "hit"),
        ("must-revalidate, public, and s-maxage (3.5): public", "max-age=60, public", "hit"),
        ("must-revalidate, public, and s-maxage (3.5): s-maxage", "s-maxage=60", "hit"),
        ("proxy-revalidate is not among them", "max-age=60, proxy-revalidate", "fetched"),
    ],
)
async def test_an_authorized_response_needs_the_origins_word(sentence, control, how):
    credentials = {"Authorization": "Basic dTpw"}
    answers = await played(Ask(Says({"Cache-Control": control}), credentials), Ask(after=1))
    assert answers[1].how == how


async def test_a_stored_response_may_answer_a_request_with_authorization():
    """3.5 speaks of responses to such requests only."""
    _, later = await played(Ask(Says(FRESH)), Ask(headers={"Authorization": "Basic dTpw"}))
    assert later.how == "hit"


@table(
    ("sentence", "line", "kept"),
    [
        (PRESERVE, ("X-Unheard-Of", "1"), True),
        (PRESERVE, ("Content-Foo", "1"), True),
        (PRESERVE, ("Surrogate-Control", "x"), True),
        (CONNECTION, ("X-Hop", "1"), False),
        (CONNECTION, ("Keep-Alive", "timeout=5"), False),
        ("Proxy-Authenticate, Proxy-Authentication-Info, and Proxy-Authorization MUST NOT", ("Proxy-Authenticate", "Basic"), False),
        ("Proxy-Authenticate, Proxy-Authentication-Info, and Proxy-Authorization MUST NOT", ("Proxy-Authentication-Info", "a=b"), False),
        ('fields listed in no-cache="..." are not stored (5.2.2.4)', ("X-No-Cache", "1"), False),
        ('fields listed in private="..." MUST NOT be stored (5.2.2.7)', ("X-Private", "1"), False),
    ],
)  # fmt: skip
async def test_a_stored_head_is_the_received_one(sentence, line, kept):
    control = 'max-age=60, no-cache="x-no-cache", private="x-private"'
    says = Says([line, ("Cache-Control", control), ("Connection", "x-hop")])
    _, later = await played(Ask(says), Ask(after=1))
    assert later.how == "hit"
    assert (line[0].lower() in later.answer.fields) is kept


async def test_a_body_that_came_encoded_unasked_is_kept_as_it_came():
    says = Says(FRESH | {"Content-Encoding": "gzip", "Content-Type": "text/plain"}, body=b"\x1f\x8b" + b"x" * 5000)
    _, later = await played(Ask(says), Ask(headers={"Accept-Encoding": "zstd, identity"}))
    assert (later.how, later.get("content-encoding"), later.answer.body) == ("hit", "gzip", says.body)


@pytest.mark.parametrize("scope", ["tenant", "user"])
async def test_any_other_scope_is_named_by_the_rule_and_needs_no_word_of_the_origin(scope):
    rules = RULES.replace("public", scope)
    _, later = await played(Ask(Says(FRESH)), Ask(), rules=rules)
    assert later.how == "fetched"  # and without a verified caller nothing is kept at all
