"""What does a request cost beside the peers? nginx, Varnish, HAProxy, aiohttp's plain way, and a floor in C.

python -m bench.versus [--full] [--only NAME ...] [--rounds 5] [--seconds 1] [--json FILE]
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.compare import Comparison
from bench.ground import Ground
from bench.machine import Cores, NotAvailable, description, install_missing
from bench.peers import workshop
from bench.workloads import FULL, SHORT

_WIDTH = 118


def table(comparison: Comparison) -> Table:
    """One line a contestant. `others`: how busy its core was with something else; above 5 % distrust the line."""
    # the figures are of CPU time, but a core that is shared has cold caches
    shown = Table(title=f"{comparison.workload}: {comparison.question}", title_justify="left", box=None, pad_edge=False)
    heads = (
        "",
        "",
        "us CPU/request",
        "spread",
        "sidecache x",
        "p50 us",
        "p99 us",
        "answers/s",
        "fetches",
        "MiB",
        "others",
    )
    for name in heads:
        shown.add_column(name, justify="right" if name else "left", no_wrap=True)
    for who in comparison.samples:
        low, high = comparison.spread(who)
        ratio = comparison.ratio(("sidecache", who[1]), who) if who[0] != "sidecache" else None
        shown.add_row(
            *who,
            f"{comparison.median(who):.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{ratio:.2f}" if ratio else "",
            f"{comparison.median(who, 'p50'):.0f}",
            f"{comparison.median(who, 'p99'):.0f}",
            f"{comparison.median(who, 'rate'):.0f}",
            f"{comparison.median(who, 'fetches'):.2f}",
            f"{comparison.resident[who]:.0f}",
            f"{comparison.median(who, 'others'):.0%}",
        )
    return shown


def verdicts(comparisons: list[Comparison]) -> Table:
    shown = Table(title="what was to be reached", title_justify="left", box=None, pad_edge=False)
    for name in ("workload", "measure", "sidecache", "against", "at most", "measured", ""):
        shown.add_column(name, no_wrap=True)
    for comparison in comparisons:
        for target, ratio in comparison.verdicts():
            met = "not measured" if ratio is None else "met" if ratio <= target.limit else "MISSED"
            against = f"{target.against} {target.against_at}".strip()
            figures = (f"{target.limit:g}", f"{ratio:.2f}" if ratio else "", met)
            shown.add_row(comparison.workload, target.measure, target.at, against, *figures)
    return shown


def run(names: list[str], rounds: int, seconds: int, console: Console) -> tuple[list[Comparison], dict[str, str]]:
    """The comparisons that were made, and why others failed."""
    done: list[Comparison] = []
    failed: dict[str, str] = {}
    for name in names:
        began = time.perf_counter()
        try:
            with workshop(Cores.chosen()) as place:
                comparison = FULL[name](Ground(place, rounds, seconds))
        except (ValueError, NotAvailable, OSError) as error:
            failed[name] = str(error)
            console.print(f"{name}: FAILED: {error}", markup=False)
            continue
        done.append(comparison)
        if comparison.samples:
            console.print(table(comparison))
        for what, reason in comparison.skipped.items():
            console.print(f"{name}: skipped {what}: {reason}", markup=False)
        console.print(f"{time.perf_counter() - began:.0f} s\n", style="dim")
    return done, failed


def _allow_many_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all workloads")
    parser.add_argument("--only", nargs="+", choices=tuple(FULL), help="these workloads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of each run")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    install_missing()
    _allow_many_sockets()
    machine = description()
    names = asked.only or list(FULL if asked.full else SHORT)
    done, failed = run(names, asked.rounds, asked.seconds, console)
    console.print(verdicts(done))
    if asked.json is not None:
        known = json.loads(asked.json.read_text())["workloads"] if asked.only and asked.json.exists() else {}
        workloads = known | {each.workload: each.document() for each in done}
        result = {"machine": machine, "rounds": asked.rounds, "seconds": asked.seconds, "workloads": workloads}
        asked.json.write_text(json.dumps(result | {"failed": failed}, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
