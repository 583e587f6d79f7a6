"""Which tables of docs/benchmarks.md come from the results? Markdown, from bench/results/versus.json.

python -m bench.report [--json FILE]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.plots import CURVES, RESULTS


def costs(workloads: dict[str, Any]) -> Iterator[str]:
    yield "| workload | | us of CPU per request | spread | p50 us | p99 us | answers a second | fetches per answer |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, workload in workloads.items():
        if name in CURVES:
            continue
        for row in workload["rows"]:
            low, high = row["cpu_spread"]
            yield (
                f"| {name} | {row['series']} {row['at']} | {row['cpu']:.1f} | {low:.1f} to {high:.1f} "
                f"| {row['p50']:.0f} | {row['p99']:.0f} | {row['rate']:.0f} | {row['fetches']:.2f} |"
            )


def growth(workloads: dict[str, Any]) -> Iterator[str]:
    yield "| by | | us of CPU per hit |"
    yield "|---|---|---|"
    for name in CURVES:
        rows = workloads.get(name, {}).get("rows", [])
        for series in dict.fromkeys(row["series"] for row in rows):
            points = (f"{row['at']}: {row['cpu']:.1f}" for row in rows if row["series"] == series)
            yield f"| {name} | {series} | {'; '.join(points)} |"


def targets(workloads: dict[str, Any]) -> Iterator[str]:
    yield "| workload | ratio | at most | measured | |"
    yield "|---|---|---|---|---|"
    for name, workload in workloads.items():
        for each in workload["targets"]:
            mine, theirs = (
                f"{each[who]} {each[at]}".strip() for who, at in (("series", "at"), ("against", "against_at"))
            )
            ratio = each["ratio"]
            verdict = "not measured" if ratio is None else "met" if ratio <= each["limit"] else "missed"
            measured = "" if ratio is None else f"{ratio:.2f}"
            yield f"| {name} | {each['measure']}, {mine} : {theirs} | {each['limit']:g} | {measured} | {verdict} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS, help="what bench.versus wrote")
    asked = parser.parse_args()
    workloads = json.loads(asked.json.read_text())["workloads"]
    for part in (targets, costs, growth):
        print("\n".join(part(workloads)), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
