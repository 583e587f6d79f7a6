"""Which requests are forwarded in the very call that brings their bytes? Bodiless ones that no rule has a say in.

Three ways, each taken only where it does what the ordinary path would do (a test compares them):

    the same head      the bytes of a whole request head were forwarded before: they would be forwarded alike
    the same shape     they differ in what no decision reads, and in the target, which no rule matches either: the
                       upstream's head is rewritten (`rewriting`) rather than made
    decided anew       after the parser, `AtOnce.passes`: the ordinary decisions, without waiting

What is remembered of the first two holds under one serving epoch (`hits`), for peers that are trusted as the first one
was; only decisions are remembered that hang on nothing else. What is needed beside that is an idle connection to the
upstream; then `relay` has the request. Everything else falls through to the ordinary path: nothing was sent.
"""

from collections.abc import Callable

from aiohttp.http_parser import RawRequestMessage

from proxy.errors import UpstreamError
from proxy.policy.cookies import may_carry_ours
from proxy.policy.message import Request
from proxy.policy.outcome import Outcome
from proxy.serving.at_once import Passed
from proxy.serving.hits import RequestOf
from proxy.serving.protocol import ServerProtocol
from proxy.serving.relay import Passing, Relays, Told
from proxy.serving.rewriting import Rewriting, rewriting, shape_of
from proxy.serving.serving_epoch import ServingEpoch
from proxy.serving.table import Seen, Table
from proxy.serving.unread import MAX_LINES, Choices

_OVERHEAD = 1500  # bytes that what is remembered costs beside the bytes of heads
_SEEN = 8192  # heads that came once: only one that comes again is worth a place


class Shape:
    """How requests of one shape are forwarded."""

    __slots__ = ("method", "number", "outcome", "rewriting", "status", "trusted")

    def __init__(self, method: str, outcome: Outcome, made: Rewriting, number: int, *, trusted: bool) -> None:
        self.method = method
        self.outcome = outcome
        self.status = outcome.cache_status()
        self.rewriting = made
        self.number = number
        self.trusted = trusted


class Known:
    """How one head was forwarded."""

    __slots__ = ("data", "number", "passing", "peer", "trusted")

    def __init__(self, passing: Passing, data: bytes, number: int, peer: str, *, trusted: bool) -> None:
        self.passing = passing
        self.data = data
        self.number = number
        self.peer = peer
        self.trusted = trusted


