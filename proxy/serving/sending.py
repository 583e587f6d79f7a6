"""How does a request without a body get its reply, on a connection of HTTP/1.1? At the client's pace, and no more.

What `HttpResponse` does for all others by way of aiohttp's request, response and writer: the same bytes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp.helpers import EMPTY_BODY_STATUS_CODES, rfc822_formatted_time

from proxy.errors import UpstreamError
from proxy.serving.outgoing import reset
from proxy.serving.protocol import ServerProtocol
from proxy.serving.reply import Reply
from proxy.serving.response import head_of


async def send(protocol: ServerProtocol, method: str, reply: Reply, *, closing: bool) -> bool:
    """Write the reply; whether another may follow. An end the upstream did not send never looks complete."""
    bodiless = method == "HEAD" or reply.status in EMPTY_BODY_STATUS_CODES
    head, chunked = framed(reply, bodiless=bodiless, closing=closing)
    out = _Outgoing(protocol, head, None if bodiless else reply.fields.get("content-length"), chunked)
    try:
        if isinstance(reply.body, bytes):
            out.end(b"" if bodiless else reply.body)
        else:
            protocol.on_lost = reply.close  # a client that leaves while nothing is sent is noticed too
            await _stream(protocol, out, reply.body, bodiless=bodiless)
    except UpstreamError:
        reset(protocol.transport)
        return False
    except ConnectionError:
        return False  # the client is gone: nobody is left to answer
    finally:
        protocol.on_lost = None
        reply.close()
    return not closing


def framed(reply: Reply, *, bodiless: bool, closing: bool) -> tuple[bytes, bool]:
    """The head with all that `HttpResponse` would add, and whether the body goes in chunks."""
    fields = reply.fields.without(("content-length",)) if reply.status == 204 else reply.fields
    added: list[tuple[str, str]] = []
    chunked = not bodiless and "content-length" not in fields
    if chunked:
        added.append(("Transfer-Encoding", "chunked"))
    if "date" not in fields:
        added.append(("Date", rfc822_formatted_time()))
    if closing:
        added.append(("Connection", "close"))
    return head_of(reply, (*fields.pairs, *added)), chunked


def in_one_chunk(body: bytes) -> bytes:
    """A whole body, in chunks."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


class _Outgoing:
    """One response on its way: the head leaves with the first bytes of the body."""

    def __init__(self, protocol: ServerProtocol, head: bytes, length: str | None, chunked: bool) -> None:
        self._protocol = protocol
        self._head = head
        self._left = int(length) if length is not None else None
        self._chunked = chunked

    def write(self, data: bytes) -> None:
        if self._left is not None:
            data = data[: self._left]  # more than it says would be taken for the next response
            self._left -= len(data)
        elif self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if self._head:
            head, self._head = self._head, b""
            transport.writelines((head, data))
        elif data:
            transport.write(data)

    def end(self, data: bytes = b"") -> None:
        self.write(data)
        if self._left:
            raise UpstreamError("http_response_incomplete")
        if self._chunked:
            transport = self._protocol.transport
            assert transport is not None, "just written to"
            transport.write(b"0\r\n\r\n")

    def send_head(self) -> None:
        with suppress(ConnectionError):  # whoever sends the body finds out
            if self._head:
                self.write(b"")


async def _stream(protocol: ServerProtocol, out: _Outgoing, body: AsyncIterator[bytes], *, bodiless: bool) -> None:
    # together with what is here of the body; but its first bytes may be a long time in coming
    head = asyncio.get_running_loop().call_soon(out.send_head)
    try:
        if not bodiless:
            async for chunk in body:
                out.write(chunk)
                await protocol.written()
        out.end()
    finally:
        head.cancel()
