"""The request path as scripts: what a client sends, what the upstream is asked, what comes back and why."""

import asyncio

import pytest

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Accessed, Reason
from tests.serving.world import RULES, ScriptedStream, World, answered, compiled, unsigned

HIT = "sidecache; hit; ttl=900"
COLD = "sidecache; fwd=uri-miss; stored"


@pytest.fixture(name="world")
async def _world():
    world = World()
    yield world
    await world.background.drain(1.0)
    assert world.failures == []


async def test_a_miss_is_stored_and_the_next_request_is_a_hit(world):
    first = await world.get("/api/jobs")
    second = await world.get("/api/jobs")

    assert (first.cache, first.body) == (COLD, b"answer 1")
    assert (second.cache, second.body) == (HIT, b"answer 1")
    assert len(world.upstream.asked) == 1


async def test_what_is_asked_of_a_sensitive_feature_says_who_asked_and_nothing_else_does(world):
    world.rules = compiled(RULES.replace("  mine:", "  mine:\n    sensitive: true\n    write: [PUT /api/me]"))
    cold, hit = (await world.get("/api/me")).reply.outcome, (await world.get("/api/me")).reply.outcome
    written = (await world.send("PUT", "/api/me", body=b"{}")).reply.outcome
    nobody = (await world.get("/api/me", token="")).reply.outcome
    world.off.add(("mine", "org_a"))
    off = (await world.get("/api/me")).reply.outcome
    outcomes = [cold, hit, written, off, nobody]
    assert all(isinstance(each, Accessed) for each in outcomes)
    assert [each.reason for each in outcomes] == [
        Reason.COLD, Reason.FRESH, Reason.WRITE, Reason.SWITCHED_OFF, Reason.NO_CREDENTIALS,
    ]  # fmt: skip
    assert [(each.user, each.tenant) for each in outcomes] == [("u1", "org_a")] * 4 + [(None, None)]
    assert not isinstance((await world.get("/api/jobs")).reply.outcome, Accessed)


@pytest.mark.parametrize(
    ("headers", "feature"),
    [
        ({"If-Match": '"1"'}, "jobs"),
        ({"Upgrade": "x"}, "jobs"),
        ({"X-Original-URL": "/x"}, "jobs"),
        ({"Host": "x"}, None),
    ],
)
async def test_what_is_passed_on_is_counted_by_its_feature_where_that_is_served(world, headers, feature):
    assert (await world.get("/api/jobs", headers=headers)).reply.outcome.feature == feature


SENSITIVE = RULES.replace("  mine:", "  mine:\n    sensitive: true\n    write: [PUT /api/me]")


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/api/me", {"Host": "other.test"}),
        ("GET", "/api/me", {"If-Match": '"1"'}),
        ("GET", "/api/me", {"X-Original-URL": "/x"}),
        ("GET", "/api/%6de", {}),
        ("GET", "/api/ME", {}),
        ("GET", "/api//me", {}),
        ("GET", "/api/me/", {}),
        ("GET", "/api/me;a", {}),
        ("GET", "/x", {"X-Original-URL": "/api/me"}),
        ("GET", "/api/jobs/../me", {}),
        ("GET", "/api/jobs", {"X-Rewrite-URL": "/api/me"}),
        ("PUT", "/api/%6de", {}),
    ],
)
async def test_however_a_sensitive_feature_is_asked_for_past_the_cache_it_is_told_who_did(
    world, method, target, headers
):
    world.rules = compiled(SENSITIVE)
    outcome = (await world.send(method, target, headers=headers)).reply.outcome
    assert isinstance(outcome, Accessed)
    assert (outcome.feature, outcome.tenant, outcome.user) == ("mine", "org_a", "u1")


@pytest.mark.parametrize("target", ["/api/jobs/A.b", "/X", "/x/", "/api/%6dine", "/api/me/x"])
async def test_what_no_upstream_takes_for_a_sensitive_path_is_no_access(world, target):
    world.rules = compiled(SENSITIVE)
    assert not isinstance((await world.get(target)).reply.outcome, Accessed)


@pytest.mark.isolation
async def test_the_other_tenant_gets_its_own_answer(world):
    await world.get("/api/jobs", token=unsigned("org_a"))
    other = await world.get("/api/jobs", token=unsigned("org_b"))

    assert (other.cache, other.body) == (COLD, b"answer 2")


async def test_after_a_write_the_next_read_is_fresh(world):
    await world.get("/api/jobs")
    await world.get("/api/jobs/77")
    await world.get("/api/jobs/78")
    await world.get("/api/search?q=x")
    written = await world.send("PUT", "/api/jobs/77", body=b"{}")

    assert written.cache == "sidecache; fwd=method; detail=write"
    assert (await world.get("/api/jobs")).cache == "sidecache; fwd=uri-miss; stored; detail=purged"
    assert (await world.get("/api/jobs/77")).cache == "sidecache; fwd=uri-miss; stored; detail=purged"
    assert (await world.get("/api/search?q=x")).cache == "sidecache; fwd=uri-miss; stored; detail=purged"
    assert (await world.get("/api/jobs/78")).cache == HIT


@pytest.mark.isolation
async def test_a_write_leaves_the_other_tenant_alone(world):
    await world.get("/api/jobs", token=unsigned("org_b"))
    await world.send("POST", "/api/jobs", token=unsigned("org_a"), body=b"{}")

    assert (await world.get("/api/jobs", token=unsigned("org_b"))).cache == HIT


@pytest.mark.parametrize(
    ("answer", "purged"),
    [
        (answered(status=201), True),
        (answered(status=303), True),
        (answered(status=500), True),
        (UpstreamError("http_response_timeout", status=504), True),
        (UpstreamError("connection_refused", delivered=False), False),
        (answered(status=409), False),
        (answered(status=422), False),
    ],
)
async def test_a_write_purges_unless_the_upstream_surely_did_nothing(world, answer, purged):
    await world.get("/api/jobs")
    world.upstream.answer = lambda request, n: answer
    await world.send("POST", "/api/jobs", body=b"{}")
    world.upstream.answer = lambda request, n: b"new"

    assert ((await world.get("/api/jobs")).body == b"new") is purged


