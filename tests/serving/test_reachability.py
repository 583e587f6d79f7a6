"""An upstream that comes and goes: each change is reported once, each request gets its own answer."""

from collections.abc import Mapping
from typing import Any

import pytest

from proxy.errors import UpstreamError
from proxy.serving.reachability import Watched
from tests.builders import request
from tests.serving.world import ScriptedUpstream


class Scene:
    def __init__(self) -> None:
        self.inner = ScriptedUpstream()
        self.reports: list[tuple[str, Mapping[str, object]]] = []
        self.upstream = Watched(self.inner, "http://portal", lambda *report: self.reports.append(report))

    async def ask(self, answer: Any = b"ok") -> str:
        self.inner.answer = lambda request, number: answer
        try:
            stream = await self.upstream.fetch(request("/api/jobs"), None)
        except UpstreamError as error:
            return error.kind
        stream.close()
        return str(stream.response.status)

    def events(self) -> list[str]:
        return [event for event, _ in self.reports]


REFUSED = UpstreamError("connection_refused", delivered=False)


async def test_an_upstream_that_answers_is_nothing_to_report():
    scene = Scene()
    assert [await scene.ask(), await scene.ask()] == ["200", "200"]
    assert scene.reports == []


async def test_losing_it_and_having_it_back_is_reported_once_each():
    scene = Scene()
    assert [await scene.ask(REFUSED) for _ in range(3)] == ["connection_refused"] * 3
    assert scene.reports == [("upstream-unreachable", {"upstream": "http://portal", "error": "connection_refused"})]
    assert [await scene.ask() for _ in range(3)] == ["200"] * 3
    assert scene.events() == ["upstream-unreachable", "upstream-reachable"]
    await scene.ask(REFUSED)
    assert scene.events() == ["upstream-unreachable", "upstream-reachable", "upstream-unreachable"]


@pytest.mark.parametrize("kind", ["http_response_timeout", "connection_terminated", "http_protocol_error"])
async def test_a_request_that_fails_on_the_other_side_says_nothing_about_the_way_there(kind):
    scene = Scene()
    assert await scene.ask(UpstreamError(kind)) == kind
    assert scene.reports == []


@pytest.mark.parametrize("kind", ["connection_limit_reached", "http_request_error"])
async def test_a_request_that_failed_here_says_nothing_about_the_way_there(kind):
    scene = Scene()
    assert await scene.ask(UpstreamError(kind, delivered=False)) == kind
    assert scene.reports == []
