"""Where two rule sets can differ."""

import pytest

from proxy.rules.overlap import both, meetings


def segments(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")[1:])


MEET = [
    ("/a/{x}", "/a/b", "/a/b"),
    ("/a/b", "/a/{x}", "/a/b"),
    ("/a/{x}", "/a/{y}", "/a/{x}"),
    ("/a/{x}/c", "/a/b/{y}", "/a/b/c"),
    ("/a/**", "/a/b/{y}", "/a/b/{y}"),
    ("/a/{x}", "/**", "/a/{x}"),
    ("/a/**", "/{x}/**", "/a/**"),
    ("/{x}/b/**", "/a/**", "/a/b/**"),
    ("/**", "/**", "/**"),
]


@pytest.mark.parametrize(("one", "other", "expected"), MEET)
def test_two_patterns_that_match_the_same_path_meet_in_all_they_both_match(one, other, expected):
    found = list(meetings([segments(other)], [segments(one)]))

    assert found == [segments(one), segments(other), segments(expected)]
    assert both(segments(one), segments(other)) == segments(expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [("/a", "/b"), ("/a", "/a/b"), ("/a/{x}", "/a"), ("/a/**", "/a"), ("/a/{x}/c", "/a/{x}/d"), ("/a/b", "/a/{x}/**")],
)
def test_others_do_not(one, other):
    for some, rest in ((one, other), (other, one)):
        assert list(meetings([segments(some)], [segments(rest)])) == [segments(rest), segments(some)]
