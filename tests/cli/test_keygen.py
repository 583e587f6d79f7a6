"""`sidecache keygen`: what it prints is what the settings read."""

import json
import re
import time
from hashlib import sha256

import pytest
import typer
from typer.testing import CliRunner, Result

from proxy.cli import keygen
from proxy.credentials import read_encryption_keys
from tests.cli.process import said

app = typer.Typer()
keygen.register(app)


def made(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result


def test_it_prints_an_entry_that_can_be_read_and_is_named_for_today():
    before = time.strftime("k%Y%m%d", time.gmtime())
    (key,) = read_encryption_keys(made().stdout).keys
    assert before <= key.id <= time.strftime("k%Y%m%d", time.gmtime())


def test_standard_output_is_the_entry_alone_and_the_advice_is_beside_it():
    result = made("--id", "k2")
    assert re.fullmatch(r"k2:[A-Za-z0-9+/]{43}=\n", result.stdout)
    assert "SIDECACHE_ENCRYPTION_KEYS" in result.stderr


def test_two_calls_make_two_keys():
    first, second = (read_encryption_keys(made("--id", "k2").stdout).keys[0] for _ in range(2))
    assert first.secret != second.secret


def test_a_name_key_is_one_line():
    assert re.fullmatch(r"[0-9a-f]{64}\n", made("--name-key").stdout)


def test_an_admin_token_is_shown_once_beside_the_entry_of_its_digest():
    token, entry = (line.split()[1] for line in made("--admin", "ci", "operator").stdout.splitlines())
    assert entry == f"ci:operator:{sha256(token.encode()).hexdigest()}"
    only = made("--admin", "ci", "viewer", "--tenant", "org_a").stdout.splitlines()[1]
    assert only.startswith("entry  ci:viewer:org_a:")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--id", "k2"], {"id", "entry"}),
        (["--name-key"], {"name_key"}),
        (["--admin", "ci", "backend"], {"token", "entry"}),
    ],
)
def test_json_holds_the_same_and_nothing_else_is_said(words, names):
    result = made("--json", *words)
    assert set(json.loads(result.stdout)) == names
    assert result.stderr == ""


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "line"),
    [
        # realistic
        (["--id", "a b"], "Invalid value for --id: a key id is 1 to 32 letters, digits, '.', '_' or '-'"),
        (
            ["--admin", "ci", "boss"],
            "Invalid value for --admin: 'boss' is not one of viewer, operator, inspector, backend",
        ),
        (["--tenant", "x"], "Invalid value for --tenant: only an admin token is for a tenant: add --admin NAME ROLE"),
        # pathological
        (["--id", "k", "--name-key"], "Invalid value for --id: only an encryption key has an id"),
        (["--id", "k", "--admin", "ci", "viewer"], "Invalid value for --id: only an encryption key has an id"),
        (
            ["--name-key", "--admin", "ci", "viewer"],
            "Invalid value for --name-key: an admin token is made by itself: leave out --admin",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, words, line):
    expected = (2, "", f"sidecache: {line} (see `sidecache keygen --help`)\n")
    assert said("keygen", *words, cwd=tmp_path) == expected
