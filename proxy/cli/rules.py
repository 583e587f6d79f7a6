"""What does this rules file say? The commands check, test, explain and schema; nothing here talks to a server."""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.errors import ConfigError
from proxy.rules.compile import Rejected, RuleSet, compile_rules
from proxy.rules.explain import Caller, explain, request_of
from proxy.rules.scenarios import ScenarioResult, run
from proxy.rules.schema import schema_text
from proxy.rules.source import MAX_BYTES, Problem, decode
from proxy.rules.values import duration_text
from proxy.settings import load

NARROWEST = 100  # columns of a table that is not shown on a terminal


class Profile(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class Format(StrEnum):
    TEXT = "text"
    GITHUB = "github"


File = Annotated[Path, typer.Argument(help="The rules file.", envvar="SIDECACHE_RULES", show_default=True)]
RulesOption = Annotated[Path, typer.Option("--rules", help="The rules file.", envvar="SIDECACHE_RULES")]
ProfileOption = Annotated[Profile, typer.Option(help="Whose view of `environments`.", envvar="SIDECACHE_PROFILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_DEFAULT = Path("rules.yaml")


def register(app: typer.Typer) -> None:
    app.command("check")(check)
    app.command("test")(run_tests)
    app.command("explain")(explain_request)
    app.command("schema")(schema)


def check(
    file: File = _DEFAULT,
    profile: ProfileOption = Profile.PRODUCTION,
    output: Annotated[Format, typer.Option("--format", help="text, or annotations for GitHub.")] = Format.TEXT,
    as_json: Json = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="Show the effective configuration too, secrets masked.")
    ] = False,
) -> None:
    """Check a rules file: every mistake of every profile at once, each at its place. Exit code 1 when there is one."""
    loaded = load(os.environ, rules=file, profile=profile.value) if settings else None
    effective = dict(loaded.described()) if loaded else {}
    rules = _compiled(file, profile)
    problems = rules.problems if isinstance(rules, Rejected) else rules.warnings
    if as_json:
        shown = {"settings": effective, "settings-warnings": loaded.warnings} if loaded else {}
        typer.echo(_as_json({"file": str(file), "valid": isinstance(rules, RuleSet), **_said(rules), **shown}))
    else:
        for name, value in effective.items():
            typer.echo(f"{name:20} {value}")
        for warning in loaded.warnings if loaded else ():
            typer.echo(f"warning: {warning}")
        for problem in problems:
            typer.echo(_annotation(problem) if output is Format.GITHUB else str(problem))
        typer.echo(_summary(file, rules, profile), err=output is Format.GITHUB)
    raise typer.Exit(0 if isinstance(rules, RuleSet) else 1)


def run_tests(file: File = _DEFAULT, profile: ProfileOption = Profile.PRODUCTION, as_json: Json = False) -> None:
    """Run the tests inside a rules file. Exit code 1 when one fails."""
    rules = valid(file, profile)
    results = run(rules)
    failed = [result for result in results if not result.passed]
    if as_json:
        typer.echo(
            _as_json({"file": str(file), "passed": len(results) - len(failed), "failed": list(map(_row, failed))})
        )
    else:
        if failed:
            _print_failures(failed, file)
        typer.echo(f"{file}: {_many(len(results), 'test')}, {len(failed)} failed")
    raise typer.Exit(1 if failed else 0)


def explain_request(
    request: Annotated[str, typer.Argument(help="METHOD /path?query, such as 'GET /api/jobs/77'.")],
    org: Annotated[str | None, typer.Option(help="The caller's tenant.")] = None,
    user: Annotated[str | None, typer.Option(help="The caller's user id.")] = None,
    permission: Annotated[list[str] | None, typer.Option(help="A permission of the caller; repeat it.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="'Name: value'; repeat it.")] = None,
    rules_file: RulesOption = _DEFAULT,
    profile: ProfileOption = Profile.PRODUCTION,
    as_json: Json = False,
) -> None:
    """Say what the rules do with one request: the rule and its line, the key, the tags, or why it is not cached."""
    if re.fullmatch(r"[A-Z]+ /\S*", request) is None:
        raise typer.BadParameter("write it like 'GET /api/jobs/77'", param_hint="request")
    rules = valid(rules_file, profile)
    nobody = org is None and user is None and not permission
    permissions = None if nobody else tuple(permission or ())
    caller = Caller(org, user, permissions, tuple(map(_header, header or ())))
    explanation = explain(rules, request_of(request, caller, rules.identity), caller)
    facts = explanation.facts()
    if as_json:
        typer.echo(_as_json(facts))
        return
    typer.echo(facts.pop("request"))
    if explanation.route is not None:
        facts["line"] = f"{rules_file}:{facts['line']}"
    for name, value in facts.items():
        typer.echo(f"  {name.replace('_', '-'):10} {_shown(value)}")


def schema(
    against: Annotated[
        Path | None, typer.Option("--check", help="Compare with this file instead: exit code 1 when it differs.")
    ] = None,
) -> None:
    """Print the JSON Schema of rules.yaml, for completion in editors."""
    if against is None:
        typer.echo(schema_text(), nl=False)
        return
    same = _read(against) == schema_text().encode()
    typer.echo(f"{against}: {'in step' if same else 'differs: write it again with `sidecache schema`'}")
    raise typer.Exit(0 if same else 1)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {(error.strerror or str(error)).lower()}") from None


def _compiled(file: Path, profile: Profile) -> RuleSet | Rejected:
    text = decode(_read(file), str(file))
    if isinstance(text, Problem):
        return Rejected((text,))
    has_key = bool(os.environ.get("SIDECACHE_ENCRYPTION_KEYS") or os.environ.get("SIDECACHE_ENCRYPTION_KEYS_FILE"))
    return compile_rules(text, file=str(file), profile=profile, has_encryption_key=has_key)


def valid(file: Path, profile: Profile) -> RuleSet:
    """The rules; a file with mistakes ends the command with them."""
    rules = _compiled(file, profile)
    if isinstance(rules, RuleSet):
        return rules
    for problem in rules.problems:
        typer.echo(str(problem), err=True)
    raise typer.Exit(1)


def _said(rules: RuleSet | Rejected) -> dict[str, object]:
    if isinstance(rules, Rejected):
        return {"errors": list(map(asdict, rules.problems)), "warnings": []}
    counted = {"features": len({route.feature for route in rules.routes}), "routes": len(rules.routes)}
    return {"errors": [], "warnings": list(map(asdict, rules.warnings)), "digest": rules.digest, **counted}


def _summary(file: Path, rules: RuleSet | Rejected, profile: Profile) -> str:
    if isinstance(rules, Rejected):
        return f"{file}: {_many(len(rules.problems), 'error')}"
    features = _many(len({route.feature for route in rules.routes}), "feature")
    routes, tests = _many(len(rules.routes), "route"), _many(len(rules.scenarios), "test")
    warnings = _many(len(rules.warnings), "warning")
    return f"{file}: valid for {profile} ({features}, {routes}, {tests}, {warnings}), digest {rules.digest}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _annotation(problem: Problem) -> str:
    """A GitHub workflow command: https://docs.github.com/actions/reference/workflow-commands-for-github-actions"""
    text = f"{problem.path}: {problem.message}" if problem.path else problem.message
    data = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    file = problem.file.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{problem.severity} file={file},line={problem.line},col={problem.column}::{data}"


def _row(result: ScenarioResult) -> dict[str, object]:
    return {"request": result.request, "line": result.line, "differences": list(map(asdict, result.differences))}


def _print_failures(failed: Sequence[ScenarioResult], file: Path) -> None:
    table = Table("test", "", "expected", "got", box=None, pad_edge=False, header_style="bold")
    for result in failed:
        name = f"{file}:{result.line} {result.request}"
        for index, each in enumerate(result.differences):
            row = (name if index == 0 else "", each.what, each.expected, each.got)
            # Text, not markup: what stands in the file is shown as it is
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console = Console(file=sys.stdout)
    console.print(table, width=None if console.is_terminal else max(console.width, NARROWEST), crop=False)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise typer.BadParameter("write it like 'accept-language: de'", param_hint="header")
    return name, value.strip()


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, float):
        return duration_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
