"""RFC 9213: CDN-Cache-Control speaks to this cache instead of Cache-Control and Expires, and is passed on."""

from tests.http.plain import Ask, Says, played, table

TAG = {"ETag": '"a"'}
USE = "MUST use its value to determine the caching policy ... and MUST ignore Cache-Control and Expires (2.2)"
IGNORED = "If ... empty, or a parsing error is encountered, that field MUST be ignored by the cache (2.1)"
TYPE = "if a member's value is of an unexpected type, it is ignored (2.1)"


@table(
    ("sentence", "targeted", "headers", "after", "how"),
    [
        # realistic
        (USE, "max-age=60", {}, 9, "hit"),
        (USE + ": longer than Cache-Control", "max-age=60", {"Cache-Control": "max-age=1"}, 9, "hit"),
        (USE + ": shorter", "max-age=1", TAG | {"Cache-Control": "max-age=60"}, 9, "validated"),
        (USE + ": in spite of no-store", "max-age=60", {"Cache-Control": "no-store"}, 9, "hit"),
        (USE + ": no-store", "no-store", {"Cache-Control": "max-age=60", "Expires": "{now+60}"}, 0, "fetched"),
        (USE + ": private", "private", {"Cache-Control": "max-age=60"}, 0, "fetched"),
        (USE + ": no-cache", "no-cache", TAG | {"Cache-Control": "max-age=60"}, 0, "validated"),
        (USE + ": a past Expires", "max-age=60", {"Expires": "{now-60}"}, 9, "hit"),
        (USE + ": a future Expires", "max-age=0", TAG | {"Expires": "{now+60}"}, 0, "validated"),
        (USE + ": nothing it knows", "foo", {"Cache-Control": "max-age=60", "Expires": "{now+60}"}, 0, "fetched"),
        (USE + ": Age counts", "max-age=60", TAG | {"Age": "60"}, 0, "validated"),
        (USE + ": s-maxage", "max-age=1, s-maxage=60", {}, 9, "hit"),
        (USE + ": must-revalidate", "max-age=5, must-revalidate, stale-while-revalidate=60", TAG, 9, "validated"),
        # pathological
        (USE + ": overflow", "max-age=99999999999", {}, 9999, "hit"),
        (IGNORED + ": empty", "", {"Cache-Control": "max-age=60"}, 9, "hit"),
        (IGNORED + ": an unknown type", "max-age=60, &&&&&", {"Cache-Control": "no-store"}, 0, "fetched"),
        (
            IGNORED + ": a space before the equals sign",
            "max-age =60",
            TAG | {"Cache-Control": "max-age=1"},
            9,
            "validated",
        ),
        (IGNORED + ": a space after it", "max-age= 60", TAG | {"Cache-Control": "max-age=1"}, 9, "validated"),
        (IGNORED + ": capitals", "MaX-aGe=60", TAG | {"Cache-Control": "max-age=1"}, 9, "validated"),
        (IGNORED + ": sixteen digits", "max-age=1000000000000000", {"Cache-Control": "no-store"}, 0, "fetched"),
        (TYPE, 'max-age="60"', {"Cache-Control": "no-store"}, 0, "fetched"),
    ],
)
async def test_the_targeted_field_decides(sentence, targeted, headers, after, how):
    says = Says(headers | {"CDN-Cache-Control": targeted})
    _, later = await played(Ask(says), Ask(after=after))
    assert later.how == how


async def test_several_lines_are_one_dictionary():
    lines = [("CDN-Cache-Control", "max-age=60"), ("CDN-Cache-Control", "no-store")]
    _, later = await played(Ask(Says(lines)), Ask())
    assert later.how == "fetched"


async def test_both_fields_are_passed_on():
    """2.2: caches further on may be its target too."""
    says = Says({"CDN-Cache-Control": "max-age=60", "Cache-Control": "max-age=1"})
    for answer in await played(Ask(says), Ask()):
        assert [answer.get(name) for name in ("cdn-cache-control", "cache-control")] == ["max-age=60", "max-age=1"]


async def test_a_304_can_bring_a_new_one():
    says = Says(TAG | {"CDN-Cache-Control": "max-age=5"})
    *_, later = await played(Ask(says), Ask(Says({"CDN-Cache-Control": "max-age=60"}, 304), after=9), Ask(after=9))
    assert later.how == "hit"
