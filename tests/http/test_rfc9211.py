"""RFC 9211: what Cache-Status says, one member for this cache, after those of others."""
# ruff: noqa: E501 (one case a line)

from tests.http.plain import REFUSED, Ask, Says, played, table

FRESH = Says({"Cache-Control": "max-age=60", "ETag": '"a"'})
BRIEF = Says({"Cache-Control": "max-age=5, stale-if-error=60", "ETag": '"a"'})


@table(
    ("sentence", "asks", "status"),
    [
        # realistic
        ("fwd=uri-miss, stored (2.2, 2.5)", [Ask(FRESH)], "fwd=uri-miss; stored"),
        ("hit, ttl (2.1, 2.4)", [Ask(FRESH), Ask(after=9)], "hit; ttl=51"),
        ("not stored, and why (2.8)", [Ask(Says())], "fwd=uri-miss; detail=no-freshness"),
        ("fwd=vary-miss (2.2)", [Ask(Says({"Cache-Control": "max-age=60", "Vary": "Foo"})), Ask(FRESH, {"Foo": "1"})], "fwd=vary-miss; stored; detail=variant"),
        ("fwd=stale, fwd-status of a validation (2.3)", [Ask(BRIEF), Ask(Says(BRIEF.headers, 304), after=9)], "fwd=stale; fwd-status=304; ttl=5; stored; detail=revalidated"),
        ("fwd=stale, replaced", [Ask(BRIEF), Ask(FRESH, after=9)], "fwd=stale; stored; detail=expired"),
        ("fwd=request (2.2)", [Ask(FRESH), Ask(FRESH, {"Cache-Control": "no-cache"})], "fwd=request; stored; detail=request-control"),
        ("fwd=method (2.2)", [Ask(method="POST")], "fwd=method; detail=unmatched-write"),
        ("fwd=bypass (2.2)", [Ask(headers={"If-Match": '"a"'})], "fwd=bypass; detail=precondition"),
        ("it was forwarded, so it is no hit: stale for an error", [Ask(BRIEF), Ask(Says(status=503), after=9)], "fwd=stale; fwd-status=503; ttl=-5; detail=stale-if-error"),
        ("no fwd-status where nobody answered", [Ask(BRIEF), Ask(REFUSED, after=9)], "fwd=stale; ttl=-5; detail=stale-if-error"),
        ("fwd-status differs from the status sent", [Ask(FRESH, {"If-None-Match": '"a"'})], "fwd=uri-miss; fwd-status=200; stored"),
        ("a 304 made here is a hit", [Ask(FRESH), Ask(headers={"If-None-Match": '"a"'})], "hit; ttl=60"),
        ("a negative ttl is stale (2.4)", [Ask(BRIEF), Ask(headers={"Cache-Control": "max-stale"}, after=9)], "hit; ttl=-5; detail=request-control"),
        ("an answer of our own", [Ask(headers={"Cache-Control": "only-if-cached"})], "detail=only-if-cached"),
    ],
)  # fmt: skip
async def test_one_member_says_how_the_request_was_handled(sentence, asks, status):
    *_, last = await played(*asks)
    assert last.answer.fields.get_all("cache-status") == (f"sidecache; {status}",)


async def test_caches_nearer_to_the_origin_come_first():
    """2: "The first member of the list represents the cache closest to the origin server"."""
    says = Says({"Cache-Control": "max-age=60", "Cache-Status": "inner; hit; ttl=9"})
    missed, hit = await played(Ask(says), Ask())
    assert missed.get("cache-status") == "inner; hit; ttl=9, sidecache; fwd=uri-miss; stored"
    assert hit.get("cache-status") == "inner; hit; ttl=9, sidecache; hit; ttl=60"
