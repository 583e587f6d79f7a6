"""How does the backend keep values of its own beside the responses? By feature and identifier, under the same rules.

A value lives as long as its feature's rule says, is sealed as it says, and is bound to the feature, to its identifier
and to the feature's list: any write or purge that touches one of them ends it. So a value made from a whole table goes
with every write to it.

Whoever makes a value reads the database first. A purge in between would be lost, were the value stored as of now: so a
read that finds nothing gives a stamp, and a value that is kept under it is refused when something was purged since.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from proxy.admin.access import Actor, Role
from proxy.admin.asked import Asked, duration, each_of, for_all_tenants
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint, text
from proxy.admin.filters import is_public
from proxy.admin.problems import Refused, answer, problem, shown
from proxy.cache.epochs import Epochs
from proxy.cache.purges import Purges
from proxy.cache.tiers import Cache, Found, Missing, Standing
from proxy.live_rules import LiveRules
from proxy.policy.entry import Entry, pack_head
from proxy.policy.key import LIST, Key
from proxy.policy.message import Fields
from proxy.policy.outcome import Reason
from proxy.policy.route import Kind, Route

STAMP = "Sidecache-Stamp"
MOST_AT_ONCE = 256
MAX_ANSWER = 8 << 20
_MAX_TTL = 365 * 86400.0
_PATH = "/api/cache/values/{feature}/{identifier}"

_IDENTIFIER = re.compile(r"(?!h-)[A-Za-z0-9_-]{1,64}", re.ASCII)
_STAMPS = re.compile(r"((?:4c)?[0-9a-f]{32})\.((?:4c)?[0-9a-f]{32})", re.ASCII)
_MEDIA = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[ -~]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is kept, and by whose rule."""

    route: Route
    key: Key
    identifier: str


