"""Is it us, and who uses what? One verdict with its figures, and the first of tenants, features and reasons."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from proxy.admin import switching
from proxy.admin.access import Role
from proxy.admin.asked import Asked, for_all_tenants
from proxy.admin.endpoint import Endpoint, chosen, number
from proxy.admin.health import Health
from proxy.admin.problems import answer
from proxy.admin.sight import Seen, Sight
from proxy.bypasses import Bypasses
from proxy.errors import StoreError
from proxy.policy.outcome import Reason
from proxy.rules.advice import advise

RECENT = 60.0  # seconds for which a failure of the upstream is news
_MOST = 100
_BY = ("tenants", "features", "reasons")
_SHOWN_TENANTS = 10
_OF_ALL = frozenset({"operations", "failed", "not_tried", "calls"})  # what is counted over all tenants


class Status:
    """`GET /api/cache/status` and `GET /api/cache/top`, over all processes of this sidecar.

    `about_store` says what only the composition root knows.
    """

    def __init__(
        self,
        health: Health,
        sight: Sight,
        bypasses: Bypasses,
        *,
        about_store: Callable[[], Mapping[str, object]],
        clock: Callable[[], float],
    ) -> None:
        self._health = health
        self._sight = sight
        self._bypasses = bypasses
        self._about_store = about_store
        self._clock = clock
        self._started_at = clock()

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint("GET", "/api/cache/status", self.status, "A verdict, and what it is made of.", (Role.VIEWER,))
        yield Endpoint(
            "GET", "/api/cache/top", self.top, "The first of tenants, features or reasons.", (Role.VIEWER,),
            {"by": chosen("of what (reasons)", _BY), "limit": number("how many (10)", 1, _MOST)},
        )  # fmt: skip

    async def status(self, asked: Asked) -> web.Response:
        return answer(await self.told(asked.actor.tenant))

    async def told(self, tenant: str | None) -> dict[str, Any]:
        """All of it; with `tenant` what concerns this one."""
        return {**await self.state(tenant), **await self.held(tenant)}

    async def state(self, tenant: str | None) -> dict[str, Any]:
        """What is the matter; told in no time, however much is kept."""
        store, seen = await self._health.store(), await self._sight.all(about=tenant, held=False)
        details = await self._health.details()
        told: dict[str, Any] = {
            "verdict": self._verdict(store, tenant, seen),
            "uptime": round(self._clock() - self._started_at, 1),
            "processes": seen.processes,
            "store": {"healthy": isinstance(store, str), **self._known_of_store(tenant)},
            "rules": details["rules"],
            "purges_pending": seen.pending,
            "bypasses": switching.shown(self._bypasses, tenant),
        }
        if isinstance(store, StoreError):
            told["store"]["error"] = str(store)
        return told

    def _known_of_store(self, tenant: str | None) -> Mapping[str, object]:
        about = self._about_store()
        return about if tenant is None else {name: value for name, value in about.items() if name not in _OF_ALL}

    async def held(self, tenant: str | None) -> dict[str, Any]:
        """Who keeps and asks how much; with many tenants this takes a moment."""
        seen = await self._sight.all(about=tenant)
        told: dict[str, Any] = {"tenants": _tenants(seen, tenant)[:_SHOWN_TENANTS]}
        if tenant is None:
            told["first_tier"] = {
                "entries": seen.entries, "bytes": seen.size, "max_bytes": seen.max_size,
                "evictions": seen.evictions, "rejected_records": seen.rejected,
            }  # fmt: skip
            told["features"] = _features(seen)
        return told

    async def top(self, asked: Asked) -> web.Response:
        by = asked.chosen("by", _BY, "reasons")
        limit = asked.number("limit", 10, 1, _MOST)
        tenant = asked.actor.tenant
        if by != "tenants":
            for_all_tenants(asked.actor)  # these figures are of all of them together
        seen = await self._sight.all(about=tenant)
        rows = _tenants(seen, tenant) if by == "tenants" else _features(seen) if by == "features" else _reasons(seen)
        return answer({"by": by, "processes": seen.processes, "top": rows[:limit]})

    def _verdict(self, store: str | StoreError, tenant: str | None, seen: Seen) -> dict[str, Any]:
        """The worst that is the case, in one line; `faults` has each of it under a name that stays."""
        word, faults = self._health.word(), dict[str, str]()
        if isinstance(store, StoreError):
            faults["store"] = f"the store does not answer ({store}): requests go to the upstream"
        if seen.pending:
            faults["purges"] = f"{seen.pending} purges wait for the store"
        problems = len(self._health.problems())
        if self._health.widening():
            faults["rules"] = "the rules file shares more than the rules in force, and nobody has accepted it"
        elif problems:
            many = "1 problem" if problems == 1 else f"{problems} problems"
            faults["rules"] = f"the rules file has {many}: the last good rules are in force"
        failing = self._upstream_failing(seen)
        if failing:
            faults["upstream"] = failing if tenant is None else "the upstream fails"
        off = switching.shown(self._bypasses, tenant)
        if off:
            faults["bypass"] = f"caching is switched off by {off[0]['by']} ({len(off)} switches)"
        level = "draining" if word == "draining" else "degraded" if faults else "ok"
        line = f"{level.upper()}: {'; '.join(faults.values()) or _good(seen, tenant)}"
        return {"level": level, "line": line, "faults": faults}

    def _upstream_failing(self, seen: Seen) -> str | None:
        recent = [
            counted
            for cause, counted in seen.causes.items()
            if cause.reason in (Reason.UPSTREAM_FAILED, Reason.STALE_IF_ERROR)
            and self._clock() - counted.last_at < RECENT
        ]
        if not recent:
            return None
        ago = self._clock() - max(counted.last_at for counted in recent)
        return f"the upstream fails: {sum(each.count for each in recent)} times on these routes, last {ago:.0f} s ago"


def _good(seen: Seen, tenant: str | None) -> str:
    if tenant is not None:
        return "store healthy, rules valid"
    results = Counter[str]()
    for (_, result, _), count in seen.totals.items():
        results[result] += count
    total = results.total()
    ratio = f"{results['hit'] / total:.0%} of {total} requests were hits, " if total else "no request yet, "
    return f"{ratio}store healthy, rules valid"


def _features(seen: Seen) -> list[dict[str, Any]]:
    rows = [
        {
            "feature": feature, "requests": held.requests, "hits": held.hits,
            "hit_ratio": round(held.hits / held.requests, 4) if held.requests else None,
            "entries": held.entries, "bytes": held.bytes,
        }
        for feature, held in seen.features.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row["requests"], row["feature"]))


def _tenants(seen: Seen, only: str | None) -> list[dict[str, Any]]:
    """By what they hold. The one without a name is what all share: its requests are nobody's."""
    rows = [
        {
            "tenant": tenant or None, "bytes": held.bytes, "entries": held.entries,
            "share": round(held.bytes / seen.size, 4) if seen.size else 0.0,
            "requests": held.requests if tenant else None, "hits": held.hits if tenant else None,
            "hit_ratio": round(held.hits / held.requests, 4) if held.requests else None,
            "upstream_requests": held.upstream,
        }
        for tenant, held in seen.tenants.items()
        if only in (None, tenant)
    ]  # fmt: skip
    if only is not None:
        for row in rows:
            del row["share"]  # what the others hold could be told from it
    return sorted(rows, key=lambda row: (-row["bytes"], -(row["requests"] or 0), row["tenant"] or ""))


def _reasons(seen: Seen) -> list[dict[str, Any]]:
    return [
        {
            "reason": cause.reason.value, "route": cause.route, "feature": cause.feature or None,
            "count": counted.count, "last_at": counted.last_at,
            "edit": advise(cause.reason, cause.route, cause.feature),
        }
        for cause, counted in seen.top_causes()
    ]  # fmt: skip
