"""Every proof that THREAT_MODEL.md names exists, and every module it points at."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "THREAT_MODEL.md").read_text()
COMMANDS = sorted({found.removeprefix("pytest ") for found in re.findall(r"`(pytest [^`]+)`", TEXT)})
THREATS = [line for line in TEXT.splitlines() if re.match(r"\| [A-F]\d+ \|", line)]


def test_every_threat_has_its_mitigation_what_remains_and_a_command():
    assert len(THREATS) >= 30
    for line in THREATS:
        name, threat, against, remains, proof = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert all((name, threat, against, remains)), line
        assert re.fullmatch(r"`pytest [^`]+`", proof), line


def test_every_module_it_names_is_there():
    named = set(re.findall(r"`([a-z_0-9/]+\.py)`", TEXT))
    assert len(named) > 30
    assert [each for each in sorted(named) if not (ROOT / "proxy" / each).is_file()] == []


@pytest.mark.process
def test_every_command_collects_at_least_one_test():
    """Collected together, as a start of pytest for each would take minutes."""
    paths = sorted({word for command in COMMANDS for word in command.split() if word.startswith("tests/")})
    words = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:randomly", "-p", "no:xdist"]
    everything = subprocess.run([*words, *paths], cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert everything.returncode == 0, everything.stdout[-2000:]
    marked = subprocess.run(
        [*words, "-m", "isolation", "tests/admin", "tests/isolation"], cwd=ROOT, capture_output=True, text=True,
        timeout=55, check=False,
    )  # fmt: skip
    found, isolated = everything.stdout.splitlines(), marked.stdout.splitlines()
    for command in COMMANDS:
        lines = isolated if "-m isolation" in command else found
        for word in [word for word in command.split() if word.startswith("tests/")] or ["tests/"]:
            assert any(line.startswith((f"{word}::", f"{word}/", word)) and "::" in line for line in lines), command


def test_the_number_of_mutants_is_the_one_that_is_told():
    assert f"{len(MUTANTS)} safeguards" in TEXT