class Values:
    """`/api/cache/values/{feature}/{identifier}` and `/api/cache/values:batch`."""

    def __init__(
        self, rules: LiveRules, cache: Cache, epochs: Epochs, purges: Purges, audit: Audit, clock: Callable[[], float]
    ) -> None:
        self._rules = rules
        self._cache = cache
        self._epochs = epochs
        self._purges = purges
        self._audit = audit
        self._clock = clock

    def endpoints(self) -> Iterator[Endpoint]:
        whose = {"tenant": "whose value it is; none for public features"}
        needs = (Role.BACKEND,)
        yield Endpoint(
            "GET", _PATH, self.get, "A value, with its Age.", needs, whose,
            answers={200: "The value as it was put.", 404: f"There is none; {STAMP} is for the put that follows."},
        )  # fmt: skip
        yield Endpoint(
            "PUT", _PATH, self.put, f"Keep a value. Send the {STAMP} of the read that found none.", needs,
            {**whose, "ttl": "a shorter life than the rule's, such as 30s"}, raw=True,
            answers={
                204: "Kept.", 404: "The rules know no such feature.", 409: f"Purged since {STAMP} was given.",
                507: "A limit is in the way.",
            },
        )  # fmt: skip
        yield Endpoint(
            "DELETE", _PATH, self.delete, "End a value, and all else that carries its tag.", needs, whose,
            answers={
                204: "Purged.", 202: "Purged here; repeated until the store accepts it.",
                404: "The rules know no such feature.",
            },
        )  # fmt: skip
        item = {"type": "object", "required": ["feature", "identifier"]}
        some = {"type": "array", "minItems": 1, "maxItems": MOST_AT_ONCE, "items": item}
        yield Endpoint(
            "POST", "/api/cache/values:batch", self.batch, "Delete, put and get JSON values, in this order.", needs,
            document={"tenant": text("whose"), "delete": some, "put": some, "get": some},
            answers={200: "What became of each.", 404: "The rules know no such feature."},
        )  # fmt: skip

    async def get(self, asked: Asked) -> web.Response:
        place = self._place(asked)
        found = await self._find(asked.actor, place)
        if not isinstance(found, Entry):
            made = problem(404, f"There is no such value ({found.reason}).")
            if found.stamp is not None:
                made.headers[STAMP] = _stamp_text(found.stamp.hard, found.stamp.soft)
            return made
        headers = {
            "Content-Type": found.content_type or "application/octet-stream", "Cache-Control": "no-store",
            "Age": str(int(found.age_at(self._clock()))), "X-Content-Type-Options": "nosniff",
        }  # fmt: skip
        return web.Response(body=found.body, headers=headers)

    async def put(self, asked: Asked) -> web.Response:
        place = self._place(asked)
        media = asked.request.headers.get("Content-Type", "application/octet-stream")
        if _MEDIA.fullmatch(media) is None:
            raise Refused(f"{shown(media)} is not a media type", field="Content-Type")
        shorter = asked.duration("ttl", _MAX_TTL)
        stamp = asked.request.headers.get(STAMP)
        refused = await self._put(asked.actor, place, asked.body, media, shorter, stamp, "ttl", STAMP)
        if refused is None:
            return web.Response(status=204, headers={"Cache-Control": "no-store"})
        status = 409 if refused is Reason.PURGED else 413 if refused is Reason.TOO_LARGE else 507
        raise Refused(f"Not kept: {refused}.", status=status)

    async def delete(self, asked: Asked) -> web.Response:
        place = self._place(asked)
        if not place.key.space:
            for_all_tenants(asked.actor)
        accepted = await self._end(asked.actor, place)
        return web.Response(status=204 if accepted else 202, headers={"Cache-Control": "no-store"})

    async def batch(self, asked: Asked) -> web.Response:
        actor, tenant = asked.actor, asked.tenant()

        def place(item: Mapping[str, Any], at: str) -> tuple[Place, Mapping[str, Any], str]:
            allowed = {"feature", "identifier", *(("value", "ttl", "stamp") if at.startswith("put") else ())}
            for name in item.keys() - allowed:
                raise Refused("is not known here", field=f"{at}.{shown(name)[1:-1]}")
            return self._placed(tenant, item.get("feature"), item.get("identifier"), f"{at}."), item, at

        # all places are read before anything is done: a mistake in one leaves the others undone
        work = {
            name: each_of(asked.value(name), name, MOST_AT_ONCE, place) if name in asked else []
            for name in ("delete", "put", "get")
        }
        deletes = []
        for found, _, _ in work["delete"]:
            if not found.key.space:
                for_all_tenants(actor)
            deletes.append({**_named(found), "accepted": await self._end(actor, found)})
        puts = [{**_named(found), **await self._put_one(actor, found, item, at)} for found, item, at in work["put"]]
        return answer(
            {"delete": deletes, "put": puts, "get": await self._got(actor, [each[0] for each in work["get"]])}
        )

    async def _put_one(self, actor: Actor, place: Place, item: Mapping[str, Any], at: str) -> dict[str, Any]:
        if "value" not in item:
            raise Refused("is missing", field=f"{at}.value")
        shorter = None if item.get("ttl") is None else duration(item["ttl"], f"{at}.ttl", _MAX_TTL)
        refused = await self._put(
            actor, place, orjson.dumps(item["value"]), "application/json", shorter, item.get("stamp"),
            f"{at}.ttl", f"{at}.stamp",
        )  # fmt: skip
        return {"kept": refused is None, "because": None if refused is None else refused.value}

    async def _got(self, actor: Actor, places: list[Place]) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        size = 0
        for place in places:
            found = await self._find(actor, place)
            if isinstance(found, Entry) and size + len(found.body) <= MAX_ANSWER:
                size += len(found.body)
                told.append({**_named(place), "found": True, "media": found.content_type, "value": _json(found)})
            elif isinstance(found, Entry):
                told.append({**_named(place), "found": False, "because": Reason.TOO_LARGE.value})
            else:
                stamp = None if found.stamp is None else _stamp_text(found.stamp.hard, found.stamp.soft)
                told.append({**_named(place), "found": False, "because": found.reason.value, "stamp": stamp})
        return told

    def _place(self, asked: Asked) -> Place:
        named = asked.request.match_info
        return self._placed(asked.tenant(), named["feature"], named["identifier"], "")

    def _placed(self, tenant: str | None, feature: object, identifier: object, at: str) -> Place:
        if not isinstance(feature, str):
            raise Refused("is not a text", field=f"{at}feature")
        if not isinstance(identifier, str) or _IDENTIFIER.fullmatch(identifier) is None:
            raise Refused(
                f"{shown(identifier)} is not 1 to 64 letters, digits, '_' or '-' (and no h- first)",
                field=f"{at}identifier",
            )
        rules = self._rules.current
        public = is_public(rules, feature, f"{at}feature")
        route = next((each for each in rules.routes if each.feature == feature and each.kind is Kind.READ), None)
        if route is None:
            raise Refused(
                f"{shown(feature)} has no read route: no rule says how long", field=f"{at}feature", status=404
            )
        if not public and tenant is None:
            raise Refused(f"is missing: {feature} is kept for each tenant", field="tenant")
        space = "" if public else tenant or ""
        # no response's key ends so, whatever its path
        name = f"{f'tenant:{space}' if space else 'shared'}:{route.key_name or feature}:{identifier}.d"
        tags = tuple(dict.fromkeys((feature, f"{feature}:{identifier.lower()}", f"{feature}:{LIST}")))
        return Place(route, Key(name, "", space, tags, f"VALUE {feature} {identifier}", ""), identifier)

    async def _find(self, actor: Actor, place: Place) -> Entry | Missing:
        route = place.route
        self._note_sensitive(actor, place, "read")
        found = await self._cache.find(place.key, route.digest, strict=route.strict, critical=route.critical)
        if isinstance(found, Missing):
            return found
        return found.entry if _is_usable(found, self._clock()) else Missing(_why(found), found.stamp)

    async def _put(
        self, actor: Actor, place: Place, body: bytes, media: str, shorter: float | None, stamp: object,
        ttl_field: str, stamp_field: str,
    ) -> Reason | None:  # fmt: skip
        route, key = place.route, place.key
        if not key.space:
            for_all_tenants(actor)  # what is public would be everybody's
        ttl = route.ttl if shorter is None else min(shorter, route.ttl if route.ttl is not None else shorter)
        if ttl is None:
            raise Refused(f"is needed: the rule of {route.feature} leaves it to the origin", field=ttl_field)
        if len(body) > route.max_body:
            return Reason.TOO_LARGE
        if stamp is None:
            now_known = await self._epochs.current(key.space, key.tags)
            hard, soft = now_known.hard, now_known.soft
        else:
            hard, soft = _stamps(stamp, stamp_field)
            known = await self._epochs.current(key.space, key.tags)
            if (known.hard, known.soft) != (hard, soft) and not known.local:
                return Reason.PURGED
        self._note_sensitive(actor, place, "write")
        entry = _entry(place, body, media, self._clock(), ttl, hard, soft)
        return self._cache.put(entry, quota=route.quota)

    async def _end(self, actor: Actor, place: Place) -> bool:
        purge = {place.key.space: (place.key.tags[1],)}
        accepted = await self._epochs.advance(purge)
        self._purges.note(actor.name, purge, accepted=accepted)
        return accepted

    def _note_sensitive(self, actor: Actor, place: Place, what: str) -> None:
        if place.route.sensitive:
            self._audit.record(
                f"sensitive-{what}", actor, tenant=place.key.space or None,
                target={"feature": place.route.feature, "identifier": place.identifier},
            )  # fmt: skip


