"""Structured dictionaries: what parses, to what, and that every reading agrees with a full parser's."""

import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.policy.structured import dictionary


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
