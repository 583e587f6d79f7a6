"""What is stored, for how long, and the reason for everything that is not."""

from typing import Any

import pytest

from proxy.policy.fields import format_http_date
from proxy.policy.key import Key, derive
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason
from proxy.policy.route import Assertion, Route, Scope
from proxy.policy.storing import Storable, asserts, decide, decide_alike, kind_of
from tests.builders import DATE, ITEM, KEYS, NOW, REST, identity, match, origin_route, request, response, route

JSON = {"Content-Type": "application/json", "Content-Length": "2", "Date": DATE}


def decided(
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    *,
    of: Route | None = None,
    status: int = 200,
    asked: Request | None = None,
    jitter: float = 0.0,
    framed: bool = True,
) -> Storable | Reason:
    """A dict is added to a small JSON response; a list is the whole head."""
    return decide(
        asked or request(),
        response(headers if isinstance(headers, list) else JSON | (headers or {}), status=status),
        match(of),
        now=NOW,
        requested_at=NOW,
        jitter=jitter,
        framed=framed,
    )


def stored(*args: Any, **kwargs: Any) -> Storable:
    verdict = decided(*args, **kwargs)
    assert isinstance(verdict, Storable), verdict
    return verdict


def first_key(asked: Request, of: Route | None = None, **parameters: str) -> Key:
    key = derive(match(of, **parameters), asked, identity(roles=frozenset()), KEYS, "portal.example")
    assert isinstance(key, Key)
    return key


USER = route(scope=Scope.USER)
PUBLIC = route(scope=Scope.PUBLIC)
LAX = route(honour=False)
ORIGIN = origin_route()
MAX_AGE = {"Cache-Control": "max-age=60"}


@pytest.mark.parametrize(
    ("of", "status", "headers", "reason"),
    [
        # realistic: a rule's own TTL
        (route(), 200, {"Cache-Control": "no-store"}, Reason.NO_STORE),
        (route(), 200, {"Cache-Control": "private"}, Reason.PRIVATE),
        (route(), 200, {"Set-Cookie": "a=1"}, Reason.SET_COOKIE),
        (route(), 200, {"Authorization": "Bearer new"}, Reason.PRIVATE),
        (LAX, 200, {"X-Auth-Token": "new"}, Reason.PRIVATE),
        (route(), 200, {"Vary": "*"}, Reason.VARY_STAR),
        (route(), 200, {"Vary": "Accept, *"}, Reason.VARY_STAR),
        (route(), 200, {"Vary": "Authorization"}, Reason.VARY_CREDENTIALS),
        (route(), 200, {"Vary": "cookie, accept"}, Reason.VARY_CREDENTIALS),
        (route(), 200, {"Vary": ",".join(f"x-{n}" for n in range(9))}, Reason.VARY_TOO_LONG),
        (route(), 200, {"Content-Encoding": "gzip"}, Reason.ENCODED),
        (route(), 200, {"Content-Type": "text/event-stream; charset=utf-8"}, Reason.EVENT_STREAM),
        (route(max_body=1), 200, {}, Reason.TOO_LARGE),
        (route(), 206, {"Content-Range": "bytes 0-1/9"}, Reason.PARTIAL),
        *[(route(), status, {}, Reason.STATUS) for status in (100, 204, 301, 302, 304, 400, 401, 403, 500, 503)],
        # pathological: a rule's own TTL
        (route(), 200, {"Cache-Control": "no-store, max-age=60, public"}, Reason.NO_STORE),
        (route(), 200, {"Cache-Control": "must-understand, no-store"}, Reason.NO_STORE),
        (route(), 200, {"Cache-Control": "private; max-age=60"}, Reason.PRIVATE),
        (USER, 200, {"Cache-Control": "private, no-store"}, Reason.NO_STORE),
        (LAX, 200, {"Cache-Control": "no-store", "Set-Cookie": "a"}, Reason.SET_COOKIE),
        (LAX, 200, {"Vary": "*"}, Reason.VARY_STAR),
        (route(negative={206: 5.0}), 206, {}, Reason.PARTIAL),
        (route(), 404, {"Cache-Control": "no-store"}, Reason.NO_STORE),
        (route(), 200, {"Content-Length": "+2"}, Reason.UNFRAMED),
        (route(), 200, {"Content-Length": "2, 2"}, Reason.UNFRAMED),
        (route(), 200, {"Content-Length": "9" * 5000}, Reason.UNFRAMED),
        (route(), 200, {"Content-Encoding": "identity, gzip"}, Reason.ENCODED),
        # ttl: origin
        (ORIGIN, 200, {}, Reason.NOT_FRESH),
        (ORIGIN, 200, {"ETag": '"a"'}, Reason.NOT_FRESH),
        (ORIGIN, 200, {"Cache-Control": "max-age=0"}, Reason.NOT_FRESH),
        (ORIGIN, 200, {"Cache-Control": "max-age=60", "Age": "60"}, Reason.NOT_FRESH),
        (ORIGIN, 200, {"Cache-Control": "no-cache, max-age=60"}, Reason.NOT_FRESH),
        (ORIGIN, 200, {"Cache-Control": "private, max-age=60"}, Reason.PRIVATE),
        (ORIGIN, 200, {"Cache-Control": "no-store, max-age=60"}, Reason.NO_STORE),
        (ORIGIN, 201, {"Cache-Control": "no-cache", "ETag": '"a"'}, Reason.NOT_FRESH),
        (ORIGIN, 200, MAX_AGE | {"CDN-Cache-Control": "no-store"}, Reason.NO_STORE),
        (ORIGIN, 200, MAX_AGE | {"CDN-Cache-Control": "foo", "Expires": DATE}, Reason.NOT_FRESH),
        (ORIGIN, 103, MAX_AGE, Reason.STATUS),
        (ORIGIN, 304, MAX_AGE, Reason.STATUS),
        (ORIGIN, 599, {"Cache-Control": "must-understand, max-age=60"}, Reason.STATUS),
        (ORIGIN, 206, MAX_AGE, Reason.PARTIAL),
        (origin_route(negative={404: 30.0}), 404, {}, Reason.NOT_FRESH),
    ],
)
def test_what_must_not_be_stored_says_why(of, status, headers, reason):
    assert decided(headers, of=of, status=status) is reason


