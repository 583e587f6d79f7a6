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
from proxy.policy.key import Frame, Items
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.policy.route import Route, Scope
from proxy.rules.compile import RuleSet
from proxy.serving.encoding import preferred
from proxy.serving.prepared import Prepared
from proxy.serving.rewriting import Rewriting
from proxy.serving.table import Seen
from proxy.serving.unread import IRRELEVANT

_MOST_FRAMES = 256  # of one caller
_MOST_ANSWERS = 4
_MOST_FILLS = 16
_SEEN = 32_768  # heads that came once
_LONGEST = 600.0  # seconds until all of its head is decided about anew
_OVERHEAD = 2000  # bytes that a caller costs beside the bytes of the head

# With one of these a client says what it has, wants or may be given.
_PARTIAL = frozenset("cache-control if-modified-since if-none-match if-range pragma range".split())

_PLAIN = re.compile(rb"GET (/[A-Za-z0-9/_.~-]{0,1000}(?:\?[A-Za-z0-9/_.~=&%+,:@-]{0,1000})?) HTTP/1\.1")


class Place(NamedTuple):
    """Under which names answers to a caller on one route are shared with other callers, and what they count as."""

    beginning: str
    end: str
    outcome: Outcome


class Lane(NamedTuple):
    """What of a caller's plain reads on one route does not hang on the target."""

    route: Route
    framed: Frame
    alike: tuple[bytes, str | None, str | None]  # what the head of an answer hangs on, beside the entry
    coding: str | None  # that the caller likes best
    accept: str | None
    outcome: Outcome  # what they count as
    items: Items | None


class Caller:
    """What is known of one client's requests, whatever their target: for as long as the rules are these."""

    __slots__ = (
        "_peer", "_scheme", "answers", "fields", "fills", "folders", "frames", "identity", "lanes", "legible",
        "nameless", "places",
        "rules", "trusted",
    )  # fmt: skip

    def __init__(
        self, request: Request, rules: RuleSet, identity: Identity | None, speaking_parameters: frozenset[str]
    ) -> None:
        """`request` was decided about, and found to be one that may be answered from the cache."""
        self.fields = request.fields.without(IRRELEVANT)
        self._peer, self._scheme = request.peer, request.scheme
        self.trusted = request.peer_trusted
        self.rules = rules
        self.identity = identity  # None: it is not known
        self.nameless = speaking_parameters  # a path with one of these has a say in who it is
        self.frames: dict[int, Frame | Reason] = {}
        self.places: dict[int, Place] = {}
        self.answers: dict[bytes, tuple[Prepared, list[int]]] = {}  # to its first few request lines, until `renew`
        self.fills: dict[int, Rewriting] = {}  # by route: what makes the upstream's heads of this caller's
        self.legible = False  # `fields_of` reads such a head as the parser does
        self.lanes: dict[int, Lane | None] = {}
        self.folders: dict[str, Lane] = {}  # where every path is of one lane

    @property
    def asks_for_the_whole(self) -> bool:
        """Whether a fresh entry answers it as a whole, whatever the client has already."""
        return _PARTIAL.isdisjoint(self.fields.names())

    @property
    def coding(self) -> str:
        """Of the body, where there is a choice."""
        return preferred(self.fields.get("accept-encoding")) or "identity"

    @property
    def expires(self) -> float:
        return self.identity.expires if self.identity is not None else float("inf")

    def asks(self, target: str) -> Request:
        return Request("GET", target, self.fields, self._scheme, self._peer, self.trusted)

    def is_known_on(self, route: Route, parameters: Mapping[str, str]) -> bool:
        """Whether nothing else of this request has a say in what it is answered."""
        if not IRRELEVANT.isdisjoint(route.vary):
            return False
        return route.scope is Scope.PUBLIC or (self.identity is not None and self.nameless.isdisjoint(parameters))

    def keep_answer(self, line: bytes, prepared: Prepared, cell: list[int]) -> None:
        """What is shared, and found without naming it: most clients ask for the same few things.

        `cell` is where it is counted: no longer than until the caller is asked about again.
        """
        if len(self.answers) < _MOST_ANSWERS:
            self.answers[line] = prepared, cell

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
            self.places.clear()
        self.frames[id(route)] = framed  # the rules keep it alive
        return framed

    def lay(self, route: Route, lane: Lane | None) -> Lane | None:
        """None: its reads on this route take the plain way."""
        if len(self.lanes) >= _MOST_FRAMES:
            self.lanes.clear()
            self.folders.clear()
        self.lanes[id(route)] = lane
        return lane


class Known(NamedTuple):
    """Who asks. From `valid_until` on it must be asked about again."""

    caller: Caller
    number: int
    known_since: float
    kept_at: float
    valid_until: float


def target_of(line: bytes) -> str | None:
    """Of a request line; None where it might be read in two ways."""
    plain = _PLAIN.fullmatch(line)
    return plain[1].decode("ascii") if plain is not None else None


class Callers:
    """Callers by the bytes of their heads without the request line, bounded by bytes; the oldest go first.

    `rest` is a head without its request line and without what nobody reads.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, Known] = OrderedDict()
        self._seen = Seen(_SEEN)
        self.size = 0

    def find(self, rest: bytes, number: int, now: float, trusted: bool) -> Known | None:
        """`number` is the serving epoch."""
        kept = self._kept.get(rest)
        if kept is None or kept.number != number or kept.caller.trusted is not trusted or now < kept.kept_at:
            return None  # it stays as one that has come before
        if now < kept.valid_until or now < min(kept.caller.expires, kept.known_since + _LONGEST):
            return kept
        return None

    def is_worth_keeping(self, line: bytes, rest: bytes) -> bool:
        """Whether it came before: most of what is in no two heads alike comes once."""
        if _PLAIN.fullmatch(line) is None:
            return False
        return rest in self._kept or self._seen.again(rest)

    def keep(self, rest: bytes, caller: Caller, number: int, now: float, recheck: float) -> None:
        self._put(rest, caller, number, now, now, recheck)

    def renew(self, rest: bytes, known: Known, now: float, recheck: float) -> float | None:
        """The caller `find` just gave was asked about again, and is still the same; until when that holds."""
        known.caller.answers.clear()
        return self._put(rest, known.caller, known.number, known.known_since, now, recheck)

    def _put(
        self, rest: bytes, caller: Caller, number: int, known_since: float, now: float, recheck: float
    ) -> float | None:
        valid_until = min(now + recheck, caller.expires)
        if not valid_until > now:
            return None
        self._drop(rest)
        self._kept[rest] = Known(caller, number, known_since, now, valid_until)
        self.size += len(rest) + _OVERHEAD
        while self.size > self._max_bytes:
            rest, _ = self._kept.popitem(last=False)
            self.size -= len(rest) + _OVERHEAD
        return valid_until

    def _drop(self, rest: bytes) -> None:
        if self._kept.pop(rest, None) is not None:
            self.size -= len(rest) + _OVERHEAD
