"""What is kept at the moment? Keys of both tiers page by page, one entry's numbers; never a body."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint, chosen, number
from proxy.admin.facts import facts
from proxy.admin.problems import Refused, answer, shown
from proxy.admin.sight import Sight
from proxy.cache.record import Rejection
from proxy.cache.stored import Stored, tenant_of
from proxy.errors import StoreError

MOST = 1000
_DEFAULT = 100
MEMORY, STORE = "memory", "store"
_TIERS = (MEMORY, STORE)
_OF = {
    MEMORY: "the first tier of this sidecar, in their order",
    STORE: "the store, of all sidecars, in no order and some of them twice",
}


class Contents:
    """`GET /api/cache/keys` and `GET /api/cache/entry`."""

    def __init__(self, sight: Sight, stored: Stored, audit: Audit, clock: Callable[[], float]) -> None:
        self._sight = sight
        self._stored = stored
        self._audit = audit
        self._clock = clock

    def endpoints(self) -> Iterator[Endpoint]:
        tier = chosen("memory (the first tier of this sidecar) or store; otherwise both", _TIERS)
        yield Endpoint(
            "GET", "/api/cache/keys", self.keys, "List keys, first those in memory, then those of the store.",
            (Role.INSPECTOR,),
            {
                "tenant": "only this tenant's",
                "prefix": "only keys that begin with this",
                "tier": tier,
                "limit": number(f"how many at once ({_DEFAULT}); of the store about so many", 1, MOST),
                "cursor": "where the page before has ended: its next",
            },
        )  # fmt: skip
        yield Endpoint(
            "GET", "/api/cache/entry", self.entry, "Numbers, tags and head of one entry.", (Role.INSPECTOR,),
            {"key": "the full key", "tier": tier},
            answers={
                200: "The entry, without its body; or why its record in the store is not used.",
                404: "There is none in these tiers.", 503: "The store does not answer.",
            },
        )  # fmt: skip

    async def keys(self, asked: Asked) -> web.Response:
        tenant, prefix = asked.tenant(), asked.text("prefix") or ""
        limit = asked.number("limit", _DEFAULT, 1, MOST)
        only = None if "tier" not in asked else asked.chosen("tier", _TIERS, MEMORY)
        tier, place = _place(asked.text("cursor"), only)
        own = f"tenant:{tenant}:" if tenant is not None else ""
        if not (own.startswith(prefix) or prefix.startswith(own)):
            return answer({"keys": [], "tier": tier, "of": _OF[tier], "next": None})
        begin = max(own, prefix, key=len)
        if tier == MEMORY:
            found = await self._sight.keys(begin, place, limit + 1)
            page = found[:limit]
            following = _cursor(MEMORY, page[-1]) if len(found) > limit else None
            if following is None and only is None:
                following = _cursor(STORE, "")
            return answer({"keys": page, "tier": tier, "of": _OF[tier], "next": following})
        try:
            keys, next = await self._stored.keys(begin, place, limit)
        except StoreError as error:
            return answer({"keys": [], "tier": tier, "of": _OF[tier], "next": None, "error": str(error)})
        return answer({"keys": keys, "tier": tier, "of": _OF[tier], "next": _cursor(STORE, next) if next else None})

    async def entry(self, asked: Asked) -> web.Response:
        key = asked.required("key")
        only = None if "tier" not in asked else asked.chosen("tier", _TIERS, MEMORY)
        told = await self._told(key, only) if asked.actor.tenant in (None, tenant_of(key)) else None
        if told is None:
            raise Refused(
                f"{shown(key)} is in neither tier" if only is None else f"{shown(key)} is not there",
                field="key",
                status=404,
            )
        if told.get("sensitive"):
            self._audit.record("sensitive-entry", asked.actor, tenant=tenant_of(key) or None, target={"key": key})
        return answer(told)

    async def _told(self, key: str, only: str | None) -> dict[str, Any] | None:
        found = await self._sight.entry(key) if only != STORE else None
        if found is not None or only == MEMORY:
            return found and {**found, "tier": MEMORY}
        try:
            stored = await self._stored.look(key)
        except StoreError as error:
            raise Refused(f"The store does not answer: {error}", status=503) from None
        if stored is None:
            return None
        if isinstance(stored, Rejection):
            return {"key": key, "tier": STORE, "rejected": stored.value}
        return {**facts(stored, self._clock()), "tier": STORE}


def _cursor(tier: str, place: str) -> str:
    return urlsafe_b64encode(f"{tier}:{place}".encode()).rstrip(b"=").decode()


def _place(cursor: str | None, only: str | None) -> tuple[str, str]:
    """The tier to look in, and behind what."""
    if cursor is None:
        return only or MEMORY, ""
    try:
        text = b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True).decode("ascii")
    except ValueError:
        text = ""
    tier, colon, place = text.partition(":")
    if not colon or tier not in _TIERS or only not in (None, tier):
        raise Refused(f"{shown(cursor)} is not a cursor that was given out here", field="cursor")
    return tier, place