@pytest.mark.parametrize(
    ("of", "status", "headers"),
    [
        # realistic
        (route(), 200, {}),
        (route(), 203, {}),
        (route(), 404, {}),
        (route(negative={301: 60.0}), 301, {}),
        (route(), 200, {"Cache-Control": "no-cache"}),
        (route(), 200, {"Cache-Control": "max-age=0, must-revalidate"}),
        (USER, 200, {"Cache-Control": "private"}),
        (USER, 200, {"Vary": "Authorization, Cookie"}),
        (LAX, 200, {"Cache-Control": "no-store, private"}),
        (route(), 200, {"Content-Encoding": "identity"}),
        (route(), 200, {"Content-Encoding": ""}),
        (route(), 200, {"Cache-Control": 'private="x-a"'}),
        (ORIGIN, 200, MAX_AGE),
        (ORIGIN, 200, {"Cache-Control": "max-age=0", "ETag": '"a"'}),
        (ORIGIN, 200, {"Cache-Control": "no-cache", "Expires": "0", "Last-Modified": DATE}),
        (ORIGIN, 200, {"Cache-Control": "max-age=0, stale-while-revalidate=9"}),
        (ORIGIN, 200, {"Cache-Control": "max-age=0, stale-if-error=9"}),
        (ORIGIN, 200, {"Cache-Control": "must-understand, no-store, max-age=60"}),
        (ORIGIN, 599, MAX_AGE),
        (ORIGIN, 302, MAX_AGE),
        (ORIGIN, 204, MAX_AGE),
        (ORIGIN, 200, MAX_AGE | {"Content-Encoding": "gzip"}),
        (ORIGIN, 200, {"Cache-Control": "no-cache", "ETag": '"a"'}),
        (ORIGIN, 200, {"Cache-Control": "no-store", "CDN-Cache-Control": "max-age=60"}),
    ],
)
def test_what_may_be_stored_is(of, status, headers):
    assert stored(headers, of=of, status=status).status == status


