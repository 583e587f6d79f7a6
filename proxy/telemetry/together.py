"""What do several processes count together? Their figures as plain values, and those of all of them as one."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Literal

from prometheus_client.core import Metric

# How the values of several processes become one: `each` keeps them apart by a label `worker`.
Across = Literal["sum", "most", "least", "each"]
Figures = list[list[Any]]  # [name, type, documentation, across, [[sample, labels, value], ...]], for JSON

# What the library collects of a process by itself.
PROCESS: Mapping[str, Across] = {"process_start_time_seconds": "least", "process_max_fds": "least"}


def figures(metrics: Iterable[Metric], across: Mapping[str, Across]) -> Figures:
    """One process's metrics as values that JSON can say."""
    return [
        [
            metric.name, metric.type, metric.documentation, across.get(metric.name, "sum"),
            [[each.name, each.labels, _plain(each.value)] for each in metric.samples],
        ]
        for metric in metrics
    ]  # fmt: skip


def together(parts: Mapping[str, Figures]) -> list[Metric]:
    """The metrics of several processes' figures, by the name of each."""
    merged: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for part, families in parts.items():
        for name, kind, text, across, samples in families:
            merged.setdefault(name, Metric(name, text, kind))
            into = values.setdefault(name, {})
            for sample, labels, value in samples:
                own = {**labels, "worker": part} if across == "each" else labels
                key = (sample, tuple(own.items()))
                into[key] = _joined(across, into[key], float(value)) if key in into else float(value)
    for name, metric in merged.items():
        for (sample, pairs), value in values[name].items():
            metric.add_sample(sample, dict(pairs), value)
    return list(merged.values())


def _joined(across: Across, one: float, other: float) -> float:
    return max(one, other) if across == "most" else min(one, other) if across == "least" else one + other


def _plain(value: float) -> float | str:
    return value if isfinite(value) else str(value)
