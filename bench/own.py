"""How are our own figures read? Each measurement's JSON as lines of one table: what, measured, bound, met."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import events, sessions, store

Result = Any  # of one measurement, as it wrote it


class Line(NamedTuple):
    what: str
    measured: float
    bound: float | None = None  # None: nothing was promised
    unit: str = ""
    at_least: bool = False


def _start(found: Result) -> Iterator[Line]:
    median, target = found["median"], found["target"]
    yield Line("from exec to the first `/livez` 200, median", median["start_s"], target["start_s"], "s")
    yield Line("resident memory, idle, 3 s after the start", median["idle_rss_mib"], target["idle_rss_mib"], "MiB")


def _match(found: Result) -> Iterator[Line]:
    for kind, times in found["growth_10_to_1000"].items():
        yield Line(f"finding the route, {kind}: 1,000 routes to 10", times, 1.5, "x")


def _decide(found: Result) -> Iterator[Line]:
    for name, cost in found["figures"].items():
        yield Line(f"deciding a fresh hit: {name}", cost, found["target"], "us")


def _counting(found: Result) -> Iterator[Line]:
    for name, row in found["figures"].items():
        yield Line(f"metrics of a hit: {name}", row["added"], found["target"], "us")


def _analytics(found: Result) -> Iterator[Line]:
    for name, cost in found["added_us"].items():
        yield Line(f"`count` in a rule: {name}", cost, found["target"] if name == "the same head" else None, "us")
    for server, sizes in found["bytes"].items():
        twenty = sizes["20 hours of 100"]
        yield Line(f"a job's day of counts, looked at in 20 hours by 100, in {server}", twenty, 200, "B")


def _overhead(found: Result) -> Iterator[Line]:
    yield Line("memory per entry beyond key, head and body", found["overhead"], found["target"], "B")


def _streaming(found: Result) -> Iterator[Line]:
    for name, each in found.items():
        what = f"1 GiB, {name.replace('_', ' ')}"
        yield Line(f"{what}: peak memory grows by", each["peak_mib_after"] - each["peak_mib_before"], 8, "MiB")
        yield Line(f"{what}: p99 of others, to the same transfer past the sidecar", each["ratio"], None, "x")


def _bounded(bounds: dict[str, tuple[float, str]]) -> Callable[[Result], Iterator[Line]]:
    def lines(found: Result) -> Iterator[Line]:
        for name, value in found.items():
            bound, unit = bounds[name]
            yield Line(name, value, bound, unit.lstrip("/") if unit != "/s" else unit, unit == "/s")

    return lines


def _coherence(found: Result) -> Iterator[Line]:
    rows = found["rows"]
    for name, bound in (("epochs", 0.0), ("delete on write", None)):
        yield Line(f"stale reads of {rows[name]['operations']:,} operations, {name}", rows[name]["stale"], bound)


READERS: dict[str, Callable[[Result], Iterator[Line]]] = {
    "start_and_memory": _start,
    "match_cost": _match,
    "decide": _decide,
    "counting": _counting,
    "analytics": _analytics,
    "entry_overhead": _overhead,
    "streaming": _streaming,
    "store": lambda found: _bounded(store.BOUNDS)(found["rows"]),
    "coherence": _coherence,
    "sessions": lambda found: _bounded(sessions.BOUNDS)(found["rows"]),
    "events": lambda found: _bounded(events.BOUNDS)(found["figures"]),
}


def lines(results: Path) -> Iterator[str]:
    """Markdown; nothing when there are no results."""
    there = [name for name in READERS if (results / f"{name}.json").exists()]
    if not there:
        return
    dates = sorted((results / f"{name}.json").stat().st_mtime for name in there)
    began, ended = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(date)) for date in (dates[0], dates[-1]))
    yield f"Measured from {began} to {ended} (UTC), on the same machine.\n"
    yield "| what | measured | bound | | `make bench ARGS=` |"
    yield "|---|---|---|---|---|"
    for name in there:
        for line in READERS[name](json.loads((results / f"{name}.json").read_text())):
            yield f"| {line.what} | {_figure(line.measured, line.unit)} | {_bound(line)} | {_verdict(line)} | {name} |"
    without = list(missed(results))
    if without:
        yield "\nNot measured, and why:\n"
        yield from without


def missed(results: Path) -> Iterator[str]:
    """What has no figures in the last `make bench-full`, and why; what only missed a bound has them."""
    file = results / "missed.json"
    for name, why in (json.loads(file.read_text()) if file.exists() else {}).items():
        if name in READERS and not (results / f"{name}.json").exists():
            yield f"- {name}: {why}"


def _figure(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
    return f"{digits} {unit}".strip()


def _bound(line: Line) -> str:
    if line.bound is None:
        return ""
    return f"{'>=' if line.at_least else '<='} {_figure(line.bound, line.unit)}"


def _verdict(line: Line) -> str:
    if line.bound is None:
        return ""
    met = line.measured >= line.bound if line.at_least else line.measured <= line.bound
    return "met" if met else "**missed**"