async def test_a_fill_that_was_in_flight_during_a_write_is_never_served(world):
    world.upstream.gate = asyncio.Event()
    reading = asyncio.ensure_future(world.get("/api/jobs"))
    await world.settle()
    gate, world.upstream.gate = world.upstream.gate, None
    await world.send("POST", "/api/jobs", body=b"{}")
    gate.set()
    old = await reading
    fresh = await world.get("/api/jobs")

    assert old.body == b"answer 1"
    assert fresh.body == b"answer 3"


async def test_a_reader_that_arrives_after_a_write_does_not_join_the_fetch_from_before(world):
    world.upstream.gate = asyncio.Event()
    before = asyncio.ensure_future(world.get("/api/jobs"))
    await world.settle()
    gate, world.upstream.gate = world.upstream.gate, None
    await world.send("POST", "/api/jobs", body=b"{}")
    after = await world.get("/api/jobs")
    gate.set()

    assert after.body == b"answer 3"
    assert (await before).body == b"answer 1"


async def test_many_cold_requests_cost_one_upstream_request(world):
    world.upstream.gate = asyncio.Event()
    waiting = [asyncio.ensure_future(world.get("/api/jobs")) for _ in range(64)]
    await world.settle()
    world.upstream.gate.set()
    answers = await asyncio.gather(*waiting)

    assert len(world.upstream.asked) == 1
    assert {answer.body for answer in answers} == {b"answer 1"}
    assert sorted({answer.cache for answer in answers}) == [COLD, "sidecache; fwd=uri-miss; ttl=900; collapsed"]


async def test_a_reader_after_a_purge_follows_no_fetch_from_before_it(world):
    world.upstream.gate = asyncio.Event()
    before = asyncio.ensure_future(world.get("/api/jobs"))
    await world.settle()
    await world.epochs.advance({"org_a": ("jobs",)})
    after = asyncio.ensure_future(world.get("/api/jobs"))
    await world.settle()
    assert len(world.upstream.asked) == 2
    world.upstream.gate.set()
    assert [(await each).body for each in (before, after)] == [b"answer 1", b"answer 2"]


async def test_followers_of_an_uncacheable_response_each_ask_at_once(world):
    world.upstream.gate = asyncio.Event()
    world.upstream.answer = lambda request, n: answered(f"own {n}", cache_control="no-store")
    waiting = [asyncio.ensure_future(world.get("/api/jobs")) for _ in range(8)]
    await world.settle()
    world.upstream.gate.set()
    answers = await asyncio.gather(*waiting)

    assert len({answer.body for answer in answers}) == 8
    assert {answer.cache for answer in answers} == {"sidecache; fwd=uri-miss; detail=no-store"}


async def test_followers_share_the_upstreams_failure_instead_of_waiting_in_a_row(world):
    world.upstream.gate = asyncio.Event()
    world.upstream.answer = lambda request, n: UpstreamError("http_response_timeout", status=504)
    waiting = [asyncio.ensure_future(world.get("/api/jobs")) for _ in range(8)]
    await world.settle()
    world.upstream.gate.set()
    answers = await asyncio.gather(*waiting)

    assert {answer.status for answer in answers} == {504}
    assert len(world.upstream.asked) == 1


async def test_a_follower_whose_client_is_gone_does_not_end_the_fetch(world):
    world.upstream.gate = asyncio.Event()
    leader = asyncio.ensure_future(world.begin("GET", "/api/jobs"))
    follower = asyncio.ensure_future(world.get("/api/jobs"))
    await world.settle()
    world.upstream.gate.set()
    reply = await leader
    reply.close()  # the leader's client left without reading

    assert (await follower).body == b"answer 1"


async def test_a_stale_answer_is_served_while_one_request_refreshes_it(world):
    await world.get("/api/jobs")
    world.clock.advance(910)
    stale = [await world.get("/api/jobs") for _ in range(3)]
    await world.settle()
    fresh = await world.get("/api/jobs")

    assert stale[0].cache == "sidecache; hit; ttl=-11; detail=stale-while-revalidate"
    assert stale[0].body == b"answer 1"
    assert (fresh.cache, fresh.body) == (HIT, b"answer 2")
    assert len(world.upstream.asked) == 2


async def test_past_the_grace_the_request_waits_for_the_upstream(world):
    await world.get("/api/jobs")
    world.clock.advance(900 + 121)

    assert (await world.get("/api/jobs")).cache == "sidecache; fwd=stale; stored; detail=expired"


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (UpstreamError("connection_refused"), "fwd=stale"),
        (answered(b"oops", status=503), "fwd=stale; fwd-status=503"),
        (answered(b"oops", status=500), "fwd=stale; fwd-status=500"),
    ],
)
async def test_a_stale_answer_stands_in_for_a_failing_upstream(world, failure, told):
    await world.get("/api/jobs")
    world.clock.advance(900 + 121)
    world.upstream.answer = lambda request, n: failure
    answer = await world.get("/api/jobs")

    assert (answer.status, answer.body) == (200, b"answer 1")
    assert answer.cache == f"sidecache; {told}; ttl=-122; detail=stale-if-error"


async def test_one_clients_leave_to_be_served_stale_is_not_anothers():
    world = World("version: 1\nfeatures: {origin: {ttl: origin, read: [GET /api/origin], write: []}}")
    world.upstream.answer = lambda request, n: answered("old", cache_control="max-age=5", etag='"a"')
    await world.get("/api/origin")
    world.clock.advance(9)
    world.upstream.answer = lambda request, n: answered(b"oops", status=503)
    world.upstream.gate = asyncio.Event()
    lenient = asyncio.ensure_future(world.get("/api/origin", headers={"Cache-Control": "stale-if-error=60"}))
    await world.settle()
    strict = asyncio.ensure_future(world.get("/api/origin", headers={"Cache-Control": "stale-if-error=1"}))
    await world.settle()
    world.upstream.gate.set()
    allowed, refused = await asyncio.gather(lenient, strict)

    assert (allowed.status, refused.status) == (200, 503)


