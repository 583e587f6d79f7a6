"""RFC 9111 sections 4.2, 5.1 and 5.3: how long a response is fresh, how old it is, and when it may be served stale."""
# ruff: noqa: E501 (one case a line)

import pytest

from tests.http.plain import REFUSED, Ask, Says, played, table

LIFETIME = "A cache can calculate the freshness lifetime by evaluating the following rules and using the first match"
CONFLICT = "either the first occurrence should be used or the response should be considered stale"
INVALID = "Caches are encouraged to consider responses that have invalid freshness information to be stale"
OVERFLOW = "the cache MUST consider the value to be 2147483648"
DELTA = "A recipient parsing a delta-seconds value ... cannot represent"
EXPIRES = "A cache recipient MUST interpret invalid date formats, especially the value '0', as ... already expired"
NO_DATE = "A recipient with a clock that receives a response message without a Date header field MUST record the time"
HEURISTIC = "a cache MAY assign a heuristic expiration time when an explicit time is not specified"
NOT_HEURISTIC = "A cache MUST NOT use heuristics to determine freshness when an explicit expiration time is present"


@table(
    ("sentence", "headers", "fresh"),
    [
        # realistic
        (LIFETIME + ": s-maxage first", {"Cache-Control": "s-maxage=60, max-age=1", "Expires": "{now+1}"}, 60),
        (LIFETIME + ": a short s-maxage", {"Cache-Control": "max-age=60, s-maxage=5"}, 5),
        (LIFETIME + ": then max-age", {"Cache-Control": "max-age=60", "Expires": "{now+1}"}, 60),
        (LIFETIME + ": a short max-age", {"Cache-Control": "max-age=5", "Expires": "{now+60}"}, 5),
        (LIFETIME + ": then Expires minus Date", {"Expires": "{now+60}"}, 60),
        (LIFETIME + ": by the origin's own clock", {"Date": "{now-30}", "Expires": "{now+60}"}, 60),
        ("directives are case-insensitive (5.2)", {"cache-control": "MaX-aGe=60"}, 60),
        ("recipients ought to accept both forms: quoted (5.2)", {"Cache-Control": 'max-age="60"'}, 60),
        ("unknown directives are ignored (5.2.3)", {"Cache-Control": "foobar, max-age=60, x=y"}, 60),
        ("directives on several lines", [("Cache-Control", "public"), ("Cache-Control", "max-age=60")], 60),
        (HEURISTIC, {"Last-Modified": "{now-1000}"}, 100),
        (HEURISTIC + ": at most a day", {"Last-Modified": "{now-9000000}"}, 86400),
        (NOT_HEURISTIC, {"Cache-Control": "max-age=5", "Last-Modified": "{now-86400}"}, 5),
        (NOT_HEURISTIC + ": Expires", {"Expires": "0", "Last-Modified": "{now-86400}"}, 0),
        (NO_DATE, {"Expires": "{now+60}", "Date": "yesterday"}, 60),
        # pathological
        (CONFLICT, {"Cache-Control": "max-age=5, max-age=60"}, 5),
        (CONFLICT + ": the other way round", [("Cache-Control", "max-age=60"), ("Cache-Control", "max-age=5")], 5),
        (CONFLICT + ": Expires twice", [("Expires", "{now+60}"), ("Expires", "{now+60}")], 0),
        (OVERFLOW, {"Cache-Control": "max-age=2147483648"}, 2147483648),
        (OVERFLOW + ": larger", {"Cache-Control": "max-age=99999999999999999999"}, 2147483648),
        (INVALID + ": negative", {"Cache-Control": "max-age=-60"}, 0),
        (INVALID + ": a fraction", {"Cache-Control": "max-age=60.0"}, 0),
        (INVALID + ": letters", {"Cache-Control": "max-age=60a"}, 0),
        (INVALID + ": nothing", {"Cache-Control": "max-age="}, 0),
        (INVALID + ": no argument", {"Cache-Control": "max-age"}, 0),
        (INVALID + ": spaces", {"Cache-Control": "max-age = 60"}, 0),
        (INVALID + ": a single quote", {"Cache-Control": "max-age='60'"}, 0),
        (EXPIRES + ": 0", {"Expires": "0"}, 0),
        (EXPIRES + ": -1", {"Expires": "-1"}, 0),
        (EXPIRES + ": another zone", {"Expires": "Tue, 14 Nov 2023 22:33:20 AEST"}, 0),
        (
            "SHOULD consider a date with a zone abbreviation other than 'GMT' to be invalid: UTC (4.2)",
            {"Expires": "Tue, 14 Nov 2023 22:33:20 UTC"},
            0,
        ),
        (EXPIRES + ": no zone", {"Expires": "Tue, 14 Nov 2023 22:33:20"}, 0),
        (EXPIRES + ": no comma", {"Expires": "Tue 14 Nov 2023 22:33:20 GMT"}, 0),
        (EXPIRES + ": no such day", {"Expires": "Tue, 32 Nov 2023 22:33:20 GMT"}, 0),
        ("rfc850-date is obsolete, and accepted (RFC 9110 5.6.7)", {"Expires": "Tuesday, 14-Nov-23 22:14:20 GMT"}, 60),
        ("asctime-date is obsolete, and accepted (RFC 9110 5.6.7)", {"Expires": "Tue Nov 14 22:14:20 2023"}, 60),
        ("month and zone in any case", {"Expires": "tue, 14 nov 2023 22:14:20 gmt"}, 60),
    ],
)
async def test_a_response_is_fresh_for_exactly_its_lifetime(sentence, headers, fresh):
    validated = pairs_with_tag(headers)
    if fresh:
        _, last = await played(Ask(Says(validated)), Ask(after=fresh - 1))
        assert last.how == "hit"
    _, past = await played(Ask(Says(validated)), Ask(after=fresh))
    assert past.how == "validated"


