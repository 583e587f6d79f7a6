"""Which misses are fetched in the very call that tells of them? Those for which nothing else is to be waited for.

What `Fetcher.fetch` does for all others, without a task, a stream or a timer of its own: the same request to the
upstream, the same entry, the same answer. The client's connection is in a turn meanwhile, as while the store was asked.

    begun      nobody fetches the same already, no other replica is to be asked, a connection to the upstream is idle
    the head   for the upstream is rewritten from the client's bytes, for a caller who is known (`rewriting`)
    answered   whole, within a moment: it is judged, stored, and written to the client in the call that brings its end
    all else   goes on on the ordinary way with what there is: a long body, a failure, a dead connection
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from proxy.cache.background import Background
from proxy.cache.coalesce import Flight
from proxy.errors import UpstreamError
from proxy.policy import reuse
from proxy.policy.message import Request
from proxy.policy.outcome import Reason
from proxy.serving.at_once import Missed
from proxy.serving.callers import Caller
from proxy.serving.connection import Connection, Exchange, Interim
from proxy.serving.deadlines import Deadlines
from proxy.serving.exchange import Exchange as Exchanges
from proxy.serving.heads import fields_of
from proxy.serving.leading import filling
from proxy.serving.reachability import Watched
from proxy.serving.reading import Reading
from proxy.serving.reply import Reply, is_event_stream
from proxy.serving.response_parser import Head
from proxy.serving.rewriting import Rewriting, rewriting
from proxy.serving.unread import MAX_LINES, Choices
from proxy.serving.upstream import HttpUpstream, Stream, may_repeat

Finished = Callable[[Reading, Reply, float], None]

PATIENCE = 0.005  # seconds for the rest of a body: the client must not wait for its head much longer than for that
_LARGEST = 64 << 10  # bodies that are longer are begun to be sent before they are here

# What a fill does not pass on of a client that is not trusted, although no decision reads it.
_ADDRESSES = re.compile(rb"\r\n(?:x-real-ip|true-client-ip|cf-connecting-ip):", re.IGNORECASE)


class Waiting(Protocol):
    """The client of one miss."""

    @property
    def peer(self) -> str: ...

    @property
    def interim(self) -> Interim:
        """Where 1xx responses go."""

    def answered(self, reading: Reading, reply: Reply) -> None:
        """The reply, with its whole body."""

    def goes_on(self, request: Request, handled: Coroutine[Any, Any, Reply]) -> bool:
        """The reply comes on the ordinary way. False: nobody waits for it any more."""


class Misses:
    """The short way of one listener."""

    def __init__(
        self, exchange: Exchanges, upstream: HttpUpstream, reach: Watched, background: Background,
        clock: Callable[[], float], *, tells: Callable[[], bool], choices: Choices, finished: Finished,
    ) -> None:  # fmt: skip
        """`tells`: whether the upstream is told of callers, as of now; `finished` hears of each that is answered."""
        self.finished = finished
        self.exchange = exchange
        self.fetcher = exchange.fetcher
        self.upstream = upstream
        self.reach = reach
        self.background = background
        self.clock = clock
        self._tells = tells
        self._choice_of = choices
        self.heads = Deadlines[Miss](upstream.timeouts.first_byte, Miss.head_is_late)
        self.bodies = Deadlines[Miss](PATIENCE, Miss.body_is_late)
        self.begun = 0
        self.answered = 0  # of those, without a task

    def begin(self, missed: Missed, data: bytes, waiting: Waiting) -> bool:
        """Whether the request, whose head is `data`, is on its way; for a known caller also on the ordinary one."""
        reading = missed.reading
        decision = reuse.decide_without(reading.request, reading.route, missed.reason)
        if not isinstance(decision, reuse.Fetch) or self._tells():
            return False
        made = self._made(reading, missed.caller, data, waiting.peer)
        if made is None:
            return False
        head, whole = made
        connection = self.upstream.idle() if self.fetcher.is_alone(reading, decision.reason) else None
        if connection is None:
            if missed.caller is not None:  # its head need not be parsed for that
                reading = reading._replace(request=whole(), interim=waiting.interim)
                self.go_on(waiting, reading, self.exchange.missed(reading, decision.reason))
            return missed.caller is not None
        self.begun += 1
        flight = self.fetcher.take_off(reading)
        miss = Miss(self, reading, whole, decision.reason, flight, connection, head, waiting)
        self.heads.start(miss)
        connection.send(miss, "GET", head)
        return True

    def go_on(self, waiting: Waiting, reading: Reading, handled: Coroutine[Any, Any, Reply]) -> None:
        """Let the client wait for what the ordinary way brings; without it, what is fetched is stored all the same."""
        if not waiting.goes_on(reading.request, handled):
            _ = self.background.start(_unread(handled))

    def _made(
        self, reading: Reading, caller: Caller | None, data: bytes, peer: str
    ) -> tuple[bytes, Callable[[], Request]] | None:
        """The upstream's head, and how to get at all of the request. None: it takes the ordinary way."""
        if reading.request.method != "GET" or reading.request.has_body:
            return None
        if caller is None:
            head = self._head(reading)
            return (head, lambda: reading.request) if head is not None else None
        if not caller.legible:
            return None

        def whole() -> Request:
            return caller.asks_all(reading.request.target, fields_of(data), peer)

        made = caller.fills.get(id(reading.route))
        if made is not None and (caller.trusted or _ADDRESSES.search(data) is None):
            return made(data, reading.key.target.encode("latin-1"), peer.encode("latin-1")), whole
        head = self._head(reading._replace(request=whole()))
        if head is None:
            return None
        if made is None and (made := self._rewriting(data, reading, peer, head)) is not None:
            caller.keep_fill(reading.route, made)
        return head, whole

    def _head(self, reading: Reading) -> bytes | None:
        try:
            return self.upstream.head_of(filling(reading, ()))
        except UpstreamError:
            return None

    def _rewriting(self, data: bytes, reading: Reading, peer: str, head: bytes) -> Rewriting | None:
        choice, unread = self._choice_of(data)
        if unread > MAX_LINES or _ADDRESSES.search(data) is not None:
            return None
        return rewriting(
            data, choice, reading.key.target.encode("latin-1"), peer.encode("latin-1"), head,
            trusted=reading.request.peer_trusted,
        )  # fmt: skip


