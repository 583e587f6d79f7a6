"""Two requests that may get different responses never share a key; what changed one resource finds all its keys."""

import json
import string
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.policy.identity import Identity
from proxy.policy.key import (
    LIST,
    MAX_KEY,
    Frame,
    Key,
    Keyring,
    counted_query,
    derive,
    frame,
    identifier,
    item,
    items,
    plainly,
    purge_tags,
    with_selected,
)
from proxy.policy.message import Request
from proxy.policy.outcome import Reason
from proxy.policy.route import IdentifierShape, Part, Route, Scope, TagTemplate
from proxy.policy.search import Variance
from tests.builders import ITEM, KEYS, NESTED, REST, identity, match, request, route, write_route

HOME = "portal.example"
RESERVED_ITEM = IdentifierShape((Part("job-id"),), reserved=("job-",))
PAIR = IdentifierShape((Part("job-id", "job"), Part("application-id")))


CALLER = identity(roles=frozenset({"r"}))


def derived(
    asked: Request | None = None,
    of: Route | None = None,
    who: Identity | None = CALLER,
    home: str | None = HOME,
    **parameters: str,
) -> Key | Reason:
    return derive(match(of, **parameters), asked or request(), who, KEYS, home)


def key(*args: Any, **kwargs: Any) -> Key:
    found = derived(*args, **kwargs)
    assert isinstance(found, Key), found
    return found


def said(*names: bytes, all_but: bool = True) -> Variance:
    return Variance(all_but=all_but, names=frozenset(names))


def by_word(variance: Variance | None, query: str) -> Key:
    found = derive(match(), request(f"/api/jobs{query}"), CALLER, KEYS, HOME, variance)
    assert isinstance(found, Key), found
    return found


@pytest.mark.parametrize(
    ("variance", "one", "other", "same"),
    [
        (said(b"x"), "?x=1&q=2", "?q=2&x=3", True),
        (said(b"x"), "?x=1", "", True),
        (said(b"x"), "?%78=1", "?", True),
        (said(b"q", all_but=False), "?x=1&q=2&y", "?q=2", True),
        (said(b"x"), "?q=1", "?q=2", False),
        (said(b"x"), "?q=1&q=2", "?q=2&q=1", False),  # of one name, the order counts
        (said(b"x"), "?x=1", "?X=1", False),
        (said(b"q", all_but=False), "?q=1", "?q=2", False),
    ],
)
def test_by_the_origin_s_word_some_parameters_are_left_out(variance, one, other, same):
    first, second = by_word(variance, one), by_word(variance, other)
    assert ((first.full, first.request) == (second.full, second.request)) is same
    assert (first.full == second.full) is same
    assert (first.search, first.target, first.tags) == (variance, f"/api/jobs{one}", by_word(None, one).tags)


@pytest.mark.parametrize("query", ["", "?q=1", "?x=1"])
def test_keys_by_different_words_never_meet(query):
    found = [by_word(variance, query) for variance in (None, said(b"x"), said(b"y"), said(b"x", all_but=False))]
    assert len({key.full for key in found}) == len({key.request for key in found}) == len(found)


def test_a_plain_key_is_readable():
    found = key()
    assert (str(found), found.space, found.target) == ("tenant:org_a:jobs:list", "org_a", "/api/jobs")
    assert found.tags == ("jobs", "jobs:list")
    assert key(request("/api/jobs/77"), route(identifier=ITEM), job_id="77").full == "tenant:org_a:jobs:77"
    assert key(of=route(key_name="postings")).full == "tenant:org_a:postings:list"


def test_a_public_key_has_no_tenant_and_needs_nobody():
    public = route("companies", scope=Scope.PUBLIC)
    assert (key(of=public).full, key(of=public).space) == ("shared:companies:list", "")
    assert key(of=public, who=None) == key(of=public)


@pytest.mark.parametrize("size", [15, 65])
def test_a_name_key_has_16_to_64_bytes(size):
    with pytest.raises(ValueError, match="16 to 64"):
        Keyring(b"k" * size)


def test_another_name_key_makes_other_hashes():
    assert Keyring(b"a" * 16).digest("x") != Keyring(b"b" * 16).digest("x")


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("scope", "who", "reason"),
    [
        (Scope.TENANT, None, Reason.NO_TENANT),
        (Scope.TENANT, identity(tenant=None), Reason.NO_TENANT),
        (Scope.ROLE, identity(roles=None), Reason.NO_ROLES),
        (Scope.USER, identity(user=None), Reason.NO_USER),
        # pathological: no source lets these through, and no key is made of them
        *[
            (Scope.TENANT, identity(tenant), Reason.NO_TENANT)
            for tenant in ("", "a:jobs", "org_a\n", "{a}", "*", "a" * 65)
        ],
        (Scope.TENANT, identity("org_\u0410"), Reason.NO_TENANT),
    ],
)
def test_no_verified_value_for_the_scope_means_no_key(scope, who, reason):
    assert derived(of=route(scope=scope), who=who) is reason


