"""What is an HTTP message, as far as a decision needs it? Heads only: bodies are streams and stay outside."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})  # RFC 9110 9.2.1, RFC 10008
IDEMPOTENT_METHODS = SAFE_METHODS | {"PUT", "DELETE"}  # RFC 9110 9.2.2


class Fields:
    """The header fields of one message, in the order, number and case they came in (RFC 9110 5).

    Names and values are the wire's bytes decoded as Latin-1, which loses nothing: encode the same way to forward.
    Nothing changes after it is made: a copy without what is not there is the same object.
    """

    __slots__ = ("_values", "pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs: tuple[tuple[str, str], ...] = tuple(pairs)
        self._values: dict[str, str] | None = None

    def _index(self) -> dict[str, str]:
        self._values = values = _combined({}, self.pairs)
        return values

    def get(self, name: str) -> str | None:
        """The combined value of the field with this lower-case name, or None when it is absent."""
        return (self._values if self._values is not None else self._index()).get(name)

    def get_all(self, name: str) -> tuple[str, ...]:
        """Each line's value: for Set-Cookie, Authorization and others that must not be combined."""
        values = self._values if self._values is not None else self._index()
        if name not in values:
            return ()
        if len(values) == len(self.pairs):  # no name comes twice
            return (values[name],)
        return tuple([value for field, value in self.pairs if field.lower() == name])

    def names(self) -> Iterable[str]:
        """The distinct names, in lower case."""
        return (self._values if self._values is not None else self._index()).keys()

    def has_none(self, names: Iterable[str]) -> bool:
        """Whether no field of these lower-case names is here."""
        return (self._values if self._values is not None else self._index()).keys().isdisjoint(names)

    def without(self, names: Iterable[str]) -> "Fields":
        """A copy without the fields of these lower-case names."""
        values = self._values if self._values is not None else self._index()
        gone = values.keys() & names
        if not gone:
            return self
        left = Fields([pair for pair in self.pairs if pair[0].lower() not in gone])
        left._values = {name: value for name, value in values.items() if name not in gone}
        return left

    def with_field(self, name: str, value: str) -> "Fields":
        """A copy in which this field has exactly this value, at the end."""
        return self.without((name.lower(),)).plus((name, value))

    def plus(self, *pairs: tuple[str, str]) -> "Fields":
        """A copy with these fields too, at the end."""
        more = Fields(self.pairs + pairs)
        if self._values is not None:
            more._values = _combined(self._values.copy(), pairs)
        return more

    def __contains__(self, name: object) -> bool:
        return name in (self._values if self._values is not None else self._index())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        return f"Fields({', '.join(f'{name}: {value}' for name, value in self.pairs)})"


def _combined(values: dict[str, str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    for name, value in pairs:
        lower = name.lower()
        # "a recipient MAY combine multiple field lines ... separated by a comma" (RFC 9110 5.2)
        values[lower] = f"{values[lower]}, {value}" if lower in values else value
    return values


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head. `target` is the origin-form target, byte for byte as it was received (RFC 9112 3.2.1)."""

    method: str
    target: str
    fields: Fields = Fields()
    scheme: str = "http"
    peer: str = ""
    peer_trusted: bool = False  # the peer's address is in SIDECACHE_TRUSTED_PEERS
    has_body: bool = False
    body: bytes | None = None  # read only where the route's key includes it

    def with_fields(self, fields: Fields) -> "Request":
        """The same with another head: `dataclasses.replace` takes three times as long, and each request needs it."""
        return Request(
            self.method, self.target, fields, self.scheme, self.peer, self.peer_trusted, self.has_body, self.body
        )

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str | None:
        """The raw query without its question mark; None when there is no question mark."""
        _, mark, query = self.target.partition("?")
        return query if mark else None

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response's head, as the upstream sent it."""

    status: int
    fields: Fields = Fields()
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".rstrip()
