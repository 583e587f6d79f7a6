"""What is counted? Every outcome, limit and alarm; labels are bounded in number (never a path or a tenant)."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from proxy.policy.outcome import Outcome

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "sidecache_requests", "Requests by feature, result and reason code.", ["feature", "result", "reason"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "sidecache_request_seconds", "From the request's head to the response's head.", ["result"],
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )  # fmt: skip
        self.events = Counter(
            "sidecache_events", "What an operator should hear of: unmatched-write, tenant-conflict, ...",
            ["event"], registry=registry,
        )  # fmt: skip
        # Bound children: `labels()` costs more than the increment.
        self._bound: dict[tuple[str, str, str], Counter] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def count(self, outcome: Outcome, seconds: float) -> None:
        result = "hit" if outcome.hit else "miss" if outcome.stored or outcome.collapsed else "pass"
        labels = (outcome.feature or "", result, outcome.reason.value)
        bound = self._bound.get(labels)
        if bound is None:
            bound = self._bound[labels] = self.requests.labels(*labels)
        bound.inc()
        self.seconds.labels(result).observe(seconds)

    def note(self, event: str) -> None:
        self.events.labels(event).inc()

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)