def test_a_body_whose_end_cannot_be_told_is_not_stored():
    assert decided(framed=False) is Reason.UNFRAMED


def test_a_response_to_head_is_not_stored_as_what_a_get_would_get():
    assert decided(asked=request(method="HEAD")) is Reason.PARTIAL


def test_a_client_can_keep_a_response_out_only_where_its_word_counts():
    asked = request(headers={"Cache-Control": "no-store"})
    assert decided(MAX_AGE, of=ORIGIN, asked=asked) is Reason.REQUEST_CONTROL
    assert isinstance(decided(asked=asked), Storable)


@pytest.mark.parametrize(
    ("of", "control", "reason"),
    [
        (origin_route(scope=Scope.PUBLIC), "max-age=60", Reason.AUTHORIZATION),
        (origin_route(scope=Scope.PUBLIC), "max-age=60, public", None),
        (origin_route(scope=Scope.PUBLIC), "max-age=60, must-revalidate", None),
        (origin_route(scope=Scope.PUBLIC), "s-maxage=60", None),
        (origin_route(), "max-age=60", None),
        (PUBLIC, "max-age=60", None),
    ],
)
def test_what_was_authorized_is_shared_only_by_a_rule_or_the_origins_word(of, control, reason):
    verdict = decided({"Cache-Control": control}, of=of, asked=request(headers={"Authorization": "Bearer x"}))
    assert (verdict if isinstance(verdict, Reason) else None) is reason


@pytest.mark.parametrize(
    ("of", "status", "headers", "jitter", "seconds"),
    [
        # realistic
        (route(), 200, {}, 0.0, 900),
        (route(), 200, {}, 1.0, 855),
        (route(), 200, {"Cache-Control": "max-age=5", "Age": "4"}, 0.0, 900),
        (route(), 200, {"Cache-Control": "no-cache"}, 0.0, 900),
        (route(), 404, {}, 0.0, 30),
        (route(), 410, {}, 1.0, 28.5),
        (ORIGIN, 200, {"Cache-Control": "max-age=60"}, 1.0, 60),
        (ORIGIN, 200, {"Cache-Control": "max-age=60", "Age": "20"}, 0.0, 40),
        (ORIGIN, 200, {"Cache-Control": "max-age=60", "Date": format_http_date(NOW - 50)}, 0.0, 10),
        (ORIGIN, 200, {"Last-Modified": format_http_date(NOW - 1000)}, 0.0, 100),
        # pathological
        (ORIGIN, 200, {"Cache-Control": "max-age=60", "Age": "100", "ETag": '"a"'}, 0.0, -40),
    ],
)
def test_freshness_is_the_rules_or_the_origins(of, status, headers, jitter, seconds):
    assert stored(headers, of=of, status=status, jitter=jitter).fresh_until == NOW + seconds


@pytest.mark.parametrize(
    ("of", "control", "grace", "if_error", "forbidden"),
    [
        # realistic
        (route(), "", 120, 3600, False),
        (route(), "stale-while-revalidate=5, stale-if-error=6", 120, 3600, False),
        (route(), "must-revalidate", 0, 0, True),
        (route(), "proxy-revalidate", 0, 0, True),
        (route(), "s-maxage=5", 120, 3600, False),
        (route(critical=True), "", 0, 0, False),
        (route(honour=False), "must-revalidate", 120, 3600, False),
        (ORIGIN, "max-age=60", 0, 0, False),
        (ORIGIN, "max-age=60, stale-while-revalidate=5, stale-if-error=6", 5, 6, False),
        (origin_route(grace=7.0, if_error=8.0), "max-age=60", 7, 8, False),
        # pathological
        (ORIGIN, "s-maxage=60, stale-while-revalidate=5", 0, 0, True),
        (ORIGIN, "max-age=60, stale-while-revalidate=5, must-revalidate", 0, 0, True),
        (origin_route(grace=7.0), "max-age=60, stale-while-revalidate=x", 0, 0, False),
    ],
)
def test_stale_windows_follow_freshness_unless_forbidden(of, control, grace, if_error, forbidden):
    kept = stored({"Cache-Control": control}, of=of)
    assert (kept.grace_until - kept.fresh_until, kept.error_until - kept.fresh_until) == (grace, if_error)
    assert kept.must_revalidate is forbidden


