"""No-Vary-Search: what parses, to what; anything else says nothing."""

import pytest

from proxy.policy.entry import pack_head
from proxy.policy.search import Variance, of_head, of_response
from tests.builders import fields


def all_but(*names: bytes) -> Variance:
    return Variance(all_but=True, names=frozenset(names))


def only(*names: bytes) -> Variance:
    return Variance(all_but=False, names=frozenset(names))


@pytest.mark.parametrize(
    ("text", "variance"),
    [
        # realistic
        ('params=("utm_source" "ref")', all_but(b"utm_source", b"ref")),
        ('key-order, params=("ref")', all_but(b"ref")),
        ("params", only()),
        ('params, except=("q" "page")', only(b"q", b"page")),
        ("params, except=()", only()),
        ('params=?1;note="x", key-order=?0, unknown=1', only()),
        ("key-order", None),
        # pathological
        ("", None),
        ("params=?0", None),
        ("params=()", None),
        ('params=("a", "b")', None),
        ('params="a"', None),
        ("params=(a)", None),
        ("params=(1)", None),
        ("params=1", None),
        ('except=("q")', None),
        ('params=("a"), except=("q")', None),
        ("params, except", None),
        ("params, except=(q)", None),
        ("params, key-order=1", None),
        ("PARAMS", None),
        ('params=("' + "a" * 2048 + '")', None),
        # names are what form decoding reads
        ('params=("a+b" "%c3%BC" "%")', all_but(b"a b", "ü".encode(), b"%")),
    ],
)
def test_the_field_has_one_reading(text, variance):
    assert of_response(fields(no_vary_search=text)) == variance
    assert of_head(pack_head(fields({"NO-Vary-Search": text}))) == variance


def test_a_response_without_the_field_says_nothing():
    assert of_response(fields()) is None
    assert of_head(pack_head(fields(vary="no-vary-search"))) is None


@pytest.mark.parametrize(
    ("variance", "selects"),
    [(all_but(b"a"), [False, True]), (only(b"a"), [True, False]), (only(), [False, False])],
)
def test_a_parameter_selects_or_does_not(variance, selects):
    assert [variance.selects(name) for name in (b"a", b"b")] == selects


def test_no_two_variances_are_told_by_the_same_parts():
    found = [all_but(b"a"), only(b"a"), only(), all_but(b"a", b"b"), all_but(b"ab")]
    assert len({variance.parts() for variance in found}) == len(found)
