"""Does it hold what it promises when things go wrong? Each scenario by real processes: a table, JSON in soak/results.

make soak                    all of them, about 40 minutes on two cores that have nothing else to do
make soak ARGS=--short       all of them for a moment each, about three minutes
make soak ARGS="store clock"  these

The exit code is 1 when a check of any does not hold. `python -m soak.report` prints the table of docs/reliability.md.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.machine import NotAvailable, description, install_missing
from soak import clock, descriptors, endurance, memory, output, replica, rolling, rules, store, upstream
from soak.judged import Judged, NotPossible
from tests import servers

RESULTS = Path(__file__).parent / "results"
MAX_SECONDS = 3000.0  # for one
STOPPING = 60.0  # for it to stop what it has started
# package of Debian: what it brings that is looked for
NEEDED = {
    "redis-server": "/usr/bin/redis-server", "gcc": "/usr/bin/gcc", "libc6-dev": "/usr/include/stdio.h",
    "libfaketime": "/usr/share/doc/libfaketime",
}  # fmt: skip

Scenario = Callable[..., Awaitable[Judged]]


async def _rolling_workers(folder: Path, *, short: bool) -> Judged:
    return await rolling.run(folder, short=short, workers=2)


SCENARIOS: dict[str, Scenario] = {
    "store": store.run, "replica": replica.run, "upstream": upstream.run, "rules": rules.run,
    "rolling": rolling.run, "rolling-workers": _rolling_workers, "descriptors": descriptors.run,
    "memory": memory.run, "output": output.run, "clock": clock.run, "endurance": endurance.run,
}  # fmt: skip


def play(name: str, *, short: bool) -> Judged:
    """One scenario; what keeps it from being played is a check that does not hold."""
    began = time.monotonic()
    with TemporaryDirectory(prefix="sidecache-soak-") as folder:
        try:
            judged = uvloop.run(_bounded(SCENARIOS[name](Path(folder), short=short)))
        except (NotPossible, NotAvailable) as error:
            judged = Judged(name, "")
            judged.true("it can be played here", False, str(error))
        except TimeoutError:
            judged = Judged(name, "")
            judged.true(f"it ends within {MAX_SECONDS:.0f} s", False)
    judged.seconds = round(time.monotonic() - began, 1)
    return judged


async def _bounded(scenario: Awaitable[Judged]) -> Judged:
    async with asyncio.timeout(MAX_SECONDS):
        return await scenario


def shown(judged: Judged) -> str:
    lines = [f"{'holds' if judged.holds else 'FAILS'}  {judged.name}  ({judged.seconds:.0f} s)"]
    lines += [
        f"  {'ok  ' if check.holds else 'FAIL'} {check.what}: {check.measured} (bound: {check.bound})"
        for check in judged.checks
    ]
    lines += [f"       {name}: {value}" for name, value in judged.figures.items()]
    lines += [f"  loss {loss}" for loss in judged.losses]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="a moment of each")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(SCENARIOS):
        parser.error(f"no scenario called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    RESULTS.mkdir(exist_ok=True)
    _ = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is stopped
    try:
        if len(asked.names) == 1:
            return one(asked.names[0], short=asked.short)
        install_missing(NEEDED)
        failed = [name for name in asked.names or SCENARIOS if not apart(name, short=asked.short)]
    except KeyboardInterrupt:
        print("soak: broken off", file=sys.stderr)
        return 130
    print(f"these do not hold: {', '.join(failed)}" if failed else "all hold")
    return 1 if failed else 0


def one(name: str, *, short: bool) -> int:
    install_missing(NEEDED)
    if servers.REDIS is None:
        print(f"soak: {servers.NO_REDIS}", file=sys.stderr)
        return 2
    judged = play(name, short=short)
    keep(name, judged, short=short)
    print(shown(judged), flush=True)
    return 0 if judged.holds else 1


def apart(name: str, *, short: bool) -> bool:
    """Whether it holds, played by a process of its own: one that breaks off takes none of the others along."""
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", "soak", name, *(["--short"] if short else [])]
    began, file = time.monotonic(), RESULTS / f"{name}.json"
    file.unlink(missing_ok=True)
    with subprocess.Popen(command) as process:
        code: int | None = None
        try:
            code = process.wait(MAX_SECONDS + 60)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
    if not file.exists():
        judged = Judged(name, "it was not played to its end", seconds=round(time.monotonic() - began, 1))
        judged.true("it is played to its end", False, f"exit code {code}" if code is not None else "it hangs")
        keep(name, judged, short=short)
    return code == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # no more than a word to one that has ended
    try:
        process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        process.kill()


def keep(name: str, judged: Judged, *, short: bool) -> None:
    result = {"short": short, "machine": description(), **judged.as_json()}
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
