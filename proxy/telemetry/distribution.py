"""How are values spread? Counts by upper bound, and the sum; cheaper than the library's histogram, which locks."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily


class Distribution:
    """`bounds` rise; a value counts under the first that it does not exceed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self, smallest: int = 0) -> tuple[list[tuple[str, float]], float]:
        """Buckets as the exposition has them, and the sum. `smallest`: so many more below the first bound."""
        counts = accumulate([self.counts[0] + smallest, *self.counts[1:]])
        bounds = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(bounds, counts, strict=True)), self.total

    def metric(self, name: str, text: str) -> HistogramMetricFamily:
        buckets, total = self.cumulated()
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)
