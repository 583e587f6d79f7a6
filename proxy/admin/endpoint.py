"""What is one operation of the admin API? Its path, who may use it, its fields, what it answers: one value for all."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import MAX_DOCUMENT, Asked

Handle = Callable[[Asked], Awaitable[web.StreamResponse]]

OPEN_BODY = 64 << 10
RAW_BODY = 16 << 20

_TEXT: Mapping[str, Any] = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The router, the checks and the OpenAPI document are all made from this."""

    method: str
    path: str
    handle: Handle
    summary: str
    needs: tuple[Role, ...] = ()  # any one of them; none: everybody who may reach the port
    query: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)  # its fields: a meaning or a schema
    document: Mapping[str, Mapping[str, Any]] | None = None  # the JSON body's fields, with their schemas
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "The answer."})
    raw: bool = False  # its body is kept as it is
    harmless: bool = False  # the same for everybody, and it tells nothing of anybody

    @property
    def most(self) -> int:
        """Bytes of a body: what anybody may send is small."""
        return OPEN_BODY if not self.needs else RAW_BODY if self.raw else MAX_DOCUMENT

    @property
    def known(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.query, *(self.document or {}))))


def text(meaning: str, **more: Any) -> Mapping[str, Any]:
    return {**_TEXT, "description": meaning, **more}


def number(meaning: str, least: int, most: int) -> Mapping[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, "description": meaning}


def chosen(meaning: str, allowed: Iterable[str]) -> Mapping[str, Any]:
    return text(meaning, enum=list(allowed))


def flag(meaning: str) -> Mapping[str, Any]:
    return {"type": "boolean", "description": meaning}


def texts(meaning: str) -> Mapping[str, Any]:
    return {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 256, "description": meaning}
