"""The text format, byte for byte as the reference implementation writes it."""

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import Metric

from proxy.policy.outcome import Outcome, Reason
from proxy.telemetry.distribution import Distribution
from proxy.telemetry.exposition import exposition
from proxy.telemetry.metrics import Metrics, Sample

VALUES = [0, 1, 999_999, 1_000_000, 123_456_789, 10**15, 0.1, 1e-9, 2.5e21, -3, math.inf, -math.inf, math.nan, True]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_written_as_the_library_does(value):
    registry = CollectorRegistry()
    gauge = Gauge("sidecache_one", 'Help with \\ and "quotes"\nin two lines.', ["b", "a"], registry=registry)
    gauge.labels('a"b\\c\nd', "é").set(value)
    assert exposition(registry.collect()) == generate_latest(registry)
    metric = Metric("sidecache_two", "Two.", "gauge")
    metric.add_sample("sidecache_two", {}, value)
    registry.register(type("One", (), {"collect": lambda _: [metric]})())
    assert exposition(registry.collect()) == generate_latest(registry)


def test_every_kind_is_written_as_the_library_does():
    registry = CollectorRegistry()
    Counter("sidecache_things", "A counter.", registry=registry).inc(3)
    Histogram("sidecache_wait_seconds", "A histogram.", registry=registry).observe(0.3)
    Info("sidecache_thing", "An info.", registry=registry).info({"version": "1"})
    registry.register(type("One", (), {"collect": lambda _: [Metric("sidecache_odd", "What?", "unknown")]})())
    assert exposition(registry.collect()) == generate_latest(registry)


def test_all_that_a_process_tells_is_written_as_the_library_does():
    metrics = Metrics()
    for number, reason in enumerate(Reason):
        metrics.count(Outcome(reason, hit=reason is Reason.FRESH, feature=f"f{number}"), number / 7)
    sizes = Distribution((1, 10))
    for size in (0.5, 1, 5, 100):
        sizes.observe(size)
    metrics.watch(lambda: [Sample("sidecache_l1_bytes", "Bytes.", {"a": 1}, "of"), sizes.metric("sidecache_b", "B.")])
    mine, theirs = (
        text.decode().splitlines() for text in (exposition(metrics.collected()), generate_latest(metrics._registry))
    )
    own = [line for line in mine if "process_" not in line]  # whose figures move
    assert own == [line for line in theirs if "process_" not in line]
    assert 'sidecache_b_bucket{le="1.0"} 2.0' in own
    assert 'sidecache_b_bucket{le="10.0"} 3.0' in own
    assert "sidecache_b_sum 106.5" in own
