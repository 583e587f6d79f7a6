"""How does a response that is only passed on get from the upstream to its client? In the calls that bring its bytes.

What `fetch`, `from_stream` and `send` do for all others, without a task, a stream, or a copy of the body: the same
bytes to the client, the same use of the upstream's connection. The client's connection is in a turn meanwhile.

    the head    is parsed as strictly as any, and leaves with what came of the body beside it
    the body    goes on piece by piece; while the client takes nothing the upstream is not read
    the end     of both at once: then the upstream's connection is free, and the client's next request is begun
    a failure   before the head is answered with 502 or 504; the dead connection of an idempotent request once with
                another connection; behind the head the client's connection is reset: nothing looks whole that is not
    the client  that leaves takes the upstream's connection with it once the head is here
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from proxy.errors import UpstreamError
from proxy.policy.message import IDEMPOTENT_METHODS, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.connection import Connection
from proxy.serving.deadlines import Deadlines
from proxy.serving.interim import InterimResponses
from proxy.serving.outgoing import reset
from proxy.serving.problem import upstream_problem
from proxy.serving.protocol import ServerProtocol
from proxy.serving.reachability import Watched
from proxy.serving.reply import Reply, is_event_stream, passed
from proxy.serving.response_parser import Head
from proxy.serving.sending import framed
from proxy.serving.under_way import UnderWay
from proxy.serving.upstream import HttpUpstream, may_repeat

Told = Callable[[int, float], None]  # of a response's status and the seconds that it took
Finished = Callable[[Request, Reply, float], None]
# A request's head, and what ends its response when its credential is over; what is returned stops the watching.
Watch = Callable[[bytes, Callable[[], None]], Callable[[], None]]

_MOST_HEADS = 512
_MOST_BYTES = 2 << 10  # of one


class Passing:
    """What was decided about requests for one target: what is said of them."""

    __slots__ = ("outcome", "request", "status", "told")

    def __init__(self, request: Request, outcome: Outcome, status: str, told: Told) -> None:
        self.request = request  # where it is remembered, without its fields
        self.outcome = outcome
        self.status = status  # the outcome as the client gets it
        self.told = told


class Relays:
    """What all relays of one listener share."""

    def __init__(self, upstream: HttpUpstream, reach: Watched, under_way: UnderWay, finished: Finished) -> None:
        self.upstream = upstream
        self.reach = reach
        self.under_way = under_way
        self.finished = finished
        self.loop = asyncio.get_running_loop()
        self.heads = Deadlines[Relay](upstream.timeouts.first_byte, Relay.head_is_late)
        self.bodies = Deadlines[Relay](upstream.timeouts.idle, Relay.body_is_late)
        self.leaving = False
        self.watch: Watch | None = None  # of event streams
        self._made: dict[tuple[bytes, str, bool], tuple[bytes, bool]] = {}

    def begin(self, protocol: ServerProtocol, passing: Passing, data: bytes) -> bool:
        """Send the request, whose bytes are these, on an idle connection; False: there is none."""
        connection = self.upstream.idle()
        if connection is None:
            return False
        relay = Relay(self, protocol, passing, data, connection)
        self.under_way.begin()
        self.heads.start(relay)
        protocol.give_turn(relay)
        connection.send(relay, passing.request.method, data)
        return True

    def head_for_client(self, head: Head, outcome: Outcome, status: str) -> tuple[bytes, bool]:
        """As `from_stream` and `send` make it, and whether the body goes in chunks. The same head is not made again."""
        what = head.raw, status, head.bodiless
        made = self._made.get(what) if not self.leaving else None
        if made is not None:
            return made
        response = head.response
        reply = Reply(response.status, passed(response, outcome), b"", outcome, response.reason)
        made = framed(reply, bodiless=head.bodiless, closing=self.leaving)
        if not self.leaving and "date" in reply.fields and len(head.raw) <= _MOST_BYTES:
            if len(self._made) >= _MOST_HEADS:
                self._made.clear()
            self._made[what] = made
        return made


class Relay:
    """One request on its way, and its response: the upstream connection's receiver, the client connection's turn."""

    __slots__ = (
        "_chunked", "_connection", "_data", "_last", "_out", "_over", "_passing", "_protocol", "_release", "_repeating",
        "_started", "_timed", "_way", "began", "head",
    )  # fmt: skip

    def __init__(
        self, way: Relays, protocol: ServerProtocol, passing: Passing, data: bytes, connection: Connection
    ) -> None:
        self.head: Head | None = None
        self.began = False
        self._way = way
        self._protocol = protocol
        self._passing = passing
        self._data = data
        self._connection = connection
        self._started = way.loop.time()
        self._out: list[bytes] = []  # what came together
        self._chunked = False
        self._last = False  # the client's connection ends with it
        self._over = False
        self._timed = False  # its body has a deadline
        self._repeating: asyncio.Task[None] | None = None
        self._release: Callable[[], None] | None = None

    # What the upstream's connection tells

    def on_head(self, head: Head) -> None:
        response = head.response
        if head.interim:
            InterimResponses(self._protocol, speaks=True, awaits=False)(response)
            return
        if response.status == 101:  # nobody asked for it
            self._abandon(UpstreamError("http_protocol_error"))
            return
        way = self._way
        self.head = head
        way.heads.stop(self)
        way.reach.answered()
        self._passing.told(response.status, way.loop.time() - self._started)
        self._protocol.on_lost = self._lost
        self._last = way.leaving
        if way.watch is not None and is_event_stream(response.fields):
            self._release = way.watch(self._data, self._cut)
        data, self._chunked = way.head_for_client(head, self._passing.outcome, self._passing.status)
        self._out.append(data)

    def on_body(self, data: bytes) -> None:
        if self._chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def arrived(self) -> None:
        if self.head is None:
            return
        if self._out and not self._write():
            self._leave()
        elif self._protocol.writing_paused:
            self._connection.pause()
            self._way.bodies.stop(self)
        else:
            self._timed = True
            self._way.bodies.start(self)

    def finish(self) -> None:
        if self._over:
            return
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self._end(goes_on=self._write() and not self._last)

    def fail(self, error: BaseException) -> None:
        if self._over:
            return
        assert isinstance(error, UpstreamError), "no body of the request can have failed"
        if self.head is not None:
            reset(self._protocol.transport)
            self._end(goes_on=False)
        elif self._passing.request.method in IDEMPOTENT_METHODS and may_repeat(self, self._connection, error):
            self._repeating = self._way.loop.create_task(self._repeat())
        else:
            self._refuse(error)

    # What the client's connection tells

    def resume(self) -> None:
        if self.head is not None:
            self._timed = True
            self._way.bodies.start(self)
            self._connection.read_on()

    def cancel(self) -> None:
        self._leave()

    def _lost(self) -> None:
        self._leave()

    def _cut(self) -> None:
        """Its credential is over, and this goes on for as long as both sides like."""
        self._abandon(UpstreamError("http_response_incomplete"))

    # What the time tells

    def head_is_late(self) -> None:
        self._abandon(UpstreamError("http_response_timeout", status=504))

    def body_is_late(self) -> None:
        self._abandon(UpstreamError("connection_read_timeout"))

    # How it goes on

    def _write(self) -> bool:
        """Hand on what is here; whether there is still somebody."""
        out, self._out = self._out, []
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            return False
        transport.writelines(out)
        return True

    async def _repeat(self) -> None:
        """RFC 9112 9.3.1: on another connection, and once."""
        way = self._way
        try:
            connection = await way.upstream.fresh(self._started + way.upstream.timeouts.first_byte)
        except UpstreamError as error:
            self._refuse(error)
            return
        self._connection, self._repeating = connection, None
        connection.send(self, self._passing.request.method, self._data)

    def _refuse(self, error: UpstreamError) -> None:
        """The answer to a request the upstream gave none to."""
        way, passing = self._way, self._passing
        way.reach.failed(error)
        fields, text = upstream_problem(error)
        reply = Reply.own(error.status, fields, text, replace(passing.outcome, reason=Reason.UPSTREAM_FAILED))
        way.finished(passing.request, reply, way.loop.time() - self._started)
        bodiless = passing.request.method == "HEAD"
        head, _ = framed(reply, bodiless=bodiless, closing=way.leaving)
        self._out = [head] if bodiless else [head, text]
        self._end(goes_on=self._write() and not way.leaving)

    def _abandon(self, error: UpstreamError) -> None:
        self.fail(error)
        self._connection.abandon(self)

    def _leave(self) -> None:
        """Nobody waits for it any more."""
        if not self._over:
            self._connection.abandon(self)
            self._end(goes_on=False)

    def _end(self, *, goes_on: bool) -> None:
        way, repeating = self._way, self._repeating
        self._over = True
        if self.head is None:
            way.heads.stop(self)
        if self._timed:
            way.bodies.stop(self)
        if repeating is not None and repeating is not asyncio.current_task():
            repeating.cancel()
        release, self._release = self._release, None  # it knows us: that would be a cycle
        if release is not None:
            release()
        self._protocol.on_lost = None
        self._protocol.end_turn(goes_on=goes_on)
        way.under_way.end()
