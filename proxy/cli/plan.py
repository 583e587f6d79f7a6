"""What would new rules change? The command plan: two files compared, on logged traffic too, and a widening accepted."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from proxy.cli.port import AdminOption, Port, as_json, plain
from proxy.cli.rules import Json, Profile, ProfileOption, valid
from proxy.errors import ConfigError
from proxy.rules.compare import Comparison, Difference, compare
from proxy.rules.compile import RuleSet
from proxy.rules.replay import LONGEST_LINE, Replay, Tally, replay

# The new rules share more than the old ones: neither yes nor no, but a question for somebody.
EXIT_WIDENS = 3
_MOST_CHANGES = 20


def register(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    old: Annotated[Path, typer.Argument(help="The rules file as it is.")],
    new: Annotated[Path, typer.Argument(help="The rules file as it is to be.")],
    replay_: Annotated[
        Path | None, typer.Option("--replay", help="An access log (JSON lines): decide its requests under both.")
    ] = None,
    accept: Annotated[
        bool,
        typer.Option("--accept-widening", help="Let the sidecar at --admin take NEW over although it shares more."),
    ] = False,
    profile: ProfileOption = Profile.PRODUCTION,
    admin: AdminOption = None,
    as_json_: Json = False,
) -> None:
    """Say what a change of rules.yaml would do. Exit code 3 when more people would share answers, 1 for a mistake."""
    before, after = valid(old, profile), valid(new, profile)
    comparison = compare(before, after)
    replayed = _replayed(before, after, replay_) if replay_ is not None else None
    if as_json_:
        typer.echo(as_json(_facts(before, after, comparison, replayed)))
    else:
        _print(Console(file=sys.stdout, highlight=False, soft_wrap=True), comparison, replayed)
    if not comparison.widening:
        raise typer.Exit(0)
    if not accept:
        raise typer.Exit(EXIT_WIDENS)
    # the file there is what counts: it is taken over if it is what was compared here
    told = Port(admin).send("POST", "/api/rules/reload", {"accept-widening": after.digest})
    typer.echo(f"in force: {plain(told['file'])}, digest {plain(told['digest'])}", err=as_json_)


def _replayed(before: RuleSet, after: RuleSet, log: Path) -> Replay:
    try:
        size = os.stat(log).st_size
        with log.open("rb") as file, Progress(console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task("replaying", total=size, visible=sys.stderr.isatty())

            def lines() -> Iterator[str]:
                for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 2), b"")):
                    if number % 1000 == 0:
                        shown.update(task, completed=file.tell())
                    yield line.decode("utf-8", "replace")

            return replay(before, after, lines())
    except OSError as error:
        raise ConfigError(f"{log}: {(error.strerror or str(error)).lower()}") from None


# As text


def _print(out: Console, comparison: Comparison, replayed: Replay | None) -> None:
    if comparison.same:
        out.print("nothing changes")
    for change in comparison.identity:
        out.print(Text(f"changed  {change}"))
    for each in comparison.differences:
        _print_difference(out, each)
    new = [each for each in comparison.differences if each.new_keys]
    if new:
        out.print(Text(f"{len(new)} of these start with an empty cache: what is kept now is not used by the new rules"))
    for problem in comparison.widening:
        out.print(Text(f"widens   {problem.file}:{problem.line}: {problem.path}: {problem.message}", style="bold red"))
    if replayed is not None:
        _print_replay(out, replayed)


def _print_difference(out: Console, each: Difference) -> None:
    route = each.after if each.after is not None else each.before
    assert route is not None, "one of the two is there"
    out.print(Text(f"{each.what:8} {each.request}  ({route.feature}, {route.kind})"))
    for change in each.changes:
        out.print(Text(f"           {change}"))
    if each.no_longer_purges:
        out.print(Text(f"           no longer purges {', '.join(each.no_longer_purges)}", style="yellow"))


def _print_replay(out: Console, found: Replay) -> None:
    out.print(
        f"\n{found.requests} requests replayed, {found.other_lines} other lines, {found.malformed} malformed; "
        f"{_ratio(found.hits_logged, found.requests)} were hits then"
    )
    for problem in found.problems:
        out.print(Text(f"  {problem}", style="yellow"))
    rows = [("all", found.total), *sorted(found.features.items())]
    out.print(f"  {'feature':24} {'requests':>9} {'hits before':>12} {'hits after':>11}   (simulated)")
    for name, tally in rows:
        before, after = (_ratio(hits, tally.requests) for hits in (tally.hits_before, tally.hits_after))
        out.print(f"  {name:24} {tally.requests:>9} {before:>12} {after:>11}")
    if found.unknown_lifetime:
        out.print(
            f"  {found.unknown_lifetime} with `ttl: origin` whose freshness the log does not tell count as misses"
        )
    for (request, before, after), count in found.changed.most_common(_MOST_CHANGES):
        out.print(Text(f"  {count:>9} {plain(request)}: {plain(before)} -> {plain(after)}"))
    if len(found.changed) > _MOST_CHANGES:
        out.print(f"  and {len(found.changed) - _MOST_CHANGES} kinds more")


def _ratio(hits: int, requests: int) -> str:
    return f"{hits / requests:.1%}" if requests else "-"


# As JSON


def _facts(before: RuleSet, after: RuleSet, comparison: Comparison, replayed: Replay | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "before": before.digest,
        "after": after.digest,
        "identity": [asdict(change) for change in comparison.identity],
        "routes": [
            {
                "request": each.request, "what": each.what, "new_keys": each.new_keys,
                "feature": (each.after or each.before).feature,  # type: ignore[union-attr]  # one of the two is there
                "changes": [asdict(change) for change in each.changes], "widens": list(each.widens),
                "no_longer_purges": list(each.no_longer_purges),
            }
            for each in comparison.differences
        ],
        "widening": [asdict(problem) for problem in comparison.widening],
    }  # fmt: skip
    if replayed is not None:
        facts["replay"] = {
            "requests": replayed.requests, "other_lines": replayed.other_lines, "malformed": replayed.malformed,
            "problems": replayed.problems, "hits_logged": replayed.hits_logged, "total": _tally(replayed.total),
            "unknown_lifetime": replayed.unknown_lifetime,
            "features": {name: _tally(tally) for name, tally in sorted(replayed.features.items())},
            "changed": [
                {"request": request, "before": one, "after": other, "count": count}
                for (request, one, other), count in replayed.changed.most_common()
            ],
        }  # fmt: skip
    return facts


def _tally(tally: Tally) -> dict[str, float | int | None]:
    ratios = (tally.hits_before / tally.requests, tally.hits_after / tally.requests) if tally.requests else (None, None)
    return {**asdict(tally), "hit_ratio_before": ratios[0], "hit_ratio_after": ratios[1]}
