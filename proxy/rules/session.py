"""What does the `session` block mean? Its routes, in a table of their own beside the features'."""

from collections.abc import Iterator

from proxy.policy.fields import HOP_BY_HOP
from proxy.policy.identity import IdentitySources
from proxy.policy.route import Kind, Route, Scope
from proxy.policy.session import Change, Ending, Enrichment, Event, SessionRules
from proxy.rules.document import Document, Enrich, RoleChange, Session
from proxy.rules.draft import Draft, Report
from proxy.rules.effects import check_reference
from proxy.rules.pattern import Pattern, parse
from proxy.rules.routes import Routes
from proxy.rules.source import Node


def session_of(
    document: Document, tree: Node, drafts: list[Draft], identity: IdentitySources, report: Report
) -> SessionRules:
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
    enrich = _enrichment(session.enrich, node.at("enrich"), report) if session.enrich is not None else None
    _check_headers(session, identity, node, report)
    if not 60 <= session.token_lifetime <= 365 * 86400:
        report.error(node.at("token-lifetime"), "a token lives from 1m to 365d")
    return SessionRules(
        True, session.token_lifetime, events, Routes(table).match, personal, tuple(session.headers.items()),
        session.assertion, enrich,
    )  # fmt: skip


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


def _enrichment(block: Enrich, node: Node, report: Report) -> Enrichment | None:
    place = node.at("from")
    pattern = parse(block.from_, Kind.READ)
    if isinstance(pattern, str):
        report.error(place, pattern)
        return None
    if pattern.methods != ("GET",) or pattern.parameters or "**" in pattern.path:
        report.error(place, "must be one GET without parameters")
    if block.every < 1:
        report.error(node.at("every"), "is at least 1s")
    return Enrichment(pattern.path, tuple(block.headers.items()), block.every, block.tenant)


# Fields that mean something to every server; a caller's name in one of them would be read as that.
_TAKEN = HOP_BY_HOP | frozenset(
    "accept accept-encoding authorization cache-control content-length content-type cookie expect forwarded host "
    "if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma range referer user-agent via "
    "x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)


def _check_headers(session: Session, identity: IdentitySources, node: Node, report: Report) -> None:
    """Each field has one meaning, and none that a caller is known by."""
    sources = {
        source[7:].lower().replace("_", "-")
        for source in (*identity.tenant, identity.user or "", identity.roles or "")
        if source.startswith("header.")
    }
    named = [(node.at("headers", name), name) for name in session.headers]
    if session.enrich is not None:
        named += [(node.at("enrich", "headers", name), name) for name in session.enrich.headers]
    if session.assertion is not None:
        named.append((node.at("assertion"), session.assertion))
    first: dict[str, Node] = {}
    for place, name in named:
        lower = name.lower()
        if lower.replace("_", "-") in sources:
            report.error(place, f"{name} is where identity finds a caller: name another header")
        elif lower in _TAKEN or "_" in name:
            report.error(place, f"{name} cannot be set: name a header of its own, without _")
        elif first.setdefault(lower, place) is not place:
            report.error(place, f"{name} is set twice")
