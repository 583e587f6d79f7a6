"""What does the `session` block mean? Its routes, in a table of their own beside the features'."""

from collections.abc import Iterator

from proxy.policy.route import Kind, Route, Scope
from proxy.policy.session import Change, Ending, Event, SessionRules
from proxy.rules.document import Document, RoleChange
from proxy.rules.draft import Draft, Report
from proxy.rules.effects import check_reference
from proxy.rules.pattern import Pattern, parse
from proxy.rules.routes import Routes
from proxy.rules.source import Node


def session_of(document: Document, tree: Node, drafts: list[Draft], report: Report) -> SessionRules:
    """The rules of sessions; mistakes are reported where they stand."""
    personal = tuple(
        dict.fromkeys(draft.feature for draft in drafts if draft.is_read and draft.scope in (Scope.ROLE, Scope.USER))
    )
    session, node = document.session, tree.at("session")
    if session is None:
        return SessionRules(personal=personal)
    routes: dict[tuple[str, str], Node] = {}
    events: dict[str, Event] = {}
    table = []
    for place, pattern, event in (
        *_endings(session.logout, node, report),
        *_changes(session.role_change, node, report),
    ):
        for method in pattern.methods:
            other = routes.setdefault((method, pattern.skeleton), place)
            if other is not place:
                report.error(place, f"{method} {pattern.path} is named in line {other.line} as well")
        events[place.path] = event
        table.append(Route("", Kind.WRITE, pattern.methods, pattern.path, place.line, place.path))
    if session.enrich is not None:
        _check_enrich(session.enrich.from_, node.at("enrich", "from"), report)
    if not 60 <= session.token_lifetime <= 365 * 86400:
        report.error(node.at("token-lifetime"), "a token lives from 1m to 365d")
    return SessionRules(True, session.token_lifetime, events, Routes(table).match, personal)


def _endings(lines: list[str], node: Node, report: Report) -> Iterator[tuple[Node, Pattern, Event]]:
    for index, line in enumerate(lines):
        pattern = parse(line, None)
        place = node.at("logout", index)
        if isinstance(pattern, str):
            report.error(place, pattern)
        else:
            yield place, pattern, Ending()


def _changes(changes: list[RoleChange], node: Node, report: Report) -> Iterator[tuple[Node, Pattern, Event]]:
    for index, change in enumerate(changes):
        place = node.at("role-change", index)
        pattern = parse(change.route, None)
        if isinstance(pattern, str):
            report.error(place.at("route"), pattern)
            continue
        if change.user is not None:
            check_reference(change.user, place.at("user"), pattern, ("path", "response"), report)
        root, _, rest = (change.user or "").partition(".")
        yield (
            place,
            pattern,
            Change(rest if root == "path" else None, rest if root == "response" else None, change.then == "reject"),
        )


def _check_enrich(line: str, place: Node, report: Report) -> None:
    pattern = parse(line, Kind.READ)
    if isinstance(pattern, str):
        report.error(place, pattern)
    elif pattern.methods != ("GET",) or pattern.parameters:
        report.error(place, "must be one GET without parameters")
