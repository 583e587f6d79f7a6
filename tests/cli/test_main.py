"""The command line as a whole: exit codes, one line for a mistake, and what an import costs."""

import json
import subprocess
import sys

import pytest
import typer

from proxy import __version__
from proxy.cli import main
from proxy.errors import ConfigError
from tests.cli.process import LIMIT, MODULE, SIDECACHE, environment, said

COMMANDS = [
    "run",
    "demo",
    "check",
    "test",
    "explain",
    "plan",
    "schema",
    "status",
    "why",
    "purge",
    "bypass",
    "keys",
    "top",
    "audit",
    "keygen",
    "health",
    "dev",
]


@pytest.mark.process
@pytest.mark.parametrize("command", [SIDECACHE, MODULE], ids=["sidecache", "python -m proxy"])
def test_the_version_is_one_line_on_standard_output(tmp_path, command):
    assert said("--version", cwd=tmp_path, command=command) == (0, f"sidecache {__version__}\n", "")


@pytest.mark.process
def test_python_m_proxy_is_sidecache(tmp_path):
    for words in (("--help",), ("run", "--help"), ("chek",)):
        assert said(*words, cwd=tmp_path, command=MODULE) == said(*words, cwd=tmp_path)


@pytest.fixture
def run_main(monkeypatch, capsys):
    """`main` in this process: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sidecache", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_help_names_every_command(run_main):
    code, out, err = run_main("--help")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines()] == COMMANDS


def test_no_command_shows_the_help_and_is_not_taken_for_success(run_main):
    code, out, err = run_main()
    assert (code, out) == (2, "")
    assert "Commands:" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_of_its_own(run_main, command):
    code, out, err = run_main(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: sidecache {command} ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        # realistic
        (["--nope"], "sidecache: No such option: --nope (see `sidecache --help`)"),
        (["chek"], "sidecache: No such command 'chek' (did you mean 'check'?) (see `sidecache --help`)"),
        (["bogus"], "sidecache: No such command 'bogus' (see `sidecache --help`)"),
        (["run", "--nope"], "sidecache: No such option: --nope (see `sidecache run --help`)"),
        (["run", "--listen"], "sidecache: Option '--listen' requires an argument (see `sidecache --help`)"),
        (["run", "extra"], "sidecache: Got unexpected extra argument(s) (extra) (see `sidecache run --help`)"),
        (["explain"], "sidecache: Missing argument 'request' (see `sidecache explain --help`)"),
        (["health", "--admin", "x"], "sidecache: --admin: 'x' is not HOST:PORT such as 127.0.0.1:9900"),
        # pathological
        (["bo\ngus"], "sidecache: No such command 'bo gus' (see `sidecache --help`)"),
        (["run", "--profile"], "sidecache: Option '--profile' requires an argument (see `sidecache --help`)"),
    ],
)  # fmt: skip
def test_a_mistake_is_exactly_one_line_and_exit_code_2(run_main, words, line):
    assert run_main(*words) == (2, "", f"{line}\n")


def test_each_problem_of_a_configuration_has_its_line(run_main, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ConfigError("first", "second")

    monkeypatch.setattr(main, "app", broken)
    assert run_main("run") == (2, "", "sidecache: first\nsidecache: second\n")


def test_giving_up_at_a_prompt_is_exit_code_130(run_main, monkeypatch):
    def aborted(*_: object, **__: object) -> None:
        raise typer.Abort

    monkeypatch.setattr(main, "app", aborted)
    assert run_main("run")[0] == 130


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "foreign"),
    [
        (["--help"], ["aiohttp", "uvloop", "cryptography", "structlog", "proxy.app"]),
        (
            ["health", "--admin", "127.0.0.1:1"],
            ["asyncio", "ruamel.yaml", "rich", "aiohttp", "proxy.rules.compile"],
        ),
        (
            ["keygen", "--name-key"],
            ["asyncio", "ruamel.yaml", "rich", "aiohttp", "cryptography", "proxy.rules.compile"],
        ),
        (["run", "--help"], ["ruamel.yaml", "rich", "aiohttp", "proxy.rules.compile"]),
    ],
    ids=["--help", "health", "keygen", "run --help"],
)
def test_a_command_imports_what_it_needs_and_no_more(words, foreign):
    """A container's probe runs every few seconds: a heavy import would be its whole cost."""
    text = "import sys\nfrom proxy.cli.main import main\ntry:\n main()\nfinally:\n print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", text, *words], env=environment(), capture_output=True, text=True, timeout=LIMIT
    )
    modules = set(done.stderr.split())
    assert "proxy.cli.main" in modules, done.stderr
    assert modules.isdisjoint(foreign)


def test_check_shows_the_effective_configuration_with_secrets_masked(run_main, tmp_path, monkeypatch):
    (tmp_path / "rules.yaml").write_text("version: 1\nfeatures:\n  jobs:\n    ttl: 1m\n    read: [GET /api/jobs]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDECACHE_UPSTREAM", "http://portal:3000")
    monkeypatch.setenv("SIDECACHE_NAME_KEY", "a-very-secret-name-key")
    monkeypatch.setenv("REDIS_PROVIDER", "memory")
    code, out, err = run_main("check", "--settings")
    assert (code, err) == (0, "")
    shown = dict(line.split(None, 1) for line in out.splitlines())
    assert (shown["upstream"], shown["profile"], shown["name-key"]) == ("http://portal:3000", "production", "(set)")
    monkeypatch.setenv("SIDECACHE_L1_BITES", "1")
    warning = "has no effect (did you mean 'SIDECACHE_L1_BYTES'?)"
    assert f"SIDECACHE_L1_BITES: warning: {warning}" in run_main("check", "--settings")[1].splitlines()
    code, out, _ = run_main("check", "--settings", "--json")
    assert json.loads(out)["settings"]["listen"] == "0.0.0.0:8080"
    assert {"name": "SIDECACHE_L1_BITES", "message": warning} in json.loads(out)["environment"]["warnings"]
    assert "very-secret" not in out
    monkeypatch.delenv("SIDECACHE_UPSTREAM")
    code, out, _ = run_main("check", "--settings")
    assert (code, "SIDECACHE_UPSTREAM: error: missing; " in out) == (1, True)
    assert run_main("check")[0] == 0
