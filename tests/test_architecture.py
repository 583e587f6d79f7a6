"""The shape of the code: what lives where, how large it may be, and what it may depend on."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "proxy").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

MAX_LINES = 500
MAX_FUNCTION_LINES = 60

# Modules whose tests are elsewhere, and why.
TESTED_ELSEWHERE = {
    "proxy/__main__.py": "tests/cli/test_main.py",  # one line, run as a process
    "proxy/errors.py": "tests/test_app.py",  # classes without behaviour, raised everywhere
    "proxy/cli/demo.py": "tests/demo/test_command.py",  # beside the tests of what it starts
    "proxy/stores/base.py": "tests/stores/test_contract.py",  # a protocol: the contract is its test
    "proxy/demo/replies.py": "tests/demo/test_api.py",  # how every answer of the portal looks
    "proxy/demo/analytics.py": "tests/demo/test_api.py",  # a handler of the portal's API
    "proxy/demo/companies.py": "tests/demo/test_api.py",
    "proxy/event_parts.py": "tests/serving/test_realtime.py",  # put together: tested over real sockets
    "proxy/figures.py": "tests/test_app.py",  # what a scrape of the whole finds
    "proxy/signals.py": "tests/test_app.py",
    "proxy/finished.py": "tests/test_app.py",  # what a request leaves in log, counters and audit of the whole
    "proxy/reporting.py": "tests/test_app.py",
    "proxy/admin_port.py": "tests/test_app.py",  # composes what the tests of admin/ compose in their world
    "proxy/session_parts.py": "tests/sessions/test_replicas.py",  # composition: tested as a whole
    "proxy/serving/decided.py": "tests/serving/test_exchange.py",  # values, and how bypasses are made: its own
    "proxy/links.py": "tests/test_app.py",
    "proxy/side_ports.py": "tests/test_app.py",  # and those of workers in tests/workers/test_supervisor.py
    "proxy/variables.py": "tests/test_settings.py",  # the words of one table of cases
    "proxy/store_settings.py": "tests/test_settings.py",
    "proxy/event_settings.py": "tests/test_settings.py",
    "proxy/workers/process.py": "tests/workers/test_supervisor.py",  # what is started is tested as a whole
    "proxy/cli/worker.py": "tests/workers/test_supervisor.py",
    "proxy/serving/seeking.py": "tests/serving/test_sought.py",
    "proxy/serving/heads.py": "tests/serving/test_listener.py",
    "proxy/serving/ways.py": "tests/serving/test_protocol.py",  # protocols, without behaviour
    "proxy/serving/at_once.py": "tests/serving/test_hits.py",  # the exchange's decisions that wait for nothing
    "proxy/serving/callers.py": "tests/serving/test_sought.py",
    "proxy/serving/prepared.py": "tests/serving/test_shared.py",  # with what finds it
    "proxy/serving/serving_epoch.py": "tests/serving/test_hits.py",
    "proxy/serving/unread.py": "tests/serving/test_hits.py",
    "proxy/cache/reads.py": "tests/cache/test_tiers.py",
    # the rest of the exchange: tested with it, as scripts
    "proxy/serving/fetch.py": "tests/serving/test_exchange.py",
    "proxy/serving/leading.py": "tests/serving/test_exchange.py",
    "proxy/serving/keeping.py": "tests/serving/test_exchange.py",
    "proxy/serving/reading.py": "tests/serving/test_exchange.py",
}


def python(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(python(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def mirror(path: Path) -> Path:
    return Path("tests", *path.parts[1:-1], f"test_{path.name}")


def test_every_module_has_its_test_file():
    missing = [
        f"{path}: no {mirror(path)}"
        for path in MODULES
        if path.name != "__init__.py" and str(path) not in TESTED_ELSEWHERE and not (ROOT / mirror(path)).exists()
    ]
    assert missing == []


def test_the_list_of_exceptions_is_true():
    for module, test in TESTED_ELSEWHERE.items():
        assert (ROOT / module).exists(), module
        assert (ROOT / test).exists(), test
        assert not (ROOT / mirror(Path(module))).exists(), f"{module} has a test of its own now"


def test_package_init_files_are_empty():
    """Whatever stands there is imported by everybody: that is how import cycles begin."""
    inits = [path for path in MODULES if path.name == "__init__.py" and path != Path("proxy/__init__.py")]
    assert [path for path in inits if (ROOT / path).read_text()] == []
    assert (ROOT / "proxy/__init__.py").read_text().startswith("__version__ = ")


def test_no_module_is_named_for_nothing():
    nothing = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base_manager"}
    assert [path for path in MODULES if nothing.intersection((*path.parts, path.stem))] == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=str)
def test_a_module_says_its_question_and_fits_on_few_screens(path):
    text = (ROOT / path).read_text()
    question = (ast.get_docstring(python(path)) or "").partition("\n")[0]
    assert question or path.name == "__main__.py"
    assert len(text.splitlines()) <= MAX_LINES
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in functions(path)
        if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    }
    assert long == {}
    assert re.findall(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b", text) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_handler_catches_everything(path):
    """A handler for every exception hides the next mistake; one that raises it again hides nothing."""
    caught = [
        node.lineno
        for node in ast.walk(python(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        and not isinstance(node.body[-1], ast.Raise)
    ]
    assert caught == []


@pytest.mark.process
def test_the_layers_hold():
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


# Dependencies


def names(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[A-Za-z0-9._-]+", each)[0]) for each in requirements}


def normal(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


OPTIONAL = PROJECT["project"]["optional-dependencies"]
RUN_TIME = names(PROJECT["project"]["dependencies"]) | names(OPTIONAL["aws"]) | names(OPTIONAL["otel"])
ALL = RUN_TIME | names(OPTIONAL["dev"])
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")

# Distribution -> the package one imports, where they differ.
IMPORTED_AS = {
    "pyjwt": "jwt", "python-dotenv": "dotenv", "ruamel-yaml": "ruamel", "opentelemetry-sdk": "opentelemetry",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
}  # fmt: skip
# Part of a dependency's own interface: it comes with the package that is named.
COMES_WITH = {"yarl": "aiohttp", "hiredis": "redis", "multidict": "aiohttp", "pydantic_core": "pydantic"}


def imported() -> set[str]:
    """The top-level names of what proxy/ imports from outside."""
    found: set[str] = set()
    for path in MODULES:
        for node in ast.walk(python(path)):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"proxy"}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in RUN_TIME}
    assert {COMES_WITH.get(name, name) for name in imported()} == declared


def test_every_dependency_has_its_reason():
    reasons = {normal(name) for name in re.findall(r"`([^`]+)`", (ROOT / "docs/dependencies.md").read_text())}
    assert ALL - reasons == set()


def locked(name: str) -> dict[str, str]:
    """The requirements of a lock, each with its version and hashes."""
    requirements = re.findall(r"(?m)^([A-Za-z0-9._-]+)(==.+(?:\n +--hash=.+)*)", (ROOT / name).read_text())
    return {normal(requirement): pinned for requirement, pinned in requirements}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_address_and_has_a_hash_for_everything(name):
    lock = (ROOT / name).read_text()
    assert re.findall(r"https?://|--index|--extra-index|--find-links|--trusted-host", lock) == []
    assert [each for each, pinned in locked(name).items() if "--hash=sha256:" not in pinned] == []


def test_the_locks_have_every_declared_dependency_and_agree():
    everything = locked("requirements-dev.lock")
    assert ALL - set(everything) == set()
    for name in LOCKS:
        assert locked(name).items() <= everything.items()


def test_what_runs_has_nothing_that_only_development_needs():
    runs = set(locked("requirements.lock"))
    assert runs >= RUN_TIME
    assert (ALL - RUN_TIME) & runs == set()