async def test_past_if_error_the_failure_is_told(world):
    await world.get("/api/jobs")
    world.clock.advance(900 + 3601)
    world.upstream.answer = lambda request, n: UpstreamError("connection_refused")
    answer = await world.get("/api/jobs")

    assert answer.status == 502
    assert answer.fields.get("content-type") == "application/problem+json"
    assert answer.fields.get("proxy-status") == "sidecache; error=connection_refused"
    assert answer.cache == "sidecache; fwd=uri-miss; detail=upstream-failed"


async def test_a_purged_answer_never_stands_in_for_a_failing_upstream(world):
    await world.get("/api/jobs")
    await world.send("POST", "/api/jobs", body=b"{}")
    world.upstream.answer = lambda request, n: UpstreamError("connection_refused")

    assert (await world.get("/api/jobs")).status == 502


async def test_a_not_found_is_kept_for_its_own_short_time_and_a_new_item_ends_it(world):
    world.upstream.answer = lambda request, n: answered(f"missing {n}", status=404)
    await world.get("/api/jobs/9")
    kept = await world.get("/api/jobs/9")
    world.clock.advance(31 + 120)
    later = await world.get("/api/jobs/9")
    world.upstream.answer = lambda request, n: answered("made", status=201)
    await world.send("POST", "/api/jobs", body=b"{}")

    assert (kept.status, kept.cache) == (404, "sidecache; hit; ttl=30")
    assert later.body == b'"missing 2"'
    assert (await world.get("/api/jobs/9")).body == b'"made"'


async def test_an_unchanged_answer_is_revalidated_and_lives_on(world):
    world.upstream.answer = lambda request, n: answered(b"body", etag='"v1"')
    await world.get("/api/jobs")
    world.clock.advance(900 + 121)
    world.upstream.answer = lambda request, n: answered(b"", status=304, etag='"v1"', x_seen="again")
    answer = await world.get("/api/jobs")

    assert world.upstream.asked[-1].fields.get("if-none-match") == '"v1"'
    assert (answer.status, answer.body, answer.fields.get("x-seen")) == (200, b"body", "again")
    assert answer.cache == "sidecache; fwd=stale; fwd-status=304; ttl=900; stored; detail=revalidated"
    assert (await world.get("/api/jobs")).cache == HIT


async def test_a_304_for_another_representation_is_asked_again_without_conditions(world):
    world.upstream.answer = lambda request, n: answered(b"old", etag='"v1"')
    await world.get("/api/jobs")
    world.clock.advance(900 + 121)
    world.upstream.answer = lambda request, n: (
        answered(b"", status=304, etag='"v2"') if "if-none-match" in request.fields else answered(b"new", etag='"v2"')
    )

    assert (await world.get("/api/jobs")).body == b"new"


async def test_who_waits_for_a_304_for_another_representation_has_the_whole_one_too(world):
    world.upstream.answer = lambda request, n: answered(b"old", etag='"v1"')
    await world.get("/api/jobs")
    world.clock.advance(900 + 121)
    world.upstream.answer = lambda request, n: (
        answered(b"", status=304, etag='"v2"') if "if-none-match" in request.fields else answered(b"new", etag='"v2"')
    )
    world.upstream.gate = asyncio.Event()
    reads = [asyncio.ensure_future(world.get("/api/jobs")) for _ in range(5)]
    await world.settle()
    world.upstream.gate.set()

    assert {answer.body for answer in await asyncio.gather(*reads)} == {b"new"}
    assert len(world.upstream.asked) == 3


async def test_the_client_that_has_the_answer_gets_304_on_a_miss_and_on_a_hit(world):
    world.upstream.answer = lambda request, n: answered(b"body", etag='"v1"')
    miss = await world.get("/api/jobs", headers={"If-None-Match": '"v1"'})
    await world.settle()
    hit = await world.get("/api/jobs", headers={"If-None-Match": 'W/"v1"'})

    assert "if-none-match" not in world.upstream.asked[0].fields
    assert (miss.status, miss.body, miss.fields.get("etag")) == (304, b"", '"v1"')
    assert (hit.status, hit.body, hit.cache) == (304, b"", HIT)


async def test_head_is_answered_from_a_stored_get_and_stores_nothing_itself(world):
    cold = await world.send("HEAD", "/api/jobs")
    await world.get("/api/jobs")
    hit = await world.send("HEAD", "/api/jobs")

    assert cold.cache == "sidecache; fwd=uri-miss"
    assert world.upstream.asked[0].method == "HEAD"
    assert (hit.cache, hit.body, hit.fields.get("content-length")) == (HIT, b"", "8")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"token": ""}, "no-credentials"),
        ({"token": "garbage"}, "token-invalid"),
        ({"token": unsigned("org_a", exp=1)}, "token-expired"),
        ({"token": unsigned(None)}, "no-tenant"),
        ({"token": unsigned("org_a\n")}, "no-tenant"),
        ({"headers": {"X-Org-Id": "org_b"}}, "tenant-conflict"),
        ({"headers": {"X-Original-URL": "/admin"}}, "override-header"),
        ({"headers": {"If-Match": '"x"'}}, "precondition"),
        ({"body": b"fat"}, "request-body"),
        ({"headers": {"Host": "other.test"}}, "host-not-served"),
    ],
)
async def test_what_cannot_be_keyed_is_forwarded_and_neither_read_nor_stored(world, more, reason):
    await world.get("/api/jobs")
    bypassed = await world.get("/api/jobs", **more)
    again = await world.get("/api/jobs", **more)

    assert bypassed.cache == f"sidecache; fwd=bypass; detail={reason}"
    assert [bypassed.body, again.body] == [b"answer 2", b"answer 3"]
    assert (await world.get("/api/jobs")).body == b"answer 1"


