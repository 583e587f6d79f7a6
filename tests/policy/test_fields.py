"""Lists, dates and hop-by-hop fields, as senders write them and as attackers do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.fields import (
    end_to_end,
    for_the_other_side,
    format_http_date,
    list_members,
    parse_http_date,
    protected_nomination,
)
from tests.builders import DATE, NOW, fields


@pytest.mark.parametrize(
    ("value", "members"),
    [
        # realistic
        ("gzip, br", ["gzip", "br"]),
        ("gzip", ["gzip"]),
        ('no-cache="a, b", max-age=1', ['no-cache="a, b"', "max-age=1"]),
        ('"a", W/"b,c"', ['"a"', 'W/"b,c"']),
        # pathological
        ("", []),
        (" , ,\t, ", []),
        (",a,,b,", ["a", "b"]),
        ('x="a\\", b", c', ['x="a\\", b"', "c"]),
        ('a, "unclosed, b', ["a", '"unclosed, b']),
        ('a, "unclosed\\', ["a", '"unclosed\\']),
        ('""', ['""']),
        ('a""b, c', ['a""b', "c"]),
    ],
)
def test_lists_split_at_commas_outside_quotes(value, members):
    assert list_members(value) == members


def test_a_hostile_list_takes_linear_time():
    assert len(list_members('"\\' * 20_000)) == 1


@pytest.mark.parametrize(
    ("connection", "arrives"),
    [
        # realistic
        ("keep-alive", True),
        ("close", True),
        ("Keep-Alive", True),
        # a nomination
        ("x-foo", False),
        ("close, X-Foo", False),
        (", x-foo ,", False),
    ],
)
def test_nominated_fields_stay_on_their_connection(connection, arrives):
    head = fields([("Connection", connection), ("X-Foo", "1"), ("X-Bar", "2")])
    assert ("x-foo" in end_to_end(head)) is arrives
    assert "x-bar" in end_to_end(head)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "Proxy-Authentication-Info",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "HTTP2-Settings",
    ],
)
def test_hop_by_hop_fields_are_dropped_without_a_nomination(name):
    assert len(end_to_end(fields([(name, "x")]))) == 0


def test_end_to_end_keeps_order_case_and_repetition():
    lines = [("Set-Cookie", "a"), ("X-One", "1"), ("Set-Cookie", "b"), ("Proxy-Status", "p")]
    assert list(end_to_end(fields([*lines, ("TE", "trailers")]))) == lines


@pytest.mark.parametrize(
    ("connection", "refused"),
    [
        # realistic
        ("keep-alive", False),
        ("close, TE", False),
        ("Upgrade, HTTP2-Settings", False),
        ("x-foo", False),
        # pathological
        ("authorization", True),
        ("close, Cookie", True),
        ("HOST", True),
        ("content-length", True),
        ("X-Org-Id", True),
        ("cache-control", True),
        ("x-acme-tenant", True),
    ],
)
def test_nominating_a_field_that_must_arrive_is_told(connection, refused):
    assert protected_nomination(fields(connection=connection), {"x-acme-tenant"}) is refused


def test_a_head_without_connection_nominates_nothing():
    assert not protected_nomination(fields(authorization="Bearer x"))


@pytest.mark.parametrize(
    "value",
    [
        # realistic: the three formats of RFC 9110 5.6.7
        "Tue, 14 Nov 2023 22:13:20 GMT",
        "Tuesday, 14-Nov-23 22:13:20 GMT",
        "Tue Nov 14 22:13:20 2023",
        # "SHOULD match the field value case-insensitively" (RFC 9111 4.2)
        "TUE, 14 nov 2023 22:13:20 gmt",
    ],
)
def test_a_date_is_read_in_every_format(value):
    assert parse_http_date(value) == NOW


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Thu Jan  1 00:00:00 1970", 0),
        ("Thursday, 01-Jan-70 00:00:00 GMT", 0),
        ("Tuesday, 01-Jan-69 00:00:00 GMT", 3_124_224_000),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_799),  # a leap second
    ],
)
def test_unusual_dates_have_a_meaning(value, seconds):
    assert parse_http_date(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "Tue, 14 Nov 2023 22:13:20 UTC",
        "Tue, 14 Nov 2023 22:13:20",
        "Tue Nov 14 22:13:20 2023 GMT",
        "",
        "0",
        "-1",
        "now",
        "1700000000",
        "Tue, 14 Nov 2023 22:13:20 AEST",
        "Tue, 14 Nov 2023 22:13:20 +0100",
        "Tue, 14 Nov 2023 2:13:20 GMT",
        "Tue, 14 Nov 2023 22.13.20 GMT",
        "Tue, 14 Nov 23 22:13:20 GMT",
        "Tue, 14-Nov-2023 22:13:20 GMT",
        "Tue, 14  Nov  2023 22:13:20 GMT",
        "Tue, 31 Feb 2023 22:13:20 GMT",
        "Tue, 14 Foo 2023 22:13:20 GMT",
        "Tue, 14 Nov 2023 24:13:20 GMT",
        "Tue, 14 Nov 0000 22:13:20 GMT",
        "Tue, 14 Nov 2023 22:13:61 GMT",
        "Tue, 14 Nov 2023 22:13:20 GMT\n",
        "Tue, 1٤ Nov 2023 22:13:20 GMT",
        f"{DATE}, {DATE}",
    ],
)
def test_what_is_no_date_is_none(value):
    assert parse_http_date(value) is None


def test_a_date_is_written_as_imf_fixdate_to_the_second_below():
    assert format_http_date(NOW + 0.9) == DATE
    assert format_http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


@given(st.integers(min_value=0, max_value=200_000_000_000))
def test_a_written_date_reads_back(seconds):
    assert parse_http_date(format_http_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        # realistic
        ("keep-alive", ["Connection", "Upgrade", "X-A", "X-B"]),
        ("Upgrade, HTTP2-Settings", ["Connection", "Upgrade", "X-A", "X-B"]),
        # pathological
        ("x-a", ["Connection", "Upgrade", "X-B"]),
        ("close, X-A,x-b, upgrade", ["Connection", "Upgrade"]),
        ("x-c", ["Connection", "Upgrade", "X-A", "X-B"]),
    ],
)
def test_what_connection_takes_out_is_not_decided_by(connection, left):
    found = for_the_other_side(fields([("Connection", connection), ("Upgrade", "h2c"), ("X-A", "1"), ("X-B", "2")]))
    assert [name for name, _ in found] == left


def test_a_date_that_is_too_long_to_be_one_is_not_remembered():
    assert parse_http_date(DATE + " " * 100_000) is None


def test_an_endless_connection_field_is_refused_unread():
    assert not protected_nomination(fields(connection=", ".join(["x-a"] * 100)))
    assert protected_nomination(fields(connection=", ".join(["x-a"] * 1000)))
