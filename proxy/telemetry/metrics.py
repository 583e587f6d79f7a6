"""What is counted? Every outcome, limit and alarm; labels are bounded in number (no path; of tenants the first)."""

from collections import Counter as Counting
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

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

Cell = list[int]  # requests of the ordinary way, of the short one, and bytes of bodies that the cache had for them
Taken = dict[str, Any]  # the counters of one process at one time, as JSON can say them
Labels = tuple[str, str, str, str]  # feature ("": none), result, reason code, tenant ("": none, or one of too many)

MOST_CELLS = 8192  # that is 1 to 3 MB; tenants beyond them are counted together until others were idle for a while

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Told from the start with 0: an alert sees the first of a kind only if it has seen none before.
EVENTS = (
    "assertion-failed assertion-unsigned audit-unwritten auth0-events-heard auth0-events-lost background-failed "
    "counts-lost doorbell-lost doorbell-works event-data-missing event-refused event-too-large event-withheld "
    "event-without-audience event-without-tenant events-lost events-not-stored "
    "jwks-available jwks-changed jwks-expired jwks-unavailable "
    "logout-of-nobody revocations-overflow role-change-of-nobody rules-loaded rules-refused rules-widening "
    "store-available store-evicts store-full store-unavailable tenant-conflict unmatched-write upstream-reachable "
    "upstream-unreachable worker-silent"
).split()

_FAILED = frozenset({Reason.UPSTREAM_FAILED.value, Reason.STALE_IF_ERROR.value})

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
        self._before: Mapping[Labels, int] = {}  # what the cells held at the last turn
        self._durations: dict[str, Distribution] = {}
        self._across: dict[str, Across] = dict(PROCESS)
        registry.register(_Watched(self._answered, self._across))

    def watch(self, read: Callable[[], Iterable[Sample | Metric]]) -> None:
        """Figures that are read when they are scraped."""
        self._registry.register(_Watched(read, self._across))

    def count(self, outcome: Outcome, seconds: float, saved: int = 0) -> None:
        """`saved`: bytes of its body that came from the cache."""
        cell = self.cell(outcome)
        cell[0] += 1
        cell[2] += saved
        self.took(result_of(outcome)).observe(seconds)

    def counter(self, outcome: Outcome) -> Callable[[float], None]:
        """What counts further requests with this outcome, by the seconds that each took."""
        if outcome.tenant:
            return lambda seconds: self.count(outcome, seconds)  # its cell may be given up meanwhile
        cell, took = self.cell(outcome), self.took(result_of(outcome))

        def count(seconds: float) -> None:
            cell[0] += 1
            took.observe(seconds)

        return count

    def took(self, result: str) -> Distribution:
        """How long requests with this result took, those counted at 1 aside."""
        durations = self._durations.get(result)
        if durations is None:
            durations = self._durations[result] = Distribution(BOUNDS)
        return durations

    def cell(self, outcome: Outcome) -> Cell:
        """Where requests with this outcome are counted: at 0 by `count`, at 1 by whoever answers at once.

        Those at 1 take less time than the first bucket of the histogram tells apart. The cell of a tenant is good for
        as long as a prepared answer: after a minute in which nobody has asked for it, `turn` counts it elsewhere.
        """
        labels = (outcome.feature or "", result_of(outcome), outcome.reason.value, outcome.tenant or "")
        cell = self._cells.get(labels)
        return cell if cell is not None else self._new_cell(labels)

    def _new_cell(self, labels: Labels) -> Cell:
        if len(self._cells) >= MOST_CELLS:
            labels = (*labels[:3], "")
        return self._cells.setdefault(labels, [0, 0, 0])

    def totals(self) -> Mapping[tuple[str, str, str], int]:
        """Requests so far by feature ("": none), result and reason code."""
        return {labels: cell[0] + cell[1] for labels, cell in self._sums().items()}

    def taken(self) -> Taken:
        """What the dashboard follows, as of now: it is taken every few seconds, so it is little."""
        results: Counting[str] = Counting()
        at_once = saved = failed = 0
        for (_, result, reason, _), (ordinary, short, body) in self._cells.items():
            results[result] += ordinary + short
            at_once += short  # these are hits
            saved += body
            failed += ordinary + short if reason in _FAILED else 0
        none = Distribution(BOUNDS)
        hits = self._durations.get("hit", none).counts
        others = [each.counts for result, each in self._durations.items() if result != "hit"] or [none.counts]
        return {
            "hits": results["hit"], "misses": results["miss"], "passes": results["pass"], "failed": failed,
            "saved": saved, "hit_seconds": [hits[0] + at_once, *hits[1:]],
            "other_seconds": [sum(each) for each in zip(*others, strict=True)],
        }  # fmt: skip

    def by_tenant(self) -> Mapping[Labels, int]:
        """Requests so far, those of tenants that were idle for a while not told apart any more."""
        return {labels: cell[0] + cell[1] for labels, cell in list(self._cells.items())}  # in another thread, too

    def turn(self) -> Mapping[Labels, int]:
        """What was counted since the last turn; a minute lies between two. Cells of idle tenants are given up.

        A prepared answer counts in the cell it was made with, for ten seconds at most: a cell that has not changed for
        a minute is nobody's.
        """
        counts = self.by_tenant()
        grown = {labels: count - self._before.get(labels, 0) for labels, count in counts.items()}
        for labels, more in grown.items():
            if not more and labels[3]:
                into = self._cells.setdefault((*labels[:3], ""), [0, 0, 0])
                into[:] = map(sum, zip(into, self._cells.pop(labels), strict=True))
        self._before = self.by_tenant()
        return {labels: more for labels, more in grown.items() if more}

    def _sums(self) -> Mapping[tuple[str, str, str], Cell]:
        """The cells of all tenants together."""
        sums: dict[tuple[str, str, str], Cell] = {}
        for (feature, result, reason, _), cell in list(self._cells.items()):
            into = sums.setdefault((feature, result, reason), [0] * len(cell))
            into[:] = map(sum, zip(into, cell, strict=True))
        return sums

    def _answered(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("sidecache_requests", "Requests by feature, result and reason code.")
        at_once: Counting[str] = Counting()
        saved: Counting[str] = Counting()
        for labels, (ordinary, short, body) in self._sums().items():
            # thousands of them: the library's `add_metric` makes the labels anew for each
            requests.samples.append(Figure("sidecache_requests_total", _labels(*labels), ordinary + short))
            at_once[labels[1]] += short
            if body:
                saved[labels[0]] += body
        yield requests
        bodies = CounterMetricFamily(
            "sidecache_hit_bytes", "Bytes of bodies that came from the cache, by feature.", labels=["feature"]
        )
        for feature, body in saved.items():
            bodies.add_metric([feature], body)
        yield bodies
        seconds = HistogramMetricFamily(
            "sidecache_request_seconds", "From the request's head to the response's head.", labels=["result"]
        )
        for result in self._durations.keys() | at_once.keys():
            buckets, total = self._durations.get(result, Distribution(BOUNDS)).cumulated(at_once[result])
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


def result_of(outcome: Outcome) -> str:
    """Answered from the cache, kept for it, or neither."""
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
