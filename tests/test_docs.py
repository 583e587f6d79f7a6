"""The documentation says what the code does: every reason, every example."""

import re
from pathlib import Path

import pytest

from proxy.policy.outcome import Reason
from proxy.rules.compile import RuleSet, compile_rules
from proxy.rules.scenarios import run

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))


def test_every_reason_is_documented_once_and_no_other():
    documented = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "reasons.md").read_text(), re.MULTILINE)

    assert sorted(documented) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_and_its_own_tests_pass(example):
    rules = compile_rules(example.read_text(), file=str(example), profile="production", has_encryption_key=True)

    assert isinstance(rules, RuleSet), rules
    assert [str(result.problem) for result in run(rules) if result.problem is not None] == []


def test_links_in_the_documentation_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    broken = [
        f"{page.name}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        if not (page.parent / link).exists()
    ]

    assert broken == []
