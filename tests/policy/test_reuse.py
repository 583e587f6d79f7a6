"""Served, refreshed, revalidated or fetched: by numbers, and by the client's word only where it counts."""

import pytest

from proxy.policy.outcome import Reason
from proxy.policy.reuse import (
    Fetch,
    Revalidate,
    Serve,
    ServeStale,
    Unsatisfiable,
    accepts,
    decide,
    decide_without,
    is_failure,
    may_serve_on_error,
    second_key_names,
)
from tests.builders import NOW, entry, origin_route, request, route

SERVE = Serve(Reason.FRESH)
STALE = ServeStale(Reason.STALE_WHILE_REVALIDATE)


@pytest.mark.parametrize(
    ("later", "more", "decision"),
    [
        # realistic
        (0, {}, SERVE),
        (899.9, {}, SERVE),
        (900, {}, STALE),
        (1019.9, {}, STALE),
        (1020, {}, Fetch(Reason.EXPIRED)),
        (1020, {"etag": '"a"'}, Revalidate(Reason.EXPIRED)),
        (1020, {"last_modified": NOW}, Revalidate(Reason.EXPIRED)),
        # pathological
        (-30, {}, SERVE),
        (-30.1, {}, Fetch(Reason.EXPIRED)),
        (-3600, {"etag": '"a"'}, Revalidate(Reason.EXPIRED)),
        (0, {"no_cache": True, "etag": '"a"'}, Revalidate(Reason.EXPIRED)),
        (900, {"no_cache": True}, Fetch(Reason.EXPIRED)),
        (900, {"must_revalidate": True}, Fetch(Reason.EXPIRED)),
        (0, {"must_revalidate": True}, SERVE),
    ],
)
def test_a_rules_ttl_decides_by_numbers(later, more, decision):
    assert decide(request(headers={"Cache-Control": "no-cache"}), route(), entry(**more), NOW + later) == decision


@pytest.mark.parametrize(
    ("headers", "decision"),
    [
        ({}, Fetch(Reason.EXPIRED)),
        ({"Cache-Control": "max-stale"}, Fetch(Reason.EXPIRED)),
        ({"Cache-Control": "only-if-cached"}, Unsatisfiable()),
    ],
)
def test_how_old_it_is_nobody_knows_of_what_is_from_the_future(headers, decision):
    """A clock was set back, or another replica's is ahead: it would be fresh for all that time more."""
    assert decide(request(headers=headers), origin_route(), entry(), NOW - 3600) == decision
    assert not may_serve_on_error(request(headers=headers), entry(), origin_route(), NOW - 3600, answered=False)


@pytest.mark.parametrize(
    ("of", "more", "decision"),
    [
        (route(), {}, STALE),
        (route(), {"grace_until": NOW + 900}, Fetch(Reason.PURGED)),
        (route(), {"etag": '"a"', "must_revalidate": True}, Revalidate(Reason.PURGED)),
        (route(critical=True), {}, Fetch(Reason.PURGED)),
        (origin_route(), {}, STALE),
        (origin_route(), {"etag": '"a"', "no_cache": True}, Revalidate(Reason.PURGED)),
    ],
)
def test_a_soft_purge_makes_a_fresh_entry_stale(of, more, decision):
    assert decide(request(), of, entry(**more), NOW, soft_purged=True) == decision


@pytest.mark.parametrize(
    ("of", "headers", "more", "decision"),
    [
        (route(), {}, {}, Fetch(Reason.STORE_UNAVAILABLE)),
        (route(), {}, {"etag": '"a"'}, Revalidate(Reason.STORE_UNAVAILABLE)),
        (route(), {"Cache-Control": "only-if-cached"}, {}, Fetch(Reason.STORE_UNAVAILABLE)),
        (origin_route(), {"Cache-Control": "max-stale=9999"}, {}, Fetch(Reason.STORE_UNAVAILABLE)),
        (origin_route(), {"Cache-Control": "only-if-cached"}, {}, Unsatisfiable()),
    ],
)
def test_an_unproven_entry_is_never_served_instead_of_asking(of, headers, more, decision):
    assert decide(request(headers=headers), of, entry(**more), NOW, unproven=True) == decision


EARLY = Serve(Reason.FRESH, refresh=True)