def test_no_roles_are_a_value():
    assert key(of=route(scope=Scope.ROLE), who=identity(roles=frozenset())).full.startswith("tenant:org_a:jobs:list.r-")


@pytest.mark.parametrize(
    ("shape", "parameters", "name"),
    [
        # realistic
        (IdentifierShape(), {}, "list"),
        (ITEM, {"job-id": "77"}, "77"),
        (NESTED, {"job-id": "77"}, "job-77"),
        (PAIR, {"job-id": "77", "application-id": "5"}, "job-77~5"),
        # pathological: hashed
        (ITEM, {"job-id": "list"}, None),
        (ITEM, {"job-id": ""}, None),
        (ITEM, {"job-id": "a:b"}, None),
        (ITEM, {"job-id": "77\n"}, None),
        (ITEM, {"job-id": "a.q-x"}, None),
        (ITEM, {"job-id": "x" * 65}, None),
        (ITEM, {"job-id": "h-aaaaaaaaaaaaaaaaaaaaaa"}, None),
        (RESERVED_ITEM, {"job-id": "job-77"}, None),
        (PAIR, {"job-id": "x" * 60, "application-id": "5"}, None),
        (REST, {}, None),
    ],
)
def test_an_identifier_is_the_value_or_a_hash(shape, parameters, name):
    found = identifier(shape, "jobs", parameters, "/api/x", KEYS)
    assert found == name if name else found.startswith("h-") and len(found) == 24


def test_a_value_that_looks_like_the_hash_of_another_is_hashed_itself():
    hashed = identifier(ITEM, "jobs", {"job-id": "a:b"}, "/", KEYS)
    assert identifier(ITEM, "jobs", {"job-id": hashed}, "/", KEYS) != hashed
    nested = identifier(NESTED, "jobs", {"job-id": "a:b"}, "/", KEYS)
    assert identifier(NESTED, "jobs", {"job-id": nested.removeprefix("job-")}, "/", KEYS) != nested


def test_a_nested_value_is_hashed_behind_its_prefix():
    found = identifier(NESTED, "jobs", {"job-id": "a:b"}, "/", KEYS)
    assert found.startswith("job-h-")
    assert identifier(NESTED, "jobs", {"job-id": "list"}, "/", KEYS) == "job-list"


# What counts in the query, and what goes upstream


@pytest.mark.parametrize(
    ("of", "target", "kept", "upstream"),
    [
        # realistic
        (route(), "/a?page=2&sort=x", ["page=2", "sort=x"], "/a?page=2&sort=x"),
        (route(), "/a?utm_source=x&page=2&gclid=1", ["page=2"], "/a?page=2"),
        (route(), "/a?utm_source=x", [], "/a"),
        (route(query=frozenset({"q"})), "/a?q=1&bust=2", ["q=1"], "/a?q=1"),
        (route(query=frozenset({"q"})), "/a?q=1&q=2", ["q=1", "q=2"], "/a?q=1&q=2"),
        # pathological
        (route(), "/a?", [], "/a"),
        (route(), "/a?&&", ["", "", ""], "/a?&&"),
        (route(), "/a?%75tm_source=x&b", ["b"], "/a?b"),
        (route(), "/a?utm_%73ource", [], "/a"),
        (route(query=frozenset({"a b"})), "/a?a+b=1&a%20b=2", ["a+b=1", "a%20b=2"], "/a?a+b=1&a%20b=2"),
        (route(query=frozenset({"q"})), "/a?q=1%26x&%ff=2", ["q=1%26x"], "/a?q=1%26x"),
    ],
)
def test_only_what_is_in_the_key_goes_upstream(of, target, kept, upstream):
    assert [raw for _, raw in counted_query(of, request(target).query)[0]] == kept
    assert key(request(target), of).target == upstream


def test_a_semicolon_beside_a_dropped_parameter_is_ambiguous():
    assert derived(request("/a?utm_source=x;id=2")) is Reason.AMBIGUOUS_QUERY


def test_a_query_of_more_parameters_than_anybody_reads_is_ambiguous():
    assert not isinstance(derived(request("/a?" + "&".join("a" * 256))), Reason)
    assert derived(request("/a?" + "&".join("a" * 257))) is Reason.AMBIGUOUS_QUERY


