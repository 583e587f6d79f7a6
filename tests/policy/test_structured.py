"""Structured dictionaries and lists of strings: what parses, to what, and that a full parser reads the same."""

import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.policy.structured import dictionary, strings


@pytest.mark.parametrize(
    ("text", "members"),
    [
        # realistic
        ("", {}),
        ("max-age=60", {"max-age": 60}),
        ("max-age=60, no-transform", {"max-age": 60, "no-transform": True}),
        ("no-store=?0, must-revalidate=?1", {"no-store": False, "must-revalidate": True}),
        ('no-cache="set-cookie, x\\"y"', {"no-cache": 'set-cookie, x"y'}),
        ("max-age=60;x=1;y, a", {"max-age": 60, "a": True}),
        # pathological
        ("a=1, b=2, a=3", {"b": 2, "a": 3}),
        ("a=-5", {"a": -5}),
        ('a=1.5, b=tok/en, c=:aGk=:, d=@12, e=%"%c3%bc", f=tok', dict.fromkeys("abcdef")),
        ('a;b="=(", c=( )', {"a": True, "c": ()}),
        ('f=(1 "2";x=y z);q, g=( "a b" "c)" ?0);k="("', {"f": (1, "2", None), "g": ("a b", "c)", False)}),
        ("max-age =60", None),
        ("max-age= 60", None),
        ("MaX-aGe=60", None),
        ("max-age=60, &&&&&", None),
        ("max-age=60,", None),
        ("max-age=60,,a", None),
        ("a b", None),
        ('a="x', None),
        ("a=1234567890123456", None),
        ("a=1.2345", None),
        ("a=-", None),
        ("a=1;", None),
        ('a=("x""y")', None),
        ("\ta", None),
        (" a\t", {"a": True}),
    ],
)
def test_a_dictionary_has_one_reading(text, members):
    assert dictionary(text) == members


@given(st.text(alphabet='ab=1-.,; \t"\\?():@%*', max_size=24))
@example(" a = 1")
@example("a=(a b);a, b")
def test_what_parses_is_what_a_full_parser_takes(text):
    try:
        known = http_sf.parse(text.encode(), tltype="dictionary")
    except ValueError:
        known = None
    found = dictionary(text)
    assert (found is None) == (known is None)
    assert found is None or list(found) == list(known)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        # realistic
        ("", ()),
        ('"a"', ("a",)),
        ('"a", "b c" ,"d"', ("a", "b c", "d")),
        ('"a";x=1;y="z", "b"', ("a", "b")),
        # pathological
        (r'"a\"b\\c"', (r'a"b\c',)),
        ('"a", "a"', ("a", "a")),
        ('  "a" \t', ("a",)),
        ('"a"\t,\t"b"', ("a", "b")),
        ('"a, b"', ("a, b",)),
        ('\t"a"', None),
        ("\t", None),
        ("a", None),
        ('"a", 1', None),
        ('("a" "b")', None),
        ('"a" "b"', None),
        ('"a",', None),
        ('"a",,"b"', None),
        (r'"a\b"', None),
        ('"a', None),
        ('"\x7f"', None),
        ('"ü"', None),
    ],
)
def test_a_list_of_strings_has_one_reading(text, members):
    assert strings(text) == members


@given(st.text(alphabet='"ab\\, \t;=1()x', max_size=24))
@example('"a\\"b" , "" ;a=1;b')
@example('"a"\t')
def test_lists_of_strings_are_what_a_full_parser_takes_for_such(text):
    try:
        known = http_sf.parse(text.encode(), tltype="list")
    except ValueError:
        known = None
    if known is not None and any(not isinstance(member, tuple) or type(member[0]) is not str for member in known):
        known = None  # a token, a number or an inner list is among them
    assert strings(text) == (None if known is None else tuple(value for value, _ in known))


@given(st.lists(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8), max_size=5))
def test_what_a_full_parser_writes_is_read_back(members):
    written = http_sf.ser([(member, {}) for member in members]) if members else ""
    assert strings(written) == tuple(members)
