"""Who is answered when the store has told, and how? One client at a time, in a turn without a task."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp.helpers import EMPTY_BODY_STATUS_CODES
from aiohttp.http_parser import RawRequestMessage

from proxy.policy.message import Request
from proxy.serving.hits import Hits
from proxy.serving.interim import InterimResponses
from proxy.serving.misses import Misses
from proxy.serving.protocol import ServerProtocol
from proxy.serving.reading import Reading
from proxy.serving.reply import Reply
from proxy.serving.response import head_of
from proxy.serving.sending import framed, in_one_chunk
from proxy.serving.sought import Sought
from proxy.serving.turns import Turn
from proxy.serving.under_way import UnderWay

Finished = Callable[[Request, Reply, float], None]
TakeTurn = Callable[[ServerProtocol, Request, InterimResponses, Awaitable[Reply], float | None], Turn]


class Newest:
    """The request that was parsed last, and of what: all that may answer it ask for the same one."""

    def __init__(self) -> None:
        self.parsed: tuple[RawRequestMessage, Request | None] | None = None


class Seeking:
    """The way of one listener to what is not in memory: the store, and then the upstream."""

    def __init__(
        self,
        hits: Hits | None,
        misses: Misses | None,
        newest: Newest,
        under_way: UnderWay,
        take_turn: TakeTurn,
        finished: Finished,
    ) -> None:
        self._hits = hits
        self._misses = misses
        self._newest = newest
        self.under_way = under_way
        self.take_turn = take_turn
        self._finished = finished
        self.leaving = False

    def seek(self, protocol: ServerProtocol, data: bytes, message: RawRequestMessage | None) -> bool:
        """Let `Hits` look in the store for what it has just not found in memory."""
        hits, newest = self._hits, None
        if hits is None:
            return False
        if message is not None:
            newest = self._newest.parsed
            if newest is None or newest[0] is not message:
                return False
        sought, started = Sought(protocol, data, message), asyncio.get_running_loop().time()

        def heard(request: Request, reply: Reply | None) -> None:
            answer, fetched = None, False
            try:
                if reply is not None and not self.leaving:
                    self._finished(request, reply, asyncio.get_running_loop().time() - started)
                    assert isinstance(reply.body, bytes), "a stored body is whole"
                    answer = head_of(reply), reply.body
                else:
                    fetched = self._is_fetched(sought, protocol, data, started)
                    if not fetched:
                        self._newest.parsed = newest  # what was found so far is about this request
            finally:
                if not fetched:
                    sought.told(answer)
                    self.under_way.end()

        request = newest[1] if newest is not None else None
        if message is None and (wanted := hits.wanted()) is not None:
            begun = wanted.ask(partial(self._over, sought), heard, started)
        else:
            begun = hits.seek(request, heard) if request is not None else newest is None and hits.seek_known(heard)
        if begun:
            self.under_way.begin()
            protocol.give_turn(sought)
        return begun

    def _over(self, sought: Sought, answer: tuple[bytes, bytes] | None) -> None:
        try:
            sought.told(answer)
        finally:
            self.under_way.end()

    def _is_fetched(self, sought: Sought, protocol: ServerProtocol, data: bytes, started: float) -> bool:
        """Whether `Misses` has the request of which the store does not know anything."""
        missed = self._hits.missed if self._hits is not None else None
        transport = protocol.transport
        if missed is None or self._misses is None or self.leaving or transport is None or transport.is_closing():
            return False
        return self._misses.begin(missed, data, _Waiting(self, sought, protocol, started))

    def fetched(self, sought: Sought, reading: Reading, reply: Reply, started: float) -> None:
        answer = None
        try:
            assert self._misses is not None, "they have fetched it"
            self._misses.finished(reading, reply, asyncio.get_running_loop().time() - started)
            assert isinstance(reply.body, bytes), "it is here whole"
            bodiless = reply.status in EMPTY_BODY_STATUS_CODES
            head, chunked = framed(reply, bodiless=bodiless, closing=False)
            answer = head, b"" if bodiless else in_one_chunk(reply.body) if chunked else reply.body
        finally:
            sought.told(answer)
            self.under_way.end()


class _Waiting:
    """The client of a miss that is fetched without a task."""

    __slots__ = ("_interim", "_protocol", "_seeking", "_sought", "_started", "peer")

    def __init__(self, seeking: Seeking, sought: Sought, protocol: ServerProtocol, started: float) -> None:
        self.peer = protocol.peer
        self._interim: InterimResponses | None = None  # few upstreams send any
        self._seeking = seeking
        self._sought = sought
        self._protocol = protocol
        self._started = started

    @property
    def interim(self) -> InterimResponses:
        if self._interim is None:
            self._interim = InterimResponses(self._protocol, speaks=True, awaits=False)
        return self._interim

    def answered(self, reading: Reading, reply: Reply) -> None:
        if self._seeking.leaving or not isinstance(reply.body, bytes):
            _ = self.goes_on(
                reading.request, _ready(reply)
            )  # the connection ends with it, or it is encoded while it is sent
        else:
            self._seeking.fetched(self._sought, reading, reply, self._started)

    def goes_on(self, request: Request, handled: Awaitable[Reply]) -> bool:
        seeking = self._seeking
        try:
            turn = seeking.take_turn(self._protocol, request, self.interim, handled, self._started)
            return self._sought.goes_on(turn)
        finally:
            seeking.under_way.end()


async def _ready(reply: Reply) -> Reply:
    return reply