@pytest.mark.isolation
@pytest.mark.parametrize("told", ["", "session: {headers: {X-Tenant-Id: tenant}}"])
async def test_a_tenant_conflict_is_noted_once(told):
    world = World(RULES + told)
    await world.get("/api/jobs", headers={"X-Org-Id": "org_b"})

    assert world.noted == ["tenant-conflict"]


async def test_a_trusted_peers_header_establishes_the_tenant(world):
    first = await world.get("/api/jobs", token="", headers={"X-Org-Id": "org_a"}, trusted=True)
    second = await world.get("/api/jobs", token="", headers={"X-Org-Id": "org_a"}, trusted=True)

    assert (first.cache, second.cache) == (COLD, HIT)


async def test_a_required_permission_guards_hits(world):
    await world.get("/api/jobs/7/applications")
    refused = await world.get("/api/jobs/7/applications", token=unsigned(permissions=[]))

    assert refused.cache == "sidecache; fwd=bypass; detail=permission"
    assert refused.body == b"answer 2"


@pytest.mark.isolation
async def test_a_user_scope_is_not_shared_within_the_tenant(world):
    await world.get("/api/me", token=unsigned(sub="u1"))
    other = await world.get("/api/me", token=unsigned(sub="u2"))

    assert other.body == b"answer 2"


async def test_a_public_answer_is_shared_by_all_and_needs_no_token(world):
    await world.get("/api/catalogue", token="")
    hit = await world.get("/api/catalogue", token=unsigned("org_b"))

    assert (hit.cache, hit.body) == ("sidecache; hit; ttl=3600", b"answer 1")


@pytest.mark.isolation
async def test_an_answer_for_another_organisation_fails_its_assertion_and_is_not_stored(world):
    world.upstream.answer = lambda request, n: answered({"org_id": "org_b", "n": n})
    await world.get("/api/checked")
    again = await world.get("/api/checked")

    assert again.body == b'{"org_id": "org_b", "n": 2}'
    assert world.noted == ["assertion-failed", "assertion-failed"]


async def test_what_is_not_in_the_key_is_not_sent_on_a_fill(world):
    await world.get("/api/search?utm_source=x&q=py", headers={"If-None-Match": '"a"', "Cache-Control": "no-cache"})
    asked = world.upstream.asked[0]

    assert asked.target == "/api/search?q=py"
    assert asked.fields.get("accept-encoding") == "identity"
    assert {"if-none-match", "cache-control"}.isdisjoint(asked.fields.names())
    assert (await world.get("/api/search?q=py&gclid=7")).cache == "sidecache; hit; ttl=600"


async def test_a_post_read_is_keyed_by_its_canonical_body(world):
    json_type = {"Content-Type": "application/json"}
    await world.send("POST", "/api/search", body=b'{"a":1,"b":2}', headers=json_type)
    same = await world.send("POST", "/api/search", body=b'{ "b": 2, "a": 1 }', headers=json_type)
    other = await world.send("POST", "/api/search", body=b'{"a":1,"b":3}', headers=json_type)

    assert (same.cache, same.body) == ("sidecache; hit; ttl=600", b"answer 1")
    assert other.body == b"answer 2"
    assert world.upstream.bodies == [b'{"a":1,"b":2}', b'{"a":1,"b":3}']


async def test_a_post_read_too_large_for_a_key_is_forwarded_whole(world):
    body = b"x" * 200_000
    answer = await world.send("POST", "/api/search", body=body)

    assert answer.cache == "sidecache; fwd=bypass; detail=request-body-too-large"
    assert world.upstream.bodies == [body]


@pytest.mark.isolation
async def test_an_unknown_header_is_a_variant_and_cannot_poison_the_others(world):
    world.upstream.answer = lambda request, n: answered(request.fields.get("x-theme") or "none")
    await world.get("/api/jobs", headers={"X-Theme": "evil"})
    plain = await world.get("/api/jobs")

    assert plain.body == b'"none"'


async def test_vary_selects_among_stored_answers(world):
    def by_language(request, n):
        return answered(request.fields.get("accept-language") or "none", vary="Accept-Language")

    world.upstream.answer = by_language
    cold = [await world.get("/api/jobs", headers={"Accept-Language": language}) for language in ("de", "fr", "en")]
    hits = [await world.get("/api/jobs", headers={"Accept-Language": language}) for language in ("de", "fr", "en")]

    assert [answer.cache for answer in cold] == [COLD, *["sidecache; fwd=vary-miss; stored; detail=variant"] * 2]
    assert [answer.body for answer in hits] == [b'"de"', b'"fr"', b'"en"']
    assert {answer.cache for answer in hits} == {HIT}


async def test_an_answer_the_client_does_not_accept_is_another_variant(world):
    world.upstream.answer = lambda request, n: (
        answered(b"a,b", content_type="text/csv") if request.fields.get("accept") == "text/csv" else answered(b"{}")
    )
    await world.get("/api/jobs", headers={"Accept": "text/csv"})
    json_answer = await world.get("/api/jobs", headers={"Accept": "application/json"})
    again = await world.get("/api/jobs", headers={"Accept": "application/json"})

    assert json_answer.body == b"{}"
    assert (again.body, again.cache) == (b"{}", HIT)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: answered(b"x", cache_control="private"), "private"),
        (lambda: answered(b"x", set_cookie="a=b"), "set-cookie"),
        (lambda: answered(b"x", vary="*"), "vary-star"),
        (lambda: answered(b"x", vary="Cookie"), "vary-credentials"),
        (lambda: answered(b"x", status=206), "partial"),
        (lambda: answered(b"x", status=500), "status"),
        (lambda: answered(b"x", content_encoding="br"), "content-encoding"),
        (lambda: answered(b"x", content_type="text/event-stream"), "event-stream"),
        (lambda: answered(b"x", framed=False), "unframed"),
        (lambda: answered(b"x" * (1 << 20) + b"x"), "too-large"),
    ],
)
async def test_what_must_not_be_stored_is_passed_on_with_its_reason(world, answer, reason):
    world.upstream.answer = lambda request, n: answer()
    first = await world.get("/api/jobs")
    await world.get("/api/jobs")

    assert first.cache == f"sidecache; fwd=uri-miss; detail={reason}"
    assert len(world.upstream.asked) == 2


