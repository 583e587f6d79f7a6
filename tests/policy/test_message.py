"""Heads are kept as they came; names are found whatever their case."""

from dataclasses import replace

import pytest

from proxy.policy.message import IDEMPOTENT_METHODS, SAFE_METHODS, Fields, Request, Response

LINES = (("Accept", "a"), ("X-One", "1"), ("ACCEPT", "b"))


def test_fields_keep_order_number_and_case():
    assert tuple(Fields(LINES)) == LINES
    assert len(Fields(LINES)) == 3


def test_repeated_lines_combine_in_their_order():
    fields = Fields(LINES)
    assert fields.get("accept") == "a, b"
    assert fields.get("accept") == "a, b"
    assert fields.get_all("accept") == ("a", "b")


def test_an_absent_field_is_none_and_has_no_lines():
    assert Fields().get("accept") is None
    assert Fields(LINES).get_all("cookie") == ()


def test_names_are_distinct_and_in_lower_case():
    assert list(Fields(LINES).names()) == ["accept", "x-one"]
    fields = Fields(LINES)
    assert fields.get("x-one") == "1"
    assert list(fields.names()) == ["accept", "x-one"]


def test_membership_asks_for_lower_case_names():
    fields = Fields(LINES)
    assert "accept" in fields
    assert "accept" in fields
    assert "Accept" not in fields


def test_without_removes_every_line_of_a_name():
    assert Fields(LINES).without({"accept"}).pairs == (("X-One", "1"),)


def test_with_field_replaces_every_line_of_a_name():
    assert Fields(LINES).with_field("Accept", "c").pairs == (("X-One", "1"), ("Accept", "c"))


@pytest.mark.parametrize("indexed", [True, False])
def test_plus_adds_lines_at_the_end_and_finds_them(indexed):
    fields = Fields(LINES)
    if indexed:
        assert "accept" in fields
    more = fields.plus(("x-one", "2"), ("Via", "c"))
    assert more.pairs == (*LINES, ("x-one", "2"), ("Via", "c"))
    assert {name: more.get(name) for name in more.names()} == {"accept": "a, b", "x-one": "1, 2", "via": "c"}
    assert more.get_all("x-one") == ("1", "2")
    assert fields == Fields(LINES)
    assert fields.get("x-one") == "1"


@pytest.mark.parametrize("names", [{"accept"}, ("accept", "x-none"), {"x-none"}, ()])
def test_what_is_left_is_found_as_if_it_had_been_read_so(names):
    left = Fields(LINES).without(names)
    again = Fields(left.pairs)
    assert list(left.names()) == list(again.names())
    assert all(left.get_all(name) == again.get_all(name) for name in ("accept", "x-one", "x-none"))


def test_a_copy_without_what_is_not_there_is_the_same():
    fields = Fields(LINES)
    assert fields.without(("x-none",)) is fields


def test_another_head_is_all_that_differs():
    request = Request("QUERY", "/a?b", Fields(LINES), "https", "192.0.2.1", True, True, b"body")
    assert request.with_fields(Fields()) == replace(request, fields=Fields())


def test_fields_are_equal_when_their_lines_are():
    assert Fields(LINES) == Fields(LINES)
    assert hash(Fields(LINES)) == hash(Fields(LINES))
    assert Fields(LINES) != Fields(LINES[:1])
    assert Fields(LINES) != LINES


def test_fields_read_like_a_head():
    assert repr(Fields(LINES[:2])) == "Fields(Accept: a, X-One: 1)"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        # realistic
        ("/api/jobs", "/api/jobs", None),
        ("/api/jobs?page=1", "/api/jobs", "page=1"),
        # pathological
        ("/api/jobs?", "/api/jobs", ""),
        ("/a?b?c", "/a", "b?c"),
        ("*", "*", None),
    ],
)
def test_a_target_has_a_raw_path_and_a_raw_query(target, path, query):
    request = Request("GET", target)
    assert (request.path, request.query) == (path, query)


def test_messages_read_like_their_first_line():
    assert str(Request("GET", "/a?b")) == "GET /a?b"
    assert str(Response(200, reason="OK")) == "200 OK"
    assert str(Response(200)) == "200"


def test_safe_methods_are_idempotent_and_post_is_neither():
    assert SAFE_METHODS < IDEMPOTENT_METHODS
    assert "QUERY" in SAFE_METHODS
    assert "POST" not in IDEMPOTENT_METHODS