@pytest.mark.parametrize(
    ("remaining", "fetch_seconds", "chance", "decision"),
    [
        # realistic: the nearer its end and the dearer its fetch, the likelier
        (800, 0.2, 0.5, SERVE),
        (1, 0.2, 0.5, SERVE),
        (0.1, 0.2, 0.5, EARLY),
        (1, 2.0, 0.5, EARLY),
        (10, 2.0, 0.5, SERVE),
        (10, 2.0, 0.006, EARLY),
        # pathological
        (1, 2.0, 1.0, SERVE),
        (1e-3, 0.0, 5e-324, SERVE),
        (79.9, 2.0, 5e-324, EARLY),
        (80, 2.0, 5e-324, SERVE),
        (0, 2.0, 0.5, STALE),
    ],
)
def test_a_fresh_entry_is_refreshed_early_by_chance(remaining, fetch_seconds, chance, decision):
    held = entry(fetch_seconds=fetch_seconds)
    assert decide(request(), route(), held, held.fresh_until - remaining, chance=chance) == decision


def test_what_is_not_fresh_in_other_ways_is_not_refreshed_early():
    held = entry(fetch_seconds=2.0)
    assert decide(request(), route(), held, NOW + 899, chance=0.1, soft_purged=True) == STALE
    assert decide(request(), origin_route(), held, NOW + 899, chance=0.1) == SERVE


def test_a_critical_route_never_serves_stale():
    assert decide(request(), route(critical=True), entry(), NOW + 900) == Fetch(Reason.EXPIRED)


def test_without_an_entry_there_is_a_fetch_that_says_why():
    assert decide(request(), route(), None, NOW) == Fetch(Reason.COLD)
    assert decide_without(request(), route(), Reason.PURGED) == Fetch(Reason.PURGED)


def test_only_if_cached_without_an_entry_cannot_be_satisfied_where_the_client_counts():
    asked = request(headers={"Cache-Control": "only-if-cached"})
    assert decide(asked, origin_route(), None, NOW) == Unsatisfiable()
    assert decide(asked, route(), None, NOW) == Fetch(Reason.COLD)


ASKED = Fetch(Reason.REQUEST_CONTROL)


@pytest.mark.parametrize(
    ("control", "later", "more", "decision"),
    [
        # realistic
        ("", 0, {}, SERVE),
        ("no-cache", 0, {}, ASKED),
        ("no-cache", 0, {"etag": '"a"'}, Revalidate(Reason.REQUEST_CONTROL)),
        ("max-age=0", 0.1, {}, ASKED),
        ("max-age=60", 60, {}, SERVE),
        ("max-age=60", 61, {}, ASKED),
        ("max-age=60", 0, {"age": 61.0}, ASKED),
        ("min-fresh=60", 840, {}, SERVE),
        ("min-fresh=60", 841, {}, ASKED),
        ("no-store", 0, {}, SERVE),
        ("", 900, {}, STALE),
        ("max-stale", 5000, {}, ServeStale(Reason.REQUEST_CONTROL)),
        ("max-stale=200", 1100, {}, ServeStale(Reason.REQUEST_CONTROL)),
        ("max-stale=200", 1101, {}, Fetch(Reason.EXPIRED)),
        ("only-if-cached", 0, {}, SERVE),
        ("only-if-cached", 900, {}, STALE),
        ("only-if-cached", 5000, {}, Unsatisfiable()),
        ("only-if-cached, max-stale", 5000, {}, ServeStale(Reason.REQUEST_CONTROL)),
        # pathological
        ("only-if-cached, no-cache", 0, {"etag": '"a"'}, Unsatisfiable()),
        ("max-stale", 5000, {"must_revalidate": True}, Fetch(Reason.EXPIRED)),
        ("max-stale", 0, {"no_cache": True}, Fetch(Reason.EXPIRED)),
        ("max-age=5000", 900, {}, Fetch(Reason.EXPIRED)),
        ("max-age=5000, max-stale=10", 905, {}, ServeStale(Reason.REQUEST_CONTROL)),
        ("max-age=-1", 0.1, {}, ASKED),
        ("min-fresh=x", 0, {}, ASKED),
    ],
)
def test_with_ttl_origin_the_clients_directives_count(control, later, more, decision):
    asked = request(headers={"Cache-Control": control} if control else {})
    assert decide(asked, origin_route(), entry(**more), NOW + later) == decision


def test_pragma_counts_like_no_cache():
    assert decide(request(headers={"Pragma": "no-cache"}), origin_route(), entry(), NOW) == ASKED


@pytest.mark.parametrize(
    ("later", "of", "more", "may"),
    [
        (4499, route(), {}, True),
        (4500, route(), {}, False),
        (0, route(critical=True), {}, False),
        (0, route(), {"must_revalidate": True}, False),
        (0, route(), {"no_cache": True}, False),
    ],
)
def test_an_entry_stands_in_for_a_failing_upstream_within_its_window(later, of, more, may):
    assert may_serve_on_error(request(), entry(**more), of, NOW + later, answered=True) is may


