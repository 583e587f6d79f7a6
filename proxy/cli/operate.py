"""What does an operator ask at 3 am? status, why, purge, bypass, keys, top, audit: one command for each question.

Exit codes: 0 done; 1 the answer is no (not well, a broken chain); 2 it could not be asked or was refused.
"""

import re
import sys
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.cli.port import AdminOption, JsonOption, Port, as_json, plain

NARROWEST = 160  # columns of a table that is not shown on a terminal


class What(StrEnum):
    TENANTS = "tenants"
    FEATURES = "features"
    REASONS = "reasons"


class State(StrEnum):
    ON = "on"
    OFF = "off"


class Tier(StrEnum):
    MEMORY = "memory"
    STORE = "store"


Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Feature = Annotated[str | None, typer.Option(help="Only this feature.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; production asks for it.")]


def register(app: typer.Typer) -> None:
    app.command("status")(status)
    app.command("top")(top)
    app.command("keys")(keys)
    app.command("purge")(purge)
    app.command("bypass")(bypass)
    app.command("why")(why)
    app.command("audit")(audit)


def status(admin: AdminOption = None, json_: JsonOption = False) -> None:
    """Is it us? One screen with one verdict. Exit code 1 when something is the matter."""
    told = Port(admin).get("/api/cache/status")
    if json_:
        typer.echo(as_json(told))
    else:
        _print_status(told)
    raise typer.Exit(0 if told["verdict"]["level"] == "ok" else 1)


def top(
    what: Annotated[What, typer.Argument(help="tenants, features or reasons.")] = What.REASONS,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 10,
    admin: AdminOption = None,
    json_: JsonOption = False,
) -> None:
    """Whose tenant fills the memory, which feature is asked for, why is it not cached?"""
    told = Port(admin).get("/api/cache/top", by=what.value, limit=limit)
    if json_:
        typer.echo(as_json(told))
        return
    rows = told["top"]
    if not rows:
        typer.echo("nothing yet")
        return
    _print_table(rows[0].keys(), rows)


