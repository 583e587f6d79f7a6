"""What does a request cause besides caching, and do those references name things that exist?

Counters and sessions are validated in full; they act in a later version, which one warning says.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.policy.route import Kind
from proxy.rules.document import Count, Document, Publish, WriteRoute
from proxy.rules.draft import Draft, Report
from proxy.rules.pattern import Pattern, parse
from proxy.rules.source import Node, suggestion

LATER = "is checked and has no effect yet: count and session act in a later version"


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
            _check_count(count, draft.node.at("count"), draft.pattern, draft.kind, report)
        if publish is not None:
            _check_publish(publish, draft.node.at("publish"), draft.pattern, report)
        if count is not None or publish is not None:
            found[draft.node.path] = Effects(count, publish)
    return found


def published(effects: Iterable[Effects]) -> frozenset[str]:
    """The names of the events that these publish."""
    return frozenset(each.publish.event for each in effects if each.publish is not None)


def first_effect(drafts: list[Draft], tree: Node) -> Node | None:
    """The first place in the text that acts in a later version."""
    places = [draft.node.child("count") for draft in drafts]
    there = [place for place in (*places, tree.child("session")) if place is not None]
    return min(there, key=lambda place: (place.line, place.column), default=None)


def _check_count(count: Count, node: Node, pattern: Pattern, kind: Kind, report: Report) -> None:
    for key, text in (("by", count.by), ("unique", count.unique)):
        if text is None or (key == "unique" and text == "user"):
            continue
        place = node.at(key)
        if "." not in text:
            if text not in pattern.parameters:
                hint = suggestion(text, pattern.parameters)
                report.error(place, f"{text!r} is not a path parameter of {pattern.path}{hint}")
        else:
            _check_reference(text, place, pattern, ("path", "query", "jwt", "request"), report)


def _check_publish(publish: Publish, node: Node, pattern: Pattern, report: Report) -> None:
    if publish.to.startswith("user:"):
        _check_reference(publish.to[5:], node.at("to"), pattern, _EVERYWHERE, report)
    for name, reference in publish.data.items():
        _check_reference(reference, node.at("data", name), pattern, _EVERYWHERE, report)


_EVERYWHERE = ("path", "query", "jwt", "request", "response")


def _check_reference(text: str, node: Node, pattern: Pattern, roots: tuple[str, ...], report: Report) -> None:
    root, _, rest = text.partition(".")
    if root not in roots or not rest:
        report.error(node, f"{text!r} is not a reference that begins with {', '.join(f'{name}.' for name in roots)}")
    elif root == "path" and rest not in pattern.parameters:
        report.error(node, f"{rest!r} is not a path parameter of {pattern.path}{suggestion(rest, pattern.parameters)}")


def check_session(document: Document, tree: Node, report: Report) -> None:
    """The routes and references of `session`."""
    session, node = document.session, tree.at("session")
    if session is None:
        return
    for index, line in enumerate(session.logout):
        pattern = parse(line, None)
        if isinstance(pattern, str):
            report.error(node.at("logout", index), pattern)
    for index, change in enumerate(session.role_change):
        place = node.at("role-change", index)
        pattern = parse(change.route, None)
        if isinstance(pattern, str):
            report.error(place.at("route"), pattern)
        elif change.user is not None:
            _check_reference(change.user, place.at("user"), pattern, ("path", "response"), report)
    if session.enrich is not None:
        place = node.at("enrich", "from")
        pattern = parse(session.enrich.from_, Kind.READ)
        if isinstance(pattern, str):
            report.error(place, pattern)
        elif pattern.methods != ("GET",) or pattern.parameters:
            report.error(place, "must be one GET without parameters")
