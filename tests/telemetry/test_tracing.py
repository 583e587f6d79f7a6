"""Spans of one process. Their way to a collector is in tests/serving/test_traced.py."""

import asyncio
import time
from threading import Event

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.telemetry import tracing
from proxy.telemetry.tracing import Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HIT = Outcome(Reason.FRESH, hit=True, ttl=10, feature="jobs")


@pytest.fixture
def made():
    provider, kept = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    return Tracing(provider, "1", lambda method, path: f"{method} /api/jobs/{{job-id}}"), kept


def asked(*pairs: tuple[str, str]) -> Request:
    return Request("GET", "/api/jobs/77?q=s3cret", Fields(pairs))


def test_what_is_answered_at_once_is_a_span_of_its_own(made):
    spans, kept = made
    spans.at_once(asked(("Traceparent", PARENT), ("Authorization", "Bearer s3cret")), HIT, 304)
    (span,) = kept.get_finished_spans()
    assert (span.name, span.parent.span_id) == ("GET /api/jobs/{job-id}", 0xB7AD6B7169203331)
    assert span.attributes["http.response.status_code"] == 304
    assert "s3cret" not in span.to_json()


@pytest.mark.parametrize("broken", ["", "x", "00-0-0-01", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT * 2])
def test_a_broken_traceparent_begins_a_trace(made, broken):
    spans, kept = made
    spans.at_once(asked(("traceparent", broken)), HIT, 200)
    assert kept.get_finished_spans()[0].parent is None


def test_a_request_without_one_is_no_child_of_what_else_this_task_does(made):
    spans, kept = made
    with spans.current(spans.begin(asked())):
        spans.at_once(asked(), HIT, 200)
    assert kept.get_finished_spans()[0].parent is None


def test_the_upstream_hears_of_its_span_and_of_no_other(made):
    spans, kept = made
    server = spans.begin(asked())
    with (
        spans.current(server),
        spans.asking(asked(("TraceParent", PARENT), ("tracestate", "a=1"), ("X", "y"))) as (
            request,
            answered,
        ),
    ):
        answered(200)
    (client,) = kept.get_finished_spans()
    assert client.parent.span_id == server.get_span_context().span_id
    assert [name.lower() for name, _ in request.fields] == ["x", "traceparent"]
    here = f"00-{client.context.trace_id:032x}-{client.context.span_id:016x}-0"
    assert (request.fields.get("traceparent") or "").startswith(here)


@pytest.mark.parametrize("error", [UpstreamError("dns_error"), asyncio.CancelledError()])
def test_a_question_without_an_answer_ends_its_span(made, error):
    spans, kept = made
    with pytest.raises(type(error)), spans.asking(asked()):
        raise error
    (span,) = kept.get_finished_spans()
    failed = isinstance(error, UpstreamError)
    assert (span.attributes.get("error.type") == "dns_error") is failed
    assert (span.status.status_code is trace.StatusCode.ERROR) is failed


async def test_the_end_waits_for_a_stuck_exporter_for_a_while_only(monkeypatch):
    class Stuck:
        released = Event()

        def get_tracer(self, *_: str) -> trace.Tracer:
            return trace.NoOpTracer()

        def shutdown(self) -> None:
            self.released.wait(30)

    monkeypatch.setattr(tracing, "_CLOSES", 0.01)
    stuck = Stuck()
    began = time.monotonic()
    await Tracing(stuck, "1", lambda method, path: method).close()
    stuck.released.set()
    assert time.monotonic() - began < 20
