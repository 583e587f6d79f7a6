"""RFC 9111 section 4.1: calculating cache keys with the Vary header field."""
# ruff: noqa: E501 (one case a line)

from tests.http.plain import Ask, Says, played, table

MATCH = "MUST NOT use that stored response ... unless all the presented request header fields ... match"
NORMAL = "adding or removing whitespace, combining multiple header fields with the same field name, normalizing"
ABSENT = "If (after any normalization) a header field is absent from a request, it can only match if it is also absent"
STAR = "A stored response with a Vary header field value containing a member '*' always fails to match"
CHOICE = (
    "the quality values of Accept-Language say the order of preference (RFC 9110 12.5.4): Content-Language is the first"
)
LANGUAGE = "normalizing both header field values in a way known to have identical semantics: Accept-Language"


@table(
    ("sentence", "vary", "first", "second", "how"),
    [
        # realistic
        (MATCH + ": equal", "Foo", [("Foo", "1")], [("Foo", "1")], "hit"),
        (MATCH + ": another value", "Foo", [("Foo", "1")], [("Foo", "2")], "fetched"),
        (MATCH + ": names in any case", "fOO", [("Foo", "1")], [("foo", "1")], "hit"),
        (MATCH + ": values in another case", "Foo", [("Foo", "a")], [("Foo", "A")], "fetched"),
        (MATCH + ": one of three differs", "Foo, Bar, Baz", [("Bar", "1")], [("Bar", "2")], "fetched"),
        (MATCH + ": other fields do not count", "Foo", [("Foo", "1"), ("X-B", "1")], [("Foo", "1"), ("X-B", "2")], "hit"),
        ("without Vary, no field selects", "", [("Foo", "1")], [("Foo", "2")], "hit"),
        (ABSENT + ": both", "Foo, Bar", [("Foo", "1")], [("Foo", "1")], "hit"),
        (ABSENT + ": in the new one", "Foo", [("Foo", "1")], [], "fetched"),
        (ABSENT + ": in the stored one", "Foo", [], [("Foo", "1")], "fetched"),
        (STAR, "*", [], [], "fetched"),
        (STAR + ": among others", "Foo, *", [("Foo", "1")], [("Foo", "1")], "fetched"),
        (NORMAL + ": whitespace", "Foo", [("Foo", "1,2")], [("Foo", "1,  2")], "hit"),
        (NORMAL + ": lines", "Foo", [("Foo", "1"), ("Foo", "2")], [("Foo", "1, 2")], "hit"),
        (NORMAL + ": the order of an unknown list counts", "Foo", [("Foo", "1,2")], [("Foo", "2,1")], "fetched"),
        (NORMAL + ": a quoted comma is no separator", "Foo", [("Foo", '"1,2"')], [("Foo", '"1, 2"')], "fetched"),
        (LANGUAGE + ": case", "Accept-Language", [("Accept-Language", "EN, de;q=0.5")], [("Accept-Language", "en,DE;q=0.5")], "hit"),
        (LANGUAGE + ": order", "Accept-Language", [("Accept-Language", "en, de")], [("Accept-Language", "de, en")], "hit"),
        (LANGUAGE + ": weights", "Accept-Language", [("Accept-Language", "en;q=1.0, de;q=0.50")], [("Accept-Language", "de;q=0.5,en")], "hit"),
        (LANGUAGE + ": other weights", "Accept-Language", [("Accept-Language", "en, fr;q=0.5")], [("Accept-Language", "fr, en;q=0.5")], "fetched"),
        (CHOICE, "Accept-Language", [("Accept-Language", "en, de")], [("Accept-Language", "fr;q=0.5, DE;q=1.0")], "hit"),
        (CHOICE + ": alone", "Accept-Language", [], [("Accept-Language", "de")], "hit"),
        (CHOICE + ": not if another is as good", "Accept-Language", [], [("Accept-Language", "de, fr")], "fetched"),
        (CHOICE + ": not a second choice", "Accept-Language", [], [("Accept-Language", "fr, de;q=0.9")], "fetched"),
        (CHOICE + ": not what is no more than less bad", "Accept-Language", [], [("Accept-Language", "de;q=0.9")], "fetched"),
        (CHOICE + ": not a part of one", "Accept-Language", [], [("Accept-Language", "de-AT")], "fetched"),
        (CHOICE + ": only where nothing else differs", "Accept-Language, Foo", [], [("Accept-Language", "de"), ("Foo", "1")], "fetched"),
        (CHOICE + ": nobody's wish is no wish", "Accept-Language", [("Accept-Language", "de")], [], "fetched"),
        ("Accept-Encoding never selects: each encoding is made here", "Accept-Encoding", [("Accept-Encoding", "gzip")], [], "hit"),
        # pathological
        (ABSENT + ": an empty value is there", "Foo", [("Foo", "")], [], "fetched"),
        (MATCH + ": empty members", ", Foo ,,", [("Foo", "1")], [("Foo", "2")], "fetched"),
        ("more than 8 names: not kept (our own bound)", ",".join(f"f{n}" for n in range(9)), [], [], "fetched"),
        ("credentials select nobody else's answer: not kept (our own rule)", "Cookie", [], [], "fetched"),
        ("what frameworks build URLs from selects without Vary (our own rule)", "", [("X-Forwarded-Prefix", "/a")], [], "fetched"),
    ],
)  # fmt: skip
async def test_vary_says_what_selects(sentence, vary, first, second, how):
    says = Says({"Cache-Control": "max-age=60", "Content-Language": "de"} | ({"Vary": vary} if vary else {}))
    _, later = await played(Ask(says, first), Ask(headers=second, after=1))
    assert later.how == how


