"""Ages and lifetimes by RFC 9111 4.2, with clocks that differ and dates that are none."""

import pytest

from proxy.policy.cache_control import MAX_DELTA, parse
from proxy.policy.fields import format_http_date
from proxy.policy.freshness import Lifetime, corrected_initial_age, lifetime
from tests.builders import DATE, NOW, response


def at(seconds: float) -> str:
    return format_http_date(NOW + seconds)


@pytest.mark.parametrize(
    ("headers", "delay", "age"),
    [
        # realistic
        ({"Date": DATE}, 0, 0),
        ({"Date": DATE, "Age": "30"}, 2, 32),
        ({"Date": at(-60)}, 2, 60),
        ({"Date": at(-60), "Age": "10"}, 2, 60),
        ({}, 3, 3),
        # pathological
        ({"Date": at(3600)}, 0, 0),
        ({"Date": "garbage", "Age": "5"}, 0, 5),
        ({"Age": "abc"}, 1, 1),
        ({"Age": "-7200"}, 0, 0),
        ({"Age": "7200.0"}, 0, 0),
        ({"Age": ""}, 0, 0),
        ({"Age": "7200, 0"}, 0, 7200),
        ({"Age": "0, 7200"}, 0, 0),
        ({"Age": "\xb2"}, 0, 0),
        ({"Age": str(MAX_DELTA + 5)}, 0, MAX_DELTA),
        ({"Age": "9" * 5000}, 0, MAX_DELTA),
        ({"Age": "5"}, -10, 5),  # the clock was set back between request and response
    ],
)
def test_the_age_at_arrival_is_the_larger_of_what_age_and_date_say(headers, delay, age):
    assert corrected_initial_age(response(headers), NOW - delay, NOW) == age


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        # realistic
        ({"Cache-Control": "max-age=60"}, 60),
        ({"Cache-Control": "max-age=60, s-maxage=600"}, 600),
        ({"Cache-Control": "s-maxage=5", "Expires": at(100)}, 5),
        ({"Cache-Control": "max-age=0", "Expires": at(100)}, 0),
        ({"Expires": at(100), "Date": at(-20)}, 120),
        ({"Expires": at(100)}, 100),
        # pathological
        ({"Expires": "0"}, 0),
        ({"Expires": "-1"}, 0),
        ({"Expires": at(-100)}, 0),
        ({"Expires": f"{at(100)}, {at(200)}"}, 0),
        ({"Expires": "0", "Last-Modified": at(-1000)}, 0),
    ],
)
def test_explicit_freshness_counts_in_its_order(headers, seconds):
    control = parse(headers.get("Cache-Control"))
    assert lifetime(response(headers), control, NOW) == Lifetime(seconds)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        # realistic
        (200, {"Last-Modified": at(-1000)}, 100),
        (404, {"Last-Modified": at(-1000)}, 100),
        (200, {"Last-Modified": at(-1020), "Date": at(-20)}, 100),
        (200, {"Last-Modified": at(-1000), "Cache-Control": "private"}, 100),
        (500, {"Last-Modified": at(-1000), "Cache-Control": "public"}, 100),
        # pathological
        (200, {"Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT"}, 86400),
        (200, {"Last-Modified": at(1000)}, 0),
    ],
)
def test_a_tenth_of_the_time_unchanged_is_the_heuristic(status, headers, seconds):
    control = parse(headers.get("Cache-Control"))
    assert lifetime(response(headers, status=status), control, NOW) == Lifetime(seconds, heuristic=True)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),
        (200, {"ETag": '"a"'}),
        (200, {"Last-Modified": "yesterday"}),
        (500, {"Last-Modified": at(-1000)}),
        (302, {"Last-Modified": at(-1000)}),
    ],
)
def test_without_any_ground_there_is_no_lifetime(status, headers):
    assert lifetime(response(headers, status=status), parse(None), NOW) is None
