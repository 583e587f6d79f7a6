"""What is counted? Every outcome, limit and alarm; labels are bounded in number (never a path or a tenant)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.policy.outcome import Outcome

disable_created_metrics()  # type: ignore[no-untyped-call]


class Sample(NamedTuple):
    """One figure as of now; with a `label`, one for each of its values."""

    name: str
    text: str
    value: float | Mapping[str, float]
    label: str = ""
    counter: bool = False  # it only rises: its name ends in _total


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "sidecache_requests", "Requests by feature, result and reason code.", ["feature", "result", "reason"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "sidecache_request_seconds", "From the request's head to the response's head.", ["result"],
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )  # fmt: skip
        self._events = Counter(
            "sidecache_events", "What an operator should hear of: unmatched-write, tenant-conflict, ...",
            ["event"], registry=registry,
        )  # fmt: skip
        # Bound children: `labels()` costs more than the increment.
        self._bound: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}

    def watch(self, read: Callable[[], Iterable[Sample]]) -> None:
        """Figures that are read when they are scraped."""
        self._registry.register(_Watched(read))

    def count(self, outcome: Outcome, seconds: float) -> None:
        result = "hit" if outcome.hit else "miss" if outcome.stored or outcome.collapsed else "pass"
        labels = (outcome.feature or "", result, outcome.reason.value)
        bound = self._bound.get(labels)
        if bound is None:
            bound = self._bound[labels] = (self._requests.labels(*labels), self._seconds.labels(result))
        requests, durations = bound
        requests.inc()
        durations.observe(seconds)

    def note(self, event: str) -> None:
        self._events.labels(event).inc()

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)


class _Watched(Collector):
    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for sample in self._read():
            family = CounterMetricFamily if sample.counter else GaugeMetricFamily
            if isinstance(sample.value, Mapping):
                metric = family(sample.name, sample.text, labels=[sample.label])
                for label, value in sample.value.items():
                    metric.add_metric([label], value)
                yield metric
            else:
                yield family(sample.name, sample.text, value=sample.value)
