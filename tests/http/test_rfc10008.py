"""RFC 10008: QUERY is safe, and cached under its body."""

from tests.http.plain import Ask, Says, played, table

FRESH = Says({"Cache-Control": "max-age=60"})
KEYED = "the cache key ... MUST incorporate the request content (and related metadata)"
NORMAL = "caches MAY remove semantically insignificant differences from request content"


def query(body: bytes, media: str = "application/json", **more: str) -> Ask:
    return Ask(FRESH, {"Content-Type": media} | more, method="QUERY", body=body)


@table(
    ("sentence", "first", "second", "how"),
    [
        # realistic
        (KEYED + ": equal", query(b'{"q":1}'), query(b'{"q":1}'), "hit"),
        (KEYED + ": another body", query(b'{"q":1}'), query(b'{"q":2}'), "fetched"),
        (KEYED + ": another type", query(b"q", "text/plain"), query(b"q", "text/csv"), "fetched"),
        (KEYED + ": another coding", query(b"q"), query(b"q", **{"Content-Encoding": "gzip"}), "fetched"),
        (NORMAL + ": JSON", query(b'{"a":1, "b":2}'), query(b'{"b":2,"a":1}'), "hit"),
        ("a GET of the same URI is another request", query(b"{}"), Ask(FRESH), "fetched"),
        ("and the other way round", Ask(FRESH), query(b"{}"), "fetched"),
        # pathological
        (NORMAL + ": not what a parser may read in two ways", query(b'{"a":1,"a":2}'), query(b'{"a":2}'), "fetched"),
        (NORMAL + ": a number keeps its spelling", query(b'{"a":1.0}'), query(b'{"a":1}'), "fetched"),
    ],
)  # fmt: skip
async def test_a_query_is_kept_under_its_content(sentence, first, second, how):
    _, later = await played(first, second)
    assert later.how == how


async def test_a_query_changes_nothing():
    _, _, later = await played(Ask(FRESH), query(b"{}"), Ask(FRESH))
    assert later.how == "hit"
