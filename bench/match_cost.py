"""What does it cost to find the route of a request, with 10, 100 and 1,000 routes in the file?

python -m bench.match_cost [--json FILE]
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from proxy.rules.compile import RuleSet, compile_rules

SIZES = (10, 100, 1000)
ROUNDS = 9
SECONDS_PER_ROUND = 0.03


def rules_with(routes: int) -> RuleSet:
    """Rules of the usual shapes: lists, items, nested collections, one `**` for every fifty."""
    lines = ["version: 1", "defaults: {ttl: 1m}", "features:"]
    for number in range(routes // 5):
        name = f"things-{number}"
        lines += [f"  {name}:", "    read:", f"      - GET /api/{name}", f"      - GET /api/{name}/{{item-id}}"]
        lines += [f"      - GET /api/{name}/{{item-id}}/parts"]
        lines += [f"      - GET /api/{name}/{{item-id}}/parts/{{part-id}}"]
        last = (
            f"GET /api/{name}/reports/**"
            if number % 10 == 0
            else f"{{route: GET /api/{name}/notes, key-name: n{number}}}"
        )
        lines += [f"      - {last}"]
        lines += ["    write: []"]
    rules = compile_rules("\n".join(lines))
    assert isinstance(rules, RuleSet), rules
    assert len(rules.routes) == routes, rules
    return rules


def paths(routes: int) -> Iterator[tuple[str, str]]:
    """(kind, path) of requests spread over the whole file."""
    features = routes // 5
    for number in range(0, features, max(1, features // 10)):
        base = f"/api/things-{number}"
        yield "list", base
        yield "item", f"{base}/7f3a"
        yield "nested item", f"{base}/7f3a/parts/9"
        yield "no rule", f"{base}/7f3a/elsewhere"


def cost(rules: RuleSet, wanted: list[str]) -> float:
    """Microseconds of CPU per match in one round."""
    match = rules.match
    done, begin = 0, time.process_time()
    while (elapsed := time.process_time() - begin) < SECONDS_PER_ROUND:
        for _ in range(20):
            for path in wanted:
                match("GET", path)
        done += 20 * len(wanted)
    return elapsed / done * 1e6


def measured() -> dict[str, dict[str, float]]:
    """By number of routes and kind of path; the sizes take turns, so that a slow moment hits them alike."""
    rules = {size: rules_with(size) for size in SIZES}
    rounds: dict[tuple[int, str], list[float]] = {}
    for _ in range(ROUNDS):
        for size in SIZES:
            kinds: dict[str, list[str]] = {}
            for kind, path in paths(size):
                kinds.setdefault(kind, []).append(path)
            for kind, wanted in kinds.items():
                rounds.setdefault((size, kind), []).append(cost(rules[size], wanted))
    figures: dict[str, dict[str, float]] = {str(size): {} for size in SIZES}
    for (size, kind), found in rounds.items():
        figures[str(size)][kind] = round(statistics.median(found), 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    figures = measured()
    growth = {kind: round(figures["1000"][kind] / figures["10"][kind], 2) for kind in figures["10"]}
    kinds = list(growth)
    print(f"{'routes':>7}" + "".join(f"{kind:>13}" for kind in kinds) + "   (us of CPU per match, median)")
    for size, row in figures.items():
        print(f"{size:>7}" + "".join(f"{row[kind]:13.2f}" for kind in kinds))
    print(f"{'growth':>7}" + "".join(f"{growth[kind]:13.2f}" for kind in kinds))
    if asked.json is not None:
        result = {"unit": "us of CPU per match, median", "routes": figures, "growth_10_to_1000": growth}
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
