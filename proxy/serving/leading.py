"""What does the upstream's answer to one read come to? Stored, if it may be; or what was there stands in for it."""

from collections.abc import Callable
from dataclasses import replace

from proxy.cache.background import Background
from proxy.cache.coalesce import Flight, Landed, Shared
from proxy.cache.lease import Leases
from proxy.cache.tiers import Cache
from proxy.errors import UpstreamError
from proxy.policy import forwarding, reuse, storing, validation
from proxy.policy.entry import Entry, pack_head
from proxy.policy.freshness import corrected_initial_age
from proxy.policy.message import Request, Response
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.serving.fill import Fill
from proxy.serving.keeping import Keeping
from proxy.serving.problem import upstream_problem
from proxy.serving.reading import Reading
from proxy.serving.reply import Reply, from_entry, from_stream, unchanged
from proxy.serving.response_parser import Head
from proxy.serving.upstream import Body, Stream, Upstream
from proxy.sessions.telling import Telling, TellsNothing, onward


class Leading:
    """Asks the upstream on behalf of a read, and of those who wait for the same."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        cache: Cache,
        leases: Leases,
        keeping: Keeping,
        background: Background,
        clock: Callable[[], float],
        telling: Telling | TellsNothing,
    ) -> None:
        self._upstream = upstream
        self._cache = cache
        self._leases = leases
        self._keeping = keeping
        self._background = background
        self._clock = clock
        self._telling = telling

    async def lead(self, reading: Reading, body: Body, reason: Reason, flight: Flight | None) -> Reply:
        """Ask, and land the flight whatever comes of it."""
        landed: Landed = Reason.INCOMPLETE  # what followers hear when this is cancelled
        try:
            asked_at = self._clock()
            told = self._telling.fields(reading.identity, reading.request, reading.route.scope)
            request = filling(reading, (*_conditions(reading), *told))
            stream = await self._upstream.fetch(request, body, interim=reading.interim)
            answered, flight = flight, None
            return await self.answered(reading, body, reason, answered, stream, asked_at)
        except UpstreamError as failure:
            landed = failure
            return await self.failed(reading, failure)
        finally:
            self.land(flight, landed)

    async def answered(
        self, reading: Reading, body: Body, reason: Reason, flight: Flight | None, stream: Stream, asked_at: float
    ) -> Reply:
        """The head of the answer is here."""
        landed: Landed = Reason.INCOMPLETE
        try:
            status, stale = stream.response.status, reading.entry
            if stale is not None and status == 304 and _conditions(reading):
                stream.close()
                updated = validation.freshened(stale, stream.response)
                if isinstance(updated, Reason):  # it speaks of another representation: ask for the whole one
                    whole, flight = flight, None
                    return await self.lead(reading._replace(entry=None), body, reason, whole)
                landed, reply = await self._revalidated(reading, stale, updated, asked_at)
                return reply
            if (
                stale is not None
                and reuse.is_failure(status)
                and reuse.may_serve_on_error(reading.request, stale, reading.route, asked_at, answered=True)
            ):
                stream.close()
                landed = Shared(stale, Reason.STALE_IF_ERROR)
                return await self.served(reading, _stood_in(reading, status))
            storable = self._keeping.storable(reading, stream.response, stream.framed, asked_at)
            if isinstance(storable, Reason):
                landed = storable
                return self._not_stored(reading, stream, storable, reason)
            outcome = reading.missed(reason, reason, stored=True)
            body_now = stream.whole()
            if body_now is None:
                reply = self._stored(reading, stream, storable, outcome, flight, asked_at)
                flight = None  # it lands when the body is here
                return reply
            landed = Reason.TOO_LARGE
            if len(body_now) <= storable.max_body:
                landed = await self._keeping.put(reading, storable, body_now, asked_at, self._clock() - asked_at)
            return _at_once(reading, stream, outcome, body_now, landed)
        finally:
            self.land(flight, landed)

    def answered_now(
        self, reading: Reading, whole: Callable[[], Request], reason: Reason, flight: Flight | None,
        stream: Stream, head: Head, asked_at: float, head_at: float,
    ) -> Reply | None:  # fmt: skip
        """The same, without waiting, for a read without an entry whose answer is here whole. None: it takes time.

        `whole`: the request with the fields that no decision about a stored response reads.
        """
        landed: Landed = Reason.INCOMPLETE
        try:
            storable = self._keeping.storable_alike(reading, head, asked_at, head_at)
            if isinstance(storable, Reason):
                landed = storable
                return self._not_stored(reading, stream, storable, reason)
            if self._keeping.takes_time(reading, storable, stream.length or storable.max_body):
                flight = None
                return None
            body = stream.whole()
            assert body is not None, "it is here whole"
            if storable.vary:
                reading = reading._replace(request=whole())
            landed = Reason.TOO_LARGE
            if len(body) <= storable.max_body:
                landed = self._keeping.put_now(reading, storable, body, asked_at, self._clock() - asked_at)
            return _at_once(reading, stream, reading.missed(reason, reason, stored=True), body, landed)
        finally:
            self.land(flight, landed)

    def _stored(
        self, reading: Reading, stream: Stream, storable: storing.Storable, outcome: Outcome, flight: Flight | None,
        asked_at: float,
    ) -> Reply:  # fmt: skip
        """Stream the response to the client and into the cache."""
        fill = Fill(stream, storable.max_body, stream.length)
        _ = self._background.start(self._keep(reading, storable, fill, flight, asked_at))
        reply = unchanged(stream, reading.request, reading.route, outcome)
        if reply is not None:
            fill.abandon()
            return reply
        reply = from_stream(stream, reading.request, reading.route, outcome, fill.chunks())
        reply.close = fill.abandon
        return reply

    async def _keep(
        self, reading: Reading, storable: storing.Storable, fill: Fill, flight: Flight | None, asked_at: float
    ) -> None:
        landed: Landed = Reason.INCOMPLETE
        seconds = self._clock() - asked_at
        try:
            body = await fill.collect()
            if isinstance(body, Reason):
                landed = body
            else:
                landed = await self._keeping.put(reading, storable, body, asked_at, seconds)
        finally:
            fill.settle()
            self.land(flight, landed)

    async def _revalidated(
        self, reading: Reading, stale: Entry, updated: Response, asked_at: float
    ) -> tuple[Landed, Reply]:
        """The upstream said 304: the stored body under the updated head, stored anew if it may be."""
        storable = self._keeping.storable(reading, updated, True, asked_at)
        outcome = replace(reading.missed(Reason.REVALIDATED, Reason.EXPIRED), fwd_status=304)
        if isinstance(storable, Reason):
            await self._cache.drop(stale.key)
            now = self._clock()
            age = corrected_initial_age(updated, asked_at, now)
            entry = replace(stale, head=pack_head(updated.fields), stored_at=now, age=age, encodings={})
            return storable, await self._from_entry(entry, reading, replace(outcome, reason=storable))
        landed = await self._keeping.put(reading, storable, stale.body, asked_at, self._clock() - asked_at)
        if isinstance(landed, Shared):
            return landed, await self.served(reading._replace(entry=landed.entry), replace(outcome, stored=True))
        fresh = replace(stale, head=storable.head, stored_at=storable.stored_at, age=storable.age, encodings={})
        return landed, await self._from_entry(fresh, reading, outcome)

    def _not_stored(self, reading: Reading, stream: Stream, verdict: Reason, reason: Reason) -> Reply:
        outcome = reading.missed(verdict, reason)
        reply = unchanged(stream, reading.request, reading.route, outcome)
        if reply is not None:
            stream.close()
            return reply
        return from_stream(stream, reading.request, reading.route, outcome)

    async def through(self, reading: Reading, body: Body, outcome: Outcome) -> Reply:
        told = self._telling.fields(reading.identity, reading.request)
        request = reading.request.with_fields(onward(forwarding.passing(reading.request), told))
        asked_at = self._clock()
        try:
            stream = await self._upstream.fetch(request, body, interim=reading.interim)
        except UpstreamError as failure:
            return await self.failed(reading, failure)
        if request.method == "HEAD":
            await self._keeping.freshen(reading, stream.response, asked_at)
        return from_stream(stream, reading.request, reading.route, outcome)

    async def failed(self, reading: Reading, failure: UpstreamError) -> Reply:
        stale = reading.entry
        if stale is not None and reuse.may_serve_on_error(
            reading.request, stale, reading.route, self._clock(), answered=False
        ):
            return await self.served(reading, _stood_in(reading, None))
        fields, text = upstream_problem(failure)
        outcome = reading.missed(Reason.UPSTREAM_FAILED, Reason.UPSTREAM_FAILED)
        return Reply.own(failure.status, fields, text, outcome)

    async def served(self, reading: Reading, outcome: Outcome) -> Reply:
        entry = reading.entry
        assert entry is not None, "only a reading with an entry is served"
        return await self._from_entry(entry, reading, replace(outcome, ttl=entry.ttl_at(self._clock())))

    async def _from_entry(self, entry: Entry, reading: Reading, outcome: Outcome) -> Reply:
        encodings = len(entry.encodings)
        reply = await from_entry(entry, reading.request, reading.route, outcome, self._clock())
        if len(entry.encodings) != encodings:
            self._cache.grew(entry)
        return reply

    def land(self, flight: Flight | None, landed: Landed) -> None:
        if flight is None:
            return
        flight.land(landed)
        lease, flight.lease = flight.lease, None
        if lease is not None:
            # whoever waits for the lease looks for the entry when it is given back
            self._leases.release(
                lease, after=self._cache.saving(landed.entry.key) if isinstance(landed, Shared) else None
            )


def _at_once(reading: Reading, stream: Stream, outcome: Outcome, body: bytes, landed: Landed) -> Reply:
    """The reply of a response whose body was here with its head: stored by now, so that it needs no fill."""
    reply = unchanged(stream, reading.request, reading.route, outcome)
    if reply is not None:
        return reply
    reply = from_stream(stream, reading.request, reading.route, outcome, body)
    if isinstance(landed, Shared) and isinstance(reply.body, bytes) and reply.body is not body:
        # encoded for the client: the store, which gets it soon, may want the same
        landed.entry.packed = (reply.fields.get("content-encoding") or "", reply.body)
    return reply


def filling(reading: Reading, conditions: tuple[tuple[str, str], ...]) -> Request:
    """The request of a fill: only what is in the key reaches the upstream."""
    request = reading.request
    fields = forwarding.filling(request, conditions, directives=reading.awaited and reading.route.client_control)
    return Request(
        request.method, reading.key.target, fields, request.scheme, request.peer, request.peer_trusted,
        request.has_body, request.body,
    )  # fmt: skip


def _conditions(reading: Reading) -> tuple[tuple[str, str], ...]:
    return validation.conditions(reading.entry, reading.request.method) if reading.entry is not None else ()


def _stood_in(reading: Reading, status: int | None) -> Outcome:
    """A stale response for an upstream that failed: by an answer with this status, or by none."""
    return replace(reading.outcome(Reason.STALE_IF_ERROR), hit=True, forward=Forward.STALE, fwd_status=status)
