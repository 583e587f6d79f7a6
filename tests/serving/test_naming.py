"""What an origin says of a path's query finds later responses there: for its tenant, its rule, its host, its path."""

import pytest

from proxy.policy.entry import pack_head
from proxy.policy.key import Key
from proxy.serving import naming
from proxy.serving.naming import Naming
from tests.builders import KEYS, fields, identity, match, origin_route, request

SAID = pack_head(fields(no_vary_search='params=("x")'))


def asked(
    names: Naming, target: str = "/api/jobs?x=1", *, tenant: str = "org_a", host: str = "a.example", **more
) -> Key:
    found = names.key(match(origin_route(**more)), request(target, {"Host": host}), identity(tenant))
    assert isinstance(found, Key)
    return found


def teach(names: Naming, head: bytes = SAID, target: str = "/api/jobs?x=1", **more) -> Key:
    key, of, who = asked(names, target), match(origin_route(**more)), identity("org_a")
    kept = names.kept(key, of, request(target, {"Host": "a.example"}), who, head)
    names.learn(kept, of.route, request(target, {"Host": "a.example"}))
    return kept


def test_what_was_kept_by_the_origin_s_word_is_found_by_other_queries():
    names = Naming(KEYS, None)
    kept = teach(names)
    assert asked(names, "/api/jobs?x=2") == asked(names, "/api/jobs?x=2")
    assert [asked(names, f"/api/jobs{query}").full for query in ("?x=2", "")] == [kept.full] * 2
    assert asked(names, "/api/jobs?q=1").full != kept.full


@pytest.mark.parametrize(
    "other", [{"tenant": "org_b"}, {"host": "b.example"}, {"target": "/api/jobs/7?x=1"}, {"digest": b"other"}]
)
def test_nobody_else_learns_of_it(other):
    names = Naming(KEYS, None)
    before = asked(names, **other)
    teach(names)
    assert asked(names, **other) == before


def test_one_host_by_several_names_is_one_place():
    names = Naming(KEYS, "a.example")
    teach(names)
    assert asked(names, host="A.example:80").search is not None


def test_a_response_that_says_nothing_is_kept_for_its_own_query_and_forgets():
    names = Naming(KEYS, None)
    plain = asked(names)
    teach(names)
    assert teach(names, b"") == plain == asked(names)


@pytest.mark.parametrize("more", [{"ttl": 60.0}, {"query": frozenset({"q"})}, {"honour": False}])
def test_where_the_rule_decides_the_origin_has_no_say(more):
    names = Naming(KEYS, None)
    of, asking = match(origin_route(**more)), request("/api/jobs?x=1")
    key = names.key(of, asking, identity())
    assert isinstance(key, Key)
    assert names.kept(key, of, asking, identity(), SAID) == key
    names.learn(key, of.route, asking)
    assert names.key(of, asking, identity()) == key


@pytest.mark.parametrize("asking", [request("/api/jobs?x=1;q=2"), request(method="QUERY", body=b"q", has_body=True)])
def test_what_the_origin_cannot_have_meant_is_named_by_all_of_it(asking):
    names, of = Naming(KEYS, "a.example"), match(origin_route())
    plain = names.key(of, asking, identity("org_a"))
    teach(names)
    assert isinstance(plain, Key)
    assert names.key(of, asking, identity("org_a")) == plain
    assert names.kept(plain, of, asking, identity("org_a"), SAID) == plain


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(naming, "MAX_PATHS", 2)
    names = Naming(KEYS, None)
    for number in range(3):
        teach(names, target=f"/{number}?x=1")
        assert asked(names, "/0?x=1").search is not None  # asked for again and again
    assert [asked(names, f"/{number}").search is not None for number in range(3)] == [True, False, True]
    teach(names, target="/" + "a" * 1100)
    assert asked(names, "/" + "a" * 1100).search is None
