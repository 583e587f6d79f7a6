"""proxy.serving.rewriting: the upstream's head of one request, made from that of another like it."""

import pytest

from proxy.policy import forwarding
from proxy.policy.message import Fields, Request
from proxy.serving.dialing import Origin
from proxy.serving.rewriting import Rewriting, rewriting, shape_of
from proxy.serving.unread import IRRELEVANT, Choices
from proxy.serving.upstream import _head_of

ORIGIN = Origin.of("http://upstream.test/base")


def head(*lines: str, target: str = "/a/1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *lines, "", ""]).encode()


def ordinary(data: bytes, *, trusted: bool = False, peer: str = "192.0.2.1") -> bytes:
    """What the ordinary way makes of it."""
    start, *lines = data[:-4].decode().split("\r\n")
    fields = Fields([(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])
    method, target, _ = start.split(" ")
    request = Request(method, target, fields, peer=peer, peer_trusted=trusted)
    return _head_of(request.with_fields(forwarding.passing(request)), None, ORIGIN)


def made(data: bytes, *, trusted: bool = False) -> Rewriting | None:
    choice, _ = Choices()(data)
    found = shape_of(choice)
    assert found is not None
    whole = ordinary(data, trusted=trusted)
    return rewriting(data, choice, found[1], b"192.0.2.1", whole, trusted=trusted)


FIRST = ("Accept: a", "Referer: r", "Connection: keep-alive", "Via: 1.0 x", "TE: trailers", "X-Forwarded-Proto: https")
OTHERS = [
    ("Accept: a", "Connection: keep-alive", "Via: 1.0 x", "TE: trailers", "X-Forwarded-Proto: https"),
    ("Cookie: c", "Accept: a", "Connection: keep-alive", "Via: 1.0 x", "Cookie: %s", "TE: trailers",
     "X-Forwarded-Proto: https", "DNT: 1"),
    ("X-Forwarded-For: 198.51.100.7", *FIRST),
    ("x-forwarded-for: 198.51.100.7, 203.0.113.1", *FIRST, "X-Forwarded-For: 198.51.100.8"),
]  # fmt: skip


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("lines", OTHERS)
@pytest.mark.parametrize("target", ["/a/1", "/", "/b?x=%zz"])
@pytest.mark.isolation
def test_another_head_of_the_shape_becomes_what_the_ordinary_way_makes_of_it(lines, target, trusted):
    first, other = head(*FIRST), head(*lines, target=target)
    shape, found = shape_of(Choices()(first)[0]), shape_of(Choices()(other)[0])
    assert shape is not None
    assert found is not None
    assert shape[0] == found[0]
    rewrite = made(first, trusted=trusted)
    assert rewrite is not None
    expected = ordinary(other, trusted=trusted, peer="192.0.2.2")
    assert rewrite(other, found[1], b"192.0.2.2") == expected


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: referer",),  # it may take out what another head has
        ("Connection: x-own",),
        ("X-FORWARDED-FOR: 192.0.2.7",),
        ("TE: trailers", "TE: trailers"),  # side by side, or apart in another head
        ("Accept:a",),
        ("Accept:  a",),
        ('If-None-Match: "1--sidecache-gzip"',),
    ],
)
def test_what_it_cannot_do_for_all_it_does_for_none(lines):
    assert made(head(*lines)) is None


@pytest.mark.parametrize("target", ["*", "//a", "http://h/a", "/a#b", "/a\\b", '/a"b', "/\xe9", ""])
def test_only_a_plain_target_can_stand_for_another(target):
    assert shape_of((f"GET {target} HTTP/1.1".encode("latin-1"), b"\r\nHost: h\r\n\r\n")) is None


def test_without_the_peers_address_there_is_nothing_to_put_in():
    whole = ordinary(head(), peer="")
    assert rewriting(head(), Choices()(head())[0], b"/a/1", b"", whole, trusted=False) is None


def test_methods_and_lines_make_a_shape_and_targets_do_not():
    shape, others = shape_of(Choices()(head())[0]), [head(method="HEAD"), head("Accept: a")]
    assert shape is not None
    assert shape_of(Choices()(head(target="/x"))[0]) == (shape[0], b"/x")
    assert all(shape_of(Choices()(other)[0])[0] != shape[0] for other in others)


def test_no_field_that_nobody_reads_is_changed_on_the_way_but_the_one_that_is_put_in():
    request = Request("GET", "/", Fields([("Host", "h"), *((name, "a, b") for name in sorted(IRRELEVANT))]))
    passed = forwarding.passing(request)
    changed = {name for name in IRRELEVANT if passed.get(name) != "a, b"}
    assert changed == {"x-forwarded-for"}
