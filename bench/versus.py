"""What does a request cost beside the peers? nginx, Varnish, HAProxy, aiohttp's plain way, and a floor in C.

python -m bench.versus [--full] [--only NAME ...] [--rounds 5] [--seconds 1] [--within 3600] [--json FILE]
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.compare import Comparison
from bench.ground import Ground
from bench.machine import Cores, NotAvailable, description, install_missing
from bench.peers import workshop
from bench.workloads import FULL, SHORT

_WIDTH = 118
_MOST_SECONDS = 720.0  # for one workload


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
        ours = (who[0].replace(who[0].partition(",")[0], "sidecache"), who[1])  # of the same kind of load
        ratio = comparison.ratio(ours, who) if who != ours else None
        shown.add_row(
            *who,
            f"{comparison.median(who):.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{ratio:.2f}" if ratio else "",
            f"{comparison.median(who, 'p50'):.0f}",
            f"{comparison.median(who, 'p99'):.0f}",
            f"{comparison.median(who, 'rate'):.0f}",
            f"{comparison.median(who, 'fetches'):.2f}",
            f"{comparison.resident.get(who, 0):.0f}",
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


class TookTooLong(Exception):
    """A workload that would keep the others from being measured."""


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TookTooLong(f"not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def compare(name: str, rounds: int, seconds: int, within: float) -> Comparison:
    """One workload. Whatever keeps it from being measured is in the result, and the others go on."""
    begun: list[Comparison] = []
    try:
        with _deadline(max(within, 1.0)), workshop(Cores.chosen()) as place:
            return FULL[name](Ground(place, rounds, seconds, begun))
    except (ValueError, NotAvailable, TookTooLong, OSError, subprocess.SubprocessError) as error:
        comparison = begun[-1] if begun else Comparison(name, "")
        comparison.fail(str(error))
        return comparison


def show(comparison: Comparison, took: float, console: Console) -> None:
    if comparison.samples:
        console.print(table(comparison))
    if comparison.failed:
        console.print(f"{comparison.workload}: FAILED: {comparison.failed}", markup=False)
    for what, reason in comparison.skipped.items():
        console.print(f"{comparison.workload}: without {what}: {reason}", markup=False)
    console.print(f"{took:.0f} s\n", style="dim")


def _allow_many_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all workloads")
    parser.add_argument("--only", nargs="+", choices=tuple(FULL), help="these workloads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of each run")
    parser.add_argument("--within", type=float, default=3600.0, metavar="SECONDS", help="then the rest is left")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    install_missing()
    _allow_many_sockets()
    machine = description()
    known = json.loads(asked.json.read_text())["workloads"] if asked.only and asked.json and asked.json.exists() else {}
    done: list[Comparison] = []
    until = time.monotonic() + asked.within
    for name in asked.only or list(FULL if asked.full else SHORT):
        began = time.monotonic()
        comparison = compare(name, asked.rounds, asked.seconds, min(_MOST_SECONDS, until - began))
        done.append(comparison)
        show(comparison, time.monotonic() - began, console)
        if asked.json is not None:  # each time: what comes may be ended from outside
            workloads = known | {each.workload: each.document() for each in done}
            result = {"machine": machine, "rounds": asked.rounds, "seconds": asked.seconds, "workloads": workloads}
            asked.json.write_text(json.dumps(result, indent=2) + "\n")
    console.print(verdicts(done))
    return 1 if any(each.failed for each in done) else 0


if __name__ == "__main__":
    sys.exit(main())
