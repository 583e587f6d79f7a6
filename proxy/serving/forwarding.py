"""Which requests are forwarded in the very call that brings their bytes? Bodiless ones that no rule has a say in.

Two ways, each taken only where it does what the ordinary path would do (a test compares them):

    the same head      the bytes of a whole request head were forwarded before, by the same peer, under the same serving
                       epoch (`hits`), because no rule matched: they would be forwarded alike
    decided anew       after the parser, `Exchange.passes`: the ordinary decisions, without waiting

What is needed beside that is an idle connection to the upstream; then `relay` has it. Everything else falls through to
the ordinary path: nothing was sent, and nothing is remembered of it.
"""

from collections.abc import Callable

from aiohttp.http_parser import RawRequestMessage

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome
from proxy.serving.exchange import Passed
from proxy.serving.hits import RequestOf, ServingEpoch
from proxy.serving.protocol import ServerProtocol
from proxy.serving.relay import Passing, Relays, Told
from proxy.serving.table import Table

_OVERHEAD = 1000  # bytes that a remembered head costs beside its own and the upstream's
_SEEN = 8192  # heads that came once: only one that comes again is worth a place


class Forwarding:
    """The short way of one listener. `passes` decides, `request_of` parses, `told_of` makes what hears of responses."""

    def __init__(
        self,
        relays: Relays,
        *,
        passes: Callable[[Request], Passed | None],
        request_of: RequestOf,
        told_of: Callable[[Request, Outcome], Told],
        serving: ServingEpoch,
        max_bytes: int,
    ) -> None:
        self._relays = relays
        self._passes = passes
        self._request_of = request_of
        self._told_of = told_of
        self._serving = serving
        self._heads = Table[Passing](max_bytes)
        self._seen: dict[int, None] = {}
        self.repeated = 0
        self.decided = 0

    @property
    def size(self) -> int:
        """Bytes that remembered heads take."""
        return self._heads.size

    def close(self) -> None:
        """From now on every request takes the ordinary way; those under way end their connections."""
        self._relays.leaving = True

    def known(self, protocol: ServerProtocol, data: bytes) -> bool:
        """Whether this whole request head is like one that was forwarded before, and on its way."""
        passing = self._heads.get(data)
        if passing is None or self._relays.leaving:
            return False
        if passing.number != self._serving.number:
            self._heads.drop(data)
            return False
        if passing.peer != protocol.peer or passing.trusted is not protocol.trusted:
            return False
        if not self._relays.begin(protocol, passing):
            return False
        self.repeated += 1
        return True

    def parsed(self, protocol: ServerProtocol, data: bytes, message: RawRequestMessage) -> bool:
        """The same for a head that the parser took: `data` is nothing but this head."""
        if (
            self._relays.leaving
            or message.should_close
            or message.upgrade
            or message.chunked
            or message.version != (1, 1)
        ):
            return False
        asked = self._request_of(message, protocol.peer, protocol.trusted)
        passed = self._passes(asked) if asked is not None else None
        if asked is None or passed is None:
            return False
        try:
            head = self._relays.upstream.head_of(passed.request)
        except UpstreamError:
            return False
        passing = Passing(
            Request(asked.method, asked.target, Fields(), peer=asked.peer), head, passed.outcome,
            self._told_of(asked, passed.outcome),
            number=self._serving.number, peer=protocol.peer, trusted=protocol.trusted,
        )  # fmt: skip
        if passed.lasting:
            self._remember(data, passing)
        if not self._relays.begin(protocol, passing):
            return False
        self.decided += 1
        return True

    def _remember(self, data: bytes, passing: Passing) -> None:
        seen = hash(data)
        if seen in self._seen:
            self._heads.put(data, passing, len(data) + len(passing.data) + _OVERHEAD)
        else:
            if len(self._seen) >= _SEEN:
                self._seen.clear()
            self._seen[seen] = None