def pairs_with_tag(headers):
    # with a validator even what is stale at once is kept
    return [*(headers.items() if isinstance(headers, dict) else headers), ("ETag", '"a"')]


VALUE = "age_value: the value of the Age header field, in a form appropriate for arithmetic operation; or 0"
FIRST = "SHOULD use the first member of the list, ignoring subsequent ones (5.1)"
IGNORE = "If the field value (after discarding additional members) is invalid ... SHOULD ignore the field (5.1)"
APPARENT = "apparent_age = max(0, response_time - date_value)"
DELAY = "response_delay = response_time - request_time"
RESIDENT = "current_age = corrected_initial_age + resident_time"


@table(
    ("sentence", "says", "after", "age"),
    [
        # realistic
        (RESIDENT, Says(), 7, 7),
        (VALUE, Says({"Age": "30"}), 7, 37),
        (APPARENT, Says({"Date": "{now-40}"}), 7, 47),
        (APPARENT + ": the larger counts", Says({"Date": "{now-40}", "Age": "100"}), 0, 100),
        (APPARENT + ": the origin's clock is ahead", Says({"Date": "{now+500}"}), 7, 7),
        (DELAY, Says(delay=5), 0, 5),
        (DELAY + ": corrected_age_value = age_value + response_delay", Says({"Age": "30"}, delay=5), 2, 37),
        (NO_DATE, Says(date=False), 7, 7),
        # pathological
        ("never too young: pauses below a second count", Says(delay=0.6), 0.6, 2),
        ("never too young: a pause of half a second", Says(delay=0.5), 0, 1),
        (FIRST, Says({"Age": "30, 0"}), 0, 30),
        (FIRST + ": on two lines", Says([("Age", "30"), ("Age", "0")]), 0, 30),
        (FIRST + ": the smaller first", Says({"Age": "0, 30"}), 0, 0),
        (IGNORE + ": negative", Says({"Age": "-5"}), 3, 3),
        (IGNORE + ": letters", Says({"Age": "abc"}), 3, 3),
        (IGNORE + ": a fraction", Says({"Age": "30.5"}), 3, 3),
        (IGNORE + ": a parameter", Says({"Age": "30;a=b"}), 3, 3),
        (IGNORE + ": other digits", Says({"Age": "\xb2"}), 3, 3),
    ],
)
async def test_age_is_generated_and_never_too_young(sentence, says, after, age):
    """Section 4: "a cache MUST generate an Age header field"."""
    lines = [
        *(says.headers.items() if isinstance(says.headers, dict) else says.headers),
        ("Cache-Control", "max-age=900"),
    ]
    _, later = await played(Ask(Says(lines, delay=says.delay, date=says.date)), Ask(after=after))
    assert later.how == "hit"
    assert later.answer.fields.get_all("age") == (str(age),)


