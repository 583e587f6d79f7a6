"""What a scrape finds: parseable, named by convention, rising with outcomes, bounded in number."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.telemetry.exposition import exposition
from proxy.telemetry.metrics import EVENTS, MOST_CELLS, Metrics, Sample

HIT = Outcome(Reason.FRESH, hit=True, ttl=10, feature="jobs", key="tenant:org_a:jobs:list", tenant="org_a")
MISS = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs", tenant="org_a")


def scraped(metrics: Metrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(exposition(metrics.collected()).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return scraped(metrics)[name][tuple(sorted(labels.items()))]


@pytest.mark.parametrize(
    ("outcome", "result", "reason"),
    [
        # realistic
        (HIT, "hit", "fresh"),
        (Outcome(Reason.STALE_IF_ERROR, hit=True, ttl=-5, feature="jobs"), "hit", "stale-if-error"),
        (MISS, "miss", "cold"),
        (Outcome(Reason.COLLAPSED, forward=Forward.URI_MISS, collapsed=True, feature="jobs"), "miss", "collapsed"),
        (Outcome(Reason.NO_STORE, forward=Forward.URI_MISS, feature="jobs"), "pass", "no-store"),
        (Outcome(Reason.UPSTREAM_FAILED, forward=Forward.URI_MISS, feature="jobs"), "pass", "upstream-failed"),
    ],
)
def test_each_outcome_raises_its_own_counter_and_histogram(outcome, result, reason):
    metrics = Metrics()
    metrics.count(outcome, 0.003)
    metrics.count(outcome, 0.004)
    assert value(metrics, "sidecache_requests_total", feature="jobs", result=result, reason=reason) == 2
    assert value(metrics, "sidecache_request_seconds_count", result=result) == 2
    assert value(metrics, "sidecache_request_seconds_sum", result=result) == pytest.approx(0.007)
    assert value(metrics, "sidecache_request_seconds_bucket", result=result, le="0.005") == 2
    assert value(metrics, "sidecache_request_seconds_bucket", result=result, le="0.0025") == 0


def test_a_request_without_a_rule_has_no_feature():
    metrics = Metrics()
    metrics.count(Outcome(Reason.NO_RULE, forward=Forward.BYPASS), 0.1)
    assert value(metrics, "sidecache_requests_total", feature="", result="pass", reason="no-rule") == 1


def test_noted_events_are_counted():
    metrics = Metrics()
    for event in ("tenant-conflict", "tenant-conflict", "rules-refused"):
        metrics.note(event)
    assert value(metrics, "sidecache_events_total", event="tenant-conflict") == 2
    assert value(metrics, "sidecache_events_total", event="rules-refused") == 1


def test_watched_figures_are_read_at_each_scrape():
    metrics, entries = Metrics(), [3.0]
    metrics.watch(
        lambda: [
            Sample("sidecache_l1_entries", "Entries.", entries[0]),
            Sample("sidecache_l1_evictions_total", "Evictions.", 7, counter=True),
            Sample("sidecache_rejected_records_total", "By reason.", {"mac": 1, "tenant": 2}, "reason", counter=True),
        ]
    )
    assert value(metrics, "sidecache_l1_entries") == 3
    entries[0] = 4.0
    assert value(metrics, "sidecache_l1_entries") == 4
    assert value(metrics, "sidecache_l1_evictions_total") == 7
    assert value(metrics, "sidecache_rejected_records_total", reason="tenant") == 2


def test_many_tenants_keys_and_times_make_no_more_series():
    metrics = Metrics()
    metrics.count(HIT, 0.1)
    before = exposition(metrics.collected()).count(b"\nsidecache_")
    for number in range(10_000):
        metrics.count(replace(HIT, tenant=f"org_{number}", key=f"tenant:org_{number}:jobs:list", ttl=number), number)
    assert exposition(metrics.collected()).count(b"\nsidecache_") == before


def test_every_event_is_there_before_it_happens():
    for event in EVENTS:
        assert value(Metrics(), "sidecache_events_total", event=event) == 0


def test_a_label_value_that_needs_it_is_escaped():
    metrics = Metrics()
    metrics.note('a"b\\c\nd')
    assert value(metrics, "sidecache_events_total", event='a"b\\c\nd') == 1


def test_two_sidecars_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.note("x")
    assert (("event", "x"),) not in scraped(other)["sidecache_events_total"]


def hit_of(tenant: str) -> Outcome:
    return Outcome(Reason.FRESH, hit=True, feature="jobs", tenant=tenant)


def test_tenants_are_counted_apart_and_scraped_together():
    metrics = Metrics()
    for tenant, count in (("org_a", 3), ("org_b", 1)):
        metrics.cell(hit_of(tenant))[1] += count
    metrics.count(hit_of("org_a"), 0.1)
    labels = {"feature": "jobs", "result": "hit", "reason": "fresh"}
    assert value(metrics, "sidecache_requests_total", **labels) == 5
    assert metrics.totals() == {("jobs", "hit", "fresh"): 5}
    assert metrics.by_tenant() == {("jobs", "hit", "fresh", "org_a"): 4, ("jobs", "hit", "fresh", "org_b"): 1}


def test_whatever_way_a_request_took_it_counts_for_its_own_tenant_and_is_timed():
    metrics = Metrics()
    keep = metrics.counter(hit_of("org_b"))
    passing = metrics.counter(Outcome(Reason.NO_RULE))
    for tenant in ("org_a", "org_b", "org_a"):
        metrics.count(hit_of(tenant), 0.1)
    for _ in range(2):
        metrics.turn()  # nobody is counted meanwhile: their cells are given up
    keep(0.1)
    passing(0.1)
    hits = {labels[3]: count for labels, count in metrics.by_tenant().items() if labels[1] == "hit"}
    assert hits == {"": 3, "org_b": 1}
    assert metrics.totals() == {("jobs", "hit", "fresh"): 4, ("", "pass", "no-rule"): 1}
    assert value(metrics, "sidecache_request_seconds_count", result="hit") == 4


def test_a_turn_tells_what_has_grown_and_idle_tenants_are_counted_on_together():
    metrics = Metrics()
    busy = metrics.cell(hit_of("org_a"))
    busy[1] += 2
    metrics.cell(hit_of("org_b"))[1] += 7
    assert sorted(metrics.turn().values()) == [2, 7]
    busy[1] += 1
    assert metrics.turn() == {("jobs", "hit", "fresh", "org_a"): 1}
    assert metrics.cell(hit_of("org_a")) is busy
    assert metrics.by_tenant() == {("jobs", "hit", "fresh", "org_a"): 3, ("jobs", "hit", "fresh", ""): 7}
    assert metrics.totals() == {("jobs", "hit", "fresh"): 10}
    assert metrics.turn() == {}
    metrics.cell(hit_of("org_b"))[1] += 1
    assert metrics.turn() == {("jobs", "hit", "fresh", "org_b"): 1}


def test_of_too_many_tenants_the_later_ones_are_counted_together_until_there_is_room():
    metrics = Metrics()
    for number in range(MOST_CELLS + 10):
        metrics.cell(hit_of(f"org_{number}"))[1] += 1
    counts = metrics.by_tenant()
    assert len(counts) == MOST_CELLS + 1
    assert counts["jobs", "hit", "fresh", ""] == 10
    for _ in range(2):
        metrics.turn()
    metrics.cell(hit_of("late"))[1] += 1
    assert metrics.by_tenant()["jobs", "hit", "fresh", "late"] == 1
    assert metrics.totals() == {("jobs", "hit", "fresh"): MOST_CELLS + 11}


def test_totals_count_both_ways_by_feature_result_and_reason():
    metrics = Metrics()
    hit = Outcome(Reason.FRESH, hit=True, feature="jobs")
    metrics.count(hit, 0.1)
    metrics.cell(hit)[1] += 2
    metrics.count(Outcome(Reason.NO_RULE), 0.1)
    assert metrics.totals() == {("jobs", "hit", "fresh"): 3, ("", "pass", "no-rule"): 1}


def test_a_counter_counts_what_is_no_tenants_where_all_is_counted():
    metrics = Metrics()
    passed = Outcome(Reason.NO_RULE, forward=Forward.BYPASS)
    count = metrics.counter(passed)
    count(0.2)
    metrics.count(passed, 0.2)
    metrics.counter(replace(passed, reason=Reason.HOST))(0.2)
    assert metrics.totals() == {("", "pass", "no-rule"): 2, ("", "pass", "host-not-served"): 1}
    assert value(metrics, "sidecache_request_seconds_count", result="pass") == 3


def test_each_tenant_has_its_own_count_of_what_came_out_alike():
    metrics = Metrics()
    for tenant, times in (("org_a", 2), ("org_b", 3)):
        for _ in range(times):
            metrics.count(replace(MISS, tenant=tenant), 0.01)
    assert {labels[3]: count for labels, count in metrics.by_tenant().items()} == {"org_a": 2, "org_b": 3}


def test_each_tenant_of_the_ordinary_way_is_counted_as_itself_also_after_it_was_idle():
    metrics = Metrics()
    counts = {tenant: metrics.counter(hit_of(tenant)) for tenant in ("org_a", "org_b")}
    for count in counts.values():
        count(0.001)
    assert metrics.by_tenant() == {("jobs", "hit", "fresh", "org_a"): 1, ("jobs", "hit", "fresh", "org_b"): 1}
    for _ in range(2):
        metrics.turn()
    for count in counts.values():
        count(0.001)
    assert metrics.totals() == {("jobs", "hit", "fresh"): 4}


def test_bytes_that_came_from_the_cache_are_counted_by_feature_whatever_the_way():
    metrics = Metrics()
    metrics.count(hit_of("org_a"), 0.1, 1000)
    cell = metrics.cell(hit_of("org_b"))
    cell[1] += 1
    cell[2] += 500
    metrics.count(Outcome(Reason.NO_RULE), 0.1)
    assert value(metrics, "sidecache_hit_bytes_total", feature="jobs") == 1500
    assert metrics.totals() == {("jobs", "hit", "fresh"): 2, ("", "pass", "no-rule"): 1}
    metrics.turn()
    metrics.turn()  # idle tenants' bytes stay counted
    assert value(metrics, "sidecache_hit_bytes_total", feature="jobs") == 1500


def test_what_a_dashboard_follows_is_taken_at_once():
    metrics = Metrics()
    none = metrics.taken()
    assert (none["hits"], none["saved"], sum(none["hit_seconds"]), sum(none["other_seconds"])) == (0, 0, 0, 0)
    metrics.count(hit_of("org_a"), 0.02, 7)
    metrics.cell(hit_of("org_a"))[1] += 2
    metrics.count(Outcome(Reason.COLD, stored=True), 0.02)
    metrics.count(Outcome(Reason.UPSTREAM_FAILED), 40.0)
    taken = metrics.taken()
    assert [taken[name] for name in ("hits", "misses", "passes", "failed", "saved")] == [3, 1, 1, 1, 7]
    assert (taken["hit_seconds"][0], sum(taken["hit_seconds"])) == (2, 3)
    assert (taken["other_seconds"][-1], sum(taken["other_seconds"])) == (1, 2)