class Forwarding:
    """The short way of one listener.

    `passes` decides, `request_of` parses, `has_no_rule` tells of other targets of the same shape and `is_reserved` of
    our own paths, `told_of` makes what hears of responses.
    """

    def __init__(
        self,
        relays: Relays,
        *,
        passes: Callable[[Request], Passed | None],
        has_no_rule: Callable[[str, str], bool],
        is_reserved: Callable[[str], bool],
        request_of: RequestOf,
        choices: Choices,
        told_of: Callable[[Request, Outcome], Told],
        serving: ServingEpoch,
        max_bytes: int,
    ) -> None:
        self._relays = relays
        self._passes = passes
        self._has_no_rule = has_no_rule
        self._is_reserved = is_reserved
        self._request_of = request_of
        self._choice_of = choices
        self._told_of = told_of
        self._serving = serving
        self._heads = Table[Known](max_bytes // 2)
        self._shapes = Table[Shape](max_bytes // 4)
        self._targets = Table[Passing](max_bytes // 4)
        self._seen = Seen(_SEEN)
        self.repeated = 0
        self.alike = 0
        self.decided = 0

    @property
    def size(self) -> int:
        """Bytes that what is remembered takes."""
        return self._heads.size + self._shapes.size + self._targets.size

    def close(self) -> None:
        """From now on every request takes the ordinary way; those under way end their connections."""
        self._relays.leaving = True

    def known(self, protocol: ServerProtocol, data: bytes) -> bool:
        """Whether this whole request head is one that was forwarded before, and on its way."""
        known = self._heads.get(data)
        if known is None or self._relays.leaving:
            return False
        if known.number != self._serving.number:
            self._heads.drop(data)
            return False
        if known.peer != protocol.peer or known.trusted is not protocol.trusted:
            return False
        if not self._relays.begin(protocol, known.passing, known.data):
            return False
        self.repeated += 1
        return True

    def shaped(self, protocol: ServerProtocol, data: bytes) -> bool:
        """The same for a head like one that was forwarded before."""
        if self._relays.leaving or not self._shapes.size or may_carry_ours(data):
            return False
        choice, unread = self._choice_of(data)
        found = shape_of(choice)
        if found is None or unread > MAX_LINES:
            return False
        name, target = found
        shape = self._shapes.get(name)
        if shape is None or shape.trusted is not protocol.trusted:
            return False
        if shape.number != self._serving.number:
            self._shapes.drop(name)
            return False
        passing = self._targets.get((shape.number, shape.method, shape.outcome.reason, target))
        if passing is None:
            passing = self._aimed(shape, target)
        if passing is None:
            return False
        head = shape.rewriting(data, target, protocol.peer.encode("latin-1"))
        self._remember(protocol, data, head, passing)
        if not self._relays.begin(protocol, passing, head):
            return False
        self.alike += 1
        return True

    def parsed(self, protocol: ServerProtocol, data: bytes, message: RawRequestMessage) -> bool:
        """The same for a head that the parser took: `data` is nothing but this head."""
        if message.should_close or message.upgrade or message.chunked or message.version != (1, 1):
            return False
        asked = self._request_of(message, protocol.peer, protocol.trusted) if not self._relays.leaving else None
        passed = self._passes(asked) if asked is not None else None
        if asked is None or passed is None:
            return False
        try:
            head = self._relays.upstream.head_of(passed.request)
        except UpstreamError:
            return False
        told = Request(asked.method, asked.target) if passed.lasting else asked
        passing = self._passing(told, passed.outcome, passed.outcome.cache_status())
        if passed.lasting:
            self._remember(protocol, data, head, passing)
            self._remember_shape(protocol, data, head, passed)
        if not self._relays.begin(protocol, passing, head):
            return False
        self.decided += 1
        return True

    def _passing(self, request: Request, outcome: Outcome, status: str) -> Passing:
        return Passing(request, outcome, status, self._told_of(request, outcome))

    def _aimed(self, shape: Shape, target: bytes) -> Passing | None:
        """What another target of this shape comes to; None where a rule has a say in it."""
        text = target.decode("ascii")
        path = text.partition("?")[0]
        if self._is_reserved(path) or not self._has_no_rule(shape.method, path):
            return None
        passing = self._passing(Request(shape.method, text), shape.outcome, shape.status)
        asked = shape.number, shape.method, shape.outcome.reason, target
        self._targets.put(asked, passing, 2 * len(target) + _OVERHEAD)
        return passing

    def _remember(self, protocol: ServerProtocol, data: bytes, head: bytes, passing: Passing) -> None:
        """Heads that come again and again have a place of their own; most never come twice."""
        if self._seen.again(data):
            known = Known(passing, head, self._serving.number, protocol.peer, trusted=protocol.trusted)
            self._heads.put(data, known, len(data) + len(head) + _OVERHEAD)

    def _remember_shape(self, protocol: ServerProtocol, data: bytes, head: bytes, passed: Passed) -> None:
        peer, trusted = protocol.peer.encode("latin-1"), protocol.trusted
        choice, unread = self._choice_of(data)
        found = shape_of(choice)
        # an empty line before the request line would make a field of what comes between them
        if found is None or data[0] in b"\r\n" or max(unread, choice[1].count(b"\r\n")) > MAX_LINES:
            return
        name, target = found
        made = rewriting(data, choice, target, peer, head, trusted=trusted)
        if made is not None:
            shape = Shape(passed.request.method, passed.outcome, made, self._serving.number, trusted=trusted)
            self._shapes.put(name, shape, len(name) + made.size() + _OVERHEAD)
