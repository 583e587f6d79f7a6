"""How does the portal read and answer? JSON with validators, problem+json for everything it refuses (RFC 9457)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import orjson
from aiohttp import ETag, hdrs, web
from pydantic import BaseModel, Field, ValidationError

M = TypeVar("M", bound=BaseModel)


class Problem(Exception):
    """A refusal: what the client gets instead of an answer."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def response(self) -> web.Response:
        members: dict[str, Any] = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            members["errors"] = self.errors
        return web.Response(
            body=encode(members), status=self.status, headers=self.headers, content_type="application/problem+json"
        )


class Paging(BaseModel):
    page: Annotated[int, Field(ge=1, le=10_000)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20

    @property
    def window(self) -> dict[str, int]:
        return {"limit": self.per_page, "offset": (self.page - 1) * self.per_page}


def encode(data: object) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)


def etag_of(data: object) -> str:
    """A strong validator: equal bytes, equal tag (RFC 9110 8.8.3)."""
    return blake2b(encode(data), digest_size=12).hexdigest()


def answer(
    request: web.Request,
    data: object,
    *,
    modified: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A representation, or 304 when the client's own copy is current (RFC 9110 13.2.2)."""
    tag = etag_of(data)
    current = request.method in ("GET", "HEAD") and _is_current(request, tag, modified)
    response = (
        web.Response(status=304, headers=headers)
        if current
        else web.Response(body=encode(data), status=status, headers=headers, content_type="application/json")
    )
    response.etag = tag
    response.last_modified = modified
    return response


def _is_current(request: web.Request, tag: str, modified: int | None) -> bool:
    if hdrs.IF_NONE_MATCH in request.headers:
        return any(known.value in (tag, "*") for known in request.if_none_match or ())
    since = request.if_modified_since
    return since is not None and modified is not None and datetime.fromtimestamp(modified, UTC) <= since


def require_current(preconditions: tuple[ETag, ...] | None, data: object) -> None:
    """412 when the client meant another version than the stored one (RFC 9110 13.1.1)."""
    if preconditions is None:
        return
    tag = etag_of(data)
    if not any(known.value == "*" or (known.value == tag and not known.is_weak) for known in preconditions):
        raise Problem(412, "the stored version is another one: read it again")


def number_in_path(request: web.Request, name: str, prefix: str) -> int:
    """The number in `job_77`. Anything else names nothing: 404, as for another organisation's ids."""
    found = re.fullmatch(rf"{prefix}_([1-9][0-9]{{0,14}})", request.match_info[name])
    if found is None:
        raise missing(prefix)
    return int(found[1])


def missing(what: str) -> Problem:
    return Problem(404, f"there is no such {what} in your organisation")


def refused_field(field: str, message: str) -> Problem:
    return Problem(422, f"invalid: {field}", errors=[{"field": field, "message": message}])


def from_query(model: type[M], request: web.Request) -> M:
    return validated(model, dict(request.query), status=400)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body."""
    if request.content_type != "application/json":
        raise Problem(415, "send application/json")
    try:
        data = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise Problem(400, "the body must be a JSON object")
    return data


def validated(model: type[M], data: Mapping[str, Any], *, status: int = 422) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, item["loc"])) or "body", "message": item["msg"].removeprefix("Value error, ")}
            for item in error.errors()
        ]
        fields = ", ".join(sorted({item["field"] for item in errors}))
        raise Problem(status, f"invalid: {fields}", errors=errors) from None