@pytest.mark.parametrize(("of", "no_cache"), [(ORIGIN, True), (route(), False)])
def test_no_cache_binds_only_where_the_origin_decides(of, no_cache):
    assert stored({"Cache-Control": "no-cache, max-age=60", "ETag": '"a"'}, of=of).no_cache is no_cache


def test_the_stored_head_is_end_to_end_and_dated():
    lines = [
        ("content-type", "text/plain"),
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Age", "7"),
        ("Cache-Status", "origin; hit"),
        ("Link", "</a>"),
        ("Link", "</b>"),
    ]
    head = Fields([*[lines[0]], *lines[5:], ("Date", DATE)])
    kept = stored(lines)
    assert kept.entry(first_key(request()), request(), b"x", b"", b"", 0.0).fields() == head
    assert kept.age == 7


@pytest.mark.parametrize("date", ["garbage", ""])
def test_an_unreadable_date_is_replaced_by_the_time_of_arrival(date):
    kept = stored({"Date": date})
    assert f"Date: {DATE}\r\n".encode() in kept.head
    assert kept.head.lower().count(b"date:") == 1


def test_fields_that_are_one_clients_own_are_taken_out():
    kept = stored({"Cache-Control": 'private="x-a", no-cache="X-B"', "X-A": "1", "X-B": "2", "X-C": "3"})
    assert b"X-C" in kept.head
    assert b"X-A: " not in kept.head
    assert b"X-B: " not in kept.head


@pytest.mark.parametrize(
    ("etag", "kept"),
    [
        ('"a"', '"a"'),
        ('W/"a"', 'W/"a"'),
        ('""', '""'),
        ("a", None),
        ('"a', None),
        ('w/"a"', None),
        ('"a", "b"', None),
        ('"a b"', None),
    ],
)
def test_only_a_valid_entity_tag_is_a_validator(etag, kept):
    assert stored({"ETag": etag}).etag == kept


def test_validators_and_media_type_are_parsed_when_storing():
    kept = stored({"Last-Modified": DATE})
    assert (kept.last_modified, kept.content_type) == (NOW, "application/json")
    kept = stored([])
    assert (kept.last_modified, kept.content_type, kept.etag) == (None, None, None)


@pytest.mark.parametrize(
    ("of", "vary", "names"),
    [
        # realistic
        (route(), "Accept-Encoding", ()),
        (route(), "Accept-Language, accept", ("accept", "accept-language")),
        (route(), "Origin, X-Requested-With", ()),  # they make variants of their own
        (route(vary=("accept-language",)), "Accept-Language, User-Agent", ("user-agent",)),
        (USER, "Authorization, Cookie, Accept-Language", ("accept-language",)),
        # pathological
        (route(), "accept,,Accept , ACCEPT", ("accept",)),
        (route(ignore_headers=frozenset({"x-correlation-id"})), "X-Correlation-Id", ("x-correlation-id",)),
        (route(), ", ".join(["accept-encoding", *(f"sec-{n}" for n in range(8))]), 8),
    ],
)
def test_vary_names_what_the_first_key_leaves_out(of, vary, names):
    found = stored({"Vary": vary}, of=of).vary
    assert found == names or len(found) == names


def test_an_entry_holds_the_key_the_request_and_the_selecting_values():
    asked = request("/api/jobs?utm_source=x&page=2", {"Accept-Language": "DE , en"})
    key = first_key(asked)
    entry = stored({"Vary": "accept-language"}, of=route(sensitive=True, compress=7)).entry(
        key, asked, b"[]", b"hard", b"soft", 0.25
    )
    assert (entry.key, entry.tenant, entry.request) == (key.full, "org_a", "GET /api/jobs?page=2")
    assert entry.vary == (("accept-language", "de,en"),)
    assert (entry.policy, entry.tags, entry.epochs_hard, entry.epochs_soft) == (b"rule", key.tags, b"hard", b"soft")
    assert (entry.body, entry.fetch_seconds, entry.compress, entry.sensitive) == (b"[]", 0.25, 7, True)


