"""Which parts of docs/benchmarks.md come from the results? All of its figures: Markdown, from bench/results/*.json.

python -m bench.report [--results FOLDER]            print them
python -m bench.report [--results FOLDER] --write    put them into the page, between its marks
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import own
from bench.plots import CURVES

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_QUIET = 0.05  # of the server's core, used by others

Workloads = dict[str, Any]


def machine(versus: dict[str, Any]) -> Iterator[str]:
    about, workloads = versus["machine"], versus["workloads"]
    dates = sorted(each["measured"] for each in workloads.values())
    busy = [row["others"] for each in workloads.values() for row in each["rows"]]
    peers = ", ".join(f"{name} {about[name]}" for name in ("nginx", "varnish", "haproxy") if name in about)
    yield (
        f"Measured from {dates[0]} to {dates[-1]} (UTC) on {about['cores']} cores of an {about['processor']}, "
        f"Linux {about['kernel']}, CPython {about['python']}; {peers}. {versus['rounds']} rounds of "
        f"{versus['seconds']} s."
    )
    if busy:
        middle, most = statistics.median(busy), max(busy)
        verdict = "the machine was quiet" if most <= _QUIET else "caches were shared: read the ratios, not the figures"
        yield f"Others used {middle:.0%} of the servers' core (median; at most {most:.0%}): {verdict}."


def ratios(versus: dict[str, Any]) -> Iterator[str]:
    yield "| workload | ratio | at most | measured | |"
    yield "|---|---|---|---|---|"
    for name, workload in versus["workloads"].items():
        for each in workload["targets"]:
            mine, theirs = (
                f"{each[who]} {each[at]}".strip() for who, at in (("series", "at"), ("against", "against_at"))
            )
            ratio = each["ratio"]
            verdict = "not measured" if ratio is None else "met" if ratio <= each["limit"] else "**missed**"
            measured = "" if ratio is None else f"{ratio:.2f}"
            yield f"| {name} | {each['measure']}, {mine} : {theirs} | {each['limit']:g} | {measured} | {verdict} |"
    yield from _left_out(versus["workloads"])


def _left_out(workloads: Workloads) -> Iterator[str]:
    lines = [f"- {name}: failed: {_plain(each['failed'])}" for name, each in workloads.items() if each["failed"]]
    for name, each in workloads.items():
        lines += [f"- {name}, {what}: {_plain(reason)}" for what, reason in each["skipped"].items()]
    if lines:
        yield "\nNot measured, and why:\n"
        yield from lines


def _plain(reason: str) -> str:
    return reason.splitlines()[0] if reason else "no reason given"


def costs(versus: dict[str, Any]) -> Iterator[str]:
    yield "| workload | | us of CPU per request | spread | sidecache x | p50 us | p99 us | answers a second |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, workload in versus["workloads"].items():
        if name in CURVES:
            continue
        ours = {row["at"]: row["cpu"] for row in workload["rows"] if row["series"] == "sidecache"}
        for row in workload["rows"]:
            low, high = row["cpu_spread"]
            mine = ours.get(row["at"])
            times = f"{mine / row['cpu']:.2f}" if mine and row["series"] != "sidecache" else ""
            who = f"{row['series']} {row['at']}".strip()
            yield (
                f"| {name} | {who} | {row['cpu']:.1f} | {low:.1f} to {high:.1f} | {times} "
                f"| {row['p50']:.0f} | {row['p99']:.0f} | {row['rate']:.0f} |"
            )


def growth(versus: dict[str, Any]) -> Iterator[str]:
    yield "| by | | us of CPU per hit | last : first | MiB |"
    yield "|---|---|---|---|---|"
    for name in CURVES:
        rows = versus["workloads"].get(name, {}).get("rows", [])
        for series in dict.fromkeys(row["series"] for row in rows):
            of_it = [row for row in rows if row["series"] == series]
            points = "; ".join(f"{row['at']}: {row['cpu']:.1f}" for row in of_it)
            memory = "; ".join(f"{row['resident_mib']:.0f}" for row in of_it if "resident_mib" in row)
            yield f"| {name} | {series} | {points} | {of_it[-1]['cpu'] / of_it[0]['cpu']:.2f} | {memory} |"


def parts(results: Path) -> dict[str, str]:
    """What can be made of these results, by the name of its mark."""
    made: dict[str, str] = {}
    versus = results / "versus.json"
    if versus.exists():
        found = json.loads(versus.read_text())
        for part in (machine, ratios, costs, growth):
            made[part.__name__] = "\n".join(part(found))
    figures = "\n".join(own.lines(results))
    if figures:
        made["own"] = figures
    return made


def written(page: str, made: dict[str, str]) -> str:
    """The page with what is new. ValueError when it has no place for something."""
    for name, text in made.items():
        opening, closing = f"<!-- {name}: made by bench.report -->", f"<!-- end of {name} -->"
        place = re.compile(f"{re.escape(opening)}.*?{re.escape(closing)}", re.DOTALL)
        if len(place.findall(page)) != 1:
            raise ValueError(f"{PAGE.name} has no place for {name}: {opening} ... {closing}")
        page = place.sub(lambda _, whole=f"{opening}\n{text}\n{closing}": whole, page)  # type: ignore[misc]
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the measurements wrote")
    parser.add_argument("--write", action="store_true", help="put them into docs/benchmarks.md")
    asked = parser.parse_args()
    made = parts(asked.results)
    if not made:
        print(f"{asked.results} has no results: make bench-full")
        return 1
    if asked.write:
        PAGE.write_text(written(PAGE.read_text(), made))
        print(f"{PAGE}: {', '.join(made)}")
    else:
        print("\n\n".join(made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