@table(
    ("sentence", "headers"),
    [
        ("a response older than its lifetime is not fresh", {"Age": "7200"}),
        ("the same by Date", {"Date": "{now-7200}"}),
        (OVERFLOW, {"Age": "2147483648"}),
        (OVERFLOW + ": larger", {"Age": "99999999999999999999"}),
        (FIRST, {"Age": "7200, 0"}),
    ],
)
async def test_what_arrives_too_old_is_stale(sentence, headers):
    _, later = await played(Ask(Says({"Cache-Control": "max-age=3600", "ETag": '"a"'} | headers)), Ask())
    assert later.how == "validated"


async def test_date_is_the_origins_and_is_never_made_anew():
    """RFC 9110 6.6.1, and 9111 4.2: Age says how old it is."""
    first, later = await played(Ask(Says({"Cache-Control": "max-age=60"})), Ask(after=9))
    assert later.get("date") == first.get("date") == "Tue, 14 Nov 2023 22:13:20 GMT"


STALE = "A cache MUST NOT generate a stale response if it is prohibited by an explicit in-protocol directive"
DISCONNECTED = "MUST NOT generate a stale response unless it is disconnected or doing so is explicitly permitted"


@table(
    ("sentence", "control", "failure", "status"),
    [
        # realistic
        (DISCONNECTED + ": the connection is refused", "max-age=5", REFUSED, 200),
        (DISCONNECTED + ": an answer is an answer", "max-age=5", Says(status=503), 503),
        (DISCONNECTED + ": the origin permits it", "max-age=5, stale-if-error=60", Says(status=503), 200),
        (DISCONNECTED + ": no longer", "max-age=5, stale-if-error=3", Says(status=503), 503),
        (STALE + ": must-revalidate", "max-age=5, must-revalidate", REFUSED, 502),
        (STALE + ": proxy-revalidate", "max-age=5, proxy-revalidate", REFUSED, 502),
        (STALE + ": s-maxage", "s-maxage=5", REFUSED, 502),
        (STALE + ": no-cache", "max-age=5, no-cache", REFUSED, 502),
        # pathological
        (STALE + ": must-revalidate beats stale-if-error", "max-age=5, must-revalidate, stale-if-error=60", Says(status=503), 503),
    ],
)  # fmt: skip
@pytest.mark.parametrize("validator", [{}, {"ETag": '"a"'}])
async def test_stale_only_where_it_is_allowed(sentence, control, failure, status, validator):
    _, later = await played(Ask(Says({"Cache-Control": control} | validator)), Ask(failure, after=10))
    assert later.answer.status == status


async def test_a_cut_off_origin_is_stood_in_for_no_longer_than_an_hour():
    fresh = Ask(Says({"Cache-Control": "max-age=5"}))
    _, within = await played(fresh, Ask(REFUSED, after=3604))
    _, past = await played(fresh, Ask(REFUSED, after=3605))
    assert (within.answer.status, past.answer.status) == (200, 502)
