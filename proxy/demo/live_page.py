"""What do events and reports look like in a page? One that shows both live, through a sidecar before the portal."""

from pathlib import Path

from aiohttp import web

routes = web.RouteTableDef()

_FOLDER = Path(__file__).parent / "page"
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"


@routes.get("/_demo/live")
async def page(request: web.Request) -> web.Response:
    return _file("index.html", "text/html", {"Content-Security-Policy": _POLICY})


@routes.get("/_demo/live.js")
async def script(request: web.Request) -> web.Response:
    return _file("live.js", "text/javascript", {"Cache-Control": "no-cache"})


@routes.get("/_demo/live.css")
async def style(request: web.Request) -> web.Response:
    return _file("live.css", "text/css", {"Cache-Control": "no-cache"})


def _file(name: str, kind: str, headers: dict[str, str]) -> web.Response:
    text = (_FOLDER / name).read_text("utf-8")
    return web.Response(text=text, content_type=kind, headers={**headers, "X-Content-Type-Options": "nosniff"})