def _entry(place: Place, body: bytes, media: str, now: float, ttl: float, hard: bytes, soft: bytes) -> Entry:
    route, key = place.route, place.key
    return Entry(
        key=key.full, tenant=key.space, request=key.request, policy=route.digest, status=200,
        head=pack_head(Fields([("Content-Type", media)])), body=body, stored_at=now, age=0.0, fresh_until=now + ttl,
        grace_until=now + ttl, error_until=now + ttl, content_type=media, must_revalidate=True, tags=key.tags,
        epochs_hard=hard, epochs_soft=soft, compress=route.compress, sensitive=route.sensitive, gzip=route.gzip,
        encrypt=route.encrypt,
    )  # fmt: skip


def _is_usable(found: Found, now: float) -> bool:
    return found.standing is Standing.VALID and now < found.entry.fresh_until


def _why(found: Found) -> Reason:
    if found.standing is Standing.UNPROVEN:
        return Reason.STORE_UNAVAILABLE
    return Reason.PURGED if found.standing is Standing.SOFT_PURGED else Reason.EXPIRED


def _stamp_text(hard: bytes, soft: bytes) -> str:
    return f"{hard.hex()}.{soft.hex()}"


def _stamps(stamp: object, field: str) -> tuple[bytes, bytes]:
    found = _STAMPS.fullmatch(stamp) if isinstance(stamp, str) else None
    if found is None:
        raise Refused(f"{shown(stamp)} is not a stamp that was given out here", field=field)
    return bytes.fromhex(found[1]), bytes.fromhex(found[2])


def _named(place: Place) -> dict[str, Any]:
    return {"feature": place.route.feature, "identifier": place.identifier}


def _json(entry: Entry) -> Any:
    """The value; None also for what was put alone and is no JSON: `media` tells."""
    try:
        return orjson.loads(entry.body)
    except ValueError:
        return None
