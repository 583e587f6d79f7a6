"""Why is this stale, why is it not cached? What the rules say of a request, and what is kept and known of it now."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked, own_tenant
from proxy.admin.endpoint import Endpoint, flag, text
from proxy.admin.facts import facts
from proxy.admin.problems import Refused, answer, shown
from proxy.admin.sight import Seen, Sight
from proxy.bypasses import Bypasses
from proxy.cache.purges import Purged
from proxy.cache.tiers import Cache, Standing
from proxy.live_rules import LiveRules
from proxy.policy.entry import Entry
from proxy.policy.key import Key, Keyring
from proxy.policy.outcome import Reason
from proxy.policy.route import Route
from proxy.rules.advice import advise
from proxy.rules.explain import Caller, explain, request_of
from proxy.telemetry.traffic import Traffic, unmatched_writes

_REQUEST = re.compile(r"[A-Z]{1,20} /[!-~]{0,8000}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_MOST_VARIANTS = 5
_MOST_REASONS = 10
_MOST_PURGES = 5
_MADE_BY_US = frozenset({"authorization", "cookie"})  # `as` says who asks; no token has to be shown here

_STANDINGS = {
    Standing.VALID: "valid",
    Standing.SOFT_PURGED: "soft-purged",
    Standing.UNPROVEN: "unproven",
}


class Explaining:
    """`POST /api/cache/explain`. `home`: the one host name that makes no variant of a key."""

    def __init__(
        self,
        rules: LiveRules,
        cache: Cache,
        sight: Sight,
        traffic: Traffic,
        bypasses: Bypasses,
        *,
        keys: Keyring,
        home: str | None,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._cache = cache
        self._sight = sight
        self._traffic = traffic
        self._bypasses = bypasses
        self._keys = keys
        self._home = home
        self._clock = clock

    def endpoints(self) -> Iterator[Endpoint]:
        caller = {
            "type": "object",
            "description": "who asks, as a verified token would say it",
            "properties": {
                "org_id": text("the tenant"), "sub": text("the user"),
                "permissions": {"type": "array", "items": {"type": "string"}},
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "additionalProperties": False,
        }  # fmt: skip
        yield Endpoint(
            "POST", "/api/cache/explain", self.explain, "Why would this request be a hit, a miss, a bypass?",
            (Role.VIEWER,),
            document={
                "request": text("METHOD /path?query"),
                "as": caller,
                "live": flag("what is kept and known now, too (true)"),
            },
        )  # fmt: skip

    async def explain(self, asked: Asked) -> web.Response:
        line = asked.text("request", limit=9000)
        if line is None or _REQUEST.fullmatch(line) is None:
            raise Refused("is not a request such as GET /api/jobs/77", field="request")
        rules = self._rules.current
        caller = _caller(asked)
        request = request_of(line, caller, rules.identity)
        explained = explain(rules, request, caller, keys=self._keys, home=self._home)
        told = explained.facts()
        if "live" in asked and not asked.flag("live"):
            return answer(told)
        seen = await self._sight.all(purges=True)
        if explained.route is not None and explained.key is not None:
            told |= await self._now(explained.route, explained.key, seen)
        if asked.actor.tenant is None:  # these are counted over all tenants
            told |= self._counted(request.method, request.path, seen)
        return answer(told)

    async def _now(self, route: Route, key: Key, seen: Seen) -> dict[str, Any]:
        found, standing = await self._cache.inspect(key, route.digest)
        told: dict[str, Any] = {"switched_off": self._bypasses.covers(route.feature, key.space or None)}
        if found is None and not key.variant:
            variants = await self._variants(key)
            if variants:
                told["variants"] = [self._stored(entry) for entry in variants]
                found = variants[0]
        elif found is not None:
            told["stored"] = self._stored(found)
        if "variants" in told:
            told["verdict"] = "depends on the request's other headers (its Host among them): see the variants"
        else:
            told["verdict"] = self._verdict(found, standing)
        tags = key.tags if found is None else found.tags
        touching = [purged for purged in seen.purges if purged.touches(key.space, tags)]
        told["purges_that_touched_it"] = [_purged(each) for each in touching[:_MOST_PURGES]]
        return told

    def _verdict(self, found: Entry | None, standing: Standing | Reason) -> str:
        if found is None or isinstance(standing, Reason):
            return f"fetched: {standing.value if isinstance(standing, Reason) else 'cold'}"
        now = self._clock()
        if standing is Standing.VALID and now < found.fresh_until:
            return "served fresh"
        if now < found.grace_until:
            return "served stale, and refreshed meanwhile" + (
                " (soft-purged)" if standing is Standing.SOFT_PURGED else ""
            )
        return "fetched: expired" if standing is Standing.VALID else f"fetched: {_STANDINGS[standing]}"

    def _stored(self, entry: Entry) -> dict[str, Any]:
        told = facts(entry, self._clock())
        for name in ("head", "epochs", "tenant"):  # for inspectors
            del told[name]
        return told

    async def _variants(self, key: Key) -> list[Entry]:
        """What is kept under the same key for other headers: a path alone does not say them."""
        beginning = f"{key.primary}.v-"

        def begun(keys: list[str]) -> list[str]:
            return [name for name in keys if name.startswith(beginning)][:_MOST_VARIANTS]

        names = await asyncio.to_thread(begun, self._cache.keys())
        return [entry for name in names if (entry := self._cache.look(name)) is not None]

    def _counted(self, method: str, path: str, seen: Seen) -> dict[str, Any]:
        route = self._traffic.route_of(method, path)
        causes = seen.top_causes()
        writes = unmatched_writes(causes, path)
        reasons = [(cause, count) for cause, count in causes if cause.route == route]
        return {
            "writes_without_a_rule": [
                {
                    "route": cause.route, "count": count.count, "last_at": count.last_at,
                    "edit": advise(cause.reason, cause.route, cause.feature),
                }
                for cause, count in writes[:_MOST_REASONS]
            ],
            "reasons_of_this_route": [
                {
                    "reason": cause.reason.value, "count": count.count, "last_at": count.last_at,
                    "edit": advise(cause.reason, cause.route, cause.feature),
                }
                for cause, count in reasons[:_MOST_REASONS]
            ],
        }  # fmt: skip


def _caller(asked: Asked) -> Caller:
    said = asked.value("as")
    if said is None:
        said = {}
    if not isinstance(said, dict):
        raise Refused("is not an object", field="as")
    for name in said.keys() - {"org_id", "sub", "permissions", "headers"}:
        raise Refused("is not known here; known: org_id, sub, permissions, headers", field=f"as.{shown(name)[1:-1]}")
    permissions = said.get("permissions")
    if permissions is not None and not (isinstance(permissions, list) and all(isinstance(p, str) for p in permissions)):
        raise Refused("is not a list of texts", field="as.permissions")
    user = said.get("sub")
    if user is not None and not isinstance(user, str):
        raise Refused("is not a text", field="as.sub")
    tenant = own_tenant(asked.actor, said.get("org_id"), "as.org_id")
    nobody = not said and asked.actor.tenant is None
    headers = tuple(_headers(said.get("headers", {})))
    # a caller who is somebody has permissions, if only none
    known = tuple(permissions) if permissions is not None else None if nobody else ()
    return Caller(tenant, user, None if tenant is None and user is None and not known else known, headers)


def _headers(said: object) -> Iterator[tuple[str, str]]:
    if not isinstance(said, Mapping):
        raise Refused("is not an object", field="as.headers")
    for name, value in said.items():
        plain = isinstance(value, str) and len(value) <= 1000 and value.isprintable() and value.isascii()
        if not plain or _HEADER.fullmatch(name) is None:
            raise Refused(f"{shown(name)} is not a header with a value of printable ASCII", field="as.headers")
        if name.lower() in _MADE_BY_US:
            raise Refused(f"{name} is not asked for: org_id, sub and permissions say who it is", field="as.headers")
        yield name, value


def _purged(purged: Purged) -> dict[str, Any]:
    tags = [tag for listed in purged.tags.values() for tag in listed]
    return {"at": purged.at, "by": purged.by, "tags": tags, "soft": purged.soft, "accepted": purged.accepted}
