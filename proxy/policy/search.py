"""Which query parameters does the origin say do not matter to its response? (draft-ietf-httpbis-no-vary-search)

    No-Vary-Search: params=("utm_source" "ref")      all matter but these
    No-Vary-Search: params, except=("q" "page")      none matters but these

The order of parameters never splits a key here, so that `key-order` changes nothing.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from proxy.policy import structured
from proxy.policy.entry import unpack_head
from proxy.policy.message import Fields
from proxy.policy.structured import Value

_LONGEST = 2048  # of a field value, which is kept as long as its path is remembered


@dataclass(frozen=True, slots=True)
class Variance:
    """Whether each query parameter selects. `all_but`: the named ones do not; otherwise only the named ones do."""

    all_but: bool
    names: frozenset[bytes]

    def selects(self, name: bytes) -> bool:
        """`name` is percent-decoded."""
        return (name in self.names) is not self.all_but

    def parts(self) -> tuple[bytes, ...]:
        """What tells it from any other, for a key."""
        return b"all-but" if self.all_but else b"only", *sorted(self.names)


def of_response(fields: Fields) -> Variance | None:
    """What the response says; None when it says nothing, or nothing that can be read: then every parameter selects."""
    text = fields.get("no-vary-search")
    if text is None or len(text) > _LONGEST:
        return None
    members = structured.dictionary(text)
    if members is None or type(members.get("key-order", False)) is not bool:
        return None
    params = members.get("params", False)
    if "except" in members:
        kept = _names(members["except"])
        return Variance(all_but=False, names=kept) if params is True and kept is not None else None
    if params is True:
        return Variance(all_but=False, names=frozenset())
    dropped = _names(params)
    return Variance(all_but=True, names=dropped) if dropped else None


def of_head(head: bytes) -> Variance | None:
    """The same of a stored head, where the field is seldom there."""
    return of_response(unpack_head(head)) if b"no-vary-search:" in head.lower() else None


def _names(value: Value) -> frozenset[bytes] | None:
    """The names in an inner list of strings, decoded as those of a query are."""
    if not isinstance(value, tuple):
        return None
    texts = [text for text in value if isinstance(text, str)]
    return frozenset(map(decoded, texts)) if len(texts) == len(value) else None


def decoded(name: str) -> bytes:
    """A parameter's name as form decoding reads it."""
    return unquote_to_bytes(name.replace("+", " "))
