"""What does a body say that goes on all the same? Read as far as it must be known, and passed on from its beginning."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson

from proxy.errors import UpstreamError
from proxy.policy.key import MAX_KEYED_BODY
from proxy.policy.message import Request, Response
from proxy.serving.upstream import Body, Stream

MOST = 64 << 10


class Reread:
    """A response whose body comes by another way; all else is as the stream has it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def response(self) -> Response:
        return self._stream.response

    @property
    def framed(self) -> bool:
        return self._stream.framed

    @property
    def length(self) -> int | None:
        return self._stream.length


class Peeked(Reread):
    """A response of which some has been read."""

    def __init__(
        self, stream: Stream, read: list[bytes], rest: AsyncIterator[bytes] | None, error: UpstreamError | None = None
    ) -> None:
        super().__init__(stream)
        self._read = read
        self._rest = rest
        self._error = error  # that cut it short

    def whole(self) -> bytes | None:
        if self._rest is not None or self._error is not None:
            return None
        whole, self._read = b"".join(self._read), []
        return whole

    async def chunks(self) -> AsyncIterator[bytes]:
        read, self._read = self._read, []
        for chunk in read:
            yield chunk
        if self._rest is not None:
            async for chunk in self._rest:
                yield chunk
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._stream.close()


async def peeked(stream: Stream) -> tuple[Stream, Any]:
    """The response as it would have been read, and its JSON document; None when it has none, or too large a one."""
    whole = stream.whole()
    if whole is not None:
        return Peeked(stream, [whole], None), _document(whole)
    chunks = stream.chunks()
    read: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            read.append(chunk)
            size += len(chunk)
            if size > MOST:
                return Peeked(stream, read, chunks), None
    except UpstreamError as error:
        return Peeked(stream, read, None, error), None
    return Peeked(stream, read, None), _document(b"".join(read))


def _document(body: bytes) -> Any:
    if len(body) > MOST:
        return None
    try:
        return orjson.loads(body)
    except ValueError:
        return None


async def with_body(request: Request, body: Body) -> tuple[Request, Body]:
    """Read a body that is part of the key. One too large for that goes on as a stream, unread parts included."""
    if not isinstance(body, AsyncIterator):
        return replace(request, body=body or b""), body
    chunks: list[bytes] = []
    size = 0
    async for chunk in body:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_KEYED_BODY:
            return request, _resumed(chunks, body)
    whole = b"".join(chunks)
    return replace(request, body=whole), whole


async def _resumed(chunks: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    async for chunk in rest:
        yield chunk
