"""How does a reply become bytes? Its head goes out as it is; only framing and a missing Date are added."""

from collections.abc import Iterable
from contextlib import suppress

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import StreamWriter
from aiohttp.web_response import REASON_PHRASES

from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply

REFUSALS = {
    400: "The request is malformed or ambiguous.",
    408: "The request did not arrive in time.",
    414: "The request's target is too long.",
    417: "Only 'Expect: 100-continue' is understood.",
    431: "The request's header fields are too large.",
    500: "Something went wrong here.",
    501: "This method is not implemented.",
}


def refused(status: int) -> Reply:
    """A fixed answer to what cannot be served, and the end of the connection: nothing of the request is echoed."""
    fields, body = problem(status, REFUSALS[status])
    return Reply.own(status, fields, body, Outcome(Reason.BAD_REQUEST), last=True)


class HttpResponse(web.StreamResponse):
    """A response whose head is ours to the byte: nothing is added but framing (aiohttp would add Server and others)."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status=reply.status, reason=reply.reason)
        self._pairs = reply.fields
        self._whole = reply.body if isinstance(reply.body, bytes) else b""
        self._framing: list[tuple[str, str]] = []

    @property
    def bodiless(self) -> bool:
        """The method or the status allows no body (RFC 9112 6.3); known once it is prepared."""
        return bool(self._must_be_empty_body)

    def send_head(self) -> None:
        """Send it now, when it was not sent with the first bytes of the body."""
        assert isinstance(self._payload_writer, StreamWriter)
        with suppress(ConnectionError):  # whoever sends the body finds out
            self._payload_writer.send_headers()

    async def write_eof(self, data: bytes = b"") -> None:
        """End the response; with the body, where it is here whole."""
        await super().write_eof(b"" if self._must_be_empty_body else data or self._whole)

    async def _prepare_headers(self) -> None:
        request, writer = self._req, self._payload_writer
        assert request is not None
        assert writer is not None
        keep_alive = request.keep_alive if self._keep_alive is None else self._keep_alive
        if self._status == 204:
            # "MUST NOT send a Content-Length header field in any response with a status code of ... 204" (RFC 9110 8.6)
            self._pairs = self._pairs.without(("content-length",))
        length = self._pairs.get("content-length")
        if not self._must_be_empty_body:
            if length is not None:
                writer.length = int(length)
            elif request.version >= (1, 1):
                writer.enable_chunking()
                self._framing.append(("Transfer-Encoding", "chunked"))
            else:
                keep_alive = False
        if "date" not in self._pairs:
            # "A recipient with a clock that receives a response message without a Date header field MUST record the
            # time it was received and append a corresponding Date" (RFC 9110 6.6.1)
            self._framing.append(("Date", rfc822_formatted_time()))
        if not keep_alive:
            self._framing.append(("Connection", "close"))
        elif request.version == (1, 0):
            self._framing.append(("Connection", "keep-alive"))
        self._keep_alive = keep_alive

    async def _write_headers(self) -> None:
        request, writer = self._req, self._payload_writer
        assert request is not None
        assert writer is not None
        _hand_over(writer, _head(self._status, self._reason or "", (*self._pairs, *self._framing)))


def head_of(reply: Reply, pairs: Iterable[tuple[str, str]] | None = None) -> bytes:
    """The head of a stored response on a connection of HTTP/1.1 that goes on: all that `HttpResponse` would make.

    `pairs` are its fields where they are not the reply's.
    """
    reason = REASON_PHRASES.get(reply.status, "") if reply.reason is None else reply.reason
    return _head(reply.status, reason, reply.fields if pairs is None else pairs)


def _head(status: int, reason: str, pairs: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *[f"{name}: {value}" for name, value in pairs], "\r\n"]
    return "\r\n".join(lines).encode("latin-1")


def _hand_over(writer: AbstractStreamWriter, head: bytes) -> None:
    """Give aiohttp's writer a finished head, which it sends together with the first body bytes."""
    writer._headers_buf = head  # type: ignore[attr-defined]
    writer._headers_written = False  # type: ignore[attr-defined]
