"""What does a Cache-Control or CDN-Cache-Control field say? Strict where it is malformed (RFC 9111 5.2, RFC 9213)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from proxy.policy import structured
from proxy.policy.fields import list_members
from proxy.policy.message import Fields

MAX_DELTA = 1 << 31  # "a cache MUST consider the value to be 2147483648" when it overflows (RFC 9111 1.2.2)

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# no space around the equals sign: such a member has no grammar, and only what restricts is taken from it
_DIRECTIVE = re.compile(rf'({_TOKEN}+)(?:=(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}*)))?')
_WORD = re.compile(rf"{_TOKEN}+")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The directives of one message. Durations are whole seconds; None is an absent directive.

    `no_cache` and `private` are the unqualified forms; the qualified ones list the fields they speak of.
    """

    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None  # MAX_DELTA when it is given without a value
    no_cache: bool = False
    no_cache_fields: frozenset[str] = frozenset()
    private: bool = False
    private_fields: frozenset[str] = frozenset()
    no_store: bool = False
    no_transform: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    public: bool = False
    immutable: bool = False
    only_if_cached: bool = False
    targeted: bool = False  # from CDN-Cache-Control: Expires does not count either (RFC 9213 2.2)

    @property
    def forbids_stale(self) -> bool:
        return self.must_revalidate or self.proxy_revalidate

    @property
    def permits_authorized(self) -> bool:
        """Whether a shared cache may reuse the response to a request with Authorization (RFC 9111 3.5)."""
        return self.public or self.must_revalidate or self.s_maxage is not None


NOTHING = CacheControl()

_FLAGS = frozenset(
    """
    no_store no_transform must_revalidate proxy_revalidate must_understand public immutable only_if_cached
    """.split()
)
_DELTAS = frozenset({"max_age", "s_maxage", "stale_while_revalidate", "stale_if_error", "max_stale", "min_fresh"})
_QUALIFIED = frozenset({"no_cache", "private"})
_STRICTEST = {"no_store": True, "no_cache": True, "private": True, "max_age": 0, "s_maxage": 0}


def parse(value: str | None) -> CacheControl:
    """The directives of this (combined) field value; of duplicates the stricter one holds."""
    return _parse(value) if value else NOTHING


def of_response(fields: Fields) -> CacheControl:
    """What the origin says to a shared cache: CDN-Cache-Control where it is valid and not empty, else Cache-Control.

    "MUST ignore the Cache-Control and Expires header fields in that response" (RFC 9213 2.2)
    """
    targeted = fields.get("cdn-cache-control")
    found = _targeted(targeted) if targeted is not None else None
    return found if found is not None else parse(fields.get("cache-control"))


@lru_cache(maxsize=1024)
def _targeted(value: str) -> CacheControl | None:
    members = structured.dictionary(value)
    if not members:
        return None  # "that field MUST be ignored by the cache" (2.1)
    said: dict[str, Any] = {"targeted": True}
    for key, member in members.items():
        name = key.replace("-", "_")
        if name in _FLAGS and member is True:
            said[name] = True
        elif name in _DELTAS and type(member) is int:
            # "members whose value is of an unexpected type" are ignored (2.1); a negative age is no age
            said[name] = min(max(member, 0), MAX_DELTA)
        elif name in _QUALIFIED and member is not False:
            said |= _qualified(name, member if isinstance(member, str) else "", said)
    return CacheControl(**said)


def of_request(fields: Fields) -> CacheControl:
    """The client's directives. "Pragma: no-cache" counts where Cache-Control is absent (RFC 9111 5.4)."""
    value = fields.get("cache-control")
    if value is None and "no-cache" in (fields.get("pragma") or "").lower():
        return _PRAGMA
    return parse(value)


_PRAGMA = CacheControl(no_cache=True)


@lru_cache(maxsize=1024)
def _parse(value: str) -> CacheControl:
    said: dict[str, Any] = {}
    for member in list_members(value):
        found = _DIRECTIVE.fullmatch(member)
        if found is None:
            said.update(_restrictions(member))
            continue
        name = found[1].lower().replace("-", "_")
        argument = found[3] if found[2] is None else _ESCAPED.sub(r"\1", found[2])
        if name in _FLAGS:
            said[name] = True
        elif name in _DELTAS:
            seconds = _seconds(name, argument)
            stricter = max if name == "min_fresh" else min
            said[name] = stricter(said.get(name, seconds), seconds)
        elif name in _QUALIFIED:
            said |= _qualified(name, argument or "", said)
    return CacheControl(**said)


def _qualified(name: str, argument: str, said: dict[str, Any]) -> dict[str, Any]:
    """no-cache and private: of the fields that the argument lists, or of the whole response."""
    listed = frozenset(map(str.lower, list_members(argument)))
    if not listed:
        return {name: True}
    return {f"{name}_fields": said.get(f"{name}_fields", frozenset()) | listed}


def _restrictions(member: str) -> dict[str, Any]:
    """What can be made out of a member without grammar (`max-age=60; private`): nothing but what restricts."""
    words = {word.lower().replace("-", "_") for word in _WORD.findall(member)}
    return {name: value for name, value in _STRICTEST.items() if name in words}


def _seconds(name: str, argument: str | None) -> int:
    if argument is not None and argument.isascii() and argument.isdigit():
        return min(int(argument), MAX_DELTA) if len(argument) < 16 else MAX_DELTA
    if name == "min_fresh" or (name == "max_stale" and argument is None):
        # a client that wants an unreadable freshness gets the freshest; max-stale alone accepts any age (5.2.1.2)
        return MAX_DELTA
    # "caches are encouraged to consider responses that have invalid freshness information to be stale" (4.2.1)
    return 0