async def test_a_truncated_answer_reaches_its_client_truncated_and_is_not_stored(world):
    cut = UpstreamError("http_response_incomplete")
    world.upstream.answer = lambda request, n: answered([b"half", cut], content_length="8")
    first = await world.get("/api/jobs")
    world.upstream.answer = lambda request, n: b"whole"

    assert (first.body, first.error) == (b"half", cut)
    assert (await world.get("/api/jobs")).body == b"whole"


async def test_a_body_that_outgrows_the_limit_reaches_its_client_whole_and_is_not_stored(world):
    chunks = [b"x" * 400_000 for _ in range(5)]
    world.upstream.answer = lambda request, n: answered(list(chunks))
    first = await world.get("/api/jobs")
    await world.get("/api/jobs")

    assert len(first.body) == 2_000_000
    assert len(world.upstream.asked) == 2


async def test_the_entry_is_readable_before_the_client_has_the_last_byte(world):
    reply = await world.begin("GET", "/api/jobs")
    assert not isinstance(reply.body, bytes)
    assert [chunk async for chunk in reply.body] == [b"answer 1"]
    reply.close()

    assert (await world.get("/api/jobs")).cache == HIT


async def test_an_unmatched_write_purges_what_is_stored_under_its_own_path(world):
    await world.get("/api/me")
    await world.send("PATCH", "/api/me", body=b"{}")

    assert world.noted == ["unmatched-write"]
    assert (await world.get("/api/me")).body == b"answer 3"


async def test_a_write_by_nobody_known_purges_the_feature_for_every_tenant(world):
    await world.get("/api/jobs", token=unsigned("org_b"))
    await world.send("POST", "/api/jobs", token="", body=b"{}")

    assert (await world.get("/api/jobs", token=unsigned("org_b"))).body == b"answer 3"


async def test_settle_purges_once_more_after_an_accepted_write(world):
    world.upstream.answer = lambda request, n: answered(f"v{n}", status=202 if request.method == "POST" else 200)
    await world.send("POST", "/api/jobs", body=b"{}")
    await world.get("/api/jobs")
    await world.background.drain(1.0)  # what was to come after 30 s comes now

    assert (await world.get("/api/jobs")).body == b'"v3"'


async def test_with_the_store_down_every_read_is_answered_by_the_upstream(world):
    await world.get("/api/jobs")
    world.store.down.update({"epochs", "create_epochs", "get", "set"})
    world.clock.advance(1.0)  # the copies of the epochs are no longer trusted
    lost = await world.get("/api/jobs")
    world.clock.advance(0.79)
    again = await world.get("/api/jobs")
    world.clock.advance(0.02)
    later = await world.get("/api/jobs")

    assert (lost.body, lost.cache) == (b"answer 2", "sidecache; fwd=uri-miss; stored; detail=store-unavailable")
    assert (again.body, again.cache) == (b"answer 2", "sidecache; hit; ttl=0")
    assert later.body == b"answer 3"
    assert world.store.count("set") == 1


async def test_a_write_while_the_store_is_down_ends_what_was_fetched_meanwhile(world):
    world.store.down.update({"epochs", "create_epochs", "get", "set", "advance_epochs"})
    await world.get("/api/jobs")
    assert (await world.get("/api/jobs")).body == b"answer 1"
    await world.send("POST", "/api/jobs", body=b"{}")
    assert (await world.get("/api/jobs")).body == b"answer 3"


async def test_with_store_and_upstream_down_what_is_not_known_to_be_purged_stands_in(world):
    await world.get("/api/jobs")
    await world.get("/api/jobs/77")
    world.store.down.update({"epochs", "create_epochs", "get", "set", "advance_epochs"})
    await world.send("PUT", "/api/jobs/77", body=b"{}")
    world.clock.advance(1.0)
    world.upstream.answer = lambda request, n: UpstreamError("connection_refused", delivered=False)
    company = await world.get("/api/jobs/77")

    assert company.status == 502
    world.store.down.clear()
    await world.settle()
    world.store.down.update({"epochs", "create_epochs", "get", "set", "advance_epochs"})
    world.clock.advance(1.0)
    assert (await world.get("/api/jobs/77")).status == 502


async def test_an_unproven_entry_stands_in_for_an_upstream_that_fails_and_a_304_proves_it(world):
    world.upstream.answer = lambda request, n: answered(b"v1", etag='"1"')
    await world.get("/api/jobs")
    world.store.down.update({"epochs", "create_epochs", "get", "set"})
    world.clock.advance(1.0)
    world.upstream.answer = lambda request, n: UpstreamError("connection_refused", delivered=False)
    stale = await world.get("/api/jobs")
    assert (stale.body, stale.cache) == (b"v1", "sidecache; fwd=stale; ttl=899; detail=stale-if-error")
    world.upstream.answer = lambda request, n: answered(b"", 304, etag='"1"')
    assert (await world.get("/api/jobs")).body == b"v1"
    assert world.upstream.asked[-1].fields.get("if-none-match") == '"1"'
    assert (await world.get("/api/jobs")).cache == "sidecache; hit; ttl=0"


async def test_a_write_succeeds_with_the_store_down_and_nothing_stale_follows(world):
    await world.get("/api/jobs")
    world.store.down.add("advance_epochs")
    written = await world.send("POST", "/api/jobs", body=b"{}")
    read = await world.get("/api/jobs")

    assert written.status == 200
    assert read.body == b"answer 3"


async def test_no_rule_means_straight_through(world):
    answer = await world.get("/api/billing?x=%41&&y", headers={"Accept-Encoding": "br"})
    asked = world.upstream.asked[0]

    assert answer.cache == "sidecache; fwd=bypass; detail=no-rule"
    assert (asked.target, asked.fields.get("accept-encoding")) == ("/api/billing?x=%41&&y", "br")


