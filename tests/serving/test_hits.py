"""proxy.serving.hits: which heads are alike, and that a prepared answer ends with what it was made from."""

import pytest

from proxy.serving.hits import _UNREAD

HEAD = b"GET /api/jobs HTTP/1.1\r\nHost: portal.test\r\nAuthorization: Bearer t\r\n"


@pytest.mark.parametrize(
    "line",
    [b"Cookie: a=b; c=d", b"user-agent: Mozilla/5.0 (X11)", b"X-Request-Id: 1", b"traceparent: 00-1", b"Referer: "],
)
def test_fields_that_no_decision_reads_are_left_out(line):
    assert _UNREAD.sub(b"", HEAD + line + b"\r\n\r\n") == HEAD + b"\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Accept: */*",  # realistic
        b"X-Org-Id: org_b",
        b"cOOkie: a=b",  # another spelling is another head
        b"Cookie : a=b",  # pathological
        b"Cookie:a=b",
        b"Cookie: a\x00b",
        b"Cookie: a\x80b",
        b"Cookie: a\r b",
        b"Cookie: a\nX-Org-Id: org_b",
        b"X-Cookie: a",
    ],
)
def test_everything_else_is_part_of_the_choice(line):
    assert line in _UNREAD.sub(b"", HEAD + line + b"\r\n\r\n")