def test_head_is_answered_from_what_get_stored():
    kept = stored()
    key = first_key(request())
    entry = kept.entry(key, request(method="HEAD"), b"", b"", b"", 0.0)
    assert entry.request == "GET /api/jobs"


def test_a_key_split_by_accept_remembers_it_although_vary_does_not_name_it():
    asked = request(headers={"Accept": "text/csv"})
    key = Key("k", ".v-x", "org_a", ("jobs",), "GET /api/jobs", "/api/jobs", ("accept",))
    assert stored().entry(key, asked, b"", b"", b"", 0.0).vary == (("accept", "text/csv"),)
    assert stored({"Vary": "Accept"}).entry(key, asked, b"", b"", b"", 0.0).vary == (("accept", "text/csv"),)


@pytest.mark.parametrize(
    ("split_by", "within"),
    [((), False), (("accept",), False), (("accept", "accept-language", "x-a"), True)],
)
def test_a_response_belongs_under_a_key_that_every_selecting_field_is_part_of(split_by, within):
    key = Key("k", "", "org_a", (), "GET /", "/", split_by)
    assert stored({"Vary": "Accept, Accept-Language"}).selected_within(key) is within
    assert stored().selected_within(key)


@pytest.mark.parametrize(
    ("of", "status", "tags"),
    [
        (route(), 200, ("jobs", "jobs:77")),
        (route(), 404, ("jobs", "jobs:77", "jobs:list")),
        (origin_route(), 404, ("jobs", "jobs:77", "jobs:list")),
        (route(negative={301: 5.0}), 301, ("jobs", "jobs:77", "jobs:list")),
    ],
)
def test_a_negative_entry_is_purged_with_the_list_too(of, status, tags):
    key = Key("k", "", "org_a", ("jobs", "jobs:77"), "GET /api/jobs/77", "/api/jobs/77")
    kept = stored(MAX_AGE, of=of, status=status)
    assert kept.tags(key) == tags
    assert kept.entry(key, request(), b"", b"", b"", 0.0).tags == tags


def test_a_negative_list_is_tagged_once():
    key = Key("k", "", "org_a", ("jobs", "jobs:list"), "GET /api/jobs", "/api/jobs")
    assert stored(status=404).tags(key) == ("jobs", "jobs:list")


def test_the_limit_of_the_body_is_the_routes():
    assert stored(of=route(max_body=5)).max_body == 5


ORG = Assertion(("org_id",), "tenant")
DEEP = Assertion(("data", "owner"), "user")


@pytest.mark.parametrize(
    ("assertion", "body", "holds"),
    [
        # realistic
        (ORG, b'{"org_id": "org_a"}', True),
        (ORG, b'{"org_id": "org_b"}', False),
        (DEEP, b'{"data": {"owner": "u1"}}', True),
        (DEEP, b'{"data": {"owner": "org_a"}}', False),
        # pathological
        (ORG, b"{}", False),
        (ORG, b"", False),
        (ORG, b"<html>", False),
        (ORG, b'{"org_id": null}', False),
        (ORG, b'{"org_id": ["org_a"]}', False),
        (ORG, b'["org_a"]', False),
        (ORG, b'"org_a"', False),
        (DEEP, b'{"data": "u1"}', False),
        (ORG, b"\xff", False),
    ],
)
@pytest.mark.isolation
def test_an_assertion_holds_only_for_the_callers_own_value(assertion, body, holds):
    assert asserts(assertion, body, identity()) is holds


def test_nobody_and_the_unknown_own_nothing():
    assert not asserts(ORG, b'{"org_id": null}', None)
    assert not asserts(ORG, b'{"org_id": null}', identity(tenant=None))
    assert not asserts(ORG, b"{}", identity(tenant=None))


@pytest.mark.parametrize(
    ("control", "error_until"),
    [
        ("max-age=60", 60 + 3600),
        ("max-age=60, stale-if-error=9", 60 + 3600),
        ("max-age=60, stale-if-error=7200", 60 + 7200),
        ("max-age=60, must-revalidate", 60),
        ("s-maxage=60", 60),
        ("max-age=0, stale-if-error=9", 9),  # it was never fresh
    ],
)
def test_what_was_fresh_is_kept_for_an_origin_that_cannot_be_reached(control, error_until):
    verdict = stored({"Cache-Control": control}, of=origin_route(if_unreachable=3600.0))
    assert verdict.error_until == NOW + error_until


