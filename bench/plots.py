"""How do the results look? SVG for docs/benchmarks.md, drawn from bench/results/versus.json without any library.

python -m bench.plots [--json FILE] [--out FOLDER]
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "versus.json"
FIGURES = Path(__file__).parents[1] / "docs" / "figures"

BARS = ("repeated heads", "distinct heads", "304", "pass-through", "misses", "L2 hits")
CURVES = ("bodies", "connections", "routes", "keys", "tenants")
_COLOURS = {
    "sidecache": "#0b7285",
    "nginx": "#37b24d",
    "nginx+Lua+Redis": "#37b24d",
    "Varnish": "#f08c00",
    "HAProxy": "#1c7ed6",
    "aiohttp": "#adb5bd",
    "C floor": "#495057",
}
_WIDTH, _LEFT, _BAR = 760, 170, 18
_PANEL_WIDTH, _PANEL_HEIGHT = 400, 270
_UNITS = {"bodies": " (KiB)"}

Workload = dict[str, Any]


def _text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False, size: int = 12) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight}>{escape(words)}</text>'


def _picture(width: float, height: float, parts: Iterator[str]) -> str:
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">'
    )
    return "\n".join([opening, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def bars(workloads: dict[str, Workload]) -> str:
    """CPU per request, a block for each workload; the whisker is the spread over the rounds."""
    shown = [name for name in BARS if workloads.get(name, {}).get("rows")]
    rows = sum(len(workloads[name]["rows"]) for name in shown)
    height = 40 + rows * (_BAR + 4) + len(shown) * 38

    def parts() -> Iterator[str]:
        y = 24.0
        yield _text(12, y, "CPU per request in microseconds: less is better", bold=True, size=14)
        for name in shown:
            found = workloads[name]["rows"]
            scale = (_WIDTH - _LEFT - 90) / max(row["cpu_spread"][1] for row in found)
            y += 32
            yield _text(12, y, name, bold=True)
            for row in found:
                y += _BAR + 4
                yield from _bar(row, y, scale)

    return _picture(_WIDTH, height, parts())


def _bar(row: dict[str, Any], y: float, scale: float) -> Iterator[str]:
    low, high = (bound * scale + _LEFT for bound in row["cpu_spread"])
    middle, colour = y - _BAR / 2 + 3, _COLOURS.get(row["series"], "#868e96")
    yield _text(_LEFT - 8, y, f"{row['series']} {row['at']}".strip(), anchor="end")
    width = row["cpu"] * scale
    yield f'<rect x="{_LEFT}" y="{y - _BAR + 4:.1f}" width="{width:.1f}" height="{_BAR - 2}" fill="{colour}"/>'
    yield f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" stroke="#212529" stroke-width="1.5"/>'
    yield _text(max(high, width + _LEFT) + 8, y, f"{row['cpu']:.1f}")


def curves(workloads: dict[str, Workload]) -> str:
    """CPU per hit against what grows: one panel for each, the horizontal axis logarithmic."""
    shown = [name for name in CURVES if workloads.get(name, {}).get("rows")]
    lines = math.ceil(len(shown) / 2)

    def parts() -> Iterator[str]:
        yield _text(12, 24, "CPU per hit in microseconds, while one thing grows", bold=True, size=14)
        for number, name in enumerate(shown):
            left, top = 50 + (number % 2) * _PANEL_WIDTH, 84 + (number // 2) * _PANEL_HEIGHT
            yield from _panel(name, workloads[name]["rows"], left, top)

    return _picture(2 * _PANEL_WIDTH + 40, 60 + lines * _PANEL_HEIGHT, parts())


def _panel(name: str, rows: list[dict[str, Any]], left: float, top: float) -> Iterator[str]:
    width, height = _PANEL_WIDTH - 70, _PANEL_HEIGHT - 80
    places = sorted({float(row["at"]) for row in rows})
    most = 1.1 * max(float(row["cpu"]) for row in rows)
    first, span = math.log(places[0]), math.log(places[-1] / places[0]) or 1.0

    def x(at: str | float) -> float:
        return left + width * (math.log(float(at)) - first) / span

    def y(cpu: float) -> float:
        return top + height * (1 - cpu / most)

    yield _text(left, top - 26, f"{name}{_UNITS.get(name, '')}", bold=True)
    yield f'<path d="M{left} {top}V{top + height}H{left + width}" fill="none" stroke="#868e96"/>'
    for share in (0.0, 0.5, 1.0):
        yield _text(left - 6, y(most * share) + 4, f"{most * share:.0f}", anchor="end", size=10)
    for place in places:
        yield _text(
            x(place),
            top + height + 16,
            f"{int(place):,}" if place.is_integer() else f"{place}",
            anchor="middle",
            size=10,
        )
    across = left
    for series in dict.fromkeys(row["series"] for row in rows):
        colour, dashes = _colour(series), ' stroke-dasharray="5 3"' if "," in series else ""
        points = sorted((x(row["at"]), y(row["cpu"])) for row in rows if row["series"] == series)
        path = "L".join(f"{point:.1f} {down:.1f}" for point, down in points)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        for point, down in points:
            yield f'<circle cx="{point:.1f}" cy="{down:.1f}" r="2.5" fill="{colour}"/>'
        if "," not in series:  # the names above the panel
            yield f'<path d="M{across:.0f} {top - 14}h12" stroke="{colour}" stroke-width="3"/>'
            yield _text(across + 16, top - 10, series, size=10)
            across += 28 + 6 * len(series)
    dashed = sorted({row["series"].partition(", ")[2] for row in rows} - {""})
    if dashed:
        yield _text(across, top - 10, f"dashed: {', '.join(dashed)}", size=10)


def _colour(series: str) -> str:
    return _COLOURS.get(series.partition(",")[0], "#868e96")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS, help="what bench.versus wrote")
    parser.add_argument("--out", type=Path, default=FIGURES)
    asked = parser.parse_args()
    workloads = json.loads(asked.json.read_text())["workloads"]
    asked.out.mkdir(exist_ok=True)
    for name, drawn in (("cpu.svg", bars(workloads)), ("growth.svg", curves(workloads))):
        (asked.out / name).write_text(drawn)
        print(asked.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