class Miss(Exchange):
    """One miss on its way: the receiver of the upstream's connection, and where it takes long, the stream of others."""

    def __init__(
        self, way: Misses, reading: Reading, whole: Callable[[], Request], reason: Reason, flight: Flight,
        connection: Connection, data: bytes, waiting: Waiting,
    ) -> None:  # fmt: skip
        super().__init__(connection, None, way.upstream.timeouts.idle)
        self._way = way
        self._reading = reading
        self._whole_request = whole
        self._reason = reason
        self._flight = flight
        self._data = data
        self._until = asyncio.get_running_loop().time() + way.upstream.timeouts.first_byte
        self._waiting_client = waiting
        self._asked_at = way.clock()
        self._head_at = 0.0
        self._timed = False  # the rest of its body has a deadline
        self._handed = False  # it is the ordinary way's

    def on_head(self, head: Head) -> None:
        way = self._way
        if head.interim:
            self._waiting_client.interim(head.response)
            return
        way.heads.stop(self)
        if head.response.status == 101:  # nobody asked for it
            self._abandon(UpstreamError("http_protocol_error"))
            return
        way.reach.answered()
        self._head_at = way.clock()
        super().on_head(head)

    def arrived(self) -> None:
        if self.head is None or self._handed:
            return
        if not self.framed or (self.length or 0) > _LARGEST or self.unread > _LARGEST:
            self._hand_over(self)
        elif not self._timed:
            self._timed = True
            self._way.bodies.start(self)

    def finish(self) -> None:
        super().finish()
        if self._handed:
            return
        self._way.bodies.stop(self)
        answer: Stream | UpstreamError = UpstreamError("proxy_internal_error")  # should this fail
        try:
            assert self.head is not None, "it is here whole"
            reply = None
            if not is_event_stream(self.response.fields):
                reply = self._way.fetcher.answered_now(
                    self._reading, self._whole_request, self._reason, self._flight, self, self.head, self._asked_at,
                    self._head_at,
                )  # fmt: skip
            if reply is None:
                answer = self
            else:
                self._handed = True
                self._way.answered += 1
                self._waiting_client.answered(self._reading, reply)
        finally:
            if not self._handed:
                self._hand_over(answer)

    def fail(self, error: BaseException) -> None:
        if self._handed:
            super().fail(error)
            return
        assert isinstance(error, UpstreamError), "no body of the request can have failed"
        way = self._way
        if self.head is not None:
            super().fail(error)
            self._hand_over(self)  # whoever reads it finds out
        elif may_repeat(self, self._connection, error):
            _ = way.background.start(self._repeat())
        else:
            self._refused(error)

    async def _repeat(self) -> None:
        """RFC 9112 9.3.1: on another connection, and once."""
        try:
            self._connection = await self._way.upstream.fresh(self._until)
        except UpstreamError as error:
            self._refused(error)
            return
        self._connection.send(self, "GET", self._data)

    def _refused(self, error: UpstreamError) -> None:
        if not self._handed:
            self._way.heads.stop(self)
            self._way.reach.failed(error)
            self._hand_over(error)

    def head_is_late(self) -> None:
        self._head_is_late()

    def body_is_late(self) -> None:
        self._hand_over(self)

    def _hand_over(self, answer: Stream | UpstreamError) -> None:
        self._handed = True
        way = self._way
        way.bodies.stop(self)
        reading = self._reading._replace(request=self._whole_request(), interim=self._waiting_client.interim)
        handled = way.exchange.went_on(reading, self._reason, self._flight, answer, self._asked_at)
        way.go_on(self._waiting_client, reading, handled)


async def _unread(handled: Coroutine[Any, Any, Reply]) -> None:
    (await handled).close()
