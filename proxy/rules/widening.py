"""Does an environment loosen what the rules say for everybody? (SPEC 4: not outside development)"""

from collections.abc import Iterator

from proxy.policy.route import Scope
from proxy.rules.draft import Draft
from proxy.rules.source import Node, Problem

WIDTH = {Scope.USER: 0, Scope.ROLE: 1, Scope.TENANT: 2, Scope.PUBLIC: 3}


def widening(base: list[Draft], effective: list[Draft], before: Node, after: Node, file: str) -> list[Problem]:
    """A problem for every read whose sharing grows, and for every change of who is asking."""
    first: dict[str, Problem] = {}  # one setting can loosen many reads, and is told once
    for node, message in (*_reads(base, effective), *_identity(before, after)):
        first.setdefault(node.path, Problem(file, node.line, node.column, "error", node.path, message))
    return list(first.values())


def _reads(base: list[Draft], effective: list[Draft]) -> Iterator[tuple[Node, str]]:
    known = {(method, draft.pattern.skeleton): draft for draft in base if draft.is_read for method in _methods(draft)}
    for draft in effective:
        for method in _methods(draft):
            other = known.get((method, draft.pattern.skeleton))
            if other is None or not draft.is_read:
                continue
            if WIDTH[draft.scope] > WIDTH[other.scope]:
                yield (
                    draft.place("scope"),
                    f"loosens scope {other.scope} to {draft.scope} of {draft.pattern} outside development",
                )
            if other.setting("sensitive") and not draft.setting("sensitive"):
                yield draft.place("sensitive"), f"drops sensitive from {draft.pattern} outside development"
            if other.setting("encrypt") == "all" != draft.setting("encrypt"):
                yield draft.place("encrypt"), f"drops encrypt: all from {draft.pattern} outside development"
            if dropped := _required(other) - _required(draft):
                yield draft.place("require"), f"no longer requires {min(dropped)} for {draft.pattern}"


def _methods(draft: Draft) -> tuple[str, ...]:
    return draft.pattern.methods


def _required(draft: Draft) -> set[str]:
    return {name for level in draft.levels for name in level.require}


def _identity(before: Node, after: Node) -> Iterator[tuple[Node, str]]:
    for key in ("tenant", "user", "roles", "session", "cookie"):
        node = after.at("identity").child(key)
        if node is None:
            continue
        old = before.at("identity").child(key)
        if old is None or old.plain() != node.plain():
            yield node, "changes who is asking outside development"
