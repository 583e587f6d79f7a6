"""What does a request cause besides caching, and do those references name things that exist?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from proxy.rules.document import Count, Publish, WriteRoute
from proxy.rules.draft import Draft, Report
from proxy.rules.pattern import Pattern
from proxy.rules.source import Node, suggestion

ASKED = frozenset({"by", "from", "to", "bucket", "limit"})  # what every report may be asked for


@dataclass(frozen=True, slots=True)
class Effects:
    """What the rules say a route counts and publishes."""

    count: Count | None = None
    publish: Publish | None = None


def effects_of(drafts: list[Draft], report: Report) -> dict[str, Effects]:
    """By the place of the route line."""
    found = {}
    for draft in drafts:
        publish = draft.block.publish if isinstance(draft.block, WriteRoute) else None
        count = draft.block.count
        if count is not None:
            _check_count(count, draft.node.at("count"), draft.pattern, report)
        if publish is not None:
            _check_publish(publish, draft.node.at("publish"), draft.pattern, report)
        if count is not None or publish is not None:
            found[draft.node.path] = Effects(count, publish)
    return found


@dataclass(frozen=True, slots=True)
class ReportRule:
    """What is counted under one name: by what (None: only as a whole), whether users are too, and of which routes."""

    name: str
    by: str | None
    unique: bool
    routes: tuple[str, ...]


def reports_of(drafts: list[Draft], report: Report) -> Mapping[str, ReportRule]:
    """By their names. Routes may share one, if they count alike."""
    found: dict[str, tuple[ReportRule, Draft]] = {}
    for draft in drafts:
        count = draft.block.count
        if count is None:
            continue
        made = ReportRule(count.name, _short(count.by), count.unique is not None, (str(draft.pattern),))
        before, first = found.setdefault(count.name, (made, draft))
        if first is draft:
            continue
        if (before.by, before.unique) != (made.by, made.unique):
            report.error(
                draft.node.at("count", "name"),
                f"{count.name!r} is counted otherwise in line {first.node.line}: by and unique must be the same, "
                "or the names different",
            )
        found[count.name] = (replace(before, routes=before.routes + made.routes), first)
    return {name: rule for name, (rule, _) in found.items()}


def _short(by: str | None) -> str | None:
    """As reports call it: a path parameter by its name."""
    return None if by is None else by.removeprefix("path.")


def published(effects: Iterable[Effects]) -> frozenset[str]:
    """The names of the events that these publish."""
    return frozenset(each.publish.event for each in effects if each.publish is not None)


def _check_count(count: Count, node: Node, pattern: Pattern, report: Report) -> None:
    if _short(count.by) in ASKED:
        report.error(node.at("by"), f"{count.by!r} is what every report may be asked for: rename the parameter")
    for key, text in (("by", count.by), ("unique", count.unique)):
        if text is None or (key == "unique" and text == "user"):
            continue
        place = node.at(key)
        if "." not in text:
            if text not in pattern.parameters:
                hint = suggestion(text, pattern.parameters)
                report.error(place, f"{text!r} is not a path parameter of {pattern.path}{hint}")
        else:
            check_reference(text, place, pattern, ("path", "query", "jwt"), report)


def _check_publish(publish: Publish, node: Node, pattern: Pattern, report: Report) -> None:
    if publish.to.startswith("user:"):
        check_reference(publish.to[5:], node.at("to"), pattern, _EVERYWHERE, report)
    for name, reference in publish.data.items():
        check_reference(reference, node.at("data", name), pattern, _EVERYWHERE, report)


_EVERYWHERE = ("path", "query", "jwt", "request", "response")


def check_reference(text: str, node: Node, pattern: Pattern, roots: tuple[str, ...], report: Report) -> None:
    root, _, rest = text.partition(".")
    if root not in roots or not rest:
        report.error(node, f"{text!r} is not a reference that begins with {', '.join(f'{name}.' for name in roots)}")
    elif root == "path" and rest not in pattern.parameters:
        report.error(node, f"{rest!r} is not a path parameter of {pattern.path}{suggestion(rest, pattern.parameters)}")
