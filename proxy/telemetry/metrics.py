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

from proxy.policy.outcome import Outcome, Reason
from proxy.telemetry.distribution import Distribution
from proxy.telemetry.together import PROCESS, Across, Figures, figures

Cell = list[int]  # two counts: of the ordinary way and of the short one
Labels = tuple[str, str, str, str]  # feature ("": none), result, reason code, tenant ("": none, or one of too many)

MOST_CELLS = 8192  # that is 1 to 3 MB; tenants beyond them are counted together until others were idle for a while

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
        self._cells: dict[Labels, Cell] = {}
        self._before: dict[Labels, int] = {}  # what the cells held at the last turn
        self._durations: dict[str, Distribution] = {}
        self._counters: dict[tuple[str | None, str, Reason], Callable[[float], None]] = {}
        self._across: dict[str, Across] = dict(PROCESS)
        registry.register(_Watched(self._answered, self._across))

    def watch(self, read: Callable[[], Iterable[Sample | Metric]]) -> None:
        """Figures that are read when they are scraped."""
        self._registry.register(_Watched(read, self._across))

    def count(self, outcome: Outcome, seconds: float) -> None:
        self.cell(outcome)[0] += 1
        self._distribution(_result(outcome)).observe(seconds)

    def _distribution(self, result: str) -> Distribution:
        durations = self._durations.get(result)
        if durations is None:
            durations = self._durations[result] = Distribution(_BOUNDS)
        return durations

    def counter(self, outcome: Outcome) -> Callable[[float], None]:
        """What counts further requests with this outcome, by the seconds that each took."""
        if outcome.tenant:
            return lambda seconds: self.count(outcome, seconds)  # its cell may be given up
        what = outcome.feature, _result(outcome), outcome.reason
        return self._counters.get(what) or self._counter(what, outcome)

    def _counter(self, what: tuple[str | None, str, Reason], outcome: Outcome) -> Callable[[float], None]:
        cell, durations = self.cell(outcome), self._distribution(what[1])

        def count(seconds: float) -> None:
            cell[0] += 1
            durations.observe(seconds)

        self._counters[what] = count
        return count

    def cell(self, outcome: Outcome) -> Cell:
        """Where requests with this outcome are counted: at 0 by `count`, at 1 by whoever answers at once.

        Those at 1 take less time than the first bucket of the histogram tells apart. The cell of a tenant is good for
        as long as a prepared answer: after a minute in which nobody has asked for it, `turn` counts it elsewhere.
        """
        labels = (outcome.feature or "", _result(outcome), outcome.reason.value, outcome.tenant or "")
        cell = self._cells.get(labels)
        return cell if cell is not None else self._new_cell(labels)

    def _new_cell(self, labels: Labels) -> Cell:
        if len(self._cells) >= MOST_CELLS:
            labels = (*labels[:3], "")
        return self._cells.setdefault(labels, [0, 0])

    def totals(self) -> Mapping[tuple[str, str, str], int]:
        """Requests so far by feature ("": none), result and reason code."""
        return {labels: sum(cell) for labels, cell in self._sums().items()}

    def by_tenant(self) -> Mapping[Labels, int]:
        """Requests so far, those of tenants that were idle for a while not told apart any more."""
        return {labels: sum(cell) for labels, cell in self._cells.items()}

    def turn(self) -> Mapping[Labels, int]:
        """What was counted since the last turn; a minute lies between two. Cells of idle tenants are given up.

        A prepared answer counts in the cell it was made with, for ten seconds at most: a cell that has not changed for
        a minute is nobody's.
        """
        counts = {labels: sum(cell) for labels, cell in self._cells.items()}
        grown = {labels: count - self._before.get(labels, 0) for labels, count in counts.items()}
        for labels, more in grown.items():
            if not more and labels[3]:
                into = self._cells.setdefault((*labels[:3], ""), [0, 0])
                into[:] = map(sum, zip(into, self._cells.pop(labels), strict=True))
        self._before = {labels: sum(cell) for labels, cell in self._cells.items()}
        return {labels: more for labels, more in grown.items() if more}

    def _sums(self) -> Mapping[tuple[str, str, str], Cell]:
        """The cells of all tenants together."""
        sums: dict[tuple[str, str, str], Cell] = {}
        for (feature, result, reason, _), cell in self._cells.items():
            into = sums.setdefault((feature, result, reason), [0] * len(cell))
            into[:] = map(sum, zip(into, cell, strict=True))
        return sums

    def _answered(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("sidecache_requests", "Requests by feature, result and reason code.")
        at_once: Counting[str] = Counting()
        for labels, (ordinary, short) in self._sums().items():
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
