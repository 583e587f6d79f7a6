"""May the page that a request comes from have the answer? Ours may, an allowed one by CORS, a foreign one never."""

from collections.abc import Collection

from proxy.policy.message import Fields, Request
from proxy.policy.origins import Source, source
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply
from proxy.serving.reserved import Page
from proxy.serving.upstream import Body

_OUTCOME = Outcome(Reason.RESERVED)
_VARY = ("Vary", "Origin")


class Cors:
    """`origins` as browsers write them: https://portal.example.com."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)

    def page(self, methods: tuple[str, ...], answer: Page) -> Page:
        """This page by these methods, for pages that may have it; preflights are answered."""
        allow = ("Allow", ", ".join((*methods, "OPTIONS")))

        async def handle(request: Request, body: Body) -> Reply:
            came_from = source(request, self._origins)
            if came_from is Source.FOREIGN:
                return _refused(403, "This page's origin is not allowed (SIDECACHE_ALLOWED_ORIGINS).", _VARY, body=body)
            if request.method == "OPTIONS":
                reply = _preflight(methods)
            elif request.method in methods:
                reply = await answer(request, body)
            else:
                reply = _refused(405, f"Only {' and '.join(methods)}.", allow, body=body)
            if came_from is Source.ALLOWED:
                reply.fields = reply.fields.plus(
                    ("Access-Control-Allow-Origin", request.fields.get("origin") or ""),
                    ("Access-Control-Allow-Credentials", "true"),
                    ("Access-Control-Expose-Headers", "Retry-After"),
                )
            if self._origins:  # what a browser keeps for one origin is not another's
                reply.fields = reply.fields.plus(_VARY)
            return reply

        return handle


def _refused(status: int, detail: str, *more: tuple[str, str], body: Body) -> Reply:
    fields, said = problem(status, detail, *more)
    return Reply.own(status, fields, said, _OUTCOME, last=body is not None)


def _preflight(methods: tuple[str, ...]) -> Reply:
    fields = (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        ("Access-Control-Allow-Headers", "authorization, last-event-id"), ("Access-Control-Max-Age", "600"),
        ("Cache-Control", "no-store"),
    )  # fmt: skip
    return Reply.own(204, Fields(fields), b"", _OUTCOME)