def test_two_cases_of_an_id_are_two_keys_with_one_tag():
    lower, upper = (derived(request(f"/api/{x}"), route(identifier=ITEM), job_id=x) for x in ("ab-9", "AB-9"))
    assert lower.primary != upper.primary
    assert lower.tags == upper.tags == ("jobs", "jobs:ab-9")
    assert isinstance(derived(request("/a?id=1;id=2")), Key)


def test_parameters_are_sorted_by_name_and_duplicates_keep_their_order():
    assert key(request("/a?b=1&a=2")).full == key(request("/a?a=2&b=1")).full
    assert key(request("/a?a=1&a=2")).full != key(request("/a?a=2&a=1")).full


def test_an_ignored_parameter_makes_no_key_of_its_own():
    assert key(request("/a?utm_source=x")).full == key(request("/a")).full == key(request("/a?")).full


# Bodies


def search(body: bytes | None, media: str = "application/json", **headers: str) -> Any:
    asked = request("/api/search", {"Content-Type": media, **headers}, method="POST", has_body=True, body=body)
    return derived(asked, route("search", methods=("POST",)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1, "b": [1, 2]}', b'{"b":[1,2],"a":1}'),
        (b'"\\u0041"', b'"A"'),
        ('"é"'.encode(), b'"\\u00e9"'),
    ],
)
def test_json_that_means_the_same_has_one_key(one, other):
    assert search(one) == search(other)


DISTINCT_BODIES = [
    b"",
    b"null",
    b"1",
    b"1.0",
    b"10e-1",
    b'"1"',
    b"true",
    b"[1, 2]",
    b"[2, 1]",
    b'{"a":1}',
    b'{"a":1,"a":2}',
    b'{"a":2,"a":1}',
    b'{"\\u0000number":"1"}',
    b"9007199254740993",
    b"9007199254740992",
    b"NaN",
    b"not json",
    b"\xff",
    b"[" * 100_000,
    "1".encode("utf-16"),
    b"\xef\xbb\xbf1",
]


def test_json_that_means_something_else_has_another_key():
    assert len({search(body).full for body in DISTINCT_BODIES}) == len(DISTINCT_BODIES)


def test_media_type_and_coding_are_part_of_a_keyed_body():
    body = b'{"a": 1}'
    variants = [
        search(body),
        search(body, "text/plain"),
        search(body, "application/json; charset=latin-1"),
        search(body, **{"Content-Encoding": "gzip"}),
    ]
    assert len({found.full for found in variants}) == len(variants)
    assert search(body, "Application/JSON; charset=UTF-8") == search(body)


def test_a_body_that_was_not_read_has_no_key():
    assert search(None) is Reason.BODY_TOO_LARGE


def test_head_shares_the_key_of_get_and_post_does_not():
    asked = [request("/a?b=1", method=method, body=b"") for method in ("GET", "HEAD", "POST", "QUERY")]
    get, head, post, query = (key(one).full for one in asked)
    assert get == head
    assert len({get, post, query}) == 3


# Variants


def test_a_header_outside_the_list_makes_a_variant_unless_the_rule_ignores_it():
    found = key(request(headers={"X-Acme": "1", "X-B": "2"}), route(ignore_headers=frozenset({"x-b"})))
    assert found.split_by == ("x-acme",)
    assert found.full == found.primary + found.variant
    assert found.variant.startswith(".v-")


def test_a_second_key_is_the_first_with_the_selecting_values():
    asked = request(headers={"X-A": "1", "Accept-Language": "de"})
    first = key(asked)
    second = with_selected(first, asked, ("accept-language",), route(), HOME, KEYS)
    other = with_selected(first, request(headers={"X-A": "1"}), ("accept-language",), route(), HOME, KEYS)
    assert (second.primary, second.space, second.tags, second.target) == (
        first.primary,
        first.space,
        first.tags,
        first.target,
    )
    assert second.split_by == ("accept-language", "x-a")
    assert len({first.full, second.full, other.full}) == 3


# Purges


def test_a_write_purges_list_parents_and_item():
    found = match(write_route(identifier=PAIR), job_id="77", application_id="5")
    assert purge_tags(found, request("/x"), KEYS) == {False: ("jobs:list", "jobs:job-77~5", "jobs:job-77")}


