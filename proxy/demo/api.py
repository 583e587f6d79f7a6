"""What is the portal, seen from outside? All routes, what each request goes through, and a page that explains it."""

from collections import Counter
from collections.abc import AsyncIterator

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from proxy.demo import analytics, applications, companies, issuer, jobs, live, live_page, organization, search
from proxy.demo.database import DATABASE, SPENT, Database
from proxy.demo.issuer import ISSUER, Issuer
from proxy.demo.live import HUB, Hub
from proxy.demo.replies import Problem, encode

_MOST_COUNTED = 10_000  # distinct method and path pairs

COUNTS = web.AppKey("COUNTS", Counter[str])

routes = web.RouteTableDef()


def make(database: Database, signer: Issuer, *, tick: float = 1.0) -> web.Application:
    """The application. It closes the database when it ends; `tick` is the beat of the live routes, in seconds."""
    app = web.Application(middlewares=[_count, _refuse])
    app[DATABASE], app[ISSUER], app[HUB], app[COUNTS] = database, signer, Hub(tick), Counter()
    for module in (issuer, organization, jobs, applications, companies, search, analytics, live, live_page):
        app.add_routes(module.routes)
    app.add_routes(routes)
    app.on_response_prepare.append(_finish)
    app.on_shutdown.append(_end_streams)
    app.cleanup_ctx.append(_close_database)
    return app


@web.middleware
async def _count(request: web.Request, handler: Handler) -> web.StreamResponse:
    counts, path = request.app[COUNTS], request.rel_url.raw_path
    name = f"{request.method} {path}"
    if not path.startswith("/_demo/"):
        counts[name if name in counts or len(counts) < _MOST_COUNTED else "other"] += 1
    return await handler(request)


@web.middleware
async def _refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPError as error:  # aiohttp's own: no such route, another method, too large
        kept = {name: value for name, value in error.headers.items() if name == hdrs.ALLOW}
        return Problem(error.status, error.reason, headers=kept).response()


async def _finish(request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "demo-portal"
    if SPENT in request:
        response.headers["Server-Timing"] = f"db;dur={request[SPENT] * 1000:.1f}"


async def _end_streams(app: web.Application) -> None:
    app[HUB].close()


async def _close_database(app: web.Application) -> AsyncIterator[None]:
    yield
    app[DATABASE].close()


@routes.get("/_demo/requests")
async def read_counts(request: web.Request) -> web.Response:
    """How many requests have arrived here, so that one can see what a cache in front kept away."""
    counts = request.app[COUNTS]
    body = encode({"total": counts.total(), "requests": dict(sorted(counts.items()))})
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


@routes.delete("/_demo/requests")
async def reset_counts(request: web.Request) -> web.Response:
    request.app[COUNTS].clear()
    return web.Response(status=204)


@routes.get("/")
async def page(request: web.Request) -> web.Response:
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return web.Response(text=_PAGE, content_type="text/html", headers=policy)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Demo portal</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
code{font-size:.9em}</style>
<h1>Demo portal</h1>
<p>A small employer portal with two organisations, <code>org_acme</code> and <code>org_globex</code>. It knows nothing
of caches: its queries take the time they take (see <code>Server-Timing</code>).</p>
<p>Every <code>/api</code> route wants a bearer token: <code>POST /oauth/token</code> with <code>org</code>,
and if you like <code>user</code> (an e-mail address), <code>permissions</code> and <code>expires_in</code>; or take the
ready-made header of <code>/_demo/acme</code> or <code>/_demo/globex</code>. The keys that verify it:
<a href="/.well-known/jwks.json"><code>/.well-known/jwks.json</code></a>.</p>
<ul>
<li><code>GET|POST /api/jobs</code> (<code>status</code>, <code>location</code>, <code>page</code>,
<code>per_page</code>), <code>GET|PUT|PATCH|DELETE /api/jobs/{job-id}</code></li>
<li><code>GET|POST /api/jobs/{job-id}/applications</code></li>
<li><code>GET /api/companies</code>, <code>GET|PUT|PATCH /api/companies/{company-id}</code></li>
<li><code>GET|POST /api/search</code> (<code>q</code>, <code>location</code>, <code>sort</code>, <code>page</code>)</li>
<li><code>GET /api/analytics/summary|funnel|top-jobs</code></li>
<li><code>GET /api/organizations/current</code>, <code>/api/me</code>, <code>/api/members</code>,
<code>GET|PUT|DELETE /api/members/{user-id}/roles</code></li>
<li><code>GET /auth/logout</code>, <code>POST /api/logout</code></li>
<li><code>GET /api/live</code> (WebSocket), <code>GET /api/stream</code> (Server-Sent Events)</li>
<li><a href="/_demo/live"><code>GET /_demo/live</code></a>: a page that shows new applications and reports as they come,
when it is opened through a sidecar</li>
<li><a href="/_demo/requests"><code>GET /_demo/requests</code></a>: how many requests have arrived here
(<code>DELETE</code> starts again)</li>
</ul>
</html>
"""
