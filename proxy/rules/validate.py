"""Which values of the tree have the wrong shape, and what remains without them?

pydantic finds the mistakes; each becomes one problem at its place, and the value is taken out, so that the checks
after this one see a sound document and repeat nothing that has been said.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy.rules.document import UNAVAILABLE, Block, Document
from proxy.rules.source import Node, Problem, suggestion

_KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "string_type": "a text (quote it)",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_SYNTHETIC: dict[str, Any] = {"version": 1, "features": {}}


@dataclass(slots=True)
class Validated:
    """What is left of the tree, the problems, and the paths of what was taken out."""

    root: Node
    document: Document
    problems: list[Problem]
    dropped: frozenset[str]

    def damaged(self, path: str) -> bool:
        """Whether something at or under this path was taken out, so that what is missing there has been explained."""
        return any(other == path or other.startswith((f"{path}.", f"{path}[")) for other in self.dropped)


def validate(root: Node, file: str) -> Validated:
    """The sound part of a tree. Changes the tree."""
    if not isinstance(root.value, dict):
        problem = Problem(file, root.line, root.column, "error", "", "the file must be a mapping with `version: 1`")
        root.value = {key: _synthetic(key) for key in _SYNTHETIC}
        return Validated(root, Document.read(root.plain()), [problem], frozenset({"features"}))
    rounds = _Rounds(file)
    rounds.take_out_empty(root)
    while True:
        try:
            document = Document.read(root.plain())
        except ValidationError as error:
            rounds.take_out(root, error.errors(include_url=False, include_input=False))
        else:
            return Validated(root, document, rounds.problems, frozenset(rounds.dropped))


def merge(base: Node, over: Node) -> Node:
    """The tree with an environment's changes: mappings key by key, everything else replaced. Places stay."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    merged = dict(base.value)
    for key, child in over.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return Node(base.path, base.line, base.column, base.text, merged)


def _synthetic(key: str) -> Node:
    return Node(key, 1, 1, value=_SYNTHETIC[key])


@dataclass(slots=True)
class _Rounds:
    file: str
    problems: list[Problem] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    def take_out_empty(self, root: Node) -> None:
        for parent, child in list(_pairs(root)):
            if child.value is None and not _is_json(child.path):
                self._add(child, "has no value")
                self._drop(parent, child)

    def take_out(self, root: Node, errors: Sequence[ErrorDetails]) -> None:
        victims = []
        explained: set[str] = set()
        for error in sorted(errors, key=lambda error: error["type"] == "missing"):
            loc = [step for step in error["loc"] if step != "[key]"]
            parent, child = _find(root, loc)
            if error["type"] == "missing":
                path = f"{child.path}.{loc[-1]}".lstrip(".")
                if path not in self.dropped and path not in explained:
                    self._add(child, f"missing key {loc[-1]!r}")
                if child is root:
                    assert isinstance(root.value, dict)
                    root.value[str(loc[-1])] = _synthetic(str(loc[-1]))
                    self.dropped.add(str(loc[-1]))
                    continue
            elif error["type"] == "extra_forbidden":
                message, meant = _unknown(str(loc[-1]), _block_at(loc[:-1]))
                explained.add(f"{parent.path}.{meant}".lstrip("."))
                self._add(child, message)
            else:
                self._add(child, _message(error, child))
            victims.append((parent, child))
        for parent, child in victims:
            self._drop(parent, child)

    def _add(self, node: Node, message: str) -> None:
        self.problems.append(Problem(self.file, node.line, node.column, "error", node.path, message))

    def _drop(self, parent: Node, child: Node) -> None:
        self.dropped.add(child.path)
        if isinstance(parent.value, dict):
            parent.value = {key: node for key, node in parent.value.items() if node is not child}
        else:
            assert isinstance(parent.value, list)
            parent.value = [node for node in parent.value if node is not child]


def _is_json(path: str) -> bool:
    return re.match(r"tests\[\d+\]\.(response\.)?json", path) is not None


def _pairs(node: Node) -> Iterator[tuple[Node, Node]]:
    children = list(node.value.values()) if isinstance(node.value, dict) else node.value
    if isinstance(children, list):
        for child in children:
            yield node, child
            yield from _pairs(child)


def _find(root: Node, loc: Sequence[int | str]) -> tuple[Node, Node]:
    """The deepest node on the way, and its parent. A shorthand's own key has no node: its text has."""
    parent = node = root
    for step in loc:
        child = node.child(step)
        if child is None:
            break
        parent, node = node, child
    return parent, node


def _message(error: ErrorDetails, node: Node) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value":
        # a wrong key is quoted as it stands in the path, a wrong value as it was written
        shown = repr(str(error["loc"][-2])) if error["loc"][-1] == "[key]" else node.shown()
        return f"{shown} {context['message']}"
    if kind in ("enum", "literal_error"):
        allowed = re.findall(r"'([^']+)'", str(context["expected"])) or [str(context["expected"])]
        if len(allowed) > 8:
            return f"{node.shown()} is not known{suggestion(node.text, allowed)}"
        if len(allowed) == 1:
            return f"{node.shown()} must be {allowed[0]}"
        return f"{node.shown()} is not one of {', '.join(allowed)}{suggestion(node.text, allowed)}"
    if kind in _KINDS:
        return f"{node.shown()} is not {_KINDS[kind]}"
    return f"{node.shown()}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _unknown(key: str, block: type[Block]) -> tuple[str, str | None]:
    """The message for a key that the block does not have, and the key that was probably meant."""
    if key in UNAVAILABLE:
        return "not available in this version", None
    if key in block.misplaced:
        return block.misplaced[key], None
    hint = suggestion(key, block.known_keys())
    meant = re.search("'(.+)'", hint)
    return f"unknown key{hint}", meant[1] if meant else None


def _block_at(loc: Sequence[int | str]) -> type[Block]:
    """The model that validates what is at this place."""
    block: type[Block] = Document
    in_mapping = False
    for step in loc:
        if isinstance(step, int) or in_mapping:
            in_mapping = False
            continue
        info = next(info for name, info in block.model_fields.items() if (info.alias or name) == step)
        block = block_in(info.annotation) or block
        in_mapping = get_origin(info.annotation) is dict
    return block


def block_in(annotation: Any) -> type[Block] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if issubclass(annotation, Block) else None
    return next((found for argument in get_args(annotation) if (found := block_in(argument)) is not None), None)
