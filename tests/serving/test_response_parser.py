"""proxy.serving.response_parser: which bytes are a response, where it ends, and what is refused."""

import gc
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.serving.response_parser import MAX_FIELDS, MAX_HEAD, MAX_INTERIM, MAX_LINE, BadResponse, Head, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"


@dataclass
class Read:
    """What a parser said."""

    heads: list[Head] = field(default_factory=list)
    body: bytes = b""
    pieces: int = 0
    complete: bool = False
    rest: bytes = b""

    def take(self, data: bytes) -> None:
        self.body += data
        self.pieces += 1


def read(*segments: bytes, method: str = "GET", end: bool = False) -> Read:
    said = Read()
    parser = ResponseParser(method, said.heads.append, said.take)
    for segment in segments:
        parser.feed(segment)
    if end:
        parser.end()
    said.complete, said.rest = parser.complete, parser.rest
    return said


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


WHOLE = [
    (OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),  # realistic
    (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", b""),
    (OK + b"Content-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length:3 \r\n\r\nabc", b"abc"),
    (
        OK + b"Transfer-Encoding: Chunked\r\n\r\n"
        b'00A;x="y"\r\n0123456789\r\n1 ;z\r\na\r\n0;e\r\nX: 1\r\n\r\n',
        b"0123456789a",
    ),
    (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", b"a"),  # pathological
    (b"HTTP/1.1 200 \r\nContent-Length: 000000000000000001\r\n\r\na", b"a"),
    (b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\nUpgrade: x\r\n\r\n", b""),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n", b"a" * 1000),
]  # fmt: skip


@pytest.mark.parametrize("rest", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\n", b"\x00"])
@pytest.mark.parametrize(("raw", "body"), WHOLE)
def test_a_response_ends_with_its_last_byte_and_what_follows_is_not_its(raw, body, rest):
    said = read(raw + rest)
    assert (said.complete, said.body, said.rest) == (True, body, rest)


@pytest.mark.parametrize(("raw", "body"), WHOLE)
def test_a_response_is_the_same_however_it_is_cut_into_segments(raw, body):
    said = read(*bytewise(raw), b"rest")
    assert (said.complete, said.body, said.rest, said.heads) == (True, body, b"rest", read(raw).heads)


@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 200)))
def test_a_response_is_the_same_at_any_cuts(case, cuts):
    raw, body = case
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    said = read(*(raw[a:b] for a, b in pairwise(places)))
    assert (said.complete, said.body, said.rest) == (True, body, b"")


@pytest.mark.parametrize(("raw", "body"), WHOLE)
def test_no_beginning_of_a_response_looks_complete(raw, body):
    assert not any(read(raw[:at], end=True).complete for at in range(len(raw)))


def test_a_head_keeps_its_bytes():
    (head,) = read(b"HTTP/1.0 299 Gr\xf6\xdfer \r\nX-a:\t1 \r\nx-A: \xff\r\nX-Empty:\r\n\r\n").heads
    assert (head.response.status, head.response.reason) == (299, "Gr\xf6\xdfer")
    assert head.response.fields.pairs == (("X-a", "1"), ("x-A", "\xff"), ("X-Empty", ""))