def test_what_else_a_write_purges_goes_by_whether_it_is_public():
    purges = (TagTemplate("search"), TagTemplate("jobs", ITEM), TagTemplate("companies", public=True))
    found = match(write_route("companies", scope=Scope.PUBLIC, purges=purges), job_id="77")
    assert purge_tags(found, request("/x"), KEYS) == {
        True: ("companies:list", "companies"),
        False: ("search", "jobs:77"),
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [("a%7Cb", "a|b"), ("caf%C3%A9", "caf%c3%a9"), ("a%3Ab", "a:b"), ("a%20b", "a%20b")],
)
def test_spellings_of_one_resource_are_keys_of_their_own_and_purged_together(one, other):
    of = route(identifier=ITEM)
    first, second = (key(request(f"/api/jobs/{value}"), of, job_id=value) for value in (one, other))
    assert (first.full == second.full) is (one == other)
    assert first.tags == second.tags
    for value in (one, other):
        found = match(write_route(identifier=ITEM), job_id=value)
        assert first.tags[1] in purge_tags(found, request(f"/api/jobs/{value}"), KEYS)[False]


@pytest.mark.parametrize("value", ["77.json", "77.tar.gz", "77.%6Ason", "77.JSON"])
def test_a_resource_in_a_format_is_purged_with_it_and_it_with_the_format(value):
    of, plain = route(identifier=ITEM), key(request("/api/jobs/77"), route(identifier=ITEM), job_id="77")
    found = key(request(f"/api/jobs/{value}"), of, job_id=value)
    assert found.full != plain.full
    assert found.tags == plain.tags == ("jobs", "jobs:77")
    # also where the write's path goes on behind it
    written = match(write_route(identifier=ITEM, purges=(TagTemplate("search", ITEM),)), job_id=value)
    assert {"jobs:77", "search:77"} < set(purge_tags(written, request(f"/api/jobs/{value}/status"), KEYS)[False])


@pytest.mark.parametrize(
    ("path", "stem"),
    [("/api/tree/a/77.json", "/api/tree/a/77"), ("/api/tree/v1.2/77.tar.gz", "/api/tree/v1.2/77"),
     ("/api/tree/.a.json", "/api/tree/.a")],
)  # fmt: skip
def test_so_is_what_a_whole_subtree_keeps(path, stem):
    of, written = route("tree", identifier=REST), match(route("tree", identifier=REST))
    assert key(request(path), of).full != key(request(stem), of).full
    for one, other in [(path, stem), (stem, path), (path, path)]:
        assert key(request(other), of).tags[1] in purge_tags(written, request(one), KEYS)[False]


def test_what_begins_with_a_dot_has_a_format_behind_the_next_one():
    of = route(identifier=ITEM)
    found = key(request("/api/jobs/.a.json"), of, job_id=".a.json")
    assert found.tags == key(request("/api/jobs/.a"), of, job_id=".a").tags
    assert found.tags != key(request("/api/jobs/.b"), of, job_id=".b").tags


def test_what_is_behind_a_dot_alone_is_no_suffix_and_a_plain_shared_cache_knows_none():
    found = key(request("/api/jobs/.json"), route(identifier=ITEM), job_id=".json")
    assert found.tags[1].startswith("jobs:h-")
    plain = route(scope=Scope.PUBLIC, ttl=None, identifier=ITEM)
    assert key(request("/api/jobs/77.json"), plain, job_id="77.json").tags[1].startswith("jobs:h-")


def test_a_whole_subtree_is_tagged_by_its_decoded_path():
    of = route("analytics", identifier=REST)
    assert key(request("/api/a%7Cb"), of).tags == key(request("/api/a|b"), of).tags
    assert key(request("/api/a%7Cb"), of).full != key(request("/api/a|b"), of).full


# Properties

ORG = st.text(alphabet=string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)
VALUE = st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="/?#"), max_size=80)
USER = st.text(max_size=30) | st.sampled_from(["\u0100", "\\u0100", "\ud800", "a|b"])
ROLES = st.frozensets(USER, max_size=4)
QUERY = st.text(alphabet="ab=&%2;+", max_size=12)
HEADERS = st.dictionaries(st.sampled_from(["x-a", "x-b", "x-c"]), st.text(alphabet="ab,", max_size=3), max_size=3)


@pytest.mark.isolation
@given(ORG, ORG, VALUE, VALUE)
def test_different_tenants_or_path_values_never_share_a_key(org, other_org, value, other_value):
    assume((org, value) != (other_org, other_value))
    of = route(identifier=RESERVED_ITEM)
    one = key(request("/x"), of, identity(org), job_id=value)
    other = key(request("/x"), of, identity(other_org), job_id=other_value)
    assert one.full != other.full


@pytest.mark.isolation
@given(USER, USER)
def test_different_users_never_share_a_key(user, other):
    assume(user != other)
    of = route(scope=Scope.USER)
    assert key(of=of, who=identity(user=user)).full != key(of=of, who=identity(user=other)).full


