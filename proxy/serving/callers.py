"""Who sends this request, when all of its head but the target came before?

Most requests of a client differ in nothing but their target, and in lines that nobody reads. What was decided about the
rest of such a head, credentials included, holds for the next one: only the target is matched and looked up anew. That
needs no parser: of targets only those are taken that cannot be read in two ways.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from proxy.policy.identity import Identity
from proxy.policy.key import Frame
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason
from proxy.policy.route import Route, Scope
from proxy.rules.compile import RuleSet
from proxy.serving.rewriting import Rewriting
from proxy.serving.unread import IRRELEVANT

_MOST_FRAMES = 256  # of one caller
_MOST_FILLS = 16
_SEEN = 8192  # heads that came once
_OVERHEAD = 1500  # bytes that a caller costs beside the bytes of the head

_PLAIN = re.compile(rb"GET (/[A-Za-z0-9/_.~-]{0,1000}(?:\?[A-Za-z0-9/_.~=&%+,:@-]{0,1000})?) HTTP/1\.1")


class Caller:
    """What is known of one client's requests, whatever their target: for as long as the rules are these."""

    __slots__ = (
        "_fields", "_peer", "_scheme", "fills", "frames", "identity", "legible", "nameless", "rules", "trusted",
    )  # fmt: skip

    def __init__(
        self, request: Request, rules: RuleSet, identity: Identity | None, speaking_parameters: frozenset[str]
    ) -> None:
        """`request` was decided about, and found to be one that may be answered from the cache."""
        self._fields = request.fields.without(IRRELEVANT)
        self._peer, self._scheme = request.peer, request.scheme
        self.trusted = request.peer_trusted
        self.rules = rules
        self.identity = identity  # None: it is not known
        self.nameless = speaking_parameters  # a path with one of these has a say in who it is
        self.frames: dict[int, Frame | Reason] = {}
        self.fills: dict[int, Rewriting] = {}  # by route: what makes the upstream's heads of this caller's
        self.legible = False  # `fields_of` reads such a head as the parser does

    @property
    def expires(self) -> float:
        return self.identity.expires if self.identity is not None else float("inf")

    def asks(self, target: str) -> Request:
        return Request("GET", target, self._fields, self._scheme, self._peer, self.trusted)

    def is_known_on(self, route: Route, parameters: Mapping[str, str]) -> bool:
        """Whether nothing else of this request has a say in what it is answered."""
        if not IRRELEVANT.isdisjoint(route.vary):
            return False
        return route.scope is Scope.PUBLIC or (self.identity is not None and self.nameless.isdisjoint(parameters))

    def keep_fill(self, route: Route, made: Rewriting) -> None:
        if len(self.fills) >= _MOST_FILLS:
            self.fills.clear()
        self.fills[id(route)] = made  # the rules keep it alive

    def asks_all(self, target: str, pairs: tuple[tuple[str, str], ...], peer: str) -> Request:
        """With all of its fields."""
        return Request("GET", target, Fields(pairs), self._scheme, peer, self.trusted)

    def keep(self, route: Route, framed: Frame | Reason) -> Frame | Reason:
        if len(self.frames) >= _MOST_FRAMES:
            self.frames.clear()
        self.frames[id(route)] = framed  # the rules keep it alive
        return framed


class _Kept(NamedTuple):
    caller: Caller
    number: int
    kept_at: float
    valid_until: float


class Callers:
    """Callers by the bytes of their heads without the request line, bounded by bytes; the oldest go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._seen: set[int] = set()
        self.size = 0

    def find(self, choice: bytes, number: int, now: float, trusted: bool) -> tuple[Caller, str] | None:
        """The caller and target of a head without what nobody reads. `number` is the serving epoch."""
        line, _, rest = choice.partition(b"\r\n")
        kept = self._kept.get(rest)
        if kept is None:
            return None
        caller = kept.caller
        if kept.number != number or not kept.kept_at <= now < kept.valid_until or caller.trusted is not trusted:
            self._drop(rest)
            return None
        plain = _PLAIN.fullmatch(line)
        return (caller, plain[1].decode("ascii")) if plain is not None else None

    def is_worth_keeping(self, choice: bytes) -> bool:
        """Whether it came before: most of what is in no two heads alike comes once."""
        line, _, rest = choice.partition(b"\r\n")
        if _PLAIN.fullmatch(line) is None:
            return False
        seen = hash(rest)
        if seen in self._seen:
            return True
        if len(self._seen) >= _SEEN:
            self._seen.clear()
        self._seen.add(seen)
        return False

    def keep(self, choice: bytes, caller: Caller, number: int, now: float, recheck: float) -> None:
        _, _, rest = choice.partition(b"\r\n")
        valid_until = min(now + recheck, caller.expires)
        if not valid_until > now:
            return
        self._drop(rest)
        self._kept[rest] = _Kept(caller, number, now, valid_until)
        self.size += len(rest) + _OVERHEAD
        while self.size > self._max_bytes:
            rest, _ = self._kept.popitem(last=False)
            self.size -= len(rest) + _OVERHEAD

    def _drop(self, rest: bytes) -> None:
        if self._kept.pop(rest, None) is not None:
            self.size -= len(rest) + _OVERHEAD
