"""What is the dashboard made of? One static page and its parts, from this package; it loads nothing from elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from aiohttp import web

from proxy.admin.asked import Asked
from proxy.admin.endpoint import Endpoint
from proxy.admin.problems import Refused

# Nothing but its own files, and no text becomes markup: what a key, a path or a rule is called stays a text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_KINDS = {
    "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml", "txt": "text/plain; charset=utf-8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    kind: str
    tag: str


class Pages:
    """`GET /` and `GET /dashboard/{file}`."""

    def __init__(self) -> None:
        self._files = dict(_read())

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint("GET", "/", self.page, "The dashboard.", harmless=True)
        yield Endpoint(
            "GET", "/dashboard/{file}", self.part, "What the dashboard's page loads.", harmless=True,
            answers={200: "The file.", 304: "The same as before.", 404: "There is no such file."},
        )  # fmt: skip

    async def page(self, asked: Asked) -> web.Response:
        return _answer(asked, self._files["index.html"])

    async def part(self, asked: Asked) -> web.Response:
        found = self._files.get(asked.request.match_info["file"])
        if found is None:
            raise Refused("There is no such file.", status=404)
        return _answer(asked, found)


def _answer(asked: Asked, file: File) -> web.Response:
    same = asked.request.headers.get("If-None-Match") == file.tag
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": file.tag}
    if same:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.content, headers={**headers, "Content-Type": file.kind})


def _read() -> Iterator[tuple[str, File]]:
    for found in (files("proxy.admin") / "dashboard").iterdir():
        kind = _KINDS.get(found.name.rpartition(".")[2])
        if kind is not None:
            content = found.read_bytes()
            yield found.name, File(content, kind, f'"{sha256(content).hexdigest()[:24]}"')
