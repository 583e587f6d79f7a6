"""How does one response reach its client and the cache at once? Each at its own pace."""

import asyncio
from collections.abc import AsyncIterator

from proxy.errors import UpstreamError
from proxy.policy.outcome import Reason
from proxy.serving.upstream import Stream


class Fill:
    """The body of a response that may be stored, up to `limit` bytes.

    `collect` reads it whole, whatever its client does: a slow or vanished client neither paces nor ends a fill that
    others wait for. Beyond the limit the client takes over the rest at its own pace, with backpressure.
    """

    def __init__(self, stream: Stream, limit: int, length: int | None) -> None:
        self._stream = stream
        self._length = length
        self._source = stream.chunks()
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._grown = asyncio.Event()
        # until the whole body is here nothing may make it look whole
        self._failure: UpstreamError | None = UpstreamError("http_response_incomplete")
        self._overflowed = False
        self._abandoned = False
        self._settled = False

    async def collect(self) -> bytes | Reason:
        """The whole body, or why it cannot be stored. `settle` must be called next, whatever was decided."""
        try:
            async for chunk in self._source:
                self._chunks.append(chunk)
                self._size += len(chunk)
                if self._size > self._limit:
                    return self._overflow()
                self._grown.set()
        except UpstreamError as failure:
            self._failure = failure
            self._stream.close()
            return Reason.INCOMPLETE
        except asyncio.CancelledError:
            self._stream.close()
            raise
        self._stream.close()
        self._failure = None
        return b"".join(self._chunks)

    def settle(self) -> None:
        """The entry is stored, or never will be: the client may have its last byte (SPEC 6: readable by then)."""
        self._settled = True
        self._grown.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body for the client, as it arrives. Its last byte (or the end) waits for `settle`."""
        sent = 0
        while True:
            while sent < len(self._chunks) - self._held_back():
                yield self._chunks[sent]
                sent += 1
            if self._settled and sent == len(self._chunks):
                break
            self._grown.clear()
            await self._grown.wait()
        if self._failure is not None:
            raise self._failure
        if self._overflowed:
            self._chunks.clear()
            async for chunk in self._source:
                yield chunk
            self._stream.close()

    def _held_back(self) -> int:
        return 1 if self._size == self._length and not self._settled else 0

    def abandon(self) -> None:
        """The client is gone. A fill that still can be stored goes on; the rest of a larger body is not wanted."""
        self._abandoned = True
        if self._overflowed:
            self._stream.close()

    def _overflow(self) -> Reason:
        self._overflowed = True
        self._failure = None  # the client reads the rest, and sees itself how it ends
        if self._abandoned:
            self._stream.close()
        return Reason.TOO_LARGE
