"""What has this sidecar seen and kept? One value for all of its processes: each tells its part, as JSON can say it."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.admin.facts import facts
from proxy.cache.epochs import Epochs
from proxy.cache.purges import Purged, Purges
from proxy.cache.tiers import Cache, Stats
from proxy.policy.outcome import Reason
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.traffic import Cause, Count, Traffic

QUESTION = "sight"
MOST_TENANTS = 1000  # of one process: those that hold most, and those that ask most

Content = Any
Others = Callable[[str, Content], Awaitable[list[Content]]]  # asks all other processes; the answers of those that do


@dataclass(slots=True)
class Held:
    """What one tenant, or one feature, keeps in the first tiers, and what was asked for it."""

    bytes: int = 0
    entries: int = 0
    requests: int = 0
    hits: int = 0
    upstream: int = 0


@dataclass(slots=True)
class Seen:
    """The sums over all processes that answered; `processes` is how many those were."""

    processes: int = 0
    totals: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # requests by feature, result and reason
    causes: dict[Cause, Count] = field(default_factory=dict)
    tenants: dict[str, Held] = field(default_factory=dict)  # "": what is public, and what is not told apart
    features: dict[str, Held] = field(default_factory=dict)
    entries: int = 0
    size: int = 0
    max_size: int = 0
    evictions: int = 0
    rejected: int = 0
    pending: int = 0  # purges that the store has not accepted: all processes know of the same
    purges: list[Purged] = field(default_factory=list)  # the newest first

    def top_causes(self) -> list[tuple[Cause, Count]]:
        """The most frequent first."""
        return sorted(self.causes.items(), key=lambda pair: -pair[1].count)


async def nobody(question: str, content: Content) -> list[Content]:
    """The others of a single process."""
    return []


class Sight:
    """`others` asks the other processes QUESTION; each of them gives its `answer`."""

    def __init__(
        self, cache: Cache, epochs: Epochs, metrics: Metrics, traffic: Traffic, purges: Purges,
        clock: Callable[[], float], others: Others = nobody,
    ) -> None:  # fmt: skip
        self._cache = cache
        self._epochs = epochs
        self._metrics = metrics
        self._traffic = traffic
        self._purges = purges
        self._clock = clock
        self._others = others

    async def all(self, *, about: str | None = None, purges: bool = False, held: bool = True) -> Seen:
        """`about`: a tenant who is told apart however little it has, and whose purges alone count as pending.

        `purges`: what was purged lately, too. Not `held`: without tenants and features, and without what they keep.
        """
        parts = await self._asked({"what": "sums", "about": about, "purges": purges, "held": held})
        seen = Seen()
        for part in parts:
            _add(seen, part)
        seen.purges.sort(key=lambda purged: -purged.at)
        return seen

    async def keys(self, prefix: str, after: str, count: int) -> list[str]:
        """The first `count` keys of all first tiers that begin so and come after this one, in their order."""
        parts = await self._asked({"what": "keys", "prefix": prefix, "after": after, "count": count})
        return heapq.nsmallest(count, {key for part in parts for key in part})

    async def entry(self, key: str) -> Content:
        """What is told of an entry, by the first process that has it; None: none has."""
        own = self._entry(key)
        if own is not None:
            return own
        return next((found for found in await self._others(QUESTION, {"what": "entry", "key": key}) if found), None)

    async def answer(self, question: Content) -> Content:
        """This process's part."""
        what = question["what"]
        if what == "keys":
            # in a thread: there may be a hundred thousand of them, and requests do not wait
            return await asyncio.to_thread(_page, self._cache.keys(), question)
        if what == "entry":
            return self._entry(question["key"])
        # ten thousand tenants are a tenth of a second: requests go on meanwhile, what is counted then is in or not
        return await asyncio.to_thread(self._sums, question) if question["held"] else self._sums(question)

    async def _asked(self, question: Content) -> list[Content]:
        own, others = await asyncio.gather(self.answer(question), self._others(QUESTION, question))
        return [own, *others]

    def _entry(self, key: str) -> Content:
        entry = self._cache.look(key)
        return None if entry is None else facts(entry, self._clock())

    def _sums(self, question: Content) -> Content:
        about = question["about"]
        told: dict[str, Any] = {"tenants": [], "features": [], "sums": [0] * 5}
        if question["held"]:
            stats = self._cache.stats()
            tenants, features = self._held(stats)
            told = {
                "tenants": [_row(name, tenants[name]) for name in _foremost(tenants, about)],
                "features": [_row(name, held) for name, held in features.items()],
                "sums": [stats.entries, stats.size, stats.max_size, stats.evictions, sum(stats.rejected.values())],
            }
        return {
            **told,
            "totals": [[*labels, count] for labels, count in self._metrics.totals().items()],
            "causes": [[*cause, count.count, count.last_at] for cause, count in self._traffic.causes()],
            "pending": self._epochs.pending if about is None else self._epochs.pending_of(about),
            "purges": [
                [each.at, each.by, {space: list(tags) for space, tags in each.tags.items()}, each.soft, each.accepted]
                for each in (self._purges.last() if question["purges"] else ())
            ],
        }

    def _held(self, stats: Stats) -> tuple[dict[str, Held], dict[str, Held]]:
        """By tenant and by feature."""
        tenants: dict[str, Held] = {}
        features: dict[str, Held] = {}
        for (tenant, feature), size in stats.features.items():
            for held in (tenants.setdefault(tenant, Held()), features.setdefault(feature, Held())):
                held.bytes += size
                held.entries += stats.counts[tenant, feature]
        for (feature, result, _, tenant), count in self._metrics.by_tenant().items():
            rows = [tenants.setdefault(tenant, Held())] if tenant else []
            rows += [features.setdefault(feature, Held())] if feature else []
            for held in rows:
                held.requests += count
                held.hits += count if result == "hit" else 0
        for tenant, count in self._traffic.tenants().items():
            tenants.setdefault(tenant, Held()).upstream += count
        return tenants, features