@pytest.mark.isolation
@given(ROLES, ROLES)
def test_different_roles_never_share_a_key(roles, other):
    assume(roles != other)
    of = route(scope=Scope.ROLE)
    assert key(of=of, who=identity(roles=roles)).full != key(of=of, who=identity(roles=other)).full


@given(QUERY, QUERY)
@pytest.mark.isolation
def test_requests_share_a_key_only_if_they_ask_the_upstream_the_same(one, other):
    first, second = key(request(f"/a?{one}")), key(request(f"/a?{other}"))
    if first.full == second.full:
        asked, also = (sorted(found.target.partition("?")[2].split("&")) for found in (first, second))
        assert asked == also


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_different_bodies_never_share_a_key_unless_they_are_equal_json(one, other):
    assume(one != other)
    if search(one).full == search(other).full:
        assert json.loads(one) == json.loads(other)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(JSON, JSON)
def test_json_bodies_share_a_key_exactly_when_they_are_the_same(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (search(json.dumps(one).encode()).full == search(json.dumps(other, indent=1).encode()).full) is same


@given(HEADERS, HEADERS)
@pytest.mark.isolation
def test_different_splitting_headers_never_share_a_key(one, other):
    assume(one != other)
    assert key(request(headers=one)).full != key(request(headers=other)).full


@given(
    ORG, VALUE, QUERY, USER, HEADERS, st.sampled_from(list(Scope)), st.sampled_from([ITEM, NESTED, REST, RESERVED_ITEM])
)
def test_a_key_is_short_printable_ascii_of_unambiguous_parts(org, value, query, user, headers, scope, shape):
    found = key(
        request(f"/x?{query}", {**headers, "Host": "h"}, method="POST", body=b"x"),
        route("f" * 32, scope=scope, identifier=shape),
        identity(org, user, roles=frozenset({user})),
        None,
        job_id=value,
    ).full
    assert len(found) <= MAX_KEY
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found
    assert found.count(":") == (2 if scope is Scope.PUBLIC else 3)


@pytest.mark.isolation
@given(
    VALUE | st.sampled_from(["list", "h-", "job-", "job-77", "h-aaaaaaaaaaaaaaaaaaaaaa"]), VALUE, st.text(max_size=9)
)
def test_an_item_never_meets_a_collection_a_subtree_or_a_nested_collection(value, nested, path):
    item = identifier(RESERVED_ITEM, "jobs", {"job-id": value}, "/", KEYS)
    others = {
        LIST,
        identifier(NESTED, "jobs", {"job-id": nested}, "/", KEYS),
        identifier(REST, "jobs", {}, path, KEYS),
        identifier(PAIR, "jobs", {"job-id": nested, "application-id": value}, "/", KEYS),
    }
    assert item not in others


@pytest.mark.isolation
@given(st.text(max_size=70))
def test_no_tenant_outside_the_grammar_gets_a_key(tenant):
    found = derived(who=identity(tenant))
    if isinstance(found, Key):
        assert set(tenant) <= set(string.ascii_letters + string.digits + "_-")
        assert 1 <= len(tenant) <= 64


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
@pytest.mark.isolation
def test_a_digest_tells_every_sequence_of_parts_from_every_other(one, other):
    assert (KEYS.digest(*one) == KEYS.digest(*other)) is (one == other)


@pytest.mark.parametrize(
    "value", ["77", "a-b_c", "list", "lists", "h-1", "job-77", "x" * 60, "x" * 61, "x" * 64, "x" * 65]
)
@pytest.mark.parametrize("shape", [ITEM, NESTED, RESERVED_ITEM, PAIR, REST])
@pytest.mark.parametrize("scope", [Scope.TENANT, Scope.ROLE, Scope.PUBLIC])
def test_the_key_of_a_plain_path_is_the_same_the_short_way(value, shape, scope):
    of = route(identifier=shape, scope=scope)
    path = f"/api/jobs/{value}"
    asked = request(path)
    names = {part.parameter: value for part in shape.parts}
    found = match(of, **names)
    framed = frame(of, asked, CALLER, KEYS, HOME)
    assert isinstance(framed, Frame)
    whole = derive(found, asked, CALLER, KEYS, HOME)
    assert derive(found, asked, CALLER, KEYS, HOME, framed=framed) == whole
    assert plainly(found, path, framed, KEYS) == whole
    some = items(of, framed)
    assert (some is None) == (shape.rest or len(shape.parts) != 1)
    if some is not None:
        made = item(some, value, path)
        assert made == whole or (made is None and (len(value) > 59 or value.startswith(("h-", "list", "job-"))))
