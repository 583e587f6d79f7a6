"""Which spans does a request leave? One for the server and one for each question to the upstream (OpenTelemetry).

The SDK is an extra (`pip install "sidecache[otel]"`) and reads its own variables, OTEL_*: where spans go, how many are
sampled, what the service is called. Only W3C `traceparent` and `tracestate` are read and written; no query, no
header's value and nothing of a body stands in a span.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

RouteOf = Callable[[str, str], str]  # of a method and a path: "GET /api/jobs/{job-id}", few in number

_CLOSES = 5.0  # seconds for what is still to be sent at the end
_CARRIED = ("traceparent", "tracestate")


class Tracing:
    """The spans of one process."""

    def __init__(self, provider: "TracerProvider", version: str, route_of: RouteOf) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._context = context
        self._trace = trace
        self._tracer = provider.get_tracer("sidecache", version)
        self._propagator = TraceContextTextMapPropagator()
        self._route_of = route_of

    def begin(self, request: Request) -> "Span":
        """The server's span, a child of the client's where that sent a traceparent."""
        route = self._route_of(request.method, request.path)
        attributes: dict[str, str] = {
            "http.request.method": request.method, "url.path": request.path, "url.scheme": request.scheme,
            "http.route": route.partition(" ")[2],
        }  # fmt: skip
        if host := request.fields.get("host"):
            attributes["server.address"] = host
        return self._tracer.start_span(
            route, context=self._parent(request.fields), kind=self._trace.SpanKind.SERVER, attributes=attributes
        )

    def end(self, span: "Span", outcome: Outcome, status: int) -> None:
        if span.is_recording():
            span.set_attributes(_described(outcome, status))
            if status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def at_once(self, request: Request, outcome: Outcome, status: int) -> None:
        """The span of what was answered in the call that brought it."""
        self.end(self.begin(request), outcome, status)

    @contextmanager
    def current(self, span: "Span") -> Iterator[None]:
        """What is asked within is a child of this span, tasks that are started within included."""
        token = self._context.attach(self._trace.set_span_in_context(span))
        try:
            yield
        finally:
            self._context.detach(token)

    @contextmanager
    def asking(self, request: Request) -> Iterator[tuple[Request, Callable[[int], None]]]:
        """The client's span: the request with its traceparent, and what to call with the status that came."""
        span = self._tracer.start_span(
            request.method, kind=self._trace.SpanKind.CLIENT,
            attributes={"http.request.method": request.method, "url.path": request.path},
        )  # fmt: skip
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        fields = request.fields.without(_CARRIED).plus(*carrier.items())

        def answered(status: int) -> None:
            span.set_attribute("http.response.status_code", status)
            if status >= 400:
                span.set_status(self._trace.StatusCode.ERROR)

        try:
            yield request.with_fields(fields), answered
        except UpstreamError as failure:
            span.set_attribute("error.type", failure.kind)
            span.set_status(self._trace.StatusCode.ERROR)
            raise
        finally:
            span.end()

    async def close(self) -> None:
        """Send what is left, for a few seconds at most: an end does not wait for a collector that is gone."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(done.set)

        Thread(target=shut, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSES):
                await done.wait()

    def _parent(self, fields: Fields) -> "Context":
        carrier = {name: value for name in _CARRIED if (value := fields.get(name)) is not None}
        # without one it begins a trace of its own, whatever this task has been doing
        return self._propagator.extract(carrier, self._context.Context())


def opened(version: str, route_of: RouteOf) -> Tracing:
    """As OTEL_* says. The SDK sends in a thread of its own, in batches; what does not fit into its queue is dropped."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    found = Resource.create()
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: "sidecache"}))
    provider = TracerProvider(resource=found)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, version, route_of)


def _described(outcome: Outcome, status: int) -> Mapping[str, str | int | bool]:
    said: dict[str, str | int | bool] = {
        "http.response.status_code": status, "sidecache.hit": outcome.hit, "sidecache.stored": outcome.stored,
        "sidecache.collapsed": outcome.collapsed, "sidecache.reason": outcome.reason.value,
    }  # fmt: skip
    for name, value in (("forward", outcome.forward), ("feature", outcome.feature), ("tenant", outcome.tenant)):
        if value:
            said[f"sidecache.{name}"] = str(value)
    return said
