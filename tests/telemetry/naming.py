"""What `promtool check metrics` complains of, without promtool: the naming convention of Prometheus.

https://prometheus.io/docs/practices/naming/ and the checks of client_golang's promlint, which promtool runs.
"""

import re
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

# What is not a base unit, with its base unit.
_UNITS = {
    "milliseconds": "seconds", "microseconds": "seconds", "nanoseconds": "seconds", "minutes": "seconds",
    "hours": "seconds", "days": "seconds", "weeks": "seconds", "ms": "seconds", "us": "seconds", "ns": "seconds",
    "kilobytes": "bytes", "megabytes": "bytes", "gigabytes": "bytes", "kib": "bytes", "mib": "bytes", "bits": "bytes",
    "percent": "ratio", "percentage": "ratio", "celsius_degrees": "celsius", "fahrenheit": "celsius",
    "kilograms": "grams", "milliamperes": "amperes", "millivolts": "volts",
}  # fmt: skip
_BASE = frozenset({"seconds", "bytes", "ratio"})
_TYPES = frozenset({"counter", "gauge", "histogram", "summary", "untyped", "metric"})
_LABEL = re.compile(r"[a-z_][a-z0-9_]*")


def complaints(text: str) -> Iterator[str]:
    """One line for each, of an exposition in the text format."""
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for family in text_string_to_metric_families(text):
        # the parser takes the suffix off a counter's name
        name = family.name + ("_total" if family.type == "counter" else "")
        yield from (f"{name}: {each}" for each in _of_family(name, family.type, family.documentation))
        for sample in family.samples:
            series = (sample.name, tuple(sorted(sample.labels.items())))
            if series in seen:
                yield f"{name}: {series} is there twice"
            seen.add(series)
            for label in sample.labels:
                if _LABEL.fullmatch(label) is None or label.startswith("__"):
                    yield f"{name}: label {label} is not snake_case"
                elif label == "le" and family.type != "histogram":
                    yield f"{name}: label le is for histograms"
                elif label in name.split("_") and label not in ("version",):
                    yield f"{name}: its name contains the label {label}"


def _of_family(name: str, kind: str, text: str) -> Iterator[str]:
    words = name.split("_")
    if not text.strip():
        yield "has no help"
    elif not text.rstrip().endswith("."):
        yield "its help is no sentence"
    if kind == "unknown":
        yield "has no type"
    if re.fullmatch(r"(sidecache|process)(_[a-z][a-z0-9]*)+", name) is None:
        yield "is not sidecache_ and words in snake_case"
    if (kind == "counter") != name.endswith("_total"):
        yield "a counter ends with _total, and nothing else does"
    if kind != "histogram" and words[-1] in ("bucket", "count", "sum"):
        yield "ends like a part of a histogram"
    if kind != "gauge" and words[-1] == "info":
        yield "_info is for gauges of 1"
    for word in words[1:]:
        if word in _UNITS:
            yield f"uses {word}: the base unit is {_UNITS[word]}"
        if word in _TYPES:
            yield f"its name contains the type {word}"
    units = [index for index, word in enumerate(words) if word in _BASE]
    last = len(words) - (2 if name.endswith("_total") else 1)
    if units and units[-1] != last:
        yield "its unit is not at its end"
