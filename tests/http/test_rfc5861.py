"""RFC 5861: stale-while-revalidate and stale-if-error."""
# ruff: noqa: E501 (one case a line)

from tests.http.plain import REFUSED, Ask, Says, played, table

WHILE = "stale-while-revalidate: MAY serve the response ... after it becomes stale, up to the indicated number of seconds (3)"
ERROR = "stale-if-error: a cached stale response MAY be used ... to satisfy the request (4)"
REQUEST = "stale-if-error in a request (4)"
BUSY = Says(status=503, body=b"busy")


@table(
    ("sentence", "control", "after", "how"),
    [
        (WHILE, "max-age=5, stale-while-revalidate=10", 9, b"body"),
        (WHILE + ": no longer", "max-age=5, stale-while-revalidate=10", 15, b"new"),
        (WHILE + ": unreadable", "max-age=5, stale-while-revalidate=x", 9, b"new"),
        (WHILE + ": unless prohibited", "max-age=5, stale-while-revalidate=10, must-revalidate", 9, b"new"),
        (WHILE + ": nor with s-maxage (RFC 9111 5.2.2.10)", "s-maxage=5, stale-while-revalidate=10", 9, b"new"),
    ],
)
async def test_stale_while_one_request_refreshes(sentence, control, after, how):
    _, later = await played(Ask(Says({"Cache-Control": control})), Ask(Says(body=b"new"), after=after))
    assert later.answer.body == how


async def test_the_refresh_is_in_the_background_and_counts():
    """3: "SHOULD attempt to revalidate it while still serving stale responses"."""
    brief = {"Cache-Control": "max-age=5, stale-while-revalidate=10"}
    renewed = Ask(Says(brief, body=b"new"), after=9)
    _, stale, fresh = await played(Ask(Says(brief)), renewed, Ask(after=1))
    assert stale.get("cache-status") == "sidecache; hit; ttl=-5; detail=stale-while-revalidate"
    assert (fresh.how, fresh.answer.body) == ("hit", b"new")


@table(
    ("sentence", "control", "asked", "failure", "after", "status"),
    [
        # realistic
        (ERROR, "max-age=5, stale-if-error=10", "", BUSY, 9, 200),
        *[(f"{ERROR}: {status}", "max-age=5, stale-if-error=10", "", Says(status=status), 9, 200) for status in (500, 502, 504)],
        (ERROR + ": 501 is no error to it", "max-age=5, stale-if-error=10", "", Says(status=501), 9, 501),
        (ERROR + ": no longer", "max-age=5, stale-if-error=10", "", BUSY, 15, 503),
        (ERROR + ": no answer at all", "max-age=5, stale-if-error=10", "", REFUSED, 9, 200),
        (REQUEST, "max-age=5", "stale-if-error=10", BUSY, 9, 200),
        (REQUEST + ": no longer", "max-age=5", "stale-if-error=10", BUSY, 15, 503),
        (REQUEST + ": the origin prohibits it", "max-age=5, must-revalidate", "stale-if-error=10", BUSY, 9, 503),
        # pathological
        (ERROR + ": unreadable", "max-age=5, stale-if-error=x", "", BUSY, 9, 503),
    ],
)  # fmt: skip
async def test_stale_when_the_origin_fails(sentence, control, asked, failure, after, status):
    headers = {"Cache-Control": asked} if asked else {}
    _, later = await played(Ask(Says({"Cache-Control": control})), Ask(failure, headers, after=after))
    assert later.answer.status == status
