"""Which figures does a scrape find beside the counts of requests? What the parts hold and have done, as of now."""

from collections.abc import Iterator
from heapq import nlargest
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric

from proxy import __version__
from proxy.cache.background import Background
from proxy.cache.epochs import Epochs
from proxy.cache.record import Rejection
from proxy.cache.seal import Sealer
from proxy.cache.tiers import Cache, Totals
from proxy.live_rules import LiveRules
from proxy.serving.listener import Listener
from proxy.stores.base import Store
from proxy.stores.breaker import LATENCY_BOUNDS, Guarded
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.metrics import Sample
from proxy.telemetry.traffic import Traffic

TENANTS = 10  # told by name: a label for each would have no bound


def of_serving(
    cache: Cache, epochs: Epochs, listener: Listener, sealer: Sealer, background: Background, now: float
) -> Iterator[Sample | Metric]:
    """What one process that answers requests holds and has done."""
    yield Sample("sidecache_build_info", "The version that runs.", {__version__: 1}, "version", across="most")
    yield from _of_cache(cache)
    uses = sealer.uses()
    yield Sample(
        "sidecache_records_sealed_total", "Records encrypted for the store.",
        {key_id: use.sealed for key_id, use in uses.items()}, "key_id", counter=True,
    )  # fmt: skip
    yield Sample(
        "sidecache_records_opened_total", "Encrypted records of the store that were used.",
        {key_id: use.opened for key_id, use in uses.items()}, "key_id", counter=True,
    )  # fmt: skip
    yield Sample(
        "sidecache_encryption_key_needed_seconds",
        "Until the last record that this process has written or read with this key is of no more use.",
        {key_id: max(0.0, use.needed_until - now) for key_id, use in uses.items()}, "key_id",
        across="most",
    )  # fmt: skip
    figures, doorbell = epochs.figures, epochs.doorbell
    yield Sample(
        "sidecache_epochs_pending",
        "Purges that the store has not accepted yet; they hold here.",
        epochs.pending,
        across="most",
    )
    yield Sample(
        "sidecache_epochs_total", "What became of epochs, and of what is told of them.",
        {
            "local": figures.local, "renewed": figures.renewals, "disturbed": figures.disturbances,
            "refused": figures.refused, "rung": doorbell.rung, "answered": doorbell.answered,
        },
        "event", counter=True,
    )  # fmt: skip
    yield from _of_short_ways(listener)
    yield Sample("sidecache_client_connections", "Open client connections.", listener.connections)
    yield Sample(
        "sidecache_background_tasks",
        "Work under way beside requests, the watch on the rules included.",
        len(background),
    )


def _of_cache(cache: Cache) -> Iterator[Sample | Metric]:
    stats = cache.totals()
    yield Sample("sidecache_l1_bytes", "Bytes in the first tier.", stats.size)
    yield Sample("sidecache_l1_max_bytes", "Bytes the first tier may hold.", stats.max_size)
    yield Sample("sidecache_l1_entries", "Entries in the first tier.", stats.entries)
    yield Sample("sidecache_l1_evictions_total", "Entries that made room for others.", stats.evictions, counter=True)
    sizes, lifetimes = cache.distributions()
    yield sizes.metric("sidecache_l1_entry_bytes", "Sizes of entries that came into the first tier.")
    yield lifetimes.metric(
        "sidecache_l1_entry_lifetime_seconds", "How long entries that came into the first tier are fresh."
    )
    yield from _of_tenants_and_features(stats)
    yield Sample(
        "sidecache_records_rejected_total", "Records of the store that were not what was asked for.",
        {reason.value: stats.rejected.get(reason, 0) for reason in Rejection}, "reason", counter=True,
    )  # fmt: skip
    yield Sample("sidecache_store_failures_total", "Failed operations.", stats.store_failures, counter=True)


