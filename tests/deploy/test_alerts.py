"""Every alert fires when it should and is silent when it should be, as Prometheus evaluates it."""

import pytest

from tests.deploy.alerting import ALERTS, ROOT, RULES, Fires, Series, Silent, needs_promtool, promtool, unmet

pytestmark = needs_promtool

ONE = {"instance": "pod-1", "job": "sidecache"}
INSTANCE = {"instance": "pod-1"}
POD = {"namespace": "portal", "pod": "pod-1"}
LE = ("0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "+Inf")


def named(name: str, **labels: str) -> str:
    return f"{name}{{{','.join(f'{key}={value!r}'.replace(chr(39), chr(34)) for key, value in labels.items())}}}"


def of(name: str, values: str, **labels: str) -> Series:
    return {named(name, **ONE, **labels): values}


def event(name: str, values: str) -> Series:
    return of("sidecache_events_total", values, event=name)


def requests(values: str, **labels: str) -> Series:
    return of("sidecache_requests_total", values, **labels)


def took(name: str, seconds: float, **labels: str) -> Series:
    """A histogram of ten calls a minute that all take so long."""
    buckets = {le: "0+10x60" if le == "+Inf" or float(le) >= seconds else "0x60" for le in LE}
    return {named(f"{name}_bucket", **ONE, **labels, le=le): values for le, values in buckets.items()}


def published(result: str, values: str) -> Series:
    return of("sidecache_events_published_total", values, result=result)


def entries(what: str, values: str) -> Series:
    return of("sidecache_event_entries_total", values, what=what)


def of_pod(name: str, values: str, **labels: str) -> Series:
    return {named(name, **POD, container="sidecache", **labels): values}


def resident(values: str) -> Series:
    return {named("process_resident_memory_bytes", **ONE, **POD): values}


LIMIT = of_pod("kube_pod_init_container_resource_limits", "400x60", resource="memory", unit="byte")
DAY = 24 * 60

CASES: dict[str, list[Fires | Silent]] = {
    "SidecacheDown": [
        Fires(of("up", "1x3 0x10"), "7m", ONE),
        Silent(of("up", "1x3 0x10"), "5m"),  # not for two minutes yet
        Silent(of("up", "1x3 0 1x10"), "10m"),
        Silent({named("up", instance="db", job="postgres"): "0x20"}, "10m"),
    ],
    "SidecacheAbsent": [
        Fires({named("up", instance="db", job="postgres"): "1x30"}, "20m", {"job": "sidecache"}),
        Fires(of("up", "1x10 _x30"), "35m", {"job": "sidecache"}),
        Silent(of("up", "0x30"), "20m"),
        Silent(of("up", "1x10 _x30"), "20m"),
    ],
    "SidecacheLoopLag": [
        Fires(of("sidecache_loop_lag_seconds", "0.3x20", worker="0")
              | of("sidecache_loop_lag_seconds", "0x20", worker="1"), "10m", INSTANCE, "300ms"),
        Silent(of("sidecache_loop_lag_seconds", "0.2x20", worker="0"), "10m"),
        Silent(of("sidecache_loop_lag_seconds", "0x5 2 0x10", worker="0"), "10m"),  # a burst
    ],
    "SidecacheWorkersRestarting": [
        Fires(of("sidecache_worker_restarts_total", "0x5 4x10"), "10m", ONE),
        Silent(of("sidecache_worker_restarts_total", "0x5 1x10"), "10m"),
        Silent(of("sidecache_worker_restarts_total", "9x60"), "30m"),  # long ago
    ],
    "SidecacheBackgroundFailed": [
        Fires(event("background-failed", "0x5 1x5"), "8m", ONE | {"event": "background-failed"}),
        Silent(event("background-failed", "0x30"), "20m"),
        Silent(event("background-failed", "0x5 1x60"), "40m"),
    ],
    "SidecacheFileDescriptors": [
        Fires(of("process_open_fds", "900x20") | of("process_max_fds", "1000x20"), "10m", ONE, "90%"),
        Silent(of("process_open_fds", "700x20") | of("process_max_fds", "1000x20"), "10m"),
        Silent({named("process_open_fds", instance="db", job="postgres"): "900x20",
                named("process_max_fds", instance="db", job="postgres"): "1000x20"}, "10m"),  # somebody else's
    ],
    "SidecacheRulesRefused": [
        Fires(of("sidecache_rules_valid", "1x2 0x20") | of("sidecache_rules_widening", "0x30"), "10m", ONE),
        Silent(of("sidecache_rules_valid", "1x30") | of("sidecache_rules_widening", "0x30"), "10m"),
        Silent(of("sidecache_rules_valid", "0x30") | of("sidecache_rules_widening", "1x30"), "10m"),  # the next one's
    ],
    "SidecacheRulesWidening": [
        Fires(of("sidecache_rules_widening", "0x2 1x20"), "10m", ONE),
        Silent(of("sidecache_rules_widening", "0x30"), "10m"),
    ],
    "SidecacheStoreUnavailable": [
        Fires(of("sidecache_store_up", "1x3 0x10"), "7m", ONE),
        Silent(of("sidecache_store_up", "1x3 0 1x10"), "7m"),
        Silent(of("sidecache_store_up", "1x20"), "7m"),
    ],
    "SidecacheBreakerFlapping": [
        Fires(of("sidecache_store_up", "1 0 1 0 1 0 1 0 1 0 1"), "10m", ONE),
        Silent(of("sidecache_store_up", "1x3 0x3 1x10"), "10m"),
    ],
    "SidecacheStoreSlow": [
        Fires(took("sidecache_store_seconds", 0.08, operation="read"), "20m", INSTANCE, "99.5ms"),
        Silent(took("sidecache_store_seconds", 0.004, operation="read"), "20m"),
        Silent(took("sidecache_store_seconds", 0.08, operation="read"), "5m"),
    ],
    "SidecachePurgesPending": [
        Fires(of("sidecache_epochs_pending", "0x2 3x10"), "6m", ONE),
        Silent(of("sidecache_epochs_pending", "0x2 3 0x10"), "6m"),
    ],
    "SidecacheDoorbellLost": [
        Fires(event("doorbell-lost", "0x2 1x20") | event("doorbell-works", "0x22"), "10m", ONE),
        Silent(event("doorbell-lost", "0x2 1x20") | event("doorbell-works", "0x4 1x20"), "12m"),
        Silent(event("doorbell-lost", "0x30") | event("doorbell-works", "0x30"), "12m"),
    ],
    "SidecacheStoreFull": [
        Fires(event("store-full", "0x5 1x5"), "8m", ONE | {"event": "store-full"}),
        Silent(event("store-full", "0x30"), "20m"),
    ],
    "SidecacheStoreEvicts": [
        Fires(event("store-evicts", "0 1x20"), "5m", ONE | {"event": "store-evicts"}),
        Silent(event("store-evicts", "0x30"), "20m"),
    ],
    "SidecacheHitRatioFallen": [
        Fires(requests(f"0+54x{DAY} 77760+12x120", feature="jobs", result="hit", reason="fresh")
              | requests(f"0+6x{DAY} 8640+48x120", feature="jobs", result="miss", reason="cold"),
              "25h45m", {"feature": "jobs"}, "20%"),
        # after a start no hit was ever counted: the series is not there
        Fires(requests(f"0+54x{DAY} _x120", feature="jobs", result="hit", reason="fresh")
              | requests(f"0+6x{DAY} 8640+60x120", feature="jobs", result="miss", reason="cold"),
              "25h45m", {"feature": "jobs"}, "0%"),
        Silent(requests(f"0+54x{DAY} 77760+54x120", feature="jobs", result="hit", reason="fresh")
               | requests(f"0+6x{DAY} 8640+6x120", feature="jobs", result="miss", reason="cold"), "25h45m"),
        # next to no traffic
        Silent(requests(f"0+54x{DAY} 77760+1x120", feature="jobs", result="hit", reason="fresh")
               | requests(f"0+6x{DAY} 8640+9x120", feature="jobs", result="miss", reason="cold"), "25h45m"),
    ],
    "SidecacheMemoryFull": [
        Fires(of("sidecache_l1_bytes", "95x60") | of("sidecache_l1_max_bytes", "100x60")
              | of("sidecache_l1_evictions_total", "0+600x60"), "50m", ONE),
        Silent(of("sidecache_l1_bytes", "95x60") | of("sidecache_l1_max_bytes", "100x60")
               | of("sidecache_l1_evictions_total", "0+6x60"), "50m"),
        Silent(of("sidecache_l1_bytes", "50x60") | of("sidecache_l1_max_bytes", "100x60")
               | of("sidecache_l1_evictions_total", "0+600x60"), "50m"),
    ],
    "SidecacheTenantFillsMemory": [
        Fires(of("sidecache_l1_top_bytes", "60x60", tenant="org_a")
              | of("sidecache_l1_top_bytes", "20x60", tenant="org_b")
              | of("sidecache_l1_max_bytes", "100x60"), "40m", ONE | {"tenant": "org_a"}, "60%"),
        Silent(of("sidecache_l1_top_bytes", "40x60", tenant="org_a") | of("sidecache_l1_max_bytes", "100x60"), "40m"),
    ],
    "SidecacheUnmatchedWrites": [
        Fires(event("unmatched-write", "0+5x200"), "2h30m", ONE | {"event": "unmatched-write"}),
        Silent(event("unmatched-write", "0+1x200"), "2h30m"),
    ],
    "SidecacheUpstreamUnreachable": [
        Fires(event("upstream-unreachable", "0x2 1x20") | event("upstream-reachable", "0x22"),
              "5m", ONE),
        Silent(event("upstream-unreachable", "0x2 1x20") | event("upstream-reachable", "0x3 1x20"), "8m"),
    ],
    "SidecacheUpstreamErrors": [
        Fires(requests("0+95x30", feature="jobs", result="pass", reason="no-rule")
              | requests("0+3x30", feature="jobs", result="pass", reason="upstream-failed")
              | requests("0+2x30", feature="jobs", result="hit", reason="stale-if-error"), "20m", INSTANCE, "5%"),
        Silent(requests("0+99x30", feature="jobs", result="pass", reason="no-rule")
               | requests("0+1x30", feature="jobs", result="pass", reason="upstream-failed"), "20m"),
        Silent(requests("5x30", feature="jobs", result="pass", reason="upstream-failed"), "20m"),  # nobody asks
    ],
    "SidecacheSlowUpstream": [
        Fires(took("sidecache_request_seconds", 4, result="pass"), "20m", INSTANCE, "4.875s"),
        Silent(took("sidecache_request_seconds", 0.4, result="pass"), "20m"),
        Silent(took("sidecache_request_seconds", 4, result="hit"), "20m"),
    ],
    "SidecacheSlowHits": [
        Fires(took("sidecache_request_seconds", 0.2, result="hit"), "20m", INSTANCE, "248.5ms"),
        Silent(took("sidecache_request_seconds", 0.004, result="hit"), "20m"),
        Silent(took("sidecache_request_seconds", 4, result="pass"), "20m"),
    ],
    "SidecacheEventsLost": [
        Fires(published("lost", "0x5 2x5") | entries("gaps", "0x10"), "8m", INSTANCE),
        Fires(published("lost", "0x10") | entries("gaps", "0x5 1x5"), "8m", INSTANCE),
        Silent(published("lost", "0x10") | entries("gaps", "0x10") | published("stored", "0+9x10"), "8m"),
    ],
    "SidecacheEventsWaiting": [
        Fires(of("sidecache_events_waiting", "0x5 3x20"), "12m", INSTANCE),
        Silent(of("sidecache_events_waiting", "0x5 3 0 3 0 3 0 3 0 3x0"), "12m"),  # they pass
        Silent(of("sidecache_events_waiting", "0x5 3x3"), "8m"),
    ],
    "SidecacheEventsRefused": [
        Fires(published("refused", "0x5 1x5"), "8m", INSTANCE),
        Silent(published("refused", "0x10") | published("stored", "0+9x10"), "8m"),
    ],
    "SidecacheEventsLate": [
        Fires(took("sidecache_event_delivery_seconds", 1.5), "20m", INSTANCE, "2.485s"),
        Silent(took("sidecache_event_delivery_seconds", 0.01), "20m"),
    ],
    "SidecacheEventStreamsNearLimit": [
        Fires(of("sidecache_event_streams", "45x20") | of("sidecache_event_streams_max", "50x20"),
              "10m", INSTANCE, "90%"),
        Silent(of("sidecache_event_streams", "35x20") | of("sidecache_event_streams_max", "50x20"), "10m"),
    ],
    "SidecacheEventStreamsRefused": [
        Fires(of("sidecache_event_streams_refused_total", "0x5 1x5", limit="user"), "8m", INSTANCE | {"limit": "user"}),
        Silent(of("sidecache_event_streams_refused_total", "0x10", limit="user"), "8m"),
    ],
    "SidecacheEventReadersSlow": [
        Fires(of("sidecache_event_streams_ended_total", "0+3x30", why="overflow"), "20m", INSTANCE),
        Silent(of("sidecache_event_streams_ended_total", "0+1x30", why="overflow"), "20m"),
        Silent(of("sidecache_event_streams_ended_total", "0+9x30", why="lifetime"), "20m"),
    ],
    "SidecacheEventEntriesRejected": [
        Fires(entries("rejected", "0x5 1x5"), "8m", INSTANCE),
        Silent(entries("rejected", "0x10") | entries("gaps", "0+9x10"), "8m"),
    ],
    "SidecacheCountsLost": [
        Fires(of("sidecache_count_additions_total", "0x5 1x5", fate="unanswered"), "8m", INSTANCE),
        Silent(of("sidecache_count_additions_total", "0+9x10", fate="taken"), "8m"),
    ],
    "SidecacheCountsWaiting": [
        Fires(of("sidecache_counts_waiting", "0x5 3x20"), "15m", INSTANCE),
        Silent(of("sidecache_counts_waiting", "0x5 3x5 0x10"), "15m"),
    ],
    "SidecacheCountValuesMany": [
        Fires(of("sidecache_count_values_total", "0x5 1x5"), "8m", INSTANCE),
        Silent(of("sidecache_count_values_total", "0x10"), "8m"),
    ],
    "SidecacheTenantConflicts": [
        Fires(event("tenant-conflict", "0+12x30"), "20m", ONE | {"event": "tenant-conflict"}),
        Silent(event("tenant-conflict", "0+3x30"), "20m"),
    ],
    "SidecacheAdminDenied": [
        Fires(of("sidecache_admin_denied_total", "0+20x30", status="401"), "15m", INSTANCE | {"status": "401"}),
        Silent(of("sidecache_admin_denied_total", "0+2x30", status="401"), "15m"),  # a forgotten token now and then
    ],
    "SidecacheAssertionFailed": [
        Fires(event("assertion-failed", "0x5 1x5"), "8m", ONE | {"event": "assertion-failed"}),
        Silent(event("assertion-failed", "0x30"), "20m"),
    ],
    "SidecacheRecordsRejected": [
        Fires(of("sidecache_records_rejected_total", "0x5 2x5", reason="wrong-tenant"), "8m",
              INSTANCE | {"reason": "wrong-tenant"}),
        Silent(of("sidecache_records_rejected_total", "0x5 2x5", reason="unknown-version"), "8m"),  # another version's
        Silent(of("sidecache_records_rejected_total", "0x30", reason="wrong-tenant"), "8m"),
    ],
    "SidecacheKeysUnavailable": [
        Fires(requests("0+5x30", feature="jobs", result="pass", reason="keys-unavailable"), "15m", INSTANCE),
        Silent(requests("0x2 4x30", feature="jobs", result="pass", reason="keys-unavailable"), "15m"),  # a start
    ],
    "SidecacheAuditUnwritten": [
        Fires(event("audit-unwritten", "0x5 1x5"), "8m", ONE | {"event": "audit-unwritten"}),
        Silent(event("audit-unwritten", "0x30"), "20m"),
    ],
    "SidecacheRestarted": [
        Fires(of_pod("kube_pod_init_container_status_restarts_total", "0x5 1x5 2x5"), "14m",
              POD | {"container": "sidecache"}),
        Silent(of_pod("kube_pod_init_container_status_restarts_total", "0x5 1x20"), "14m"),
        Silent(of_pod("kube_pod_init_container_status_restarts_total", "7x90"), "80m"),
    ],
    "SidecacheMemoryNearLimit": [
        Fires(resident("380x60") | LIMIT, "20m", POD, "95%"),
        Silent(resident("300x60") | LIMIT, "20m"),
        Silent(resident("380x60"), "20m"),  # no limit, or no kube-state-metrics
        Silent(resident("380x60") | {named("kube_pod_init_container_resource_limits", **POD, container="migrate",
                                           resource="memory", unit="byte"): "400x60"}, "20m"),
    ],
}  # fmt: skip


def test_promtool_accepts_the_rules():
    done = promtool("check", "rules", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_promtool_accepts_the_scrape_configuration(tmp_path):
    text, found = (
        (ROOT / "deploy" / "monitoring" / "scrape.yaml").read_text(),
        "kubernetes_sd_configs:\n      - role: pod\n",
    )
    assert found in text
    # Debian's promtool knows nothing of Kubernetes; the rest is the same
    file = tmp_path / "scrape.yaml"
    file.write_text(text.replace(found, "static_configs:\n      - targets: ['a:1']\n"))
    done = promtool("check", "config", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_cases_of_both_kinds():
    assert CASES.keys() == ALERTS.keys()
    for alert, cases in CASES.items():
        assert {type(case) for case in cases} == {Fires, Silent}, alert


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_only_then(alert, tmp_path):
    assert unmet(tmp_path, alert, *CASES[alert]) == ""


def test_the_check_sees_an_alert_that_does_what_it_should_not(tmp_path):
    fires, silent, *_ = CASES["SidecacheDown"]
    assert isinstance(fires, Fires)
    assert "FAILED" in unmet(tmp_path, "SidecacheDown", Silent(fires.series, fires.at))
    assert "FAILED" in unmet(tmp_path, "SidecacheDown", Fires(silent.series, silent.at, fires.labels))
    assert "FAILED" in unmet(tmp_path, "SidecacheDown", Fires(fires.series, fires.at, {**ONE, "instance": "pod-2"}))
