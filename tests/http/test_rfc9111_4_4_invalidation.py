"""RFC 9111 section 4.4: what an unsafe request makes stale."""
# ruff: noqa: E501 (one case a line)

from proxy.errors import UpstreamError
from tests.http.plain import REFUSED, Ask, Says, played, table

MUST = "A cache MUST invalidate the target URI when it receives a non-error status code in response to an unsafe method"
ERROR = "a 'non-error response' is one with a 2xx or 3xx status code"
SAFE = "including methods whose safety is unknown"
NAMED = "A cache MAY invalidate other URIs ... in the Location and Content-Location response header fields"
FOREIGN = "MUST NOT trigger an invalidation ... if the origin of the URI to be invalidated differs"
HOST = "http://portal.test"


@table(
    ("sentence", "method", "says", "how"),
    [
        # realistic
        *[(f"{MUST}: {method}", method, Says(), "fetched") for method in ("POST", "PUT", "DELETE", "PATCH")],
        (MUST + ": 201", "PUT", Says(status=201), "fetched"),
        (MUST + ": 303", "POST", Says(status=303), "fetched"),
        (SAFE, "M-SEARCH", Says(), "fetched"),
        (SAFE + ": FOO", "FOO", Says(), "fetched"),
        *[(f"{ERROR}: {status}", "POST", Says(status=status), "hit") for status in (400, 404, 409)],
        *[(f"a 5xx may have come after the change: {status}", "POST", Says(status=status), "fetched") for status in (500, 503)],
        ("an unknown outcome may have changed it", "POST", UpstreamError("http_response_timeout", status=504), "fetched"),
        ("what was never delivered changed nothing", "POST", REFUSED, "hit"),
        *[(f"a safe method: {method}", method, Says(), "hit") for method in ("HEAD", "OPTIONS", "TRACE")],
    ],
)  # fmt: skip
async def test_an_unsafe_request_makes_its_target_stale(sentence, method, says, how):
    *_, later = await played(Ask(Says({"Cache-Control": "max-age=60"})), Ask(says, method=method), Ask())
    assert later.how == how


@table(
    ("sentence", "headers", "how"),
    [
        (NAMED, {"Location": "/b"}, "fetched"),
        (NAMED + ": Content-Location", {"Content-Location": "/b"}, "fetched"),
        (NAMED + ": whole", {"Location": f"{HOST}/b"}, "fetched"),
        (NAMED + ": relative", {"Location": "b"}, "fetched"),
        (NAMED + ": the host in another case", {"Location": "http://PORTAL.test/b"}, "fetched"),
        (FOREIGN, {"Location": "http://other.test/b"}, "hit"),
        (FOREIGN + ": Content-Location", {"Content-Location": "//other.test/b"}, "hit"),
        (FOREIGN + ": another port", {"Location": f"{HOST}:81/b"}, "hit"),
        ("another path", {"Location": "/c"}, "hit"),
        ("what is no URI", {"Location": "http://[b"}, "hit"),
    ],
)
async def test_so_do_the_uris_that_its_response_names(sentence, headers, how):
    fresh = Ask(Says({"Cache-Control": "max-age=60"}), target="/b")
    *_, later = await played(fresh, Ask(Says(headers, status=201), method="POST"), fresh)
    assert later.how == how


async def test_an_error_names_nothing():
    fresh = Ask(Says({"Cache-Control": "max-age=60"}), target="/b")
    *_, later = await played(fresh, Ask(Says({"Location": "/b"}, status=500), method="POST"), fresh)
    assert later.how == "hit"


async def test_every_query_of_the_target_is_stale():
    """More than the sentence asks for: whoever changes a resource seldom names its queries."""
    fresh = Ask(Says({"Cache-Control": "max-age=60"}), target="/a?page=2")
    *_, later = await played(fresh, Ask(method="POST"), fresh)
    assert later.how == "fetched"
