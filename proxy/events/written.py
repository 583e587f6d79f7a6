"""Which event does a write publish? Data by references of its rule, an audience, and an id that repeats with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.events.audience import TENANT
from proxy.events.event import Event
from proxy.policy.agreement import ABSENT, MAX_USER
from proxy.policy.identity import Identity
from proxy.policy.message import Request, Response
from proxy.rules.document import Publish
from proxy.rules.references import References

MAX_DATA = 8 << 10  # bytes, unless it is said otherwise
_MAX_KEY = 255
_MAX_PLACE = 2048


@dataclass(frozen=True, slots=True)
class Written:
    """The event, or None when it has nobody to go to. `missing`: names of its data that the exchange does not have."""

    event: Event | None
    missing: tuple[str, ...] = ()
    referred: bool = False  # its data was too large


def written(
    publish: Publish, request: Request, response: Response, named: References, *, now: float, id: str,
    most: int = MAX_DATA,
) -> Written:  # fmt: skip
    """What this rule makes of one write. `id` is a new one, or that of `repeating_id`.

    `most`: bytes of data; more is told as a reference.
    """
    to = _audience(publish.to, named)
    if to is None:
        return Written(None)
    found = {name: named.value(reference) for name, reference in publish.data.items()}
    missing = tuple(name for name, value in found.items() if value is ABSENT)
    data = orjson.dumps({name: value for name, value in found.items() if value is not ABSENT})
    referred = len(data) > most
    if referred:
        data = orjson.dumps({"ref": _place(request, response)})
    return Written(Event(id, publish.event, to, now, data), missing, referred)


def repeating_id(
    publish: Publish, request: Request, response: Response, identity: Identity, named: References,
    digest: Callable[..., str],
) -> str | None:  # fmt: skip
    """An id that a repetition of the same submission has as well; None: nothing would tell it as one."""
    key = request.fields.get("idempotency-key")
    if key is not None and 0 < len(key) <= _MAX_KEY:
        return digest("event by key", publish.event, request.path, identity.user or "", key)
    made = named.value("response.id") if response.status == 201 else ABSENT
    if isinstance(made, str | int) and not isinstance(made, bool):
        return digest("event by response", publish.event, str(made))
    return None


def _audience(to: str, named: References) -> str | None:
    if to == TENANT or to.startswith("role:"):
        return to
    user: Any = named.value(to.removeprefix("user:"))
    return f"user:{user}" if isinstance(user, str) and 0 < len(user) <= MAX_USER else None


def _place(request: Request, response: Response) -> str:
    """Where the whole of it is to be had: what the write made, or what it was about."""
    location = response.fields.get("location")
    return (location if location is not None and location.startswith("/") else request.path)[:_MAX_PLACE]
