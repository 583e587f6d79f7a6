"""How does the backend publish an event by itself? `POST /api/events`, under a name that the rules know."""

from collections.abc import Callable, Iterator
from secrets import token_hex

import orjson
from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint, text
from proxy.admin.problems import Refused, answer, shown
from proxy.events.audience import TENANT
from proxy.events.event import Event
from proxy.events.publish import Publisher, Result
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.rules.source import suggestion

_PATIENCE = 1.0  # seconds: whoever asks here wants to know
_STATUS = {Result.STORED: 201, Result.REPEATED: 200, Result.QUEUED: 202, Result.TOO_MANY: 429, Result.FULL: 503}
_REFUSALS = {
    Result.TOO_MANY: "There are too many events of this tenant.",
    Result.FULL: "Too many events wait for the store.",
}


class Events:
    """`id` is the publisher's own; the same one again is the same event."""

    def __init__(
        self, rules: LiveRules, publisher: Publisher, audit: Audit, keys: Keyring, clock: Callable[[], float]
    ) -> None:
        self._rules = rules
        self._publisher = publisher
        self._audit = audit
        self._keys = keys
        self._clock = clock

    def endpoints(self) -> Iterator[Endpoint]:
        most = self._publisher.most_data
        yield Endpoint(
            "POST", "/api/events", self.publish, "Publish an event.", (Role.OPERATOR, Role.BACKEND),
            document={
                "tenant": text("whose event it is"),
                "event": text("its name, which a `publish` or `events` of the rules has"),
                "to": text("tenant (everybody of it), role:<permission> or user:<id>"),
                "data": {"type": "object", "description": f"what it carries, at most {most} bytes"},
                "id": text("the publisher's own: the same one again is the same event"),
            },
            answers={
                200: "It was published before.", 201: "It is in the mailbox.",
                202: "It will be in the mailbox as soon as the store takes it.",
                429: "Too many events of this tenant.", 503: "Too many events wait for the store.",
            },
        )  # fmt: skip

    async def publish(self, asked: Asked) -> web.Response:
        tenant, name = asked.tenant(), asked.required("event")
        if tenant is None:
            raise Refused("is missing", field="tenant")
        known = self._rules.current.events
        if name not in known:
            raise Refused(f"the rules know no event {shown(name)}{suggestion(name, known)}", field="event")
        own = asked.text("id", limit=255)
        id = token_hex(16) if own is None else self._keys.digest("event by backend", name, own)
        event = Event(id, name, _audience(asked), self._clock(), _data(asked, self._publisher.most_data))
        result = await self._publisher.publish(tenant, event, patience=_PATIENCE)
        said = {"event": name, "result": result.value}
        self._audit.record("event-published", asked.actor, tenant=tenant, target=said)
        if result in _REFUSALS:
            raise Refused(_REFUSALS[result], status=_STATUS[result])
        return answer({"id": id, "result": result.value}, status=_STATUS[result])


def _audience(asked: Asked) -> str:
    to = asked.text("to", limit=300) or TENANT
    kind, _, who = to.partition(":")
    if to != TENANT and (kind not in ("role", "user") or not who):
        raise Refused(f"{shown(to)} is not tenant, role:<permission> or user:<id>", field="to")
    return to


def _data(asked: Asked, most: int) -> bytes:
    value = asked.value("data") if "data" in asked else {}
    if not isinstance(value, dict):
        raise Refused("is not an object", field="data")
    data = orjson.dumps(value)
    if len(data) > most:
        raise Refused(f"is larger than {most} bytes: publish where it is to be had instead", field="data")
    return data
