"""May it start so? The problems of environment and rules together, whichever of them has some."""

import os
from pathlib import Path

import pytest

from proxy.credentials import new_encryption_key
from proxy.errors import ConfigError
from proxy.rules.compile import RuleSet
from proxy.start import startable, verdict

SENSITIVE = """
version: 1
features:
  jobs:
    ttl: 15m
    sensitive: true
    read: [GET /api/jobs]
    write: [POST /api/jobs]
"""
GOOD = {"SIDECACHE_UPSTREAM": "http://127.0.0.1:3000", "REDIS_PROVIDER": "memory", "SIDECACHE_NAME_KEY": "n" * 32}
KEY = new_encryption_key("k1", os.urandom).entry()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(SENSITIVE)


def refused(environ: dict[str, str], **flags: object) -> tuple[str, ...]:
    return verdict(environ, **flags).refused


@pytest.mark.parametrize("profile", ["development", "staging"])
def test_a_sensitive_feature_without_a_key_is_a_warning_outside_production(profile):
    found = verdict(GOOD, profile=profile)
    assert found.refused == ()
    assert isinstance(found.rules, RuleSet)
    assert "SIDECACHE_ENCRYPTION_KEYS" in str(found.rules.warnings[0])


def test_production_refuses_it_where_it_stands():
    (line,) = refused(GOOD)
    assert line.startswith("rules.yaml:6:5: error: features.jobs.sensitive: sensitive without an encryption key: set ")
    assert refused(GOOD | {"SIDECACHE_ENCRYPTION_KEYS": KEY}) == ()


def test_a_key_that_is_wrong_is_one_problem_and_not_two():
    (line,) = refused(GOOD | {"SIDECACHE_ENCRYPTION_KEYS": "k1:c2hvcnQ="})
    assert line.startswith("SIDECACHE_ENCRYPTION_KEYS: entry 1 (k1): ")


def test_rules_that_are_not_there_stand_beside_what_is_wrong_with_the_environment():
    lines = refused(GOOD | {"SIDECACHE_RULES": "nowhere.yaml", "SIDECACHE_DRAIN_S": "x"})
    assert [line.split(":")[0] for line in lines] == ["SIDECACHE_DRAIN_S", "nowhere.yaml"]


def test_a_start_has_the_settings_or_says_everything():
    assert startable(GOOD).provider == "memory"  # its rules are the next to be looked at, by who serves them
    with pytest.raises(ConfigError) as caught:
        startable(GOOD | {"SIDECACHE_DRAIN_S": "x", "SIDECACHE_L1_BYTES": "y"})
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "SIDECACHE_L1_BYTES", "SIDECACHE_DRAIN_S", "rules.yaml",
    ]  # fmt: skip
