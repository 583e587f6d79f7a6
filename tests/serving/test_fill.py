"""proxy.serving.fill: the cache reads at its own pace, the client at its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.errors import UpstreamError
from proxy.policy.outcome import Reason
from proxy.serving.fill import Fill
from tests.doubles import settle
from tests.serving.world import answered


def fill(chunks: list[bytes | UpstreamError | asyncio.Event], *, limit: int = 10, length: int | None = None):
    stream = answered(chunks)
    return Fill(stream, limit, length), stream


async def read(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in chunks]


async def test_a_body_within_the_limit_reaches_both():
    made, stream = fill([b"abc", b"de"], length=5)
    client = asyncio.create_task(read(made.chunks()))

    assert await made.collect() == b"abcde"
    made.settle()
    assert await client == [b"abc", b"de"]
    assert stream.closed


@pytest.mark.parametrize("length", [5, None], ids=["known", "unknown"])
async def test_the_client_cannot_have_seen_the_end_before_the_entry_is_stored(length):
    made, _ = fill([b"abc", b"de"], length=length)
    seen: list[bytes] = []

    async def client() -> None:
        async for chunk in made.chunks():
            seen.append(chunk)

    reading = asyncio.create_task(client())
    await made.collect()
    await settle()
    assert seen == ([b"abc"] if length else [b"abc", b"de"])
    assert not reading.done()

    made.settle()
    await reading
    assert seen == [b"abc", b"de"]


async def test_the_client_gets_each_chunk_when_it_arrives():
    gate = asyncio.Event()
    made, _ = fill([b"abc", gate, b"de"])
    collecting = asyncio.create_task(made.collect())
    client = made.chunks()

    assert await anext(client) == b"abc"
    gate.set()
    assert await anext(client) == b"de"
    assert await collecting == b"abcde"


async def test_a_client_that_reads_nothing_does_not_hold_the_fill_up():
    made, stream = fill([b"a"] * 10)
    client = made.chunks()

    assert await made.collect() == b"a" * 10
    assert stream.closed
    made.settle()
    assert await read(client) == [b"a"] * 10


async def test_a_client_that_leaves_does_not_end_the_fill():
    gate = asyncio.Event()
    made, stream = fill([b"abc", gate, b"de"])
    collecting = asyncio.create_task(made.collect())
    await settle()
    made.abandon()
    assert not stream.closed
    gate.set()
    assert await collecting == b"abcde"


async def test_beyond_the_limit_the_client_goes_on_alone():
    made, stream = fill([b"abc", b"d" * 8, b"ef", b"gh"], limit=10)

    assert await made.collect() is Reason.TOO_LARGE
    made.settle()
    client = made.chunks()
    assert await anext(client) == b"abc"
    assert not stream.closed
    assert await read(client) == [b"d" * 8, b"ef", b"gh"]
    assert stream.closed


@pytest.mark.parametrize("before", [True, False], ids=["it left before", "it leaves afterwards"])
async def test_the_rest_of_a_large_body_is_not_fetched_for_a_client_that_left(before):
    made, stream = fill([b"d" * 11, b"more"], limit=10)
    if before:
        made.abandon()
    assert await made.collect() is Reason.TOO_LARGE
    made.settle()
    made.abandon()
    assert stream.closed


async def test_a_body_that_ends_early_is_not_whole_for_anybody():
    made, stream = fill([b"abc", UpstreamError("http_response_incomplete")], length=5)

    assert await made.collect() is Reason.INCOMPLETE
    assert stream.closed
    made.settle()
    client = made.chunks()
    assert await anext(client) == b"abc"
    with pytest.raises(UpstreamError):
        await anext(client)


async def test_a_large_body_that_ends_early_is_not_whole_either():
    made, _ = fill([b"d" * 11, UpstreamError("http_response_incomplete")], limit=10)

    assert await made.collect() is Reason.TOO_LARGE
    made.settle()
    client = made.chunks()
    assert await anext(client) == b"d" * 11
    with pytest.raises(UpstreamError):
        await anext(client)


async def test_an_empty_body_is_a_body():
    made, _ = fill([], length=0)
    assert await made.collect() == b""
    made.settle()
    assert await read(made.chunks()) == []


async def test_a_fill_that_is_cancelled_never_looks_whole_to_its_client():
    more = asyncio.Event()
    made, stream = fill([b"half", more, b"rest"])
    collecting = asyncio.create_task(made.collect())
    await settle()
    collecting.cancel()
    await settle()
    made.settle()

    with pytest.raises(UpstreamError):
        await read(made.chunks())
    assert stream.closed