PERMITTED = [("Cache-Control", "max-age=900, stale-if-error=60")]


@pytest.mark.parametrize(
    ("headers", "asked", "later", "answered", "may"),
    [
        (PERMITTED, "", 959, True, True),
        (PERMITTED, "", 960, True, False),
        (PERMITTED, "", 960, False, True),  # disconnected: for as long as it is kept (RFC 9111 4.2.4)
        ([], "", 901, True, False),
        ([], "stale-if-error=30", 929, True, True),
        ([], "stale-if-error=30", 930, True, False),
    ],
)
def test_by_the_origins_word_an_error_needs_permission_and_a_lost_origin_does_not(headers, asked, later, answered, may):
    client = request(headers={"Cache-Control": asked} if asked else {})
    assert may_serve_on_error(client, entry(headers), origin_route(), NOW + later, answered=answered) is may


@pytest.mark.parametrize(
    ("status", "failure"),
    [(500, True), (502, True), (503, True), (504, True), (501, False), (404, False), (200, False)],
)
def test_four_statuses_are_failures_to_stand_in_for(status, failure):
    assert is_failure(status) is failure


@pytest.mark.parametrize(
    ("vary", "headers", "names"),
    [
        # realistic
        ((), {}, None),
        ((), {"Accept": "*/*"}, None),
        ((), {"Accept": "application/json"}, None),
        ((), {"Accept": "text/csv"}, ("accept",)),
        ((("accept-language", "de"),), {"Accept-Language": "DE"}, None),
        ((("accept-language", "de"),), {"Accept-Language": "en"}, ("accept-language",)),
        ((("accept-language", "de"),), {}, ("accept-language",)),
        ((("accept-language", ""),), {}, None),
        ((("user-agent", "a"), ("accept-language", "de")), {"User-Agent": "a"}, ("accept-language", "user-agent")),
        # a refused media type
        ((("accept-language", "de"),), {"Accept-Language": "de", "Accept": "text/csv"}, ("accept", "accept-language")),
        # the value of Accept selected the entry: whether it likes the media type no longer matters
        ((("accept", "text/csv"),), {"Accept": "text/csv"}, None),
        ((("accept", "text/csv"),), {"Accept": "text/html"}, ("accept",)),
        ((("accept", "text/csv"),), {"Accept": "application/json"}, ("accept",)),
    ],
)
def test_an_entry_that_other_fields_selected_has_a_second_key(vary, headers, names):
    assert second_key_names(entry(vary=vary), request(headers=headers)) == names


def test_an_entry_without_a_media_type_is_never_refused():
    assert second_key_names(entry(content_type=None), request(headers={"Accept": "text/csv"})) is None


@pytest.mark.parametrize(
    ("accept", "media", "taken"),
    [
        # realistic
        ("application/json", "application/json; charset=utf-8", True),
        ("application/json, text/plain, */*", "text/csv", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json", True),
        ("text/*", "text/csv", True),
        ("text/*", "application/json", False),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "application/json", True),
        ("application/json;q=0", "application/json", False),
        ("*/*, application/json;q=0", "application/json", False),
        ("*/*;q=0, application/json", "application/json", True),
        ("application/*;q=0, application/json;q=0.1", "application/json", True),
        ("application/json;q=0.000", "application/json", False),
        ("APPLICATION/JSON", "Application/Json", True),
        ("application/json; charset=utf-8", 'application/json;charset="UTF-8"', True),
        ("application/json; version=2", "application/json", False),
        ("application/json; version=2;q=0, application/json", "application/json; version=2", False),
        # pathological: what cannot be parsed refuses nothing
        ("bogus", "application/json", True),
        ("", "application/json", True),
        (",,", "application/json", True),
        ("application/json;q=x", "application/json", True),
        ("application/json;q=", "application/json", True),
        ("application/json;q=.", "application/json", True),
        ("text/html;q=x, text/csv", "application/json", False),
        ("a/b/c", "application/json", True),
        ("text/csv", "garbage", True),
        ("text/csv", "", True),
    ],
)
def test_accept_takes_what_its_most_specific_range_weighs(accept, media, taken):
    assert accepts(accept, media) is taken


def test_an_accept_of_thousands_of_ranges_is_not_taken_apart():
    assert accepts("text/html", "application/json") is False
    assert accepts(",".join(["text/html"] * 300), "application/json") is True
