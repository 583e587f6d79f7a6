"""The commands check, test, explain and schema: what they print, and their exit codes."""

import json
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from proxy.cli import rules
from proxy.errors import ConfigError
from tests.rules.test_compile import SIX_MISTAKES

ROOT = Path(__file__).parents[2]
SHIPPED = str(ROOT / "rules.yaml")

app = typer.Typer()
rules.register(app)


def said(*words: str, env: dict[str, str] | None = None, code: int = 0) -> str:
    clean = dict.fromkeys(name for name in os.environ if name.startswith(("SIDECACHE_", "REDIS_", "UPSTASH_")))
    result = CliRunner().invoke(app, list(words), env={**clean, **(env or {})})
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture
def six(tmp_path: Path) -> str:
    file = tmp_path / "six.yaml"
    file.write_text(SIX_MISTAKES)
    return str(file)


@pytest.fixture
def failing(tmp_path: Path) -> str:
    file = tmp_path / "failing.yaml"
    file.write_text(
        "version: 1\nfeatures: {a: {ttl: 1m, read: [GET /a], write: []}}\n"
        "tests:\n  - request: GET /a\n    as: {org_id: org_a}\n    expect: {ttl: 2m, scope: user}\n"
    )
    return str(file)


def test_check_prints_a_line_for_each_mistake_and_a_summary(six):
    lines = said("check", six, code=1).splitlines()
    assert len(lines) == 7
    assert lines[0] == f"{six}:8:5: error: features.jobs.tll: unknown key (did you mean 'ttl'?)"
    assert lines[-1] == f"{six}: 6 errors"


def test_check_prints_warnings_and_what_is_there():
    warning, summary = said("check", SHIPPED).splitlines()
    assert warning.endswith(
        "warning: features.applications.sensitive: sensitive without an encryption key: set SIDECACHE_ENCRYPTION_KEYS "
        "(`sidecache keygen` makes one)"
    )
    assert summary.startswith(f"{SHIPPED}: valid for production (8 features, 17 routes, 15 tests, 1 warning), digest ")


def test_check_knows_of_encryption_keys_and_takes_file_and_profile_from_the_environment():
    env = {"SIDECACHE_RULES": SHIPPED, "SIDECACHE_PROFILE": "staging", "SIDECACHE_ENCRYPTION_KEYS": "k1:secret"}
    output = said("check", "--rules-only", env=env)
    assert output.startswith(f"{SHIPPED}: valid for staging (")
    assert "secret" not in output


def test_check_annotates_for_github(six):
    lines = said("check", six, "--format", "github", code=1).splitlines()
    assert lines[0] == f"::error file={six},line=8,col=5::features.jobs.tll: unknown key (did you mean 'ttl'?)"
    assert lines[5] == f"::error file={six},line=20,col=5::duplicate key 'ttl' (first at line 18)"


def test_check_runs_the_tests_of_the_file_as_a_start_does(failing):
    lines = said("check", failing, code=1).splitlines()
    assert lines[0].startswith(f"{failing}:4:") and "ttl" in lines[0]  # noqa: PT018 - one line
    assert lines[-1] == f"{failing}: 1 error"


# With a profile, the environment too

BAD = {"SIDECACHE_LISTEN": "80", "REDIS_HOST": "cache", "SIDECACHE_NAME_KEY": "short", "SIDECACHE_HOSTS": "a,b c%d:e"}
REFUSED = ["SIDECACHE_UPSTREAM", "SIDECACHE_LISTEN", "SIDECACHE_NAME_KEY", "REDIS_TLS", "SIDECACHE_HOSTS"]


def test_a_profile_that_is_named_is_checked_with_its_environment_and_every_refusal_is_told_at_once(six):
    lines = said("check", six, "--profile", "production", env=BAD, code=1).splitlines()
    environment = [line for line in lines if ": error: " in line and not line.startswith(six)]
    assert {line.partition(":")[0] for line in environment} == set(REFUSED)
    assert (
        "REDIS_TLS: error: off: entries and passwords would cross the network in plain text; set REDIS_TLS=true"
        in lines
    )
    assert len([line for line in lines if line.startswith(f"{six}:") and ": error: " in line]) == 6
    assert lines[-1] == f"{six}: 6 errors, environment: 5 errors"


def test_the_same_as_json_with_name_and_message_of_each(six):
    told = json.loads(said("check", six, "--profile", "production", "--json", env=BAD, code=1))
    assert (told["profile"], told["valid"], len(told["errors"])) == ("production", False, 6)
    assert {each["name"] for each in told["environment"]["errors"]} == set(REFUSED)
    assert all(each["message"] for each in told["environment"]["errors"])
    assert [each["name"] for each in told["environment"]["warnings"]] == ["SIDECACHE_JWT_ISSUER"]
    assert json.loads(said("check", six, "--json", env=BAD, code=1))["environment"] is None


def test_good_rules_do_not_make_up_for_a_bad_environment():
    output = said("check", SHIPPED, "--profile", "development", code=1)
    assert output.splitlines()[0].startswith("SIDECACHE_UPSTREAM: error: missing; ")
    assert output.splitlines()[-1].startswith(f"{SHIPPED}: valid for development (8 features, ")
    assert output.endswith(", environment: 1 error\n")
    assert said("check", SHIPPED, "--profile", "development", "--rules-only")


