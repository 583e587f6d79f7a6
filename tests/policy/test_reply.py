"""A hit and a miss carry the same head, but for Age; nobody behind us keeps a tenant's data unasked."""

import pytest

from proxy.policy.message import Fields
from proxy.policy.reply import age as age_of
from proxy.policy.reply import not_modified_head, passing_head, stored_head
from proxy.policy.route import Scope
from tests.builders import DATE, NOW, entry, fields, route

PLAIN = [("Content-Type", "text/plain"), ("Date", DATE)]


@pytest.mark.parametrize(
    ("of", "headers", "control"),
    [
        # realistic
        (route(), PLAIN, "private, no-cache"),
        (route(scope=Scope.ROLE), PLAIN, "private, no-cache"),
        (route(), [("cache-control", "max-age=5")], "max-age=5"),
        (route(scope=Scope.PUBLIC), PLAIN, None),
        (route(client_cache="public, max-age=60"), PLAIN, "public, max-age=60"),
        (route(client_cache="no-store"), [("cache-control", "max-age=5")], "no-store"),
        (route(scope=Scope.PUBLIC, client_cache="no-store"), PLAIN, "no-store"),
        # pathological
        (route(), [("Cache-Control", "")], ""),
        (route(client_cache="no-store"), [("Cache-Control", "a"), ("cache-control", "b")], "no-store"),
    ],
)
def test_a_hit_and_a_miss_carry_the_same_head(of, headers, control):
    missed = passing_head(Fields(headers), of)
    hit = stored_head(entry(headers), of)
    assert missed.get("cache-control") == control
    assert hit == missed


def test_nothing_contradicts_the_rules_own_cache_control():
    head = passing_head(fields(expires=DATE, pragma="x", etag='"a"'), route(client_cache="no-store"))
    assert list(head.names()) == ["etag", "cache-control"]


@pytest.mark.parametrize(("later", "age"), [(0, "5"), (0.1, "5"), (0.2, "6"), (0.9, "6"), (60, "65"), (-60, "5")])
def test_age_is_whole_seconds_since_the_origin_and_never_too_young(later, age):
    assert age_of(entry(age=5.0), NOW + later) == ("Age", age)


def test_routes_that_differ_do_not_share_a_head():
    kept = entry(PLAIN)
    assert "cache-control" in stored_head(kept, route())
    assert "cache-control" not in stored_head(kept, route(scope=Scope.PUBLIC))


def test_a_304_carries_what_updates_the_clients_copy_and_nothing_of_the_body():
    kept = [
        ("ETag", '"a"'),
        ("Date", DATE),
        ("Expires", DATE),
        ("Cache-Control", "max-age=5"),
        ("Content-Location", "/a"),
        ("Vary", "accept"),
        ("Age", "5"),
    ]
    dropped = [("Content-Type", "text/plain"), ("Content-Length", "5"), ("Set-Cookie", "a"), ("X-A", "1")]
    assert not_modified_head(Fields([*kept, *dropped])) == Fields(kept)
