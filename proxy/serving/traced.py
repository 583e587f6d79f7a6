"""How do requests get their spans? Around the exchange and the upstream; neither of them knows."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from proxy.policy.message import Request
from proxy.serving.connection import Interim
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body, Stream, Upstream
from proxy.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class Handle(Protocol):
    def __call__(self, request: Request, body: Body, interim: Interim | None = None) -> Coroutine[Any, Any, Reply]: ...


def traced(handle: Handle, tracing: Tracing) -> Handle:
    """The same, within the server's span of the request."""

    def handled(request: Request, body: Body, interim: Interim | None = None) -> Coroutine[Any, Any, Reply]:
        # called at once: what has been decided about this request counts for the next call only
        return _spanned(tracing, tracing.begin(request), handle(request, body, interim))

    return handled


async def _spanned(tracing: Tracing, span: "Span", answering: Coroutine[Any, Any, Reply]) -> Reply:
    try:
        with tracing.current(span):
            reply = await answering
    except BaseException:
        span.end()
        raise
    tracing.end(span, reply.outcome, reply.status)
    return reply


class TracedUpstream:
    """An upstream whose questions are spans, and which hears of them in `traceparent`."""

    def __init__(self, upstream: Upstream, tracing: Tracing) -> None:
        self._upstream = upstream
        self._tracing = tracing

    async def fetch(self, request: Request, body: Body, *, interim: Interim | None = None) -> Stream:
        with self._tracing.asking(request) as (asked, answered):
            stream = await self._upstream.fetch(asked, body, interim=interim)
            answered(stream.response.status)
            return stream
