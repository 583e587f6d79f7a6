"""RFC 9111 sections 5.2.1, 5.2.2 and 5.4: what client and origin say in Cache-Control, and Pragma."""
# ruff: noqa: E501 (one case a line)

from tests.http.plain import REFUSED, RULES, Ask, Says, played, table
from tests.serving.world import World, answered

TEN_OLD = Says({"Cache-Control": "max-age=60", "ETag": '"a"', "Age": "10"})
STALE = Says({"Cache-Control": "max-age=60", "ETag": '"a"', "Age": "70"})
PLAIN_STALE = Says({"Cache-Control": "max-age=5"})

MAX_AGE = "max-age: the client prefers a response whose age is less than or equal to (5.2.1.1)"
MAX_STALE = (
    "max-stale: the client will accept a response that has exceeded its freshness lifetime by no more than (5.2.1.2)"
)
MIN_FRESH = "min-fresh: a response whose freshness lifetime is no less than its current age plus (5.2.1.3)"
NO_CACHE = "no-cache: prefers a stored response not be used without successful validation (5.2.1.4)"
ONLY = "only-if-cached: SHOULD respond using a stored response ... or a 504 (Gateway Timeout) status code (5.2.1.7)"
PRAGMA = "a recipient that does not find Cache-Control treats Pragma: no-cache as Cache-Control: no-cache (5.4)"


@table(
    ("sentence", "says", "asked", "how"),
    [
        # realistic
        (MAX_AGE, TEN_OLD, "max-age=10", "hit"),
        (MAX_AGE + ": older", TEN_OLD, "max-age=9", "validated"),
        (MAX_AGE + ": zero", Says({"Cache-Control": "max-age=60", "ETag": '"a"', "Age": "1"}), "max-age=0", "validated"),
        (MAX_STALE, STALE, "max-stale=10", "hit"),
        (MAX_STALE + ": by more", STALE, "max-stale=9", "validated"),
        (MAX_STALE + ": If no value is assigned, any age", STALE, "max-stale", "hit"),
        (MAX_STALE + ": max-age alone does not take stale", STALE, "max-age=900", "validated"),
        (MAX_STALE + ": both", STALE, "max-age=900, max-stale=60", "hit"),
        (MIN_FRESH, TEN_OLD, "min-fresh=50", "hit"),
        (MIN_FRESH + ": more", TEN_OLD, "min-fresh=51", "validated"),
        (NO_CACHE, TEN_OLD, "no-cache", "validated"),
        ("no-store: MUST NOT store any part ... of any response to it (5.2.1.5): what is stored may be used", TEN_OLD, "no-store", "hit"),
        ("no-transform does not keep the cache out (5.2.1.6)", TEN_OLD, "no-transform", "hit"),
        (ONLY, TEN_OLD, "only-if-cached", "hit"),
        ("unrecognised directives are ignored (5.2)", TEN_OLD, "nothing-to-see-here", "hit"),
        # pathological
        (MAX_AGE + ": unreadable", TEN_OLD, "max-age=x", "validated"),
        (MIN_FRESH + ": unreadable", TEN_OLD, "min-fresh=x", "validated"),
        (MAX_STALE + ": unreadable", STALE, "max-stale=x", "validated"),
        (MAX_STALE + ": not what must be validated", Says({"Cache-Control": "max-age=60, must-revalidate", "ETag": '"a"', "Age": "70"}), "max-stale", "validated"),
        (MAX_STALE + ": nor no-cache", Says({"Cache-Control": "max-age=60, no-cache", "ETag": '"a"'}), "max-stale", "validated"),
        (MIN_FRESH + ": overflow", TEN_OLD, "min-fresh=99999999999999999999", "validated"),
    ],
)  # fmt: skip
async def test_a_clients_directive_counts(sentence, says, asked, how):
    _, later = await played(Ask(says), Ask(headers={"Cache-Control": asked}))
    assert later.how == how


async def test_what_the_client_directs_is_passed_through():
    """5.2: "A proxy, whether or not it implements a cache, MUST pass cache directives through in forwarded messages"."""
    asks = [Ask(TEN_OLD, {"Cache-Control": "no-cache, x=1"})] * 2
    assert [asked.upstream.fields.get("cache-control") for asked in await played(*asks)] == ["no-cache, x=1"] * 2


async def test_what_the_origin_directs_is_passed_through():
    says = Says({"Cache-Control": 'max-age=60, community="UCI", s-maxage=9'})
    found = await played(Ask(says), Ask())
    assert [answer.get("cache-control") for answer in found] == ['max-age=60, community="UCI", s-maxage=9'] * 2


async def test_a_refresh_that_nobody_waits_for_is_not_directed_by_its_client():
    says = Says({"Cache-Control": "max-age=5, stale-while-revalidate=60"})
    world = World(RULES)
    world.upstream.answer = lambda request, n: answered(b"x", **{"Cache-Control": says.headers["Cache-Control"]})
    await world.get("/a", token="")
    world.clock.advance(9)
    reply = await world.get("/a", token="", headers={"Cache-Control": "max-stale"})
    await world.settle()
    assert "hit" in (reply.cache or "")
    assert "cache-control" not in world.upstream.asked[-1].fields


