"""What is counted? Every outcome, limit and alarm; labels are bounded in number (no path; of tenants the first)."""

from collections import Counter as Counting
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample as Figure

from proxy.policy.outcome import Outcome
from proxy.telemetry.distribution import Distribution
from proxy.telemetry.together import PROCESS, Across, Figures, figures

Cell = list[int]  # two counts: of the ordinary way and of the short one

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Told from the start with 0: an alert sees the first of a kind only if it has seen none before.
EVENTS = (
    "assertion-failed audit-unwritten background-failed doorbell-lost doorbell-works jwks-available jwks-changed "
    "jwks-expired jwks-unavailable rules-loaded rules-refused rules-widening store-available store-evicts store-full "
    "store-unavailable tenant-conflict unmatched-write upstream-reachable upstream-unreachable worker-silent"
).split()

disable_created_metrics()  # type: ignore[no-untyped-call]


class Sample(NamedTuple):
    """One figure as of now; with a `label`, one for each of its values."""

    name: str
    text: str
    value: float | Mapping[str, float]
    label: str = ""
    counter: bool = False  # it only rises: its name ends in _total
    across: Across = "sum"  # how those of several processes become one


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._events = Counter(
            "sidecache_events", "What an operator should hear of: unmatched-write, tenant-conflict, ...",
            ["event"], registry=registry,
        )  # fmt: skip
        for event in EVENTS:
            self._events.labels(event)
        self._cells: dict[tuple[str, str, str], Cell] = {}
        self._durations: dict[str, Distribution] = {}
        self._across: dict[str, Across] = dict(PROCESS)
        registry.register(_Watched(self._answered, self._across))

    def watch(self, read: Callable[[], Iterable[Sample | Metric]]) -> None:
        """Figures that are read when they are scraped."""
        self._registry.register(_Watched(read, self._across))

    def count(self, outcome: Outcome, seconds: float) -> None:
        self.cell(outcome)[0] += 1
        result = _result(outcome)
        durations = self._durations.get(result)
        if durations is None:
            durations = self._durations[result] = Distribution(_BOUNDS)
        durations.observe(seconds)

    def cell(self, outcome: Outcome) -> Cell:
        """Where requests with this outcome are counted: at 0 by `count`, at 1 by whoever answers at once.

        Those at 1 take less time than the first bucket of the histogram tells apart.
        """
        labels = (outcome.feature or "", _result(outcome), outcome.reason.value)
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = [0, 0]
        return cell

    def totals(self) -> Mapping[tuple[str, str, str], int]:
        """Requests so far by feature ("": none), result and reason code."""
        return {labels: sum(cell) for labels, cell in list(self._cells.items())}

    def _answered(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("sidecache_requests", "Requests by feature, result and reason code.")
        at_once: Counting[str] = Counting()
        for labels, (ordinary, short) in list(self._cells.items()):
            # thousands of them: the library's `add_metric` makes the labels anew for each
            requests.samples.append(Figure("sidecache_requests_total", _labels(*labels), ordinary + short))
            at_once[labels[1]] += short
        yield requests
        seconds = HistogramMetricFamily(
            "sidecache_request_seconds", "From the request's head to the response's head.", labels=["result"]
        )
        for result in self._durations.keys() | at_once.keys():
            buckets, total = self._durations.get(result, Distribution(_BOUNDS)).cumulated(at_once[result])
            seconds.add_metric([result], buckets, total)
        yield seconds

    def note(self, event: str) -> None:
        self._events.labels(event).inc()

    def collected(self) -> list[Metric]:
        """The figures as of now, to be written by `exposition`."""
        return list(self._registry.collect())

    def figures(self) -> Figures:
        """The same as values, for an exposition of several processes."""
        return figures(self._registry.collect(), self._across)


@cache
def _labels(feature: str, result: str, reason: str) -> dict[str, str]:
    return {"feature": feature, "result": result, "reason": reason}


def _result(outcome: Outcome) -> str:
    return "hit" if outcome.hit else "miss" if outcome.stored or outcome.collapsed else "pass"


class _Watched(Collector):
    def __init__(self, read: Callable[[], Iterable[Sample | Metric]], across: dict[str, Across]) -> None:
        self._read = read
        self._across = across

    def collect(self) -> Iterator[Metric]:
        for sample in self._read():
            if isinstance(sample, Metric):
                yield sample
                continue
            self._across[sample.name] = sample.across
            family = CounterMetricFamily if sample.counter else GaugeMetricFamily
            if isinstance(sample.value, Mapping):
                metric = family(sample.name, sample.text, labels=[sample.label])
                for label, value in sample.value.items():
                    metric.add_metric([label], value)
                yield metric
            else:
                yield family(sample.name, sample.text, value=sample.value)