@pytest.mark.parametrize(
    ("of", "negative"),
    [(route(identifier=REST), True), (origin_route(), True), (origin_route(identifier=REST), False)],
)
def test_an_error_is_bound_to_its_list_where_there_is_one(of, negative):
    assert stored({"Cache-Control": "max-age=9"}, of=of, status=404).negative is negative


# Groups (RFC 9875)


def test_what_belongs_to_groups_is_bound_to_them_after_its_other_tags():
    storable = stored({"Cache-Groups": '"a", "b"'})
    assert storable.groups == ("@:a", "@:b")
    key = derive(match(), request(), identity(), KEYS, None)
    assert isinstance(key, Key)
    assert storable.tags(key) == (*key.tags, "@:a", "@:b")
    assert storable.entry(key, request(), b"", b"h", b"s", 0.1).tags == storable.tags(key)


def test_what_is_missing_and_belongs_to_groups_is_bound_to_both():
    of = route(identifier=ITEM, pattern="/api/jobs/{job-id}")
    key = derive(match(of, job_id="77"), request("/api/jobs/77"), identity(), KEYS, None)
    assert isinstance(key, Key)
    storable = stored({"Cache-Groups": '"a"'}, of=of, status=404)
    assert storable.tags(key) == ("jobs", "jobs:77", "jobs:list", "@:a")


@pytest.mark.parametrize("value", ["a", '"a",', '("a")'])
def test_groups_that_do_not_parse_are_none(value):
    assert stored({"Cache-Groups": value}).groups == ()


def test_what_is_in_too_many_groups_is_not_stored():
    assert decided({"Cache-Groups": ", ".join(f'"{number}"' for number in range(129))}) is Reason.TOO_MANY_GROUPS


ALIKE: list[dict[str, str]] = [
    {}, {"Cache-Control": "max-age=60"}, {"Cache-Control": "s-maxage=9, stale-while-revalidate=5"},
    {"Cache-Control": "no-cache=etag, max-age=60"}, {"Cache-Control": "must-revalidate, max-age=5"},
    {"Connection": "last-modified"}, {"Vary": "Referer, Accept-Language"}, {"Cache-Groups": '"a", "b"'},
    {"Expires": DATE}, {"Cache-Control": "no-cache"}, {"X-Own": "1"},
]  # fmt: skip
OTHERWISE: list[dict[str, str]] = [
    {}, {"Content-Length": "7"}, {"Content-Length": "99999999999"}, {"Content-Length": "x"}, {"Date": "never"},
    {"Date": format_http_date(NOW - 500)}, {"ETag": '"2"'}, {"ETag": "odd"}, {"Last-Modified": format_http_date(NOW)},
]  # fmt: skip


JUDGED = [
    (of, headers, first)
    for of in (route(), ORIGIN, USER, PUBLIC, LAX)
    for headers in ALIKE
    if isinstance(first := decided({"ETag": '"1"'} | headers, of=of), Storable)
]


def test_most_of_these_heads_are_stored():
    assert len(JUDGED) > 40


@pytest.mark.parametrize(("of", "headers", "first"), JUDGED)
def test_a_head_like_one_that_was_judged_comes_to_what_it_would_have_come_to(of, headers, first):
    for other in OTHERWISE:
        for framed in (True, False):
            head = response(JSON | headers | other)
            how = {"now": NOW + 3, "requested_at": NOW + 1, "jitter": 0.5, "framed": framed}
            assert decide_alike(first.verdict, head, **how) == decide(request(), head, match(of), **how)


def test_requests_that_are_judged_alike_say_the_same_where_it_counts():
    lax, strict = route(client_control=False), route(client_control=True)
    plain, asking = request(), request(headers={"Cache-Control": "no-store"})
    assert kind_of(plain, strict) != kind_of(asking, strict)
    assert kind_of(plain, lax) == kind_of(asking, lax)
    assert kind_of(plain, lax) != kind_of(request(headers={"Authorization": "Bearer x"}), lax)
