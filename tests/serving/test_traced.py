"""Spans of a sidecar as a collector receives them: protobuf over HTTP, decoded."""

import contextlib
import gzip
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from proxy.app import Running, running
from proxy.settings import load
from tests.serving.world import unsigned
from tests.wire import until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
RULES = """
version: 1
identity: {tenant: [jwt.org_id]}
features:
  jobs:
    ttl: 15m
    read: [GET /api/jobs, 'GET /api/jobs/{job-id}']
    write: ['PUT /api/jobs/{job-id}']
"""


class Collector:
    """What was sent to /v1/traces."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource |= {attribute.key: attribute.value.string_value for attribute in each.resource.attributes}
            self.spans += [span for scope in each.scope_spans for span in scope.spans]
        return web.Response()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def has(self, number: int) -> None:
        await until(lambda: len(self.spans) >= number)


class Portal:
    """An upstream that notes the heads of what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.status = 200

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request.headers)
        return web.json_response({}, status=self.status)


@contextlib.asynccontextmanager
async def served(handler: Any) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    """A collector, a portal, and a way to start a sidecar between them."""
    collector, portal = Collector(), Portal()
    (tmp_path / "rules.yaml").write_text(RULES)
    async with (
        served(collector.take) as traces,
        served(portal.answer) as port,
        contextlib.AsyncExitStack() as stack,
    ):

        async def started(upstream: str = f"http://127.0.0.1:{port}", **environ: str) -> Running:
            otel = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{traces}", "OTEL_BSP_SCHEDULE_DELAY": "20", **environ
            }  # fmt: skip
            for name, value in otel.items():
                monkeypatch.setenv(name, value)
            settings = load(
                {"SIDECACHE_DEV_AUTH": "1", "SIDECACHE_DRAIN_S": "2", **otel},
                upstream=upstream, rules=tmp_path / "rules.yaml", listen="127.0.0.1:0",
                admin="127.0.0.1:0", profile="development",
            )  # fmt: skip
            return await stack.enter_async_context(running(settings))

        yield collector, portal, started


async def ask(sidecar: Running, path: str, method: str = "GET", **headers: str) -> str:
    """The Cache-Status."""
    head = {"Authorization": f"Bearer {unsigned()}", **headers}
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{sidecar.data_port}{path}"
        async with session.request(method, url, headers=head) as answer:
            await answer.read()
            return answer.headers["Cache-Status"]


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


