"""Can two routes match the same request, or make the same key? (SPEC 4: the compiler proves that they cannot)"""

from collections import defaultdict
from collections.abc import Iterable

from proxy.rules.draft import Draft, Report
from proxy.rules.pattern import can_be_equal


def prove_distinct(drafts: list[Draft], report: Report) -> None:
    """Reports every pair that is not distinct, at the later line."""
    doubled = _check_matches(drafts, report)
    _check_keys([draft for draft in drafts if draft.is_read and draft not in doubled], report)


def _check_matches(drafts: list[Draft], report: Report) -> set[Draft]:
    """Two patterns of equal specificity match a common path only when they differ in nothing but parameter names."""
    first: dict[tuple[str, str], Draft] = {}
    doubled = set()
    for draft in sorted(drafts, key=lambda draft: draft.node.line):
        for method in draft.pattern.methods:
            other = first.setdefault((method, draft.pattern.skeleton), draft)
            if other is not draft and draft not in doubled:
                doubled.add(draft)
                same = f"{other.pattern} ({other.kind} of {other.feature}, line {other.node.line})"
                report.error(draft.node, f"{draft.pattern} matches the same requests as {same}")
    return doubled


def _check_keys(reads: list[Draft], report: Report) -> None:
    spaces: dict[tuple[str, str, str], list[Draft]] = defaultdict(list)
    for draft in sorted(reads, key=lambda draft: draft.node.line):
        for method in draft.pattern.methods:
            # the scope and the method (of a POST or QUERY, with its body) are parts of the key
            spaces[draft.key_space, draft.scope, method].append(draft)
    reported = set()
    for group in spaces.values():
        for draft, other in _equal_pairs(group):
            if draft in reported:
                continue
            reported.add(draft)
            report.error(
                draft.node,
                f"{draft.pattern} can make the same key as {other.pattern} (line {other.node.line}): "
                "give one of them another key-name",
            )


def _equal_pairs(group: list[Draft]) -> Iterable[tuple[Draft, Draft]]:
    by_length: dict[int, list[Draft]] = defaultdict(list)
    for draft in group:
        alike = by_length[len(draft.shape.parts)]
        other = next((other for other in alike if can_be_equal(draft.shape, other.shape)), None)
        if other is None:
            alike.append(draft)
        else:
            yield draft, other


def reserved_prefixes(drafts: list[Draft]) -> dict[str, tuple[str, ...]]:
    """By feature: the prefixes (`job-`) of nested identifiers in every feature that it shares a key space with."""
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := joined.setdefault(name, name)) != name:
            name = above
        return name

    prefixes: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        joined[root(draft.key_space)] = root(draft.feature)
    for draft in drafts:
        prefixes[root(draft.feature)].update(f"{part.prefix}-" for part in draft.shape.parts if part.prefix)
    return {draft.feature: tuple(sorted(prefixes[root(draft.feature)])) for draft in drafts}