def _foremost(tenants: Mapping[str, Held], about: str | None) -> Iterable[str]:
    largest = heapq.nlargest(MOST_TENANTS, tenants, key=lambda name: tenants[name].bytes)
    busiest = heapq.nlargest(MOST_TENANTS, tenants, key=lambda name: tenants[name].requests)
    return dict.fromkeys([*([about] if about in tenants else ()), *largest, *busiest])


def _page(keys: list[str], question: Content) -> list[str]:
    prefix, after = question["prefix"], question["after"]
    return heapq.nsmallest(question["count"], (key for key in keys if key > after and key.startswith(prefix)))


def _row(name: str, held: Held) -> list[Any]:
    return [name, held.bytes, held.entries, held.requests, held.hits, held.upstream]


def _add(seen: Seen, part: Mapping[str, Any]) -> None:
    seen.processes += 1
    for feature, result, reason, count in part["totals"]:
        seen.totals[feature, result, reason] += count
    for route, feature, reason, count, last_at in part["causes"]:
        counted = seen.causes.setdefault(Cause(route, feature, Reason(reason)), Count())
        counted.count += count
        counted.last_at = max(counted.last_at, last_at)
    for rows, into in ((part["tenants"], seen.tenants), (part["features"], seen.features)):
        for name, size, entries, requests, hits, upstream in rows:
            held = into.setdefault(name, Held())
            held.bytes += size
            held.entries += entries
            held.requests += requests
            held.hits += hits
            held.upstream += upstream
    entries, size, max_size, evictions, rejected = part["sums"]
    seen.entries += entries
    seen.size += size
    seen.max_size += max_size
    seen.evictions += evictions
    seen.rejected += rejected
    seen.pending = max(seen.pending, part["pending"])
    seen.purges += [Purged(at, by, tags, soft, accepted) for at, by, tags, soft, accepted in part["purges"]]
