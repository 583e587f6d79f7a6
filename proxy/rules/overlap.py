"""Where can two rule sets differ? The patterns of either, and what two of them match together."""

from collections.abc import Iterator, Sequence
from typing import Any

from proxy.rules.routes import REST, is_parameter

Segments = tuple[str, ...]  # of a pattern: ("api", "jobs", "{job-id}")

_ANY = "{}"
_END = ""  # beside the branches: the pattern that ends there


def meetings(some: Sequence[Segments], others: Sequence[Segments]) -> Iterator[Segments]:
    """Each pattern by itself, and for two that can match the same path the pattern of all those paths."""
    tree: dict[str, Any] = {}
    for pattern in others:
        node = tree
        for segment in pattern:
            node = node.setdefault(f"/{_ANY if is_parameter(segment) else segment}", {})
        node[_END] = pattern
        yield pattern
    for pattern in some:
        yield pattern
        for other in _alike(tree, pattern, 0):
            yield both(other, pattern)


def _alike(node: dict[str, Any], pattern: Segments, index: int) -> Iterator[Segments]:
    """Those below `node` that match something that the rest of `pattern` does."""
    if index == len(pattern):
        if _END in node:
            yield node[_END]
        return
    segment = pattern[index]
    if segment == REST:
        yield from _below(node)
        return
    if f"/{REST}" in node:
        yield node[f"/{REST}"][_END]
    every = is_parameter(segment)
    for branch in [*node] if every else [f"/{segment}", f"/{_ANY}"]:
        if branch in node and branch not in (_END, f"/{REST}"):
            yield from _alike(node[branch], pattern, index + 1)


def _below(node: dict[str, Any]) -> Iterator[Segments]:
    for branch, found in node.items():
        if branch == _END:
            continue
        if _END in found:
            yield found[_END]
        yield from _below(found)


def both(one: Segments, other: Segments) -> Segments:
    """The pattern of what two patterns match that meet; parameters are named as in `one`."""
    found: list[str] = []
    for index in range(max(len(one), len(other))):
        if one[index] == REST:
            return (*found, *other[index:])
        if other[index] == REST:
            return (*found, *one[index:])
        literal = is_parameter(one[index]) and not is_parameter(other[index])
        found.append(other[index] if literal else one[index])
    return tuple(found)
