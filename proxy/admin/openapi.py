"""How is the admin API described to programs? An OpenAPI 3.1 document, made from the endpoints themselves."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from proxy import __version__
from proxy.admin.endpoint import Endpoint

_PARAMETER = re.compile(r"\{([a-z_]+)(?::[^}]*)?\}")
_PROBLEM = "#/components/schemas/Problem"


def described(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(_PARAMETER.sub(r"{\1}", endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sidecache admin API", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM_SCHEMA},
            "securitySchemes": {"token": _TOKEN, "session": _SESSION},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _identifier(endpoint),
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
              for name in _PARAMETER.findall(endpoint.path)),
            *({"name": name, "in": "query", **_schema(said)} for name, said in endpoint.query.items()),
        ],
        "responses": {str(status): response for status, response in _responses(endpoint)},
    }  # fmt: skip
    if endpoint.needs:
        described["security"] = [{"token": []}, {"session": []}]
        described["description"] = f"Needs the role {' or '.join(endpoint.needs)}."
    if endpoint.raw:
        described["requestBody"] = {"content": {"*/*": {"schema": {}}}}
    elif endpoint.document is not None:
        schema = {"type": "object", "properties": dict(endpoint.document), "additionalProperties": False}
        described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return described


def _schema(said: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a field of the query: of what has no schema, any text."""
    if isinstance(said, str):
        return {"description": said, "schema": {"type": "string"}}
    return {"description": said["description"], "schema": {**said}}


def _identifier(endpoint: Endpoint) -> str:
    words = re.findall(r"[a-z]+", _PARAMETER.sub(r"\1", endpoint.path).removeprefix("/api/"))
    return "-".join((endpoint.method.lower(), *words))


def _responses(endpoint: Endpoint) -> Iterable[tuple[int, Mapping[str, Any]]]:
    for status, meaning in endpoint.answers.items():
        yield status, {"description": meaning} if status < 400 else _refusal(meaning)
    refusals = [400, 403, 413, 415, *([401] if endpoint.needs else [])]
    for status in refusals:
        if status not in endpoint.answers:
            yield status, _refusal(HTTPStatus(status).phrase)


def _refusal(meaning: str) -> Mapping[str, Any]:
    return {"description": meaning, "content": {"application/problem+json": {"schema": {"$ref": _PROBLEM}}}}


_TOKEN = {"type": "http", "scheme": "bearer", "description": "Made by `sidecache keygen --admin NAME ROLE`."}

_SESSION = {
    "type": "apiKey", "in": "cookie", "name": "sidecache-9900",
    "description": "Made by /api/login and named for the port. A change needs our own Origin beside it.",
}  # fmt: skip

_PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457. `field` names what is wrong in the request.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
    },
}
