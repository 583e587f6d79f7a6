"""Where in the text is each value of the rules file, and what is wrong with the text itself?

Strict YAML 1.2, read from the parser's events without recursion: no anchors, aliases or tags, one document, at most 20
levels and 256 KiB, no key twice. Keys stay texts; plain scalars are resolved by the core schema (YAML 1.2.2 10.3.2).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

MAX_BYTES = 256 << 10
MAX_DEPTH = 20
_TOO_LARGE = f"the file is larger than {MAX_BYTES >> 10} KiB"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake at its place; lines and columns count from 1."""

    file: str
    line: int
    column: int
    severity: str  # error | warning
    path: str  # "features.jobs.ttl"; "" when the text itself is at fault
    message: str

    def __str__(self) -> str:
        subject = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {subject}{self.message}"


@dataclass(slots=True, eq=False)
class Node:
    """One value with its place: that of its key in a mapping, its own in a list."""

    path: str
    line: int
    column: int
    text: str = ""  # a scalar as it was written
    value: "dict[str, Node] | list[Node] | str | int | float | bool | None" = None

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, step: str | int) -> "Node | None":
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def at(self, *steps: str | int) -> "Node":
        """The node under these steps, or the deepest one that exists on the way."""
        node = self
        for step in steps:
            child = node.child(step)
            if child is None:
                break
            node = child
        return node

    def shown(self) -> str:
        """The value as a message quotes it."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return "a list"
        return repr(self.text if len(self.text) <= 60 else self.text[:57] + "...")


def suggestion(word: str, known: Iterable[str]) -> str:
    """ " (did you mean 'ttl'?)", or nothing when no known word is near."""
    words = sorted(known)
    near = get_close_matches(word, words, n=1, cutoff=0.6) or [
        each for each in words if len(word) > 2 and each.startswith(word)
    ]
    return f" (did you mean {near[0]!r}?)" if near else ""


def decode(data: bytes, file: str) -> str | Problem:
    """The text of a rules file, or why its bytes are none."""
    if len(data) > MAX_BYTES:
        return Problem(file, 1, 1, "error", "", _TOO_LARGE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        return Problem(file, before.count(b"\n") + 1, column, "error", "", "the file is not UTF-8 text")


def load(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree and the problems of the text; no tree when the text cannot be read as one document."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        return None, [Problem(file, 1, 1, "error", "", _TOO_LARGE)]
    builder = _Builder(file)
    try:
        for event in _events(text):
            builder.take(event)
    except _Unreadable as stop:
        return None, [*builder.problems, stop.problem]
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        return None, [Problem(file, line, column, "error", "", "a control character is not allowed here")]
    except MarkedYAMLError as error:
        return None, [*builder.problems, _syntax_problem(error, file)]
    except (YAMLError, ValueError, OverflowError) as error:
        # the parser raises the last two for escapes that are out of range
        return None, [*builder.problems, Problem(file, 1, 1, "error", "", f"not YAML: {_one_line(str(error))}")]
    if builder.root is None or builder.root.value is None:
        return None, [*builder.problems, Problem(file, 1, 1, "error", "", "the file is empty")]
    return builder.root, builder.problems


def _events(text: str) -> Iterator[Event]:
    yaml = YAML(typ="rt", pure=True)
    yield from yaml.parse(text)


class _Unreadable(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen yet."""

    node: Node
    key: Node | None = None
    duplicate: bool = False


@dataclass(slots=True)
class _Builder:
    file: str
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    _stack: list[_Open] = field(default_factory=list)
    _documents: int = 0

    def take(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._stop(event, "a second document: rules are one document")
            if event.version is not None and tuple(event.version) != (1, 2):
                raise self._stop(event, "only YAML 1.2 is read")
        elif isinstance(event, AliasEvent):
            raise self._stop(event, "aliases (*name) are not allowed: write the value out")
        elif isinstance(event, CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, (ScalarEvent, MappingStartEvent, SequenceStartEvent)):
            if event.anchor is not None:
                raise self._stop(event, "anchors (&name) are not allowed: write the value out")
            if event.tag is not None and str(event.tag) not in ("!", "None"):
                raise self._stop(event, "tags (!name) are not allowed")
            if isinstance(event, ScalarEvent) and _SURROGATE.search(event.value):
                raise self._stop(event, "half a surrogate pair is not a character")
            self._take_value(event)

    def _take_value(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
        holder = self._stack[-1] if self._stack else None
        if holder is not None and isinstance(holder.node.value, dict) and holder.key is None:
            self._take_key(holder, event)
            return
        node = self._place(holder, event)
        if isinstance(event, ScalarEvent):
            node.text = event.value
            node.value = _resolve(event)
        else:
            node.value = {} if isinstance(event, MappingStartEvent) else []
            self._stack.append(_Open(node))
            if len(self._stack) > MAX_DEPTH:
                raise self._stop(event, f"nested deeper than {MAX_DEPTH} levels")

    def _take_key(self, holder: _Open, event: Event) -> None:
        if not isinstance(event, ScalarEvent):
            raise self._stop(event, "a key must be a plain text")
        prefix = f"{holder.node.path}." if holder.node.path else ""
        name = event.value if _PRINTABLE.fullmatch(event.value) else repr(event.value[:60])
        holder.key = Node(prefix + name, *_place_of(event), text=event.value)
        first = holder.node.child(event.value)
        if first is not None:
            message = f"duplicate key {event.value!r} (first at line {first.line})"
            self.problems.append(Problem(self.file, *_place_of(event), "error", "", message))

    def _place(self, holder: _Open | None, event: Event) -> Node:
        """A new node where this event belongs: in the open mapping or list, or at the top."""
        if holder is None:
            self.root = Node("", *_place_of(event))
            return self.root
        if isinstance(holder.node.value, list):
            node = Node(f"{holder.node.path}[{len(holder.node.value)}]", *_place_of(event))
            holder.node.value.append(node)
            return node
        key = holder.key
        assert key is not None
        assert isinstance(holder.node.value, dict)
        node = Node(key.path, key.line, key.column)
        # the first of two equal keys is kept, so that what follows is judged once
        holder.node.value.setdefault(key.text, node)
        holder.key = None
        return node

    def _stop(self, event: Event, message: str) -> _Unreadable:
        return _Unreadable(Problem(self.file, *_place_of(event), "error", "", message))


def _place_of(event: Event) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PRINTABLE = re.compile(r"[!-~]{1,60}")  # in a path that is printed to terminals and logs
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def _resolve(event: ScalarEvent) -> str | int | float | bool | None:
    """The core schema: only null, true, false and numbers are special, and only without quotes."""
    text: str = event.value
    if event.style:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if len(text) <= 40 and _FLOAT.fullmatch(text):
        return float(text)
    return text


def _syntax_problem(error: MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if isinstance(mark, StringMark) else (1, 1)
    parts = [part for part in (error.context, error.problem) if part]
    message = _one_line(", ".join(parts))
    if "flow" in message:
        message += " (inside [ ] and { } quote a route, or write one per line)"
    return Problem(file, line, column, "error", "", message)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
