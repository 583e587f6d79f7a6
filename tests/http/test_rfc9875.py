"""RFC 9875: Cache-Groups and Cache-Group-Invalidation."""

from tests.http.plain import Ask, Says, played, table

MEMBER = "a List of Strings ... each member of the list is an opaque value that identifies a group (2)"
SAME = "Two responses are in the same group when they share a member, and the same URI origin (2.1)"
UNSAFE = "invalidates any stored response with a group that the field lists, when the request was unsafe (3)"
SAFE = "MUST be ignored on responses to requests with a safe method (3)"


def fresh(groups: str | None, body: bytes = b"body") -> Says:
    named = {"Cache-Groups": groups} if groups is not None else {}
    return Says({"Cache-Control": "max-age=1000", **named}, body=body)


@table(
    ("sentence", "groups", "method", "invalidated", "how"),
    [
        # realistic
        (UNSAFE, '"featured"', "POST", '"featured"', "fetched"),
        (UNSAFE, '"a", "featured"', "DELETE", '"featured", "b"', "fetched"),
        (SAME + ": no member in common", '"featured"', "POST", '"other"', "hit"),
        (SAME + ": case counts", '"featured"', "POST", '"Featured"', "hit"),
        (SAFE, '"featured"', "GET", '"featured"', "hit"),
        (SAFE, '"featured"', "OPTIONS", '"featured"', "hit"),
        (MEMBER + ": no groups", None, "POST", '"featured"', "hit"),
        (MEMBER + ": parameters are ignored", '"featured";a=1', "POST", '"featured";b', "fetched"),
        # pathological
        (MEMBER + ": a token is no string, and voids the field", "featured", "POST", '"featured"', "hit"),
        (MEMBER + ": one bad member voids all", '"featured", 7', "POST", '"featured"', "hit"),
        (MEMBER + ": the same for what invalidates", '"featured"', "POST", '"featured", x', "hit"),
        (MEMBER + ": escapes", r'"a\"b"', "POST", r'"a\"b"', "fetched"),
        (MEMBER + ": an empty name is a name", '""', "POST", '""', "fetched"),
        (
            "MUST support at least 32 groups of 32 characters (2)",
            ", ".join(f'"{n:032d}"' for n in range(100)),
            "POST",
            f'"{99:032d}"',
            "fetched",
        ),
    ],
)
async def test_groups(sentence, groups, method, invalidated, how):
    answer = Says({"Cache-Group-Invalidation": invalidated, "Cache-Control": "no-store"})
    first = Ask(fresh(groups), target="/member")
    other = Ask(answer, method=method, target="/elsewhere")
    played_all = await played(first, other, Ask(fresh(groups, b"new"), target="/member"))
    assert played_all[-1].how == how


async def test_an_invalidated_response_may_be_stored_again():
    _, _, _, again = await played(
        Ask(fresh('"g"'), target="/member"),
        Ask(Says({"Cache-Group-Invalidation": '"g"'}), method="POST", target="/elsewhere"),
        Ask(fresh('"g"', b"new"), target="/member"),
        Ask(target="/member"),
    )
    assert (again.how, again.answer.body) == ("hit", b"new")


async def test_the_fields_are_passed_on():
    """What is behind us may keep groups of its own."""
    first, later = await played(Ask(fresh('"g"')), Ask())
    assert (first.get("cache-groups"), later.get("cache-groups")) == ('"g"', '"g"')


async def test_a_response_in_more_groups_than_can_be_kept_is_not_stored():
    many = ", ".join(f'"{number}"' for number in range(129))
    first, later = await played(Ask(fresh(many)), Ask())
    assert first.get("cache-status") == "sidecache; fwd=uri-miss; detail=too-many-groups"
    assert later.how == "fetched"