async def test_only_if_cached_is_answered_504_where_the_origin_rules(world):
    answer = await world.get("/api/origin", headers={"Cache-Control": "only-if-cached"})

    assert (answer.status, answer.cache) == (504, "sidecache; detail=only-if-cached")
    assert world.upstream.asked == []


async def test_a_client_cannot_evict_for_others(world):
    await world.get("/api/jobs")

    assert (await world.get("/api/jobs", headers={"Cache-Control": "no-cache"})).cache == HIT


async def test_browsers_are_told_not_to_keep_a_tenants_answer(world):
    miss = await world.get("/api/jobs")
    hit = await world.get("/api/jobs")

    assert miss.fields.get("cache-control") == hit.fields.get("cache-control") == "private, no-cache"


async def test_a_head_that_finds_a_stale_answer_has_it_refreshed_by_get(world):
    await world.get("/api/jobs")
    world.clock.advance(910)
    await world.send("HEAD", "/api/jobs")
    await world.settle()

    assert [request.method for request in world.upstream.asked] == ["GET", "GET"]
    assert (await world.get("/api/jobs")).cache == HIT


async def test_what_bypasses_is_passed_on_as_it_is(world):
    world.upstream.answer = lambda request, n: answered(b"x" * 5000, etag='"v"')
    answer = await world.get("/api/jobs;v=1", headers={"Accept-Encoding": "gzip"})
    odd = await world.get("/api/jobs/7%2F8", headers={"Accept-Encoding": "gzip"})

    for passed in (answer, odd):
        assert {"cache-control", "content-encoding", "vary"}.isdisjoint(passed.fields.names())
        assert passed.body == b"x" * 5000


async def test_made_up_languages_do_not_fill_the_memory(world):
    world.upstream.answer = lambda request, n: answered(request.fields.get("accept-language"), vary="Accept-Language")
    for number in range(500):
        await world.get("/api/jobs", headers={"Accept-Language": f"x-{number}"})

    assert world.cache.stats().entries <= 33  # the first, and 32 variants of it


# Several replicas over one store


@pytest.fixture(name="replicas")
async def _replicas():
    first = World(others=True)
    worlds = [first, World(beside=first), World(beside=first)]
    yield worlds
    for each in worlds:
        await each.background.drain(1.0)
        await each.epochs.close()
        assert each.failures == []


async def test_what_one_replica_fetched_is_a_hit_on_the_others(replicas):
    await replicas[0].get("/api/jobs")
    await replicas[0].settle()
    assert [(await each.get("/api/jobs")).cache for each in replicas[1:]] == [HIT, HIT]


async def test_a_write_through_one_replica_is_a_fresh_read_through_the_others_when_copies_run_out(replicas):
    one, other, _ = replicas
    await one.get("/api/jobs")
    await one.settle()
    await other.get("/api/jobs")
    await one.send("POST", "/api/jobs", body=b"{}")
    one.clock.advance(0.81)
    assert (await other.get("/api/jobs")).body == b"answer 3"


async def test_the_doorbell_makes_it_fresh_at_once(replicas):
    one, other, _ = replicas
    for each in replicas:
        each.epochs.start()
    await one.settle()
    await one.get("/api/jobs")
    await one.settle()
    await other.get("/api/jobs")
    await one.send("POST", "/api/jobs", body=b"{}")
    await one.settle()
    assert (await other.get("/api/jobs")).body == b"answer 3"


async def test_many_clients_of_many_replicas_cost_one_request(replicas):
    replicas[0].upstream.gate = asyncio.Event()
    reads = [asyncio.ensure_future(each.get("/api/jobs")) for each in replicas for _ in range(20)]
    for each in replicas:
        await each.settle()
    replicas[0].upstream.gate.set()
    answers = await asyncio.gather(*reads)

    assert {answer.body for answer in answers} == {b"answer 1"}
    assert len(replicas[0].upstream.asked) == 1


async def test_a_reader_after_a_purge_does_not_wait_for_a_fetch_that_began_before_it(replicas):
    one, other, _ = replicas
    gate = one.upstream.gate = asyncio.Event()
    before = asyncio.ensure_future(one.get("/api/jobs"))
    await one.settle()
    one.upstream.gate = None
    await other.send("POST", "/api/jobs", body=b"{}")
    after = await other.get("/api/jobs")
    gate.set()

    assert after.body == b"answer 3"
    assert (await before).body == b"answer 1"
    one.clock.advance(0.81)
    assert (await one.get("/api/jobs")).body != b"answer 1"


async def test_what_may_not_be_stored_holds_no_replica_up(replicas):
    one, other, _ = replicas
    one.upstream.answer = lambda request, n: answered(f"{n}".encode(), cache_control="no-store")
    gate = one.upstream.gate = asyncio.Event()
    reads = [asyncio.ensure_future(each.get("/api/jobs")) for each in (one, other)]
    await one.settle()
    assert len(one.upstream.asked) == 1
    gate.set()
    assert sorted(answer.body for answer in await asyncio.gather(*reads)) == [b"1", b"2"]


async def test_a_replica_that_cannot_ask_for_the_lease_fetches_for_itself(replicas):
    one, other, _ = replicas
    one.upstream.gate = asyncio.Event()
    reading = asyncio.ensure_future(one.get("/api/jobs"))
    await one.settle()
    other.store.down = {"claim"}
    reads = asyncio.gather(reading, other.get("/api/jobs"))
    await other.settle()
    assert len(one.upstream.asked) == 2
    one.upstream.gate.set()
    await reads


@pytest.mark.parametrize("later", [0, 900 + 121])
async def test_one_request_waits_for_one_failure_of_the_store_at_most(replicas, later):
    one, other, _ = replicas
    await one.get("/api/jobs")
    await one.settle()
    if later:  # what is held is stale; else nothing is
        await other.get("/api/jobs")
        one.clock.advance(later)
    await other.epochs.current("org_a", ("jobs", "jobs:list"))
    other.store.calls.clear()
    other.store.down = {"get", "set", "claim"}
    assert (await other.get("/api/jobs")).body == b"answer 2"
    assert [operation for operation, _ in other.store.calls if operation in ("get", "claim")] == ["get"]


