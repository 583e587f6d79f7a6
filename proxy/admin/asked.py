"""What does a request to the admin API ask for? Fields of its query and JSON body, each checked and named if wrong."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic_core import PydanticCustomError

from proxy.admin.access import Actor
from proxy.admin.problems import Refused, shown
from proxy.rules.values import seconds

TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
MAX_DOCUMENT = 1 << 20

T = TypeVar("T")


class Asked:
    """One request that was let in: who asks, and its fields. A field may be in the query or in the body."""

    def __init__(self, request: web.Request, actor: Actor, fields: Mapping[str, Any], body: bytes = b"") -> None:
        self.request = request
        self.actor = actor
        self.body = body  # where it is no JSON document of fields
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def value(self, name: str) -> Any:
        return self._fields.get(name)

    def text(self, name: str, *, limit: int = 1024) -> str | None:
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
            raise Refused(f"{shown(value)} is not a text of 1 to {limit} printable characters", field=name)
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise Refused("is missing", field=name)
        return value

    def flag(self, name: str) -> bool:
        value = self._fields.get(name, False)
        if isinstance(value, str) and value in ("true", "false", "1", "0"):
            return value in ("true", "1")
        if not isinstance(value, bool):
            raise Refused(f"{shown(value)} is not true or false", field=name)
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self._fields.get(name, default)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Refused(f"{shown(value)} is not a whole number from {least} to {most}", field=name)
        return value

    def texts(self, name: str, *, most: int = 256) -> tuple[str, ...]:
        """A list; in a query the values are separated by commas."""
        value = self._fields.get(name)
        if value is None:
            return ()
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list) or not 0 < len(listed) <= most:
            raise Refused(f"is not a list of 1 to {most} texts", field=name)
        for each in listed:
            if not isinstance(each, str) or not 0 < len(each) <= 300 or not each.isprintable():
                raise Refused(f"{shown(each)} is not a text of 1 to 300 printable characters", field=name)
        return tuple(dict.fromkeys(listed))

    def duration(self, name: str, most: float) -> float | None:
        value = self._fields.get(name)
        return None if value is None else duration(value, name, most)

    def tenant(self, name: str = "tenant") -> str | None:
        """The tenant it is about. A token of one tenant speaks of that one, named or not, and of no other."""
        return own_tenant(self.actor, self._fields.get(name), name)

    def chosen(self, name: str, allowed: Iterable[str], default: str) -> str:
        value = self._fields.get(name, default)
        if value not in tuple(allowed):
            raise Refused(f"{shown(value)} is not one of {', '.join(allowed)}", field=name)
        return str(value)


def duration(value: object, name: str, most: float) -> float:
    try:
        found = seconds(value)
    except PydanticCustomError as error:
        raise Refused(f"{shown(value)} {error.message()}", field=name) from None
    if not 0 < found <= most:
        raise Refused(f"{shown(value)} is not more than 0 and at most {int(most)}s", field=name)
    return found


def own_tenant(actor: Actor, value: object, field: str) -> str | None:
    if value is None:
        return actor.tenant
    if not isinstance(value, str) or TENANT.fullmatch(value) is None:
        raise Refused(f"{shown(value)} is not a tenant: 1 to 64 letters, digits, '_' or '-'", field=field)
    if actor.tenant not in (None, value):
        raise Refused(f"{actor.name} is of another tenant", field=field, status=403)
    return value


def for_all_tenants(actor: Actor) -> None:
    """Refuse a token of one tenant where what it asks for touches the others too."""
    if actor.tenant is not None:
        raise Refused(f"This concerns every tenant, and {actor.name} is of one only.", status=403)


async def read(request: web.Request, actor: Actor, known: Iterable[str], *, document: bool, most: int) -> Asked:
    """The fields of a request, whose body has `most` bytes; with `document` it is JSON and holds fields too."""
    fields: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        fields[name] = values[0] if len(values) == 1 else values
    body = await _body(request, most) if request.can_read_body else b""
    if document and body:
        for name, value in _members(body, request).items():
            if name in fields:
                raise Refused("is in the query and in the body; keep one", field=name)
            fields[name] = value
    allowed = tuple(known)
    for name in fields:
        if name not in allowed:
            raise Refused(f"is not known here; known: {', '.join(allowed) or 'none'}", field=_name(name))
    return Asked(request, actor, fields, b"" if document else body)


async def _body(request: web.Request, most: int) -> bytes:
    """As it was sent, or unpacked where it says so: what counts is how much comes out."""
    body = bytearray()
    if (request.content_length or 0) <= most:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > most:
                break
        else:
            return bytes(body)
    raise Refused(f"The body is larger than {most} bytes.", status=413)


def _members(body: bytes, request: web.Request) -> dict[str, Any]:
    # what a page of another origin may send without asking first is never taken for JSON
    if request.content_type != "application/json":
        raise Refused("A body must be application/json.", status=415)
    try:
        value = orjson.loads(body)
    except ValueError:
        raise Refused("The body is no JSON.") from None
    if not isinstance(value, dict):
        raise Refused("The body is not a JSON object.")
    return {name: each for name, each in value.items() if each is not None}


def _name(name: str) -> str:
    return name if re.fullmatch(r"[!-~]{1,64}", name) else shown(name)


def each_of(values: object, field: str, most: int, make: Callable[[Mapping[str, Any], str], T]) -> list[T]:
    """What `make` makes of each object in a list; it gets the place of each (`events[3]`) for its complaints."""
    if not isinstance(values, list) or not 0 < len(values) <= most:
        raise Refused(f"is not a list of 1 to {most} objects", field=field)
    made = []
    for index, each in enumerate(values):
        place = f"{field}[{index}]"
        if not isinstance(each, dict):
            raise Refused("is not an object", field=place)
        made.append(make(each, place))
    return made
