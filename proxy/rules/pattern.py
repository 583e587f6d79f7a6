"""What does one route line say, which identifier does it make, and can two of them make the same one? (SPEC 4)"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from proxy.policy.lookup import is_ambiguous_path
from proxy.policy.route import IdentifierShape, Kind, Part
from proxy.rules.routes import REST, canonical, is_parameter
from proxy.rules.source import suggestion

READ_METHODS = ("GET", "POST", "QUERY")
WRITE_METHODS = ("POST", "PUT", "PATCH", "DELETE")
ANY_METHODS = ("GET", *WRITE_METHODS)
MAX_PATTERN = 500

_LINE = re.compile(r"(\S+) +(\S+)")
_PARAMETER = re.compile(r"\{[a-z][a-z0-9]*([-_][a-z0-9]+)*\}")
# RFC 3986 pchar without `;`, which some upstreams cut a segment at
_LITERAL = re.compile(r"([A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-F]{2})*")


@dataclass(frozen=True, slots=True)
class Pattern:
    """`PUT|PATCH /api/jobs/{job-id}`, taken apart."""

    methods: tuple[str, ...]
    path: str

    @property
    def segments(self) -> list[str]:
        return self.path.split("/")[1:]

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(segment[1:-1] for segment in self.segments if is_parameter(segment))

    @property
    def skeleton(self) -> str:
        """Equal for two patterns that match the same paths."""
        return "/".join("{}" if is_parameter(segment) else segment for segment in self.segments)

    def __str__(self) -> str:
        return f"{'|'.join(self.methods)} {self.path}"


def parse(text: str, kind: Kind | None) -> Pattern | str:
    """The pattern, or what is wrong with the line. `kind` None: a line of `session`, any method."""
    line = _LINE.fullmatch(text)
    if line is None or len(text) > MAX_PATTERN:
        return f"{text[:80]!r} is not a route such as GET /api/jobs/{{job-id}}"
    methods = tuple(line[1].split("|"))
    path = canonical(line[2])
    wrong = _wrong_methods(methods, kind) or _wrong_path(path)
    return wrong if wrong is not None else Pattern(methods, path)


def _wrong_methods(methods: tuple[str, ...], kind: Kind | None) -> str | None:
    allowed = {Kind.READ: READ_METHODS, Kind.WRITE: WRITE_METHODS, None: ANY_METHODS}[kind]
    for method in methods:
        if method in allowed:
            continue
        if method.upper() in allowed:
            return f"methods are written in capitals: {method.upper()}"
        if method == "HEAD" and kind is not Kind.WRITE:
            return "HEAD is answered from GET: write GET"
        if method in (*READ_METHODS, *WRITE_METHODS, "HEAD", "OPTIONS"):
            return f"{method} cannot be a {kind or 'session route'}"
        return f"unknown method {method!r}{suggestion(method.upper(), allowed)}"
    return "a method is named twice" if len(set(methods)) != len(methods) else None


def _wrong_path(path: str) -> str | None:
    if not path.startswith("/"):
        return f"{path!r}: a path begins with /"
    if "?" in path or "#" in path:
        return "a route has no query: name the parameters that count under `query`"
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        wrong = _wrong_segment(segment, last)
        if wrong is not None:
            return wrong
    names = [segment for segment in segments if is_parameter(segment)]
    doubled = next((name for name in names if names.count(name) > 1), None)
    return f"parameter {doubled} is named twice" if doubled is not None else None


def _wrong_segment(segment: str, last: bool) -> str | None:
    if segment == REST:
        return None if last else "** can only be the last segment"
    if segment == "" and not last:
        return "an empty segment (//) is ambiguous: such requests always bypass"
    if "{" in segment or "}" in segment:
        return _wrong_parameter(segment, last)
    if segment.startswith(":") and len(segment) > 1:
        return f"{segment!r}: a parameter is written {{{segment[1:]}}}"
    if segment == "*":
        return "'*': write a parameter such as {id}, or ** for everything below"
    if _LITERAL.fullmatch(segment) is None:
        return f"{segment!r} holds characters that must be percent-encoded in a path"
    if segment and is_ambiguous_path(f"/{segment}"):
        return f"{segment!r} is ambiguous: such requests always bypass"
    return None


def _wrong_parameter(segment: str, last: bool) -> str | None:
    if _PARAMETER.fullmatch(segment) is None or len(segment) > 34:
        return f"{segment!r}: a parameter is a whole segment such as {{job-id}}, in lower case, at most 32 characters"
    if not last and prefix_of(segment[1:-1]) == "h":
        return f"{segment}: the prefix h- is kept for hashes: give the parameter a longer name"
    return None


def prefix_of(parameter: str) -> str:
    """`job-id` -> `job`: how a parameter that is not the last segment begins its part of the identifier."""
    return parameter.removesuffix("-id").removesuffix("_id")


def shape_of(pattern: Pattern, left_out: Collection[str]) -> IdentifierShape:
    """The identifier of a pattern; `left_out` are the parameters that name the tenant, and so say nothing more."""
    segments = pattern.segments
    if segments[-1] == REST:
        return IdentifierShape(rest=True)
    parts = []
    for index, segment in enumerate(segments):
        name = segment[1:-1]
        if is_parameter(segment) and name not in left_out:
            parts.append(Part(name, "" if index == len(segments) - 1 else prefix_of(name)))
    return IdentifierShape(tuple(parts))


def can_be_equal(one: IdentifierShape, other: IdentifierShape) -> bool:
    """Whether two routes can make the same identifier from different paths.

    A hash of the whole path (`**`) meets nothing else; numbers of parts show in the number of `~`; a bare value that
    begins with a prefix of the same key space is hashed (`reserved`), so only like parts can meet.
    """
    if one.rest or other.rest or len(one.parts) != len(other.parts):
        return False
    return all(_parts_can_be_equal(a.prefix, b.prefix) for a, b in zip(one.parts, other.parts, strict=True))


def _parts_can_be_equal(one: str, other: str) -> bool:
    if not one or not other:
        return one == other
    # `job-app-7` is `app-7` after `job-` and `7` after `job-app-`
    return one == other or one.startswith(f"{other}-") or other.startswith(f"{one}-")
