"""How does an operator, or another system, purge? By the very step a write takes: `Epochs.advance`, then the audit."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from proxy.admin.access import Actor, Role
from proxy.admin.asked import Asked, each_of, for_all_tenants, own_tenant
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint, flag, text, texts
from proxy.admin.filters import Filter, read_filter, tagged
from proxy.admin.problems import Refused, answer, shown
from proxy.cache.epochs import Epochs
from proxy.cache.purges import Purges
from proxy.cache.tiers import Cache
from proxy.live_rules import LiveRules
from proxy.policy.invalidation import EVERYTHING, Purge
from proxy.policy.key import Keyring

MOST_EVENTS = 256
_ABOUT = "entries in the first tier of this process; other tiers and replicas hold others"

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "tags": texts("feature, feature:identifier or @:group"),
    "keys": texts("full keys, as /api/cache/keys lists them: what shares their tag goes with them"),
    "path": text("a path that a read route matches, in all its variants"),
    "feature": text("a whole feature, of one tenant or of all; needs confirm"),
    "tenant": text("whose; alone: all that is kept for this tenant, which needs confirm"),
    "everything": flag("all entries of all tenants; needs confirm"),
    "soft": flag("mark as stale instead: served while one request refreshes it"),
    "confirm": text("the feature, the tenant, or `everything`: repeated where so much goes at once"),
    "reason": text("why; required in production"),
    "dry-run": flag("only say what would be purged"),
}


class Purging:
    """`DELETE /api/cache/invalidate` and `POST /api/cache/events`."""

    def __init__(
        self, rules: LiveRules, cache: Cache, epochs: Epochs, purges: Purges, audit: Audit, keys: Keyring,
        *, reasons: bool,
    ) -> None:  # fmt: skip
        self._rules = rules
        self._cache = cache
        self._epochs = epochs
        self._purges = purges
        self._audit = audit
        self._keys = keys
        self._reasons = reasons

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "DELETE", "/api/cache/invalidate", self.invalidate, "Purge by tags, keys, path, feature or tenant.",
            (Role.OPERATOR,), {name: str(schema["description"]) for name, schema in _FIELDS.items()}, _FIELDS,
            {
                200: "Purged, or with dry-run what would be.",
                202: "Purged here; repeated until the store accepts it.",
                404: "The rules or this process know no such thing.",
            },
        )  # fmt: skip
        event = {
            "type": "object", "additionalProperties": False,
            "properties": {"tenant": text("whose"), "tags": texts("what changed: feature or feature:identifier")},
        }  # fmt: skip
        yield Endpoint(
            "POST", "/api/cache/events", self.events, "Tell what another system has changed: its tags are purged.",
            (Role.OPERATOR, Role.BACKEND),
            document={"events": {"type": "array", "minItems": 1, "maxItems": MOST_EVENTS, "items": event}},
            answers={
                200: "Purged.", 202: "Purged here; repeated until the store accepts it.",
                404: "The rules know no such feature.",
            },
        )  # fmt: skip

    async def invalidate(self, asked: Asked) -> web.Response:
        found = read_filter(asked, self._rules.current, self._cache.look, self._keys)
        _own_only(asked.actor, found.purge)
        soft, dry, reason = asked.flag("soft"), asked.flag("dry-run"), asked.text("reason")
        confirmed = asked.text("confirm")
        said = {"purge": shown_purge(found.purge), "soft": soft, "sample": await self._sample(found)}
        if dry:
            return answer({**said, "dry_run": True, "confirm": found.confirm})
        if found.confirm is not None and confirmed != found.confirm:
            raise Refused(f"must repeat {shown(found.confirm)}: a whole {found.kind} goes at once", field="confirm")
        if reason is None and self._reasons:
            raise Refused("is required in production", field="reason")
        accepted = await self._purge(asked.actor, "purge", found.purge, soft=soft, reason=reason)
        return answer({**said, "dry_run": False, "accepted": accepted}, status=200 if accepted else 202)

    async def events(self, asked: Asked) -> web.Response:
        rules, actor = self._rules.current, asked.actor
        purge: dict[str, dict[str, None]] = {}

        def one(event: Mapping[str, Any], place: str) -> None:
            for name in event.keys() - {"tenant", "tags"}:
                raise Refused("is not known here; known: tenant, tags", field=f"{place}.{shown(name)[1:-1]}")
            tenant = own_tenant(actor, event.get("tenant"), f"{place}.tenant")
            tags = Asked(asked.request, actor, event).texts("tags")
            if not tags:
                raise Refused("is missing", field=f"{place}.tags")
            for space, found in tagged(tags, tenant, rules, f"{place}.tags").items():
                purge.setdefault(space, {}).update(dict.fromkeys(found))

        each_of(asked.value("events"), "events", MOST_EVENTS, one)
        whole = {space: tuple(tags) for space, tags in purge.items()}
        _own_only(actor, whole)
        accepted = await self._purge(actor, "event", whole, soft=False, reason=None)
        return answer({"purge": shown_purge(whole), "accepted": accepted}, status=200 if accepted else 202)

    async def _purge(self, actor: Actor, event: str, purge: Purge, *, soft: bool, reason: str | None) -> bool:
        accepted = await self._epochs.advance(purge, soft=soft)
        self._purges.note(actor.name, purge, soft=soft, accepted=accepted)
        for space, tags in purge.items():
            self._audit.record(
                event, actor, result="done" if accepted else "pending", tenant=space or None,
                target={"tags": list(tags), "soft": soft}, reason=reason,
            )  # fmt: skip
        return accepted

    async def _sample(self, found: Filter) -> dict[str, object]:
        """How much of it is here: a figure to compare with what was meant, not what will be purged everywhere."""
        counts = self._cache.stats().counts
        total = 0
        items: list[str] = []
        for space, tags in found.purge.items():
            for tag in tags:
                feature, colon, _ = tag.partition(":")
                if colon:
                    items += self._prefixes(space, tag)
                else:
                    total += sum(
                        count
                        for (tenant, kept), count in counts.items()
                        if space in ("", tenant) and feature in (EVERYTHING, kept)
                    )
        if items:
            total += await asyncio.to_thread(_beginning, self._cache.keys(), tuple(items))
        return {"entries": total, "of": _ABOUT}

    def _prefixes(self, space: str, tag: str) -> Iterator[str]:
        feature, _, item = tag.partition(":")
        routes = self._rules.current.routes
        for name in {route.key_name or feature for route in routes if route.feature == feature}:
            yield f"{f'tenant:{space}' if space else 'shared'}:{name}:{item}"


def _beginning(keys: list[str], prefixes: tuple[str, ...]) -> int:
    return sum(key.partition(".")[0] in prefixes for key in keys)


def _own_only(actor: Actor, purge: Purge) -> None:
    if purge.keys() - {actor.tenant}:
        for_all_tenants(actor)


def shown_purge(purge: Purge) -> list[dict[str, object]]:
    return [{"tenant": space or None, "tags": list(tags)} for space, tags in purge.items()]