async def test_a_miss_is_a_server_span_and_a_client_span_below_it_which_the_upstream_hears_of(scene):
    collector, portal, started = scene
    sidecar = await started()
    await ask(sidecar, "/api/jobs/77?secret=s3cret", traceparent=SAMPLED, tracestate="vendor=1")
    await collector.has(2)
    (server,), (client,) = collector.named("GET /api/jobs/{job-id}"), collector.named("GET")
    assert (server.kind, client.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    (asked,) = portal.asked
    assert asked.getall("traceparent") == [f"00-{TRACE}-{client.span_id.hex()}-01"]
    assert asked.getall("tracestate") == ["vendor=1"]
    said = attributes(server)
    assert {name: said[name] for name in said if name != "server.address"} == {
        "http.request.method": "GET", "url.path": "/api/jobs/77", "url.scheme": "http",
        "http.route": "/api/jobs/{job-id}", "http.response.status_code": 200, "sidecache.hit": False,
        "sidecache.stored": True, "sidecache.collapsed": False, "sidecache.reason": "cold",
        "sidecache.forward": "uri-miss", "sidecache.feature": "jobs", "sidecache.tenant": "org_a",
    }  # fmt: skip
    assert attributes(client)["http.response.status_code"] == 200
    assert "s3cret" not in str(collector.spans)
    assert collector.resource["service.name"] == "sidecache"


async def test_hits_have_a_span_each_however_they_are_answered(scene):
    collector, portal, started = scene
    sidecar = await started(OTEL_SERVICE_NAME="portal-cache")
    heads = [SAMPLED, SAMPLED, SAMPLED.replace(PARENT, "a" * 16)]
    said = [await ask(sidecar, "/api/jobs", traceparent=head) for head in ("", *heads)]
    assert [each.startswith("sidecache; hit") for each in said] == [False, True, True, True]
    await collector.has(5)
    hits = [span for span in collector.named("GET /api/jobs") if attributes(span)["sidecache.hit"]]
    assert len(portal.asked) == 1
    assert [span.parent_span_id.hex() for span in hits] == [PARENT, PARENT, "a" * 16]
    assert collector.resource["service.name"] == "portal-cache"


async def test_without_a_traceparent_each_request_begins_a_trace(scene):
    collector, portal, started = scene
    sidecar = await started()
    for number in (1, 2):
        await ask(sidecar, f"/api/jobs/{number}")
    await collector.has(4)
    assert len({span.trace_id for span in collector.spans}) == 2
    assert all(asked["traceparent"].startswith("00-") for asked in portal.asked)


async def test_what_the_client_does_not_sample_is_not_sent_but_handed_on(scene):
    collector, portal, started = scene
    sidecar = await started()
    await ask(sidecar, "/api/jobs/1", traceparent=UNSAMPLED)
    await ask(sidecar, "/api/jobs/2", traceparent=SAMPLED)
    await collector.has(2)
    assert {attributes(span).get("url.path") for span in collector.spans} == {"/api/jobs/2"}
    assert portal.asked[0]["traceparent"].startswith(f"00-{TRACE}-")
    assert portal.asked[0]["traceparent"].endswith("-00")


async def test_a_write_and_its_question_to_the_upstream_are_one_trace(scene):
    collector, _, started = scene
    sidecar = await started()
    await ask(sidecar, "/api/jobs/77", "PUT", traceparent=SAMPLED)
    await collector.has(2)
    (server,), (client,) = collector.named("PUT /api/jobs/{job-id}"), collector.named("PUT")
    assert client.parent_span_id == server.span_id
    assert attributes(server)["sidecache.reason"] == "write"


@pytest.mark.parametrize(("status", "server_error"), [(404, False), (503, True)])
async def test_an_error_is_the_servers_from_500_on_and_the_clients_from_400(scene, status, server_error):
    collector, portal, started = scene
    portal.status = status
    sidecar = await started()
    await ask(sidecar, "/elsewhere", traceparent=SAMPLED)
    await collector.has(2)
    (server,), (client,) = collector.named("GET /elsewhere"), collector.named("GET")
    assert (server.status.code == 2, client.status.code == 2) == (server_error, True)


async def test_an_upstream_that_is_not_there_is_told_by_its_error(scene):
    collector, portal, started = scene
    sidecar = await started(upstream="http://127.0.0.1:1")
    await ask(sidecar, "/nothing", traceparent=SAMPLED)
    await collector.has(2)
    (server,), (client,) = collector.named("GET /nothing"), collector.named("GET")
    assert attributes(client)["error.type"] == "connection_refused"
    assert attributes(server)["sidecache.reason"] == "upstream-failed"
    assert (server.status.code, client.status.code, portal.asked) == (2, 2, [])


async def test_with_tracing_off_traceparent_passes_unchanged(scene):
    collector, portal, started = scene
    sidecar = await started(OTEL_SDK_DISABLED="true")
    await ask(sidecar, "/api/jobs/1", traceparent=SAMPLED, tracestate="vendor=1")
    assert (portal.asked[0]["traceparent"], portal.asked[0]["tracestate"]) == (SAMPLED, "vendor=1")
    assert collector.spans == []


async def test_the_end_does_not_wait_for_a_collector_that_is_gone(scene):
    _, portal, started = scene
    sidecar = await started(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    await ask(sidecar, "/api/jobs/1")
    assert len(portal.asked) == 1
