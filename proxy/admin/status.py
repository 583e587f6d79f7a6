"""Is it us, and who uses what? One verdict with its figures, and the first of tenants, features and reasons."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from proxy.admin import switching
from proxy.admin.access import Role
from proxy.admin.asked import Asked, for_all_tenants
from proxy.admin.endpoint import Endpoint
from proxy.admin.health import Health
from proxy.admin.problems import answer
from proxy.bypasses import Bypasses
from proxy.cache.epochs import Epochs
from proxy.cache.tiers import Cache
from proxy.errors import StoreError
from proxy.policy.outcome import Reason
from proxy.rules.advice import advise
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.traffic import Traffic

RECENT = 60.0  # seconds for which a failure of the upstream is news
_MOST = 100
_SHOWN_TENANTS = 10


class Status:
    """`GET /api/cache/status` and `GET /api/cache/top`. `about_store` says what only the composition root knows."""

    def __init__(
        self,
        health: Health,
        cache: Cache,
        epochs: Epochs,
        metrics: Metrics,
        traffic: Traffic,
        bypasses: Bypasses,
        *,
        about_store: Callable[[], Mapping[str, object]],
        clock: Callable[[], float],
    ) -> None:
        self._health = health
        self._cache = cache
        self._epochs = epochs
        self._metrics = metrics
        self._traffic = traffic
        self._bypasses = bypasses
        self._about_store = about_store
        self._clock = clock
        self._started_at = clock()

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint("GET", "/api/cache/status", self.status, "A verdict, and what it is made of.", (Role.VIEWER,))
        yield Endpoint(
            "GET", "/api/cache/top", self.top, "The first of tenants, features or reasons.", (Role.VIEWER,),
            {"by": "tenants, features or reasons (reasons)", "limit": f"how many, at most {_MOST} (10)"},
        )  # fmt: skip

    async def status(self, asked: Asked) -> web.Response:
        store, tenant = await self._health.store(), asked.actor.tenant
        details = await self._health.details()
        told: dict[str, Any] = {
            "verdict": self._verdict(store, tenant),
            "uptime": round(self._clock() - self._started_at, 1),
            "store": {"healthy": isinstance(store, str), **self._about_store()},
            "rules": details["rules"],
            "purges_pending": self._epochs.pending,
            "bypasses": switching.shown(self._bypasses, tenant),
            "tenants": self._tenants(tenant)[:_SHOWN_TENANTS],
        }
        if isinstance(store, StoreError):
            told["store"]["error"] = str(store)
        if tenant is None:
            stats = self._cache.stats()
            told["first_tier"] = {
                "entries": stats.entries, "bytes": stats.size, "max_bytes": stats.max_size,
                "evictions": stats.evictions, "rejected_records": sum(stats.rejected.values()),
            }  # fmt: skip
            told["features"] = self._features()
        return answer(told)

    async def top(self, asked: Asked) -> web.Response:
        by = asked.chosen("by", ("tenants", "features", "reasons"), "reasons")
        limit = asked.number("limit", 10, 1, _MOST)
        if by == "tenants":
            return answer({"by": by, "top": self._tenants(asked.actor.tenant)[:limit]})
        for_all_tenants(asked.actor)  # these figures are of all of them together
        rows = self._features() if by == "features" else self._reasons()
        return answer({"by": by, "top": rows[:limit]})

    def _verdict(self, store: str | StoreError, tenant: str | None) -> dict[str, str]:
        """The worst that is the case, in one line."""
        word, faults = self._health.word(), []
        if isinstance(store, StoreError):
            faults.append(f"the store does not answer ({store}): requests go to the upstream")
        if self._epochs.pending:
            faults.append(f"{self._epochs.pending} purges wait for the store")
        problems = len(self._health.problems())
        if problems:
            faults.append(f"the rules file has {problems} problems: the last good rules are in force")
        failing = self._upstream_failing()
        if failing:
            faults.append(failing)
        off = switching.shown(self._bypasses, tenant)
        if off:
            faults.append(f"caching is switched off by {off[0]['by']} ({len(off)} switches)")
        level = "draining" if word == "draining" else "degraded" if faults else "ok"
        return {"level": level, "line": f"{level.upper()}: {'; '.join(faults) or self._good(tenant)}"}

    def _good(self, tenant: str | None) -> str:
        if tenant is not None:
            return "store healthy, rules valid"
        results = Counter[str]()
        for (_, result, _), count in self._metrics.totals().items():
            results[result] += count
        total = results.total()
        ratio = f"{results['hit'] / total:.0%} of {total} requests were hits, " if total else "no request yet, "
        return f"{ratio}store healthy, rules valid"

    def _upstream_failing(self) -> str | None:
        recent = [
            counted
            for cause, counted in self._traffic.causes()
            if cause.reason in (Reason.UPSTREAM_FAILED, Reason.STALE_IF_ERROR)
            and self._clock() - counted.last_at < RECENT
        ]
        if not recent:
            return None
        ago = self._clock() - max(counted.last_at for counted in recent)
        return f"the upstream fails: {sum(each.count for each in recent)} times on these routes, last {ago:.0f} s ago"

    def _features(self) -> list[dict[str, Any]]:
        stats = self._cache.stats()
        size, entries = Counter[str](), Counter[str]()
        for (_, feature), held in stats.features.items():
            size[feature] += held
        for (_, feature), count in stats.counts.items():
            entries[feature] += count
        hits, requests = Counter[str](), Counter[str]()
        for (feature, result, _), count in self._metrics.totals().items():
            if feature:
                requests[feature] += count
                hits[feature] += count if result == "hit" else 0
        rows = [
            {
                "feature": feature, "requests": requests[feature], "hits": hits[feature],
                "hit_ratio": round(hits[feature] / requests[feature], 4) if requests[feature] else None,
                "entries": entries[feature], "bytes": size[feature],
            }
            for feature in requests.keys() | size.keys()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (-row["requests"], row["feature"]))

    def _tenants(self, only: str | None) -> list[dict[str, Any]]:
        """By what they hold. Hits in memory are not counted by tenant: a label for each would have no bound."""
        stats, seen = self._cache.stats(), self._traffic.tenants()
        entries = Counter[str]()
        for (tenant, _), count in stats.counts.items():
            entries[tenant] += count
        rows = [
            {
                "tenant": tenant or None, "bytes": stats.tenants.get(tenant, 0), "entries": entries[tenant],
                "share": round(stats.tenants.get(tenant, 0) / stats.size, 4) if stats.size else 0.0,
                "upstream_requests": seen[tenant].upstream if tenant in seen else 0,
            }
            for tenant in stats.tenants.keys() | seen.keys()
            if only in (None, tenant)
        ]  # fmt: skip
        if only is not None:
            for row in rows:
                del row["share"]  # what the others hold could be told from it
        return sorted(rows, key=lambda row: (-row["bytes"], row["tenant"] or ""))

    def _reasons(self) -> list[dict[str, Any]]:
        return [
            {
                "reason": cause.reason.value, "route": cause.route, "feature": cause.feature or None,
                "count": counted.count, "last_at": counted.last_at,
                "edit": advise(cause.reason, cause.route, cause.feature),
            }
            for cause, counted in self._traffic.causes()
        ]  # fmt: skip