def test_chunks_that_come_together_are_one_piece():
    assert read(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n2\r\nbc\r\n").pieces == 1


@pytest.mark.parametrize("end", [True, False])
def test_without_a_length_only_the_end_of_the_connection_completes(end):
    said = read(OK + b"\r\nabc", b"def", end=end)
    assert (said.complete, said.body, said.heads[0].framed) == (end, b"abcdef", False)


@pytest.mark.parametrize(
    ("method", "raw", "framed", "length"),
    [
        ("GET", OK + b"Content-Length: 7\r\n\r\n", True, 7),  # realistic
        ("HEAD", OK + b"Content-Length: 7\r\n\r\n", True, 7),
        ("HEAD", OK + b"\r\n", True, None),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n", True, None),
        ("GET", OK + b"\r\n", False, None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", True, None),
    ],
)
def test_what_a_head_says_of_the_body(method, raw, framed, length):
    (head,) = read(raw, method=method).heads
    assert (head.framed, head.length) == (framed, length)


@pytest.mark.parametrize(
    ("line", "connection", "persistent"),
    [
        (b"HTTP/1.1 200 OK", b"", True),  # realistic
        (b"HTTP/1.1 200 OK", b"Connection: close\r\n", False),
        (b"HTTP/1.0 200 OK", b"", False),
        (b"HTTP/1.0 200 OK", b"Connection: Keep-Alive\r\n", True),
        (b"HTTP/1.0 200 OK", b"Connection: x\r\n", False),
        (b"HTTP/1.1 200 OK", b"Connection: x, CLOSE\r\n", False),  # pathological
        (b"HTTP/1.0 200 OK", b"Connection: keep-alive\r\nconnection: close\r\n", False),
    ],
)
def test_whether_another_request_may_follow(line, connection, persistent):
    (head,) = read(line + b"\r\n" + connection + b"Content-Length: 0\r\n\r\n").heads
    assert head.persistent is persistent


@pytest.mark.parametrize("number", [1, MAX_INTERIM])
def test_interim_responses_come_before_the_final_one(number):
    said = read(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * number + OK + b"Content-Length: 0\r\n\r\n")
    assert [head.interim for head in said.heads] == [True] * number + [False]
    assert said.heads[0].response.fields.pairs == (("Link", "</x>"),)


BAD_HEADS = [
    b"SSH-2.0-OpenSSH_9.2\r\n",  # realistic
    b"<html>",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na",
    OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    b"\r\n" + OK + b"\r\n",  # pathological
    b"HTTP/1.2 200 OK\r\n\r\n",
    b"HTTP/1.1  200 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1 1000 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 +20 OK\r\n\r\n",
    b"HTTP/1.1 200OK\r\n\r\n",
    b"HTTP/1.1 200 O\x00K\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\n\r\n",
    OK + b"X: a\r\n b\r\n\r\n",
    OK + b" X: a\r\n\r\n",
    OK + b"X : a\r\n\r\n",
    OK + b": a\r\n\r\n",
    OK + b"X\r\n\r\n",
    OK + b"X: a\nY: b\r\n\r\n",
    OK + b"X: a\rY: b\r\n\r\n",
    OK + b"X: a\x00\r\n\r\n",
    OK + b"X: a\x7f\r\n\r\n",
    OK + b"X\xe9: a\r\n\r\n",
    OK + b"Content-Length: 5, 5\r\n\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    OK + b"Content-Length: +5\r\n\r\n",
    OK + b"Content-Length: 5_0\r\n\r\n",
    OK + b"Content-Length: \xb2\r\n\r\n",
    OK + b"Content-Length: -1\r\n\r\n",
    OK + b"Content-Length:\r\n\r\n",
    OK + b"Content-Length: 0x5\r\n\r\n",
    OK + b"Content-Length: " + b"1" * 19 + b"\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding:\r\n\r\n",
    OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1),
    OK + b"X: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    OK + b"X: " + b"a" * (MAX_LINE + 1) + b"\r\n\r\n",
    OK + b"X: " + b"a" * MAX_HEAD,
    OK + (b"X: " + b"a" * 30000 + b"\r\n") * 5 + b"\r\n",
]
BAD_CHUNKS = [
    b"5 \r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"5_0\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b"\r\n",
    b";x\r\n",
    b"g\r\n",
    b"\xb2\r\n",
    b"F" * 16 + b"\r\n",
    b"5\nhello\r\n",
    b"5;a\nhello\r\n",
    b"5;a\rb\r\nhello\r\n",
    b"5;\x00\r\nhello\r\n",
    b"5;" + b"x" * 5000,
    b"5\r\nhelloworld\r\n",
    b"5\r\nhello\n",
    b"5\r\nhello\rX",
    b"0\r\nX: y\n\r\n",
    b"0\r\n X: y\r\n\r\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 1000,
]


@pytest.mark.parametrize("raw", BAD_HEADS, ids=range(len(BAD_HEADS)))
def test_what_is_no_response_is_refused(raw):
    with pytest.raises(BadResponse):
        read(raw)
    with pytest.raises(BadResponse):
        read(*bytewise(raw[: 1 << 12]), raw[1 << 12 :])


@pytest.mark.parametrize("raw", BAD_CHUNKS, ids=range(len(BAD_CHUNKS)))
def test_what_are_no_chunks_is_refused(raw):
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(BadResponse):
        read(head + raw)
    with pytest.raises(BadResponse):
        read(head, *bytewise(raw))


def test_what_was_read_is_free_without_the_garbage_collector():
    said = Read()
    gone = weakref.ref(said)
    parser = ResponseParser("GET", lambda _: None, said.take)
    parser.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    assert parser.complete
    gc.disable()
    try:
        del parser, said
        assert gone() is None
    finally:
        gc.enable()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_response_or_refused(raw):
    for start in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        with suppress(BadResponse):
            read(start + raw, end=True)