async def test_a_client_that_leaves_while_its_replica_asks_for_the_lease_holds_nobody_up(replicas):
    one, other, _ = replicas
    one.store.held = {"claim"}
    leaving = asyncio.ensure_future(one.get("/api/jobs"))
    await one.settle()
    leaving.cancel()
    await one.settle()
    one.store.held = set()
    while one.store.gates:
        one.store.open_gate()
        await one.settle()
    assert (await other.get("/api/jobs")).body == b"answer 1"
    assert other.store.count("claim") == 1
    assert other.store.count("get") == 2  # of the entry, before and after its claim: it did not wait for a lease


async def test_what_another_replica_fetched_between_the_look_and_the_claim_is_not_fetched_again(replicas):
    one, other, _ = replicas
    other.store.held = {"claim"}
    late = asyncio.ensure_future(other.get("/api/jobs"))
    await other.settle()
    assert other.store.gates
    await one.get("/api/jobs")
    await one.settle()  # stored, and its lease given back
    other.store.held = set()
    other.store.open_gate()
    answer = await late
    assert (answer.body, "collapsed" in answer.cache) == (b"answer 1", True)
    assert len(one.upstream.asked) == 1
    await other.settle()
    assert other.store.count("delete") == 1  # of its own lease


async def test_a_client_that_leaves_just_after_the_claim_leaves_no_lease(replicas):
    one, other, _ = replicas
    one.store.held = {"claim"}
    leaving = asyncio.ensure_future(one.get("/api/jobs"))
    await one.settle()
    one.store.held = {"get"}
    one.store.open_gate()
    await one.settle()
    leaving.cancel()
    await one.settle()
    one.store.held = set()
    assert one.store.count("delete") == 1
    assert (await other.get("/api/jobs")).body == b"answer 1"


async def test_the_wait_for_another_replica_is_bounded(replicas):
    one, other, _ = replicas
    one.upstream.gate = asyncio.Event()
    first = asyncio.ensure_future(one.get("/api/jobs"))
    await one.settle()
    second = asyncio.ensure_future(other.get("/api/jobs"))
    await other.settle()
    assert len(one.upstream.asked) == 1
    one.clock.advance(5.1)
    await other.settle()
    assert len(one.upstream.asked) == 2
    one.upstream.gate.set()
    await asyncio.gather(first, second)


async def test_a_stale_entry_is_replaced_by_what_another_replica_has_fetched(replicas):
    one, other, _ = replicas
    await one.get("/api/jobs")
    await one.settle()
    await other.get("/api/jobs")
    one.clock.advance(950)
    await one.get("/api/jobs")
    await one.settle()
    assert (await other.get("/api/jobs")).body == b"answer 1"  # in grace, and refreshed meanwhile
    await other.settle()
    assert (await other.get("/api/jobs")).body == b"answer 2"
    assert len(one.upstream.asked) == 2


# Early refresh


async def test_a_hot_entry_is_refreshed_before_it_is_stale(world):
    def slow(request, n):
        world.clock.advance(2.0)
        return answered(f"{n}".encode())

    world.upstream.answer = slow
    await world.get("/api/jobs")
    world.clock.advance(894)
    assert (await world.get("/api/jobs")).cache == "sidecache; hit; ttl=6"
    await world.settle()
    assert len(world.upstream.asked) == 1
    world.luck = 1 - 2.72**-4  # e to the power of minus 4: 8 s of a fetch that takes 2
    assert (await world.get("/api/jobs")).cache == "sidecache; hit; ttl=6"
    await world.settle()
    assert (await world.get("/api/jobs")).body == b"2"
    assert len(world.upstream.asked) == 2


# Groups (RFC 9875)


def grouped(request, n):
    if request.method == "GET":
        return answered(f"{n}".encode(), cache_groups='"featured", "page 1"')
    return answered(b"", cache_group_invalidation='"featured"')


async def test_a_group_is_invalidated_by_what_an_unsafe_request_is_answered(world):
    world.upstream.answer = grouped
    await world.get("/api/jobs")
    await world.get("/api/catalogue")
    assert [(await world.get(path)).body for path in ("/api/jobs", "/api/catalogue")] == [b"1", b"2"]
    await world.send("POST", "/api/unruled", body=b"{}")
    assert [(await world.get(path)).body for path in ("/api/jobs", "/api/catalogue")] == [b"4", b"5"]
    assert (await world.get("/api/jobs")).cache == HIT


@pytest.mark.isolation
async def test_the_groups_of_another_tenant_stay(world):
    world.upstream.answer = grouped
    await world.get("/api/jobs", token=unsigned("org_b"))
    await world.send("POST", "/api/unruled", body=b"{}", token=unsigned("org_a"))
    assert (await world.get("/api/jobs", token=unsigned("org_b"))).cache == HIT


async def test_a_group_invalidated_during_a_fetch_voids_it(world):
    world.upstream.answer = grouped
    gate = world.upstream.gate = asyncio.Event()
    reading = asyncio.ensure_future(world.get("/api/jobs"))
    await world.settle()
    world.upstream.gate = None
    await world.send("POST", "/api/unruled", body=b"{}")
    gate.set()
    assert (await reading).body == b"1"
    assert (await world.get("/api/jobs")).body == b"3"
    assert (await world.get("/api/jobs")).cache == HIT


async def test_what_is_in_a_group_is_found_by_another_replica_and_purged_there(replicas):
    one, other, _ = replicas
    one.upstream.answer = grouped
    await one.get("/api/jobs")
    await one.settle()
    assert (await other.get("/api/jobs")).cache == HIT
    assert (await other.get("/api/jobs")).cache == HIT
    await one.send("POST", "/api/unruled", body=b"{}")
    one.clock.advance(0.81)
    assert (await other.get("/api/jobs")).body == b"3"


