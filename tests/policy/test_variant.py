"""proxy.policy.variant: which fields select another response, and by which values."""

import pytest

from proxy.policy.message import Request
from proxy.policy.route import Route, Scope
from proxy.policy.variant import makes_variant, normalised, splitting_headers
from tests.builders import fields, request, route

HOME = "portal.example"


def split(asked: Request, of: Route | None = None, home: str | None = HOME) -> list[tuple[str, str]]:
    return splitting_headers(of or route(), asked, home)


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("accept", True),
        ("sec-ch-ua", True),
        ("accept-x", False),
        ("cookie", True),
        ("x-acme", False),
        ("origin", False),
    ],
)
def test_a_documented_list_is_neutral(name, neutral):
    assert makes_variant(name, route()) is not neutral
    assert (split(request(headers={name: "1"})) == []) is neutral


@pytest.mark.parametrize(
    ("of", "name", "splits"),
    [
        # realistic
        (route(ttl=None, scope=Scope.PUBLIC), "x-acme", False),
        (route(ttl=None, scope=Scope.TENANT), "x-acme", True),
        (route(scope=Scope.PUBLIC), "x-acme", True),
        # pathological: frameworks build URLs from these
        (route(ttl=None, scope=Scope.PUBLIC), "x-forwarded-prefix", True),
        # which servers that keep fields as variables take for X-Forwarded-Prefix, X-Real-IP and the like
        (route(ttl=None, scope=Scope.PUBLIC), "x_forwarded_prefix", True),
        (route(ttl=None, scope=Scope.PUBLIC), "x-original_host", True),
        (route(ttl=None, scope=Scope.PUBLIC), "true_client_ip", True),
        (route(ttl=None, scope=Scope.PUBLIC), "x-host", True),
    ],
)
def test_in_a_plain_shared_cache_only_vary_splits(of, name, splits):
    assert makes_variant(name, of) is splits


def test_lines_are_not_combined_as_some_upstreams_read_one_of_two():
    two = [("X-A", "1"), ("X-A", "2")]
    assert split(request(headers=two)) != split(request(headers={"X-A": "1, 2"}))
    assert split(request(headers=two)) != split(request(headers=two[::-1]))


@pytest.mark.parametrize(
    ("home", "host", "expected"),
    [
        (HOME, "portal.example", []),
        (None, "portal.example", [("host", "portal.example")]),
        (None, "PORTAL.example", [("host", "portal.example")]),
        (None, None, []),
    ],
)
def test_each_host_is_a_variant_unless_one_is_served(home, host, expected):
    assert split(request(headers={"Host": host} if host else {}), home=home) == expected


@pytest.mark.isolation
def test_only_a_trusted_peers_forwarded_fields_make_a_variant():
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a"}
    assert split(request(headers=headers)) == []
    assert split(request(headers=headers, peer_trusted=True)) == [
        ("x-forwarded-host", "a"), ("x-forwarded-proto", "https"),
    ]  # fmt: skip


def test_a_rules_vary_splits_by_the_normalised_value():
    of = route(vary=("accept-language",))
    one, same, other, none = (
        split(request(headers=headers), of)
        for headers in ({"Accept-Language": "de, en"}, {"Accept-Language": "DE,en"}, {"Accept-Language": "en"}, {})
    )
    assert one == same == [("accept-language", "de,en")]
    assert other == [("accept-language", "en")]
    assert none == [("accept-language", "")]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accept", "Text/HTML ; q=1,\tx/y", "text/html;q=1,x/y"),
        ("accept", 'a/b;p="A B"', 'a/b;p="A B"'),
        ("user-agent", " A B ", "A B"),
        ("user-agent", "", "\n"),  # there, and empty
        ("x-list", "a ,b,  c", "a,b,c"),
        ("x-list", 'a , "b , c"', 'a , "b , c"'),
        ("accept-language", "DE;q=0.50, en , fr;q=1.000", "en,fr,de;q=0.5"),
        ("accept-language", "fr,en", "en,fr"),
        ("accept-language", "de;q=0., en;q=1., de;q=0", "en,de;q=0"),
        ("accept-language", "en;q=0.2,en;q=0.3", "en;q=0.2,en;q=0.3"),
        ("accept-language", "en;q=2,de", "en;q=2,de"),
        ("accept-language", ",en", ",en"),
        ("accept", None, ""),
    ],
)
def test_normalising_loses_only_what_cannot_matter(name, value, expected):
    assert normalised(name, fields({name: value} if value is not None else {})) == expected
