"""The mutants fit the sources as they are, and one that no test notices is told. All of them: `make mutants`."""

import re
from dataclasses import replace

import pytest

from tests.mutants import __main__ as mutants
from tests.mutants.catalogue import MUTANTS

# What DESIGN calls for at least; by the beginning of a name.
DEMANDED = """
tenant-dropped-from-key epochs-not-compared exp-not-checked mac-skipped truncated-response-stored vary-ignored
revocation-ignored private-shared audience-of-events-ignored credentials-of-the-first-forwarded
admin-tenant-filter-dropped
""".split()


def test_the_safeguards_that_matter_most_are_among_them_each_under_its_name():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 15
    assert [each for each in DEMANDED if not any(name.startswith(each) for name in names)] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_to_the_source_makes_python_of_it_and_names_tests_that_are_there(mutant):
    changed = mutant.applied((mutants.ROOT / mutant.file).read_text())
    compile(changed, mutant.file, "exec")
    for test in mutant.tests.split():
        path, _, name = test.partition("::")
        assert not name or re.search(rf"(?m)^(async )?def {re.escape(name)}\(", (mutants.ROOT / path).read_text()), test
        assert (mutants.ROOT / path).is_file()


def test_a_mutant_that_the_source_has_left_behind_is_told():
    with pytest.raises(ValueError, match=r"^tenant-dropped-from-key: proxy/policy/key\.py has 0 times: "):
        MUTANTS[0].applied("")


@pytest.mark.process
def test_a_mutant_that_no_test_notices_is_told_and_one_that_is_noticed_is_not(monkeypatch, capsys):
    noticed = replace(MUTANTS[0], tests="tests/policy/test_key.py::test_a_plain_key_is_readable")
    unrelated = replace(noticed, name="unrelated", tests="tests/policy/test_cookies.py")
    monkeypatch.setattr(mutants, "MUTANTS", (noticed, unrelated))
    before = (mutants.ROOT / noticed.file).read_text()
    assert mutants.main(["--no-control"]) == 1
    out = capsys.readouterr().out
    assert "| tenant-dropped-from-key | `tests/policy/test_key.py::test_a_plain_key_is_readable` |" in out
    assert "| unrelated | **SURVIVED**: no test fails |" in out
    assert out.endswith("2 mutants, 1 killed, 1 survived\n")
    assert (mutants.ROOT / noticed.file).read_text() == before