def test_a_problem_of_the_environment_is_an_annotation_without_a_place(six):
    lines = said("check", SHIPPED, "--profile", "development", "--format", "github", env=BAD, code=1).splitlines()
    assert lines[0].startswith("::error title=SIDECACHE_UPSTREAM::missing; ")
    assert [line for line in lines if line.startswith("::error title=SIDECACHE_HOSTS::'c%25d:e' is not a host name")]


def test_an_annotation_cannot_be_broken_out_of(tmp_path):
    file = tmp_path / "a,b%:c.yaml"
    file.write_text('version: 1\nfeatures: {a: {ttl: "x%0A\\n::error::y"}}')
    line = said("check", str(file), "--format", "github", code=1).splitlines()[0]
    assert "a%2Cb%25%3Ac.yaml,line=2," in line
    assert "'x%250A\\n::error::y' is not a duration" in line


def test_check_as_json(six):
    broken = json.loads(said("check", six, "--json", code=1))
    assert (broken["valid"], len(broken["errors"]), broken["errors"][0]["line"]) == (False, 6, 8)
    good = json.loads(said("check", SHIPPED, "--json"))
    assert (good["valid"], good["features"], good["routes"], len(good["warnings"])) == (True, 8, 17, 1)


@pytest.mark.parametrize("command", [["check"], ["test"], ["explain", "GET /a", "--rules"]])
def test_a_file_that_cannot_be_read_is_one_clear_line(command):
    result = CliRunner().invoke(app, [*command, "nowhere.yaml"])
    assert isinstance(result.exception, ConfigError)  # the console script prints it and exits with 2
    assert str(result.exception) == "nowhere.yaml: no such file or directory"


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a" * (300 << 10), b"", b"version: 1\nfeatures: {a: {ttl"])
def test_bytes_that_are_no_rules_are_a_problem_at_a_place(tmp_path, data):
    file = tmp_path / "rules.yaml"
    file.write_bytes(data)
    assert said("check", str(file), code=1).splitlines()[0].startswith(f"{file}:")


def test_test_runs_the_tests_of_the_file():
    assert said("test", SHIPPED) == f"{SHIPPED}: 15 tests, 0 failed\n"


def test_test_shows_what_was_expected_and_what_came(failing):
    output = said("test", failing, code=1)
    assert output.endswith(f"{failing}: 1 test, 1 failed\n")
    assert [line.split()[-3:] for line in output.splitlines() if "2m" in line] == [["ttl", "2m", "1m"]]
    assert [line.split()[-3:] for line in output.splitlines() if " user" in line] == [["scope", "user", "tenant"]]


def test_test_as_json(failing):
    found = json.loads(said("test", failing, "--json", code=1))
    assert (found["passed"], found["failed"][0]["line"]) == (0, 4)
    assert found["failed"][0]["differences"][0] == {"what": "ttl", "expected": "2m", "got": "1m"}


@pytest.mark.parametrize("command", [["test"], ["explain", "GET /a", "--rules"]])
def test_a_file_with_mistakes_is_not_run(command, six):
    assert said(*command, six, code=1).count(": error: ") == 6


def test_explain_says_rule_key_and_times():
    words = ["GET /api/jobs/77", "--org", "org_acme", "--permission", "read:jobs", "--rules", SHIPPED]
    lines = said("explain", *words).splitlines()
    assert lines[0] == "GET /api/jobs/77"
    told = dict(line.split(maxsplit=1) for line in lines[1:])
    assert told["key"] == "tenant:org_acme:jobs:77"
    assert told["rule"] == "GET /api/jobs/{job-id}"
    assert told["line"].startswith(f"{SHIPPED}:")
    assert (told["ttl"], told["grace"], told["if-error"], told["sensitive"]) == ("15m", "2m", "1h", "no")
    assert (told["split-by"], told["tags"]) == ("-", "jobs, jobs:77")


def test_explain_says_why_not():
    assert "because    no-credentials" in said("explain", "GET /api/jobs", "--rules", SHIPPED)
    conflict = ["GET /api/jobs", "--org", "org_acme", "--header", "x-org-id: org_globex", "--rules", SHIPPED]
    assert "because    tenant-conflict" in said("explain", *conflict)
    assert said("explain", "GET /nothing", "--rules", SHIPPED).splitlines()[1:] == [
        "  cache      bypass",
        "  because    no-rule",
    ]


def test_explain_as_json_of_a_users_own_entry():
    words = ["GET /api/me", "--org", "org_acme", "--user", "auth0|ada", "--rules", SHIPPED, "--json"]
    found = json.loads(said("explain", *words))
    assert (found["cache"], found["scope"]) == ("used", "user")
    assert found["key"].startswith("tenant:org_acme:me:list.u-")
    assert "ada" not in found["key"]


@pytest.mark.parametrize("words", [["/api/jobs"], ["get /a"], ["GET /a b"], ["GET /a", "--header", "nothing"]])
def test_what_is_no_request_is_refused(words):
    assert "write it like" in said("explain", *words, "--rules", SHIPPED, code=2)


def test_schema_prints_what_is_shipped_and_compares(tmp_path):
    assert said("schema") == (ROOT / "rules.schema.json").read_text()
    assert said("schema", "--check", str(ROOT / "rules.schema.json")).endswith("in step\n")
    old = tmp_path / "old.json"
    old.write_text("{}")
    assert "differs" in said("schema", "--check", str(old), code=1)
