"""Would the tests notice? Each mutant takes one safeguard out of a copy of the sources; its tests must fail.

    python -m tests.mutants [NAME ...]      all of them, or these; exit code 1 when one survives

The working tree is not touched. First the same tests run in a copy without a change: they must pass there, so that it
is the mutant that makes them fail.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LIMIT = 120.0  # seconds for the tests of one mutant
CONTROL_LIMIT = 600.0
_COPIED = ("proxy", "tests", "pyproject.toml", "rules.yaml", "rules.schema.json")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: the first test that failed, or why that does not count."""

    name: str
    killed_by: str | None
    problem: str
    seconds: float


def copied(place: Path) -> Path:
    """The sources and tests in a directory of their own."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / name)
    return place


def pytest_in(place: Path, tests: Sequence[str], limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
    """The tests in that copy, in their order, until one fails."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:randomly", "-p", "no:xdist", *tests]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=limit, check=False)


def judged(mutant: Mutant, place: Path) -> Verdict:
    """Apply it in this copy, run its tests, take it back."""
    file, begun = place / mutant.file, time.monotonic()
    before = file.read_text()
    try:
        file.write_text(mutant.applied(before))
        done = pytest_in(place, mutant.tests.split())
    except (ValueError, subprocess.TimeoutExpired) as error:
        return Verdict(mutant.name, None, str(error).splitlines()[0], time.monotonic() - begun)
    finally:
        file.write_text(before)
    seconds, failed = time.monotonic() - begun, _FAILED.search(done.stdout)
    if done.returncode == 1 and failed is not None:
        return Verdict(mutant.name, failed[1], "", seconds)
    problem = "no test fails" if done.returncode == 0 else f"pytest ended with {done.returncode}"
    return Verdict(mutant.name, None, problem, seconds)


def verdicts(mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    """In their order, `jobs` at a time, each worker with a copy of its own."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        places: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            (made := Path(folder, str(number))).mkdir()
            places.put(copied(made))

        def one(mutant: Mutant) -> Verdict:
            place = places.get()
            try:
                return judged(mutant, place)
            finally:
                places.put(place)

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, mutants)


def control(mutants: Sequence[Mutant]) -> str | None:
    """What fails in a copy without a change; None: nothing does."""
    tests = sorted({test for mutant in mutants for test in mutant.tests.split()})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        try:
            done = pytest_in(copied(Path(folder)), tests, CONTROL_LIMIT)
        except subprocess.TimeoutExpired:
            return f"they take longer than {CONTROL_LIMIT:.0f} s"
    return None if done.returncode == 0 else done.stdout[-2000:]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--no-control", action="store_true", help="do not run the tests without a mutant first")
    asked = parser.parse_args(arguments)
    unknown = set(asked.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not asked.names or mutant.name in asked.names]
    if not asked.no_control and (failing := control(chosen)) is not None:
        print(f"these tests fail without any mutant, so they prove nothing:\n{failing}")
        return 1
    print("| mutant | killed by | seconds |\n|---|---|---|")
    survived = 0
    for verdict in verdicts(chosen, asked.jobs):
        survived += verdict.killed_by is None
        said = f"`{verdict.killed_by}`" if verdict.killed_by is not None else f"**SURVIVED**: {verdict.problem}"
        print(f"| {verdict.name} | {said} | {verdict.seconds:.1f} |", flush=True)
    print(f"\n{len(chosen)} mutants, {len(chosen) - survived} killed, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
