"""What is read of a body before it goes on is part of what goes on."""

import json

import pytest

from proxy.errors import UpstreamError
from proxy.policy.key import MAX_KEYED_BODY
from proxy.policy.message import Request
from proxy.serving.peeking import MOST, peeked, with_body
from tests.serving.world import ScriptedStream, answered


async def rest(stream) -> bytes:
    whole = stream.whole()
    return whole if whole is not None else b"".join([chunk async for chunk in stream.chunks()])


class Whole(ScriptedStream):
    """One whose body is here with its head."""

    def whole(self) -> bytes:
        return b"".join(self._chunks)


def at_once(body: bytes) -> Whole:
    made = answered(body)
    return Whole(made.response, made._chunks, True)


@pytest.mark.parametrize("make", [answered, at_once])
@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": 1}', {"a": 1}), (b"", None), (b"{", None), (b"[1]", [1]), (b"\xff", None),
        (json.dumps("x" * (MOST + 1)).encode(), None),
    ],
)  # fmt: skip
async def test_the_document_is_known_and_the_body_whole(make, body, document):
    stream, found = await peeked(make(body))
    assert found == document
    assert (stream.response.status, stream.framed, stream.length) == (200, True, len(body))
    assert await rest(stream) == body
    assert await rest(stream) == b""


async def test_a_large_body_is_read_no_further_than_it_must_be():
    source = answered([b"x" * MOST, b"y", b"z"])
    stream, document = await peeked(source)
    assert document is None
    assert stream.whole() is None
    assert await rest(stream) == b"x" * MOST + b"yz"


async def test_an_error_comes_where_it_came():
    stream, document = await peeked(answered([b"a", UpstreamError("connection_terminated")]))
    assert document is None
    chunks = stream.chunks()
    assert await anext(chunks) == b"a"
    with pytest.raises(UpstreamError):
        await anext(chunks)


async def test_closing_it_closes_the_response():
    source = answered(b"{}")
    stream, _ = await peeked(source)
    stream.close()
    assert source.closed


async def _chunks(*chunks: bytes):
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("sizes", [(), (5,), (MAX_KEYED_BODY,), (1, MAX_KEYED_BODY - 1)])
async def test_a_keyed_body_is_known_whole(sizes):
    request, body = await with_body(Request("POST", "/x"), _chunks(*(b"b" * size for size in sizes)))
    assert request.body == body == b"b" * sum(sizes)


async def test_one_too_large_goes_on_as_it_came():
    request, body = await with_body(Request("POST", "/x"), _chunks(b"a" * MAX_KEYED_BODY, b"b", b"c"))
    assert request.body is None
    assert b"".join([chunk async for chunk in body]) == b"a" * MAX_KEYED_BODY + b"bc"
