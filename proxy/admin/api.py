"""How does the admin port answer? Each request is judged, read and checked before its endpoint sees it."""

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from proxy.admin.access import Actor, Asking, Denied, Gate
from proxy.admin.asked import read
from proxy.admin.audit import Audit
from proxy.admin.cookie import cookie_name
from proxy.admin.endpoint import RAW_BODY, Endpoint
from proxy.admin.openapi import described
from proxy.admin.problems import Refused, answer, problem

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(gate: Gate, audit: Audit, endpoints: Iterable[Endpoint]) -> web.Application:
    """The admin port's application."""
    all_of_them = tuple(endpoints)

    async def openapi(_: object) -> web.Response:
        return answer(document)

    itself = Endpoint("GET", "/openapi.json", openapi, "This document.")
    document = described((*all_of_them, itself))
    app = web.Application(middlewares=[_as_problems], client_max_size=RAW_BODY)
    app.on_response_prepare.append(_guarded)
    for endpoint in (*all_of_them, itself):
        app.router.add_route(endpoint.method, endpoint.path, _judged(endpoint, gate, audit))
        if endpoint.method == "GET":
            app.router.add_route("HEAD", endpoint.path, _judged(endpoint, gate, audit))
    return app


def _judged(endpoint: Endpoint, gate: Gate, audit: Audit) -> _Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await judged(request)
        finally:
            await audit.settled()  # whoever has the answer finds the line

    async def judged(request: web.Request) -> web.StreamResponse:
        actor = gate.judge(_asking(request), endpoint.needs, harmless=endpoint.harmless)
        if isinstance(actor, Denied):
            _note_denial(audit, request, endpoint, actor)
            return problem(actor.status, actor.detail)
        try:
            asked = await read(request, actor, endpoint.known, document=not endpoint.raw, most=endpoint.most)
            return await endpoint.handle(asked)
        except Refused as refused:
            if refused.status in (401, 403):
                _note_denial(audit, request, endpoint, Denied(refused.status, refused.detail, actor))
            return problem(refused.status, refused.detail, field=refused.field)

    return handler


def _asking(request: web.Request) -> Asking:
    headers = request.headers
    return Asking(
        request.remote or "", headers.get("Host"), headers.get("Origin"), headers.get("Authorization"),
        request.cookies.get(cookie_name(request.host)), request.method not in ("GET", "HEAD"),
    )  # fmt: skip


def _note_denial(audit: Audit, request: web.Request, endpoint: Endpoint, denied: Denied) -> None:
    actor = denied.actor or Actor("unknown", None, None, request.remote or "")
    audit.record(
        "denied", actor, result=str(denied.status), tenant=actor.tenant,
        target={"request": f"{endpoint.method} {endpoint.path}"}, reason=denied.detail,
    )  # fmt: skip


async def _guarded(_: web.Request, response: web.StreamResponse) -> None:
    """Nothing here is a page unless it says so, nor may another page frame it or learn where it is."""
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"


@web.middleware
async def _as_problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """What the framework refuses looks like everything else here."""
    try:
        return await handler(request)
    except web.HTTPException as refused:
        made = problem(refused.status, _DETAILS.get(refused.status, refused.reason))
        if "Allow" in refused.headers:
            made.headers["Allow"] = refused.headers["Allow"]
        return made


_DETAILS = {
    404: "There is nothing here; /openapi.json says what there is.",
    405: "This method is not for this path.",
}
