"""What does a refused admin request hear? Problem details (RFC 9457) that name the field that is wrong."""

from http import HTTPStatus

import orjson
from aiohttp import web

from proxy.errors import SidecacheError

_SHOWN = 80


class Refused(SidecacheError):
    """A request to the admin API that is not carried out: the status, why, and the field it is about."""

    def __init__(self, detail: str, *, field: str | None = None, status: int = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.status = status


def shown(value: object) -> str:
    """A value as an answer may repeat it: on one line, in ASCII, not too long."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def problem(status: int, detail: str, *, field: str | None = None) -> web.Response:
    said: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        said["field"] = field
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="sidecache admin"'
    return web.Response(status=status, body=orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE), headers=headers)


def answer(value: object, *, status: int = 200) -> web.Response:
    """A JSON answer that no cache keeps and no browser takes for anything else."""
    return web.Response(
        status=status,
        body=orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE),
        headers={
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )
