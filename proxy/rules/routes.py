"""Which route matches this method and path? The most specific one: literal > {parameter} > ** segment by segment.

The raw path is compared, never a decoded one; the only normalisation is the case of the hex digits of `%xx`. Paths
without parameters are one dictionary lookup; the others walk a trie whose cost depends on the path's length alone.
"""

import re
from collections.abc import Iterable
from types import MappingProxyType

from proxy.policy.route import Match, Route

REST = "**"

_ENCODED = re.compile(r"%[0-9a-fA-F]{2}")
_NOTHING: MappingProxyType[str, str] = MappingProxyType({})


def canonical(path: str) -> str:
    """The path with the hex digits of its percent-encodings in upper case (RFC 3986 6.2.2.1)."""
    return _ENCODED.sub(lambda found: found[0].upper(), path)


def is_parameter(segment: str) -> bool:
    return segment.startswith("{")


class _End:
    """A route, and at which segments its parameters are."""

    __slots__ = ("places", "rest", "route")

    def __init__(self, route: Route, segments: list[str]) -> None:
        self.route = route
        self.places = tuple((each[1:-1], index) for index, each in enumerate(segments, 1) if is_parameter(each))
        self.rest = len(segments) if segments[-1] == REST else 0

    def match(self, segments: list[str]) -> Match:
        values = {}
        for name, index in self.places:  # a loop: a comprehension costs a call
            values[name] = segments[index]
        if self.rest:
            values[REST] = "/".join(segments[self.rest :])
        return Match(self.route, values)


class _Node:
    """One place in the trie: what may follow, and what ends here."""

    __slots__ = ("end", "literal", "parameter", "rest")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: _End | None = None
        self.end: _End | None = None

    def add(self, route: Route, segments: list[str]) -> None:
        node = self
        for segment in segments:
            if segment == REST:
                node.rest = _End(route, segments)
                return
            if is_parameter(segment):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literal.setdefault(segment, _Node())
        node.end = _End(route, segments)

    def find(self, segments: list[str], index: int) -> _End | None:
        """What matches from segment `index` on. Recurs only where there is an alternative to come back to."""
        node, count = self, len(segments)
        while index < count:
            segment = segments[index]
            index += 1
            child = node.literal.get(segment)
            parameter = node.parameter if segment else None
            if child is not None:
                if parameter is None and node.rest is None:
                    node = child
                    continue
                found = child.find(segments, index)
                if found is not None:
                    return found
            if parameter is not None:
                if node.rest is None:
                    node = parameter
                    continue
                found = parameter.find(segments, index)
                if found is not None:
                    return found
            # `**` is one segment or more, and an empty remainder is none
            return node.rest if segment or index < count else None
        return node.end


class _Table:
    """The routes of one method."""

    __slots__ = ("exact", "root")

    def __init__(self) -> None:
        self.exact: dict[str, Match] = {}
        self.root = _Node()

    def add(self, route: Route) -> None:
        pattern = canonical(route.pattern)
        segments = pattern.split("/")[1:]
        if any(is_parameter(segment) or segment == REST for segment in segments):
            self.root.add(route, segments)
        else:
            self.exact[pattern] = Match(route, _NOTHING)

    def find(self, path: str) -> Match | None:
        compared = canonical(path) if "%" in path else path
        found = self.exact.get(compared)
        if found is not None:
            return found
        segments = compared.split("/")
        end = self.root.find(segments, 1)
        if end is None:
            return None
        # values are given as they were received
        return end.match(segments if compared is path else path.split("/"))

    def below(self, folder: str) -> Route | None:
        node = self.root
        for segment in folder.split("/")[1:]:
            child = node.literal.get(segment)
            if child is None:
                return None
            node = child
        if node.literal or node.parameter is None or node.parameter.end is None:
            return None
        if any(path.rpartition("/")[0] == folder for path in self.exact):
            return None
        return node.parameter.end.route


class Routes:
    """All routes, ready to be matched."""

    __slots__ = ("_tables",)

    def __init__(self, routes: Iterable[Route]) -> None:
        self._tables: dict[str, _Table] = {}
        for route in routes:
            for method in route.methods:
                self._tables.setdefault(method, _Table()).add(route)
        if "GET" in self._tables:
            self._tables["HEAD"] = self._tables["GET"]  # RFC 9110 9.3.2: a HEAD is answered like its GET

    def match(self, method: str, path: str) -> Match | None:
        table = self._tables.get(method)
        return None if table is None else table.find(path)

    def below(self, method: str, folder: str) -> Route | None:
        """The route of every path that goes on from this plain one by one segment; None: there are several, or none."""
        table = self._tables.get(method)
        return None if table is None else table.below(folder)
