"""Session cookies in messages: whole, in chunks, and issued again."""

import pytest

from proxy.policy.cookies import parts_of, without_reissued
from proxy.policy.identity import CookieSource
from proxy.policy.message import Fields, Response

SESSION = CookieSource("__session", "/auth/access-token")


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        (["__session=a"], [("__session", "a")]),
        (["x=1; __session=a=b; y=2"], [("__session", "a=b")]),
        (["__session.0=a; __session.1=b"], [("__session.0", "a"), ("__session.1", "b")]),
        (["__session__0=a", "__session__10=b"], [("__session__0", "a"), ("__session__10", "b")]),
        (["__session_=a; x__session=b; __session.x=c; __session.100=d; __Session=e"], []),
        (["__session"], []), ([""], []), ([";;="], []),
        (["__session=a; __session=b"], [("__session", "a"), ("__session", "b")]),
    ],
)  # fmt: skip
def test_the_parts_of_a_cookie(cookies, expected):
    assert parts_of(Fields([("Cookie", line) for line in cookies]), "__session") == expected


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([], []),
        (["__session=new; Path=/; HttpOnly"], []),
        (["__session__0=a", "__session__1=b; Secure"], []),
        (["__session=new", "other=1"], ["__session=new", "other=1"]),
        (["other=1"], ["other=1"]),
        (["__sessionx=1"], ["__sessionx=1"]),
        (["garbage"], ["garbage"]),
    ],
)
def test_only_a_cookie_that_is_issued_again_is_taken_out(lines, left):
    response = Response(200, Fields([("A", "b"), *(("Set-Cookie", line) for line in lines)]))
    assert list(without_reissued(response, SESSION).fields.get_all("set-cookie")) == left
    assert without_reissued(response, None) is response
    assert without_reissued(response, SESSION).fields.get("a") == "b"
