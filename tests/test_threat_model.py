"""Every proof that THREAT_MODEL.md names exists, and every module it points at."""

import re
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


def collected(place: str, *, marked: bool) -> int:
    """How many tests pytest would find there: read from the source, since a start of pytest for each takes minutes."""
    path = ROOT / place
    found = 0
    for file in sorted(path.rglob("test_*.py")) if path.is_dir() else [path]:
        text = file.read_text()
        tests = re.findall(r"(?m)^((?:@[^\n]*\n)*)(?:async )?def test_\w+\(", text)
        whole = re.search(r"(?m)^pytestmark = .*\bisolation\b", text) is not None
        found += sum(not marked or whole or "mark.isolation" in decorators for decorators in tests)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_collects_at_least_one_test(command):
    words = command.split()
    places = [word for word in words if word.startswith("tests")] or ["tests"]
    rest = [word for word in words if word not in places]
    assert rest in ([], ["-m", "isolation"])
    for place in places:
        assert collected(place, marked=bool(rest)) > 0, place


def test_what_would_not_be_collected_is_found():
    assert collected("tests/builders.py", marked=False) == 0
    assert collected("tests/policy/test_cookies.py", marked=True) == 0 < collected("tests/policy", marked=True)


def test_the_number_of_mutants_is_the_one_that_is_told():
    assert f"{len(MUTANTS)} safeguards" in TEXT