async def test_several_variants_are_kept_side_by_side():
    said = [Says({"Cache-Control": "max-age=60", "Vary": "Foo"}, body=name.encode()) for name in ("one", "two")]
    asks = [
        Ask(said[0], {"Foo": "1"}),
        Ask(said[1], {"Foo": "2"}),
        Ask(headers={"Foo": "1"}),
        Ask(headers={"Foo": "2"}),
    ]
    found = await played(*asks)
    assert [answer.how for answer in found] == ["fetched", "fetched", "hit", "hit"]
    assert [answer.answer.body for answer in found] == [b"one", b"two", b"one", b"two"]


async def test_vary_on_several_lines_is_one_list():
    lines = [("Cache-Control", "max-age=60"), ("Vary", "Foo"), ("Vary", "Bar")]
    _, later = await played(Ask(Says(lines), {"Bar": "1"}), Ask(headers={"Bar": "2"}))
    assert later.how == "fetched"
    _, later = await played(Ask(Says(lines), {"Bar": "1"}), Ask(headers={"Bar": "1"}))
    assert later.how == "hit"


async def test_a_miss_on_another_variant_says_so():
    says = Says({"Cache-Control": "max-age=60", "Vary": "Foo"})
    _, later = await played(Ask(says, {"Foo": "1"}), Ask(says, {"Foo": "2"}))
    assert later.get("cache-status") == "sidecache; fwd=vary-miss; stored; detail=variant"


async def test_the_query_is_part_of_the_key():
    """Section 4: "The presented target URI and that of the stored response match"."""
    says = Says({"Cache-Control": "max-age=60"})
    asks = [Ask(says, target=target) for target in ("/a?x=1", "/a?x=2", "/a", "/b", "/a?x=1")]
    assert [answer.how for answer in await played(*asks)] == ["fetched", "fetched", "fetched", "fetched", "hit"]


async def test_a_default_response_without_vary_answers_nobody_elses_request():
    """Where "one or more omits the Vary header field, it SHOULD use the most recent ... valid Vary field value"."""
    fresh = {"Cache-Control": "max-age=60"}
    found = await played(
        Ask(Says(fresh | {"Vary": "Foo"}), {"Foo": "1"}),
        Ask(Says(fresh), {"Foo": "2"}),
        Ask(headers={"Foo": "1"}),
        Ask(headers={"Foo": "2"}),
        Ask(headers={"Foo": "3"}),
    )
    assert [answer.how for answer in found] == ["fetched", "fetched", "hit", "hit", "fetched"]