async def test_what_has_no_validator_can_be_accepted_stale_too():
    _, later = await played(Ask(PLAIN_STALE), Ask(after=9, headers={"Cache-Control": "max-stale=60"}))
    assert later.how == "hit"


async def test_a_clients_no_store_keeps_its_response_out():
    """5.2.1.5."""
    _, later = await played(Ask(TEN_OLD, {"Cache-Control": "no-store"}), Ask())
    assert later.how == "fetched"


@table(
    ("sentence", "headers", "how"),
    [
        (PRAGMA, {"Pragma": "no-cache"}, "validated"),
        (PRAGMA + ": any case", {"Pragma": "No-Cache"}, "validated"),
        (PRAGMA + ": Cache-Control is there", {"Pragma": "no-cache", "Cache-Control": "max-age=100"}, "hit"),
        (PRAGMA + ": anything else", {"Pragma": "foo"}, "hit"),
    ],
)
async def test_pragma_counts_where_cache_control_is_absent(sentence, headers, how):
    _, later = await played(Ask(TEN_OLD), Ask(headers=headers))
    assert later.how == how


async def test_pragma_in_a_response_says_nothing():
    """5.4: "not specified ... in a response"."""
    _, later = await played(Ask(Says({"Cache-Control": "max-age=60", "Pragma": "no-cache"})), Ask())
    assert later.how == "hit"


@table(
    ("sentence", "asks"),
    [
        (ONLY, [Ask(headers={"Cache-Control": "only-if-cached"})]),
        (ONLY + ": stale", [Ask(PLAIN_STALE), Ask(headers={"Cache-Control": "only-if-cached"}, after=9)]),
        (ONLY + ": and validated", [Ask(TEN_OLD), Ask(headers={"Cache-Control": "only-if-cached, no-cache"})]),
    ],
)
async def test_only_if_cached_never_reaches_the_origin(sentence, asks):
    *_, last = await played(*asks)
    assert (last.answer.status, last.upstream) == (504, None)


REVALIDATE = "once the response has become stale, a cache MUST NOT reuse that response to satisfy another request until"
NO_CACHE_RESPONSE = (
    "the response MUST NOT be used to satisfy any other request without forwarding it for validation (5.2.2.4)"
)


@table(
    ("sentence", "control", "after", "how"),
    [
        (REVALIDATE + ": must-revalidate, while fresh", "max-age=60, must-revalidate", 9, "hit"),
        (REVALIDATE + ": must-revalidate (5.2.2.2)", "max-age=5, must-revalidate", 9, "validated"),
        (REVALIDATE + ": proxy-revalidate (5.2.2.8)", "max-age=5, proxy-revalidate", 9, "validated"),
        (REVALIDATE + ": s-maxage (5.2.2.10)", "s-maxage=5", 9, "validated"),
        (REVALIDATE + ": in spite of stale-while-revalidate", "max-age=5, must-revalidate, stale-while-revalidate=60", 9, "validated"),
        (NO_CACHE_RESPONSE, "no-cache, max-age=60", 0, "validated"),
        (NO_CACHE_RESPONSE + ": no lifetime", "no-cache", 0, "validated"),
        (NO_CACHE_RESPONSE + ": with fields, only these (5.2.2.4)", 'no-cache="x-a", max-age=60', 0, "hit"),
        ("immutable does not make it last longer (RFC 8246)", "max-age=5, immutable", 9, "validated"),
        ("public does not make it last longer (5.2.2.9)", "max-age=5, public", 9, "validated"),
    ],
)  # fmt: skip
async def test_an_origins_directive_counts(sentence, control, after, how):
    _, later = await played(Ask(Says({"Cache-Control": control, "ETag": '"a"'})), Ask(after=after))
    assert later.how == how


async def test_must_revalidate_gives_504_or_502_when_the_origin_cannot_be_reached():
    """5.2.2.2: "MUST generate an error response (likely 504)": here 502 for a refused connection, with Proxy-Status."""
    says = Says({"Cache-Control": "max-age=5, must-revalidate", "ETag": '"a"'})
    _, later = await played(Ask(says), Ask(REFUSED, after=9))
    assert (later.answer.status, later.get("proxy-status")) == (502, "sidecache; error=connection_refused")


async def test_no_transform_keeps_the_encoding():
    """5.2.2.6: "an intermediary (regardless of whether it implements a cache) MUST NOT transform the content"."""
    json = {"Content-Type": "application/json"}
    asked = {"Accept-Encoding": "gzip"}
    large = b"[" + b"1," * 2000 + b"1]"
    free = Says(json | {"Cache-Control": "max-age=60"}, body=large)
    bound = Says(json | {"Cache-Control": "max-age=60, no-transform"}, body=large)
    assert [(await played(Ask(free), Ask(headers=asked)))[1].get("content-encoding")] == ["gzip"]
    unwanted = asked | {"Cache-Control": "no-transform"}  # 5.2.1.6
    for answer in [
        *await played(Ask(bound, asked), Ask(headers=asked)),
        *await played(Ask(free), Ask(headers=unwanted)),
    ]:
        assert (answer.get("content-encoding"), answer.answer.body) == (None, large)