async def test_a_safe_request_invalidates_no_group(world):
    world.upstream.answer = lambda request, n: answered(
        f"{n}".encode(), cache_groups='"featured"', cache_group_invalidation='"featured"'
    )
    await world.get("/api/jobs")
    await world.get("/api/jobs/77")
    assert (await world.get("/api/jobs")).cache == HIT


async def test_what_is_switched_off_is_forwarded_and_neither_looked_up_nor_stored(world):
    await world.get("/api/jobs")
    world.off.add(("jobs", "org_a"))
    past = [await world.get("/api/jobs"), await world.get("/api/jobs/77")]

    assert {each.cache for each in past} == {"sidecache; fwd=bypass; detail=switched-off"}
    assert [each.body for each in past] == [b"answer 2", b"answer 3"]
    assert (await world.get("/api/jobs", token=unsigned("org_b"))).cache == COLD
    world.off.clear()
    assert (await world.get("/api/jobs")).cache == HIT
    assert (await world.get("/api/jobs/77")).cache == COLD


async def test_a_write_purges_while_it_is_switched_off(world):
    await world.get("/api/jobs")
    world.off.add(("jobs", "org_a"))
    await world.send("POST", "/api/jobs", body=b"{}")
    world.off.clear()

    assert (await world.get("/api/jobs")).cache == "sidecache; fwd=uri-miss; stored; detail=purged"


async def test_what_is_public_is_switched_off_by_its_feature(world):
    await world.get("/api/catalogue")
    world.off.add(("catalogue", None))

    assert (await world.get("/api/catalogue")).cache == "sidecache; fwd=bypass; detail=switched-off"


async def test_a_purge_by_a_write_is_told_with_its_route_and_whether_the_store_has_it(world):
    await world.send("PUT", "/api/jobs/77", body=b"{}")
    world.store.down.add("advance_epochs")
    await world.send("POST", "/api/jobs", body=b"{}")
    world.store.down.clear()

    (put, tags, accepted), (post, _, pending) = world.purged
    assert (put, accepted, post, pending) == ("PUT|DELETE /api/jobs/{job-id}", True, "POST /api/jobs", False)
    assert set(tags["org_a"]) >= {"jobs:list", "jobs:77"}


def asked(target: str = "/api/jobs/1", org: str = "org_a") -> Request:
    fields = Fields((("Host", "portal.test"), ("Authorization", f"Bearer {unsigned(org)}")))
    return Request("GET", target, fields, peer="192.0.2.1")


async def test_what_was_not_found_in_memory_goes_on_from_there(world, monkeypatch):
    request = asked()
    assert world.exchange.prompt.at_once(request) is None
    monkeypatch.setattr(world.exchange.prompt, "keyed", None)  # nothing is decided twice
    reply = await world.exchange.handle(request, None)
    assert (reply.status, reply.outcome.stored, reply.outcome.tenant) == (200, True, "org_a")
    reply.close()


async def test_what_was_decided_is_for_that_request_only_and_only_once(world):
    first, second = asked(org="org_a"), asked(org="org_b")
    assert world.exchange.prompt.at_once(first) is None
    other = await world.exchange.handle(second, None)
    again = await world.exchange.handle(first, None)
    assert (other.outcome.tenant, again.outcome.tenant) == ("org_b", "org_a")
    other.close()
    again.close()


async def test_what_was_decided_by_other_rules_is_decided_anew(world):
    request = asked()
    assert world.exchange.prompt.at_once(request) is None
    world.rules = compiled(RULES.replace("GET /api/jobs/{job-id}", "GET /api/works/{job-id}"))
    reply = await world.exchange.handle(request, None)
    assert reply.outcome.reason is Reason.NO_RULE
    reply.close()


@pytest.fixture
def at_once(monkeypatch):
    """Bodies come with their heads."""
    monkeypatch.setattr(ScriptedStream, "whole", lambda stream: b"".join(stream._chunks))


@pytest.mark.usefixtures("at_once")
async def test_a_body_that_came_with_its_head_is_stored_before_its_reply(world):
    first = await world.begin("GET", "/api/jobs/1")
    assert (first.body, first.outcome.stored) == (b"answer 1", True)
    second = await world.get("/api/jobs/1")
    assert (second.body, second.cache) == (b"answer 1", HIT)


@pytest.mark.usefixtures("at_once")
async def test_a_body_that_came_with_its_head_serves_all_who_wait(world):
    world.upstream.gate = asyncio.Event()
    reads = [asyncio.create_task(world.get("/api/jobs/1")) for _ in range(5)]
    await world.settle()
    world.upstream.gate.set()
    assert {(await read).body for read in reads} == {b"answer 1"}
    assert len(world.upstream.asked) == 1


@pytest.mark.usefixtures("at_once")
async def test_a_body_that_came_with_its_head_and_is_too_large_is_not_stored(world):
    world.rules = compiled(RULES.replace("ttl: 15m", "ttl: 15m\n    max-body: 1KiB"))
    world.upstream.answer = lambda request, n: answered([b"x" * 2000])  # its head does not tell
    for _ in range(2):
        assert len((await world.get("/api/jobs/1")).body) == 2000
    assert len(world.upstream.asked) == 2


@pytest.mark.usefixtures("at_once")
@pytest.mark.isolation
async def test_a_body_that_came_with_its_head_for_another_tenant_is_neither_stored_nor_shared(world):
    world.upstream.answer = lambda request, n: b'{"org_id": "org_b"}'
    for _ in range(2):
        assert (await world.get("/api/checked")).status == 200
    assert len(world.upstream.asked) == 2
    assert world.noted == ["assertion-failed"] * 2


@pytest.mark.usefixtures("at_once")
async def test_a_client_that_has_what_came_with_its_head_gets_304(world):
    world.upstream.answer = lambda request, n: answered(b"x", etag='"1"')
    got = await world.get("/api/jobs/1", headers={"If-None-Match": '"1"'})
    assert (got.status, got.body) == (304, b"")
    assert (await world.get("/api/jobs/1")).cache == HIT
