"""Session cookies in messages: whole, in chunks, and issued again; our own, which no upstream gets."""

import pytest

from proxy.policy.cookies import TICKET, may_carry_ours, parts_of, without_ours, without_reissued
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


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        # realistic
        ([f"{TICKET}=abc"], []),
        ([f"a=1; {TICKET}=abc; b=2"], ["a=1; b=2"]),
        ([f"{TICKET}=abc; b=2;  c=3"], ["b=2;  c=3"]),
        ([f"a=1; {TICKET}=abc"], ["a=1"]),
        (["sidecache-9900=x; sidecache-session=y; a=1"], ["a=1"]),
        (["a=1", f"{TICKET}=abc", "b=2"], ["a=1", "b=2"]),
        # pathological
        ([f"a=1;{TICKET}=abc;b=2"], ["a=1;b=2"]),
        ([f"{TICKET}=a; {TICKET}=b"], []),
        ([f" \t{TICKET} =a; b"], ["b"]),
        ([f"a={TICKET}; b=sidecache-9900"], [f"a={TICKET}; b=sidecache-9900"]),
        (["sidecache-portal=1; Sidecache-9900=2; sidecache-123456=3"],) * 2,
        ([f"x{TICKET}=1; {TICKET}x=2; {TICKET}"],) * 2,
        ([f"a=\xff; {TICKET}=\xfe"], ["a=\xff"]),
        ([""], [""]),
    ],
)
def test_our_cookies_are_taken_out_and_all_others_stay_as_they_were(lines, left):
    fields = Fields([("A", "b"), *(("cOOkie", line) for line in lines), ("Z", "y")])
    made = without_ours(fields)
    assert list(made.get_all("cookie")) == left
    assert made.pairs[0] == ("A", "b")
    assert made.pairs[-1] == ("Z", "y")
    assert may_carry_ours("; ".join(lines).encode("latin-1")) or made == fields


def test_a_head_without_them_is_the_same_object():
    fields = Fields([("Cookie", "a=1")])
    assert without_ours(fields) is fields
    assert not may_carry_ours(b"GET /x HTTP/1.1\r\nHost: sidecache-portal:8080\r\nCookie: a=1\r\n\r\n")
