"""Cache-Control as it is written, misspelled and abused: what is unclear is read strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.cache_control import MAX_DELTA, NOTHING, CacheControl, of_request, of_response, parse
from tests.builders import fields

CASES = [
    # realistic
    ("max-age=60", CacheControl(max_age=60)),
    ("public, max-age=60, s-maxage=600", CacheControl(public=True, max_age=60, s_maxage=600)),
    ("private, no-cache", CacheControl(private=True, no_cache=True)),
    ("no-store", CacheControl(no_store=True)),
    ("max-age=1, must-revalidate, no-transform", CacheControl(max_age=1, must_revalidate=True, no_transform=True)),
    ("proxy-revalidate, immutable", CacheControl(proxy_revalidate=True, immutable=True)),
    ("must-understand, no-store", CacheControl(must_understand=True, no_store=True)),
    ("stale-while-revalidate=30, stale-if-error=86400", CacheControl(stale_while_revalidate=30, stale_if_error=86400)),
    ("max-stale", CacheControl(max_stale=MAX_DELTA)),
    ("max-stale=5, min-fresh=10, only-if-cached", CacheControl(max_stale=5, min_fresh=10, only_if_cached=True)),
    ('no-cache="X-A, x-b"', CacheControl(no_cache_fields=frozenset({"x-a", "x-b"}))),
    ('private="set-cookie"', CacheControl(private_fields=frozenset({"set-cookie"}))),
    # spelled otherwise
    ("MAX-AGE=60, No-Store", CacheControl(max_age=60, no_store=True)),
    ('max-age="60"', CacheControl(max_age=60)),
    ("max-age = 60", CacheControl(max_age=0)),
    (", ,max-age=60,,", CacheControl(max_age=60)),
    ("max-age=0060", CacheControl(max_age=60)),
    ("private=x-a", CacheControl(private_fields=frozenset({"x-a"}))),
    ("no-store=yes", CacheControl(no_store=True)),
    # pathological: duplicates and conflicts
    ("max-age=1800, max-age=1", CacheControl(max_age=1)),
    ("max-age=1, max-age=1800", CacheControl(max_age=1)),
    ("min-fresh=1, min-fresh=9", CacheControl(min_fresh=9)),
    ("public, private", CacheControl(public=True, private=True)),
    ('private="a", private="b", private', CacheControl(private=True, private_fields=frozenset({"a", "b"}))),
    # pathological: overflow
    ("max-age=2147483649", CacheControl(max_age=MAX_DELTA)),
    (f"max-age={'9' * 5000}", CacheControl(max_age=MAX_DELTA)),
    # pathological: no delta-seconds
    ("max-age", CacheControl(max_age=0)),
    ("max-age=", CacheControl(max_age=0)),
    ("max-age=-1", CacheControl(max_age=0)),
    ("max-age=1e9", CacheControl(max_age=0)),
    ("max-age=3600.5", CacheControl(max_age=0)),
    ("max-age='3600'", CacheControl(max_age=0)),
    ("max-age=3600a", CacheControl(max_age=0)),
    ("s-maxage=x, max-age=60", CacheControl(s_maxage=0, max_age=60)),
    ("max-age=\xb2", CacheControl(max_age=0)),
    ("max-stale=x", CacheControl(max_stale=0)),
    ("min-fresh=x", CacheControl(min_fresh=MAX_DELTA)),
    ("stale-while-revalidate=x", CacheControl(stale_while_revalidate=0)),
    # pathological: no grammar; what restricts still does, what permits does not
    ("private; max-age=60", CacheControl(private=True, max_age=0)),
    ("max-age=60; no-store", CacheControl(no_store=True, max_age=0)),
    ("no-cache no-store", CacheControl(no_cache=True, no_store=True)),
    ('private="x', CacheControl(private=True)),
    ("s-maxage=60 public", CacheControl(s_maxage=0)),
    ('no-cache=""', CacheControl(no_cache=True)),
    ('private=","', CacheControl(private=True)),
    ('private="\\x-a"', CacheControl(private_fields=frozenset({"x-a"}))),
    # pathological: directives inside an extension's string are not directives
    ('ext="max-age=3600", max-age=1', CacheControl(max_age=1)),
    ('max-age=1, ext="no-store"', CacheControl(max_age=1)),
    ("unknown, ext=1", NOTHING),
    ("=60", NOTHING),
]


@pytest.mark.parametrize(("value", "expected"), CASES)
def test_a_field_value_has_one_reading(value, expected):
    assert parse(value) == expected


@pytest.mark.parametrize("value", [None, "", " ", ","])
def test_an_absent_or_empty_field_says_nothing(value):
    assert parse(value) == NOTHING


@given(st.text(alphabet='maxgeprivtno-cs=", ;\\01', max_size=60))
def test_any_text_parses_and_naming_no_store_alone_is_never_missed(text):
    parse(text)
    assert parse(f"{text.replace(chr(34), '')}, no-store").no_store


@pytest.mark.parametrize(
    ("headers", "no_cache"),
    [
        ({"Cache-Control": "no-cache"}, True),
        ({"Pragma": "no-cache"}, True),
        ({"Pragma": "No-Cache, x"}, True),
        ({"Pragma": "no-cache", "Cache-Control": "max-age=60"}, False),
        ({"Pragma": "x"}, False),
        ({}, False),
    ],
)
def test_pragma_counts_only_without_cache_control(headers, no_cache):
    assert of_request(fields(headers)).no_cache is no_cache


@pytest.mark.parametrize(
    ("value", "forbids"),
    [("must-revalidate", True), ("proxy-revalidate", True), ("max-age=1", False)],
)
def test_revalidation_directives_forbid_stale(value, forbids):
    assert parse(value).forbids_stale is forbids


@pytest.mark.parametrize(
    ("value", "permits"),
    [("public", True), ("must-revalidate", True), ("s-maxage=0", True), ("max-age=60", False)],
)
def test_three_directives_permit_sharing_what_was_authorized(value, permits):
    assert parse(value).permits_authorized is permits


@pytest.mark.parametrize(
    ("targeted", "expected"),
    [
        # realistic
        ("max-age=60", CacheControl(targeted=True, max_age=60)),
        ("no-store", CacheControl(targeted=True, no_store=True)),
        ("s-maxage=9, must-revalidate", CacheControl(targeted=True, s_maxage=9, must_revalidate=True)),
        ("private", CacheControl(targeted=True, private=True)),
        ('no-cache="X-A, x-b"', CacheControl(targeted=True, no_cache_fields=frozenset({"x-a", "x-b"}))),
        ("foo", CacheControl(targeted=True)),  # valid and not empty: Cache-Control does not count
        # pathological
        ("max-age=99999999999", CacheControl(targeted=True, max_age=MAX_DELTA)),
        ("max-age=-1", CacheControl(targeted=True, max_age=0)),
        ('max-age="10"', CacheControl(targeted=True)),
        ("max-age=1.5, no-store=1", CacheControl(targeted=True)),
        ("no-store=?0, private=?0", CacheControl(targeted=True)),
        ("private=(a b)", CacheControl(targeted=True, private=True)),
        ("", parse("max-age=5")),
        ("max-age=60, &", parse("max-age=5")),
        ("Max-Age=60", parse("max-age=5")),
    ],
)
def test_cdn_cache_control_speaks_instead_where_it_is_valid(targeted, expected):
    assert of_response(fields({"Cache-Control": "max-age=5", "CDN-Cache-Control": targeted})) == expected


def test_without_it_cache_control_speaks():
    assert of_response(fields(cache_control="max-age=5")) == CacheControl(max_age=5)
