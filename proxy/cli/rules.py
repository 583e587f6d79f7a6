"""What does this rules file say? The commands check, test, explain and schema; nothing here talks to a server."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.errors import ConfigError
from proxy.live_rules import judged
from proxy.rules.compile import Rejected, RuleSet, compile_rules
from proxy.rules.explain import Caller, explain, request_of
from proxy.rules.scenarios import ScenarioResult, run
from proxy.rules.schema import schema_text
from proxy.rules.source import MAX_BYTES, Problem, decode
from proxy.rules.values import duration_text
from proxy.start import Verdict, verdict

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
    profile: Annotated[
        Profile | None,
        typer.Option(
            help="Check for this one, and the environment too: all that would keep it from starting here.",
            envvar="SIDECACHE_PROFILE",
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="text, or annotations for GitHub.")] = Format.TEXT,
    as_json: Json = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="Show the effective configuration too, secrets masked.")
    ] = False,
    rules_only: Annotated[
        bool, typer.Option("--rules-only", help="With --profile, not the environment: it will run elsewhere.")
    ] = False,
) -> None:
    """Check a rules file: every mistake of every profile at once, each at its place. Exit code 1 when there is one."""
    found = None
    data = _read(file)  # a file that is not there is another matter than one with mistakes
    if settings or (profile is not None and not rules_only):
        found = verdict(os.environ, rules=file, profile=profile)
        rules = found.rules
    else:
        rules = judged(data, file, profile or Profile.PRODUCTION, has_encryption_key=_has_key(), serves=False)
    checked = _Checked(file, found.settings.profile if found else profile or Profile.PRODUCTION, rules, found)
    if as_json:
        shown = {"settings": dict(found.settings.described())} if found and settings else {}
        typer.echo(_as_json({**checked.facts(), **shown}))
    else:
        if found and settings:
            for name, value in found.settings.described():
                typer.echo(f"{name:20} {value}")
        for line in checked.lines(output):
            typer.echo(line)
        typer.echo(checked.summary(), err=output is Format.GITHUB)
    raise typer.Exit(0 if checked.valid else 1)


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
    return compile_rules(text, file=str(file), profile=profile, has_encryption_key=_has_key())


def _has_key() -> bool:
    return bool(os.environ.get("SIDECACHE_ENCRYPTION_KEYS") or os.environ.get("SIDECACHE_ENCRYPTION_KEYS_FILE"))


def valid(file: Path, profile: Profile) -> RuleSet:
    """The rules; a file with mistakes ends the command with them."""
    rules = _compiled(file, profile)
    if isinstance(rules, RuleSet):
        return rules
    for problem in rules.problems:
        typer.echo(str(problem), err=True)
    raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What `check` has to say of a file, and of the environment where it was asked (`found`)."""

    file: Path
    profile: str
    rules: RuleSet | tuple[Problem, ...]
    found: Verdict | None

    @property
    def valid(self) -> bool:
        return isinstance(self.rules, RuleSet) and not self.errors

    @property
    def errors(self) -> tuple[str, ...]:
        """Of the environment."""
        return self.found.problems if self.found is not None else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.found.settings.warnings if self.found is not None else ()

    def facts(self) -> dict[str, object]:
        rules = self.rules
        facts: dict[str, object] = {
            "file": str(self.file), "profile": str(self.profile), "valid": self.valid,
            "errors": [] if isinstance(rules, RuleSet) else list(map(asdict, rules)),
            "warnings": list(map(asdict, rules.warnings)) if isinstance(rules, RuleSet) else [],
            "environment": None if self.found is None else {
                "errors": list(map(_named, self.errors)), "warnings": list(map(_named, self.warnings)),
            },
        }  # fmt: skip
        if isinstance(rules, RuleSet):
            counted = {"features": len({route.feature for route in rules.routes}), "routes": len(rules.routes)}
            facts |= {"digest": rules.digest, **counted}
        return facts

    def lines(self, output: Format) -> Iterator[str]:
        for severity, listed in (("error", self.errors), ("warning", self.warnings)):
            for line in listed:
                said = _named(line)
                plain = f"{said['name']}: {severity}: {said['message']}"
                yield _annotation_of(severity, said) if output is Format.GITHUB else plain
        for problem in self.rules.warnings if isinstance(self.rules, RuleSet) else self.rules:
            yield _annotation(problem) if output is Format.GITHUB else str(problem)

    def summary(self) -> str:
        environment = f", environment: {_many(len(self.errors), 'error')}" if self.errors else ""
        if not isinstance(self.rules, RuleSet):
            return f"{self.file}: {_many(len(self.rules), 'error')}{environment}"
        features = _many(len({route.feature for route in self.rules.routes}), "feature")
        routes, tests = _many(len(self.rules.routes), "route"), _many(len(self.rules.scenarios), "test")
        warnings = _many(len(self.rules.warnings) + len(self.warnings), "warning")
        counted = f"({features}, {routes}, {tests}, {warnings})"
        return f"{self.file}: valid for {self.profile} {counted}, digest {self.rules.digest}{environment}"


def _named(line: str) -> dict[str, str]:
    """A line of the environment: which setting, and what about it."""
    name, _, message = line.partition(": ")
    return {"name": name, "message": message}


def _annotation_of(severity: str, said: Mapping[str, str]) -> str:
    return f"::{severity} title={_escaped(said['name'], ':,')}::{_escaped(said['message'])}"


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _annotation(problem: Problem) -> str:
    """A GitHub workflow command: https://docs.github.com/actions/reference/workflow-commands-for-github-actions"""
    text = f"{problem.path}: {problem.message}" if problem.path else problem.message
    file = _escaped(problem.file, ":,")
    return f"::{problem.severity} file={file},line={problem.line},col={problem.column}::{_escaped(text)}"


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