def _of_short_ways(listener: Listener) -> Iterator[Sample]:
    if (hits := listener.hits) is not None:
        yield Sample(
            "sidecache_hits_at_once_total", "Hits answered in the call that brought their bytes, by how alike.",
            {"same-head": hits.repeated, "same-choice": hits.chosen, "decided": hits.decided}, "way", counter=True,
        )  # fmt: skip
        yield Sample("sidecache_prepared_bytes", "Bytes of answers that are ready to be written.", hits.size)
    if (misses := listener.misses) is not None:
        yield Sample(
            "sidecache_fetched_at_once_total", "Misses fetched in the call that told of them, by how answered.",
            {"at-once": misses.answered, "ordinary": misses.begun - misses.answered}, "way", counter=True,
        )  # fmt: skip
    if (forwarding := listener.forwarding) is not None:
        yield Sample(
            "sidecache_forwarded_at_once_total", "Requests forwarded in the call that brought them, by how alike.",
            {"same-head": forwarding.repeated, "same-shape": forwarding.alike, "decided": forwarding.decided},
            "way", counter=True,
        )  # fmt: skip
        yield Sample("sidecache_forwarding_bytes", "Bytes of what is remembered of forwarded heads.", forwarding.size)


def _of_tenants_and_features(totals: Totals) -> Iterator[Sample]:
    """Who fills the first tier: every feature, and of the tenants only the first."""
    yield Sample("sidecache_l1_share_bytes", "Bytes in the first tier by feature.", totals.by_feature, "feature")
    tenants = totals.tenants.keys() - {""} if "" in totals.tenants else totals.tenants.keys()
    yield Sample(
        "sidecache_l1_top_bytes", "Bytes in the first tier of the tenants that have most.",
        {name: totals.tenants[name] for name in nlargest(TENANTS, tenants, key=totals.tenants.__getitem__)}, "tenant",
    )  # fmt: skip
    yield Sample("sidecache_l1_tenants", "Tenants that have entries in the first tier.", len(tenants), across="most")


def of_traffic(traffic: Traffic) -> Iterator[Sample]:
    seen = traffic.tenants()
    first = nlargest(TENANTS, seen, key=seen.__getitem__)
    yield Sample(
        "sidecache_top_upstream_requests_total", "Requests for the upstream of the tenants that have most.",
        {name: seen[name] for name in first}, "tenant", counter=True,
    )  # fmt: skip


def of_rules(rules: LiveRules) -> Iterator[Sample]:
    yield Sample(
        "sidecache_rules_valid", "1 when the rules file as it is now is in force.", not rules.problems, across="least"
    )
    yield Sample(
        "sidecache_rules_widening", "1 while the rules file waits for somebody to accept that it shares more.",
        bool(rules.widening), across="most",
    )  # fmt: skip
    yield Sample(
        "sidecache_rules_loaded_timestamp_seconds", "When the rules in force came.", rules.loaded_at, across="most"
    )


def of_loop(lag: LoopLag) -> Iterator[Sample]:
    yield Sample(
        "sidecache_loop_lag_seconds", "The longest that something due had to wait for the event loop, lately.",
        lag.seconds, across="each",
    )  # fmt: skip


def of_store(store: Guarded) -> Iterator[Sample | Metric]:
    yield Sample(
        "sidecache_store_up",
        "1 while the store is asked, 0 while the breaker is open.",
        store.state == "closed",
        across="least",
    )
    yield Sample(
        "sidecache_store_rejected_total", "Operations not tried: the breaker was open.", store.rejected, counter=True
    )
    calls = store.calls
    yield Sample(
        "sidecache_store_operations_failed_total", "Operations that failed, by kind.",
        {kind: each.failed for kind, each in calls.items()}, "operation", counter=True,
    )  # fmt: skip
    seconds = HistogramMetricFamily("sidecache_store_seconds", "Time of operations, by kind.", labels=["operation"])
    bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
    for kind, each in calls.items():
        seconds.add_metric([kind], list(zip(bounds, accumulate(each.buckets), strict=True)), each.seconds)
    yield seconds


def about(store: Store) -> dict[str, object]:
    """What the admin port tells of the store."""
    if not isinstance(store, Guarded):
        return {"kind": store.name, "breaker": "none"}
    calls = [
        {"kind": kind, "count": sum(each.buckets), "failed": each.failed, "seconds": round(each.seconds, 6)}
        for kind, each in sorted(store.calls.items())
    ]
    return {
        "kind": store.name, "breaker": store.state, "operations": sum(sum(e.buckets) for e in store.calls.values()),
        "failed": sum(each.failed for each in store.calls.values()), "not_tried": store.rejected, "calls": calls,
    }  # fmt: skip


def is_up(store: Store) -> bool:
    """Whether requests ask it."""
    return not isinstance(store, Guarded) or store.state == "closed"