def keys(
    tenant: Tenant = None,
    prefix: Annotated[str | None, typer.Option(help="Only keys that begin so.")] = None,
    tier: Annotated[Tier | None, typer.Option(help="Only of this tier: the sidecar's memory, or the store.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 100,
    admin: AdminOption = None,
    json_: JsonOption = False,
) -> None:
    """Which keys are kept, in memory and in the store?"""
    port, cursor = Port(admin), None
    found: dict[str, dict[str, None]] = {}  # the tiers that each is in
    errors: list[str] = []
    while True:
        told = port.get(
            "/api/cache/keys", tenant=tenant, prefix=prefix, tier=tier.value if tier else None,
            limit=min(1000, max(1, limit - len(found))), cursor=cursor,
        )  # fmt: skip
        for key in told["keys"]:
            if key in found or len(found) < limit:
                found.setdefault(key, {})[told["tier"]] = None
        errors += [told["error"]] if "error" in told else []
        cursor = told["next"]
        if cursor is None or len(found) >= limit:
            break
    rows = [{"key": key, "tiers": list(tiers)} for key, tiers in found.items()]
    if json_:
        typer.echo(as_json({"keys": rows, "more": cursor is not None, "errors": errors}))
        return
    for row in rows:
        typer.echo(f"{plain(row['key'])}  {', '.join(map(plain, row['tiers']))}")
    for error in errors:
        typer.echo(f"the store does not list its keys: {plain(error)}", err=True)
    more = ", and there are more" if cursor is not None else ""
    typer.echo(f"{len(rows)} keys{more}", err=True)


def purge(
    tags: Annotated[list[str] | None, typer.Argument(help="feature or feature:identifier, such as jobs:77.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose; alone: all that is kept for it.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="A full key; repeat it.")] = None,
    path: Annotated[str | None, typer.Option(help="A path, such as /api/jobs/77.")] = None,
    feature: Annotated[str | None, typer.Option(help="A whole feature.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All of it.")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Only mark it as stale.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be purged.")] = False,
    confirm: Annotated[str | None, typer.Option(help="Repeat the feature, the tenant, or 'everything'.")] = None,
    reason: ReasonOption = None,
    admin: AdminOption = None,
    json_: JsonOption = False,
) -> None:
    """Purge what is out of date; on every replica within a second."""
    said: dict[str, object] = {
        "tags": tags or None, "keys": key or None, "path": path, "feature": feature, "tenant": tenant,
        "everything": everything or None, "soft": soft, "dry-run": dry_run, "confirm": confirm, "reason": reason,
    }  # fmt: skip
    told = Port(admin).send("DELETE", "/api/cache/invalidate", said)
    if json_:
        typer.echo(as_json(told))
        return
    done = "would purge" if dry_run else "marked as stale" if soft else "purged"
    for each in told["purge"]:
        typer.echo(f"{done}: {', '.join(map(plain, each['tags']))} of {plain(each['tenant'] or 'all tenants')}")
    typer.echo(f"{told['sample']['entries']} {told['sample']['of']}")
    if dry_run and told["confirm"] is not None:
        typer.echo(f"needs --confirm {plain(told['confirm'])}")
    if not dry_run and not told["accepted"]:
        typer.echo("the store has not accepted it yet: this sidecar serves none of it and repeats", err=True)


def bypass(
    state: Annotated[State, typer.Argument(help="on: go past the cache; off: use it again.")],
    duration: Annotated[str | None, typer.Option("--for", help="How long, such as 15m.")] = None,
    feature: Feature = None,
    tenant: Tenant = None,
    reason: ReasonOption = None,
    admin: AdminOption = None,
    json_: JsonOption = False,
) -> None:
    """Switch caching off for a while. It comes back by itself; writes purge as ever."""
    if state is State.ON and duration is None:
        raise typer.BadParameter("how long? such as --for 15m", param_hint="--for")
    if state is State.OFF and duration is not None:
        raise typer.BadParameter("off is at once", param_hint="--for")
    said = {"state": state.value, "for": duration, "feature": feature, "tenant": tenant, "reason": reason}
    told = Port(admin).send("POST", "/api/cache/bypass", said)
    if json_:
        typer.echo(as_json(told))
        return
    for line in _bypasses(told["bypasses"]):
        typer.echo(line)
    if not told["bypasses"]:
        typer.echo("caching is on everywhere")


def why(
    url: Annotated[str, typer.Argument(help="A URL or a path; a method before it, if it is not GET.")],
    as_: Annotated[str | None, typer.Option("--as", help="Who asks: TENANT or TENANT:USER.")] = None,
    permission: Annotated[list[str] | None, typer.Option(help="A permission of theirs; repeat it.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="'Name: value' of the request; repeat it.")] = None,
    admin: AdminOption = None,
    json_: JsonOption = False,
) -> None:
    """Why is this answer stale, why is it not cached? The rules' word, what is kept now, what has touched it."""
    method, _, target = url.rpartition(" ")
    line, host = _request_of(method or "GET", target)
    headers = dict([("Host", host)] if host else [])
    headers.update(_header(each) for each in header or ())
    tenant, _, user = (as_ or "").partition(":")
    caller = {"org_id": tenant or None, "sub": user or None, "permissions": permission, "headers": headers or None}
    said = {name: value for name, value in caller.items() if value is not None}
    told = Port(admin).send("POST", "/api/cache/explain", {"request": line, "as": said or None})
    if json_:
        typer.echo(as_json(told))
        return
    _print_why(told)


def audit(
    since: Annotated[str | None, typer.Option(help="How far back, such as 2h.")] = None,
    tenant: Tenant = None,
    actor: Annotated[str | None, typer.Option(help="Only what this name did.")] = None,
    event: Annotated[str | None, typer.Option(help="Only this, such as purge or denied.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many lines.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where --json said next.")] = None,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", help="Check the chain of this audit log instead, - for standard input; asks nobody."),
    ] = None,
    admin: AdminOption = None,
    json_: JsonOption = False,
) -> None:
    """Who purged, who was denied? With --verify: is a log as it was written? Exit code 1 when it is not."""
    if verify is not None:
        _verify(verify, json_)
        return
    told = Port(admin).get(
        "/api/audit", since=since, tenant=tenant, actor=actor, event=event, limit=limit, cursor=cursor
    )
    if json_:
        typer.echo(as_json(told))
        return
    rows = [
        {
            "time": line["time"], "event": line["event"], "who": (line["actor"] or {}).get("name"),
            "tenant": line["tenant"], "result": line["result"], "target": _short(line["target"]),
            "reason": line["reason"],
        }
        for line in told["lines"]
    ]  # fmt: skip
    if not rows:
        typer.echo("nothing in this time")
    else:
        _print_table(rows[0].keys(), rows)
    older = f"; older ones: --cursor {plain(told['next'])}" if told["next"] is not None else ""
    typer.echo(f"{len(rows)} lines of {plain(told['of'])}{older}", err=True)


def _verify(file: Path, json_: bool) -> None:
    from proxy.admin.chain import verify  # here: the other commands need no server's modules

    try:
        if str(file) == "-":  # what a container said on both its outputs comes as one
            file, verdict = Path("standard input"), verify(sys.stdin.buffer, among_others=True)
        else:
            with file.open("rb") as lines:
                verdict = verify(lines)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {(error.strerror or str(error)).lower()}", param_hint="--verify") from None
    whole = verdict.broken_at is None
    if json_:
        typer.echo(
            as_json(
                {"whole": whole, "lines": verdict.lines, "last_hash": verdict.last_hash,
                 "broken_at": verdict.broken_at, "problem": verdict.problem or None, "follows": verdict.follows}
            )
        )  # fmt: skip
    elif whole:
        typer.echo(f"{file}: {verdict.lines} lines, none changed, dropped or moved; last hash {verdict.last_hash}")
        if verdict.follows is not None:
            typer.echo(
                f"the first one follows the hash {verdict.follows}: lines before it are elsewhere, or were cut off"
            )
    else:
        typer.echo(f"{file}:{verdict.broken_at}: {verdict.problem}")
    raise typer.Exit(0 if whole else 1)


def _print_status(told: Mapping[str, Any]) -> None:
    typer.echo(plain(told["verdict"]["line"]))
    store, rules = told["store"], told["rules"]
    said = [f"{plain(name)} {plain(value)}" for name, value in store.items() if name != "calls"]
    typer.echo(f"  store    {', '.join(said)}")
    typer.echo(f"  rules    {plain(rules['file'])}, digest {plain(rules['digest'])}, {_ago(rules['loaded_at'])}")
    for problem in rules["problems"]:
        typer.echo(f"           {plain(problem)}")
    if told["purges_pending"]:
        typer.echo(f"  purges   {told['purges_pending']} wait for the store")
    for line in _bypasses(told["bypasses"]):
        typer.echo(f"  bypass   {line}")
    first = told.get("first_tier")
    if first is not None:
        typer.echo(f"  memory   {first['entries']} entries, {_size(first['bytes'])} of {_size(first['max_bytes'])}")
    for name in ("features", "tenants"):
        rows = told.get(name)
        if rows:
            typer.echo("")
            _print_table(rows[0].keys(), rows[:10])


def _print_why(told: Mapping[str, Any]) -> None:
    facts = dict(told)
    typer.echo(plain(facts.pop("request")))
    for name in ("writes_without_a_rule", "reasons_of_this_route", "purges_that_touched_it", "variants"):
        facts.pop(name, None)
    stored = facts.pop("stored", None)
    for name, value in facts.items():
        shown = ", ".join(map(plain, value)) if isinstance(value, list) else plain(value)
        typer.echo(f"  {name.replace('_', '-'):14} {shown}")
    for entry in [stored] if stored else told.get("variants", []):
        typer.echo(
            f"  {'stored':14} {plain(entry['key'])}: {_ago(entry['stored_at'])} by {plain(entry['request'])}, "
            f"status {entry['status']}, {_size(entry['size'])}, fresh for {entry['ttl']} s"
        )
    for each in told.get("purges_that_touched_it", []):
        kind = "soft purge" if each["soft"] else "purge"
        typer.echo(f"  {kind:14} {_ago(each['at'])} by {plain(each['by'])}: {', '.join(map(plain, each['tags']))}")
    for name, title in (("writes_without_a_rule", "unmatched"), ("reasons_of_this_route", "reason")):
        for each in told.get(name, []):
            what = each.get("route") or each.get("reason")
            typer.echo(f"  {title:14} {plain(what)}: {each['count']} times, last {_ago(each['last_at'])}")
            if each["edit"] is not None:
                typer.echo(f"  {'':14} rules.yaml: {plain(each['edit'])}")


def _bypasses(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for each in rows:
        what = " of ".join(filter(None, (each["feature"] or "everything", each["tenant"])))
        left = max(0, int(each["until"] - time.time()))
        because = f" ({plain(each['reason'])})" if each["reason"] else ""
        yield f"{plain(what)} goes past the cache for another {left} s, by {plain(each['by'])}{because}"


def _print_table(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    columns = list(names)
    table = Table(*(name.replace("_", " ") for name in columns), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # Text, not markup: what comes from outside is shown as it is
        table.add_row(*(Text(_cell(name, row[name]), overflow="fold") for name in columns))
    console = Console(file=sys.stdout)
    console.print(table, width=None if console.is_terminal else max(console.width, NARROWEST), crop=False)


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name == "last_at" and isinstance(value, float):
        return _ago(value)
    if name == "bytes" and isinstance(value, int):
        return _size(value)
    if name in ("share", "hit_ratio") and isinstance(value, float):
        return f"{value:.1%}"
    return plain(value)


def _short(target: Mapping[str, Any]) -> str:
    """In a cell: a request says what its feature and key are, and --json has all of it."""
    told = {"request": target["request"]} if "request" in target else target
    return ", ".join(f"{name} {_sum(value)}" for name, value in told.items())


def _sum(value: object) -> object:
    """The counts of a minute as one figure: --json has them all."""
    if not (isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value)):
        return value
    return sum(each.get("count", 0) for each in value)


def _ago(then: float) -> str:
    seconds = max(0.0, time.time() - then)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _size(count: int) -> str:
    return f"{count} B" if count < 10_240 else f"{count >> 10} KiB" if count < 10 << 20 else f"{count >> 20} MiB"


def _request_of(method: str, url: str) -> tuple[str, str | None]:
    """`GET /path?query` and the Host of a URL or a path."""
    parts = None
    if not url.startswith("/"):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise typer.BadParameter("write a URL or a path, such as /api/jobs/77", param_hint="url")
        url = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if re.fullmatch(r"[A-Z]+", method) is None or re.fullmatch(r"/[!-~]*", url) is None:
        raise typer.BadParameter("write it like /api/jobs/77 or 'POST /api/search'", param_hint="url")
    return f"{method} {url}", None if parts is None else parts.netloc


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise typer.BadParameter("write it like 'accept-language: de'", param_hint="--header")
    return name, value.strip()
