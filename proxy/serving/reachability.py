"""Does the upstream answer? Said once when it stops and once when it is back; never a reason not to run."""

from collections.abc import Callable, Mapping

from proxy.errors import UpstreamError
from proxy.policy.message import Request
from proxy.serving.connection import Interim
from proxy.serving.upstream import Body, Stream, Upstream

Report = Callable[[str, Mapping[str, object]], None]

_OURS = frozenset({"connection_limit_reached", "http_request_error"})  # say nothing about the upstream


class Watched:
    """An upstream whose changes between reachable and not are reported: each once, however many requests fail."""

    def __init__(self, upstream: Upstream, url: str, report: Report) -> None:
        self._upstream = upstream
        self._url = url
        self._report = report
        self._reachable = True  # nothing bad is known before it was asked

    async def fetch(self, request: Request, body: Body, *, interim: Interim | None = None) -> Stream:
        try:
            stream = await self._upstream.fetch(request, body, interim=interim)
        except UpstreamError as error:
            self.failed(error)
            raise
        self.answered()
        return stream

    def answered(self) -> None:
        if not self._reachable:
            self._reachable = True
            self._report("upstream-reachable", {"upstream": self._url})

    def failed(self, error: UpstreamError) -> None:
        # what failed was the way there
        if self._reachable and not error.delivered and error.kind not in _OURS:
            self._reachable = False
            self._report("upstream-unreachable", {"upstream": self._url, "error": error.kind})
