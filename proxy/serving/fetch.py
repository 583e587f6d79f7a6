"""How does a response come in that is missing or stale? One fetch for all who wait; stored, if it may be (P2, P5)."""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import NamedTuple

from proxy.cache.background import Background
from proxy.cache.coalesce import Flight, Flights, Landed, Shared
from proxy.cache.epochs import Epochs
from proxy.cache.lease import Lease, Leases
from proxy.cache.stamp import Stamp
from proxy.cache.tiers import Cache, bound
from proxy.errors import UpstreamError
from proxy.policy import forwarding, ranges, reuse, storing, validation
from proxy.policy.entry import Entry, pack_head
from proxy.policy.freshness import corrected_initial_age
from proxy.policy.identity import Identity
from proxy.policy.key import Key
from proxy.policy.message import Request, Response
from proxy.policy.outcome import Accessed, Forward, Outcome, Reason
from proxy.policy.route import Match, Route
from proxy.serving.connection import Interim
from proxy.serving.encoding import OFF_LOOP_BYTES
from proxy.serving.fill import Fill
from proxy.serving.naming import Naming
from proxy.serving.problem import upstream_problem
from proxy.serving.reply import Reply, from_entry, from_stream, unchanged
from proxy.serving.upstream import Body, Stream, Upstream
from proxy.sessions.telling import Telling, TellsNothing, onward

FOLLOWER_WAIT = 10.0  # seconds a follower waits for another's fetch before it asks for itself


class Reading(NamedTuple):
    """One read on its way: everything that was decided about it so far. A tuple, because every read makes several."""

    request: Request
    match: Match
    identity: Identity | None
    first_key: Key
    key: Key  # the first key, or the second where other fields select the response too
    stamp: Stamp | None = None  # None: nothing may be stored
    entry: Entry | None = None
    interim: Interim | None = None  # where 1xx responses go
    awaited: bool = True  # by the client that asked: its directives are not for what is fetched without it

    @property
    def route(self) -> Route:
        return self.match.route

    @property
    def bound(self) -> tuple[str, ...]:
        """The tags whose epochs bind the entry that was found."""
        assert self.entry is not None
        return bound(self.entry, self.key)

    def outcome(
        self, reason: Reason, *, hit: bool = False, forward: Forward | None = None, ttl: int | None = None,
        stored: bool = False,
    ) -> Outcome:  # fmt: skip
        key, route = self.key, self.match.route
        if route.sensitive:
            return Accessed(
                reason, hit=hit, forward=forward, ttl=ttl, stored=stored, feature=route.feature, key=key.full,
                tenant=key.space, user=self.identity.user if self.identity is not None else None,
            )  # fmt: skip
        return Outcome(
            reason, hit=hit, forward=forward, ttl=ttl, stored=stored, feature=route.feature, key=key.full,
            tenant=key.space,
        )  # fmt: skip


class Fetcher:
    """Brings responses in from the upstream on behalf of reads."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        cache: Cache,
        epochs: Epochs,
        flights: Flights,
        naming: Naming,
        leases: Leases,
        background: Background,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        noted: Callable[[str, Mapping[str, str]], None],
        telling: Telling | TellsNothing | None = None,
    ) -> None:
        self._telling = telling if telling is not None else TellsNothing()
        self._upstream = upstream
        self._cache = cache
        self._epochs = epochs
        self._flights = flights
        self._naming = naming
        self._leases = leases
        self._background = background
        self._clock = clock
        self._jitter = jitter
        self._noted = noted

    async def fetch(self, reading: Reading, body: Body, reason: Reason) -> Reply:
        """Join the fetch that is under way for the same entry under the same epochs, or lead one."""
        if reading.stamp is None:
            return await self._through(reading, body, _missed(reading, Reason.STORE_UNAVAILABLE, reason))
        if reading.request.method == "HEAD":
            # it is answered from a stored GET but brings no body to store
            return await self._through(reading, body, _missed(reading, reason, reason))
        if ranges.is_asked(reading.request) and not _has_validator(reading.entry):
            # the part that was asked for, of what may be too large to store; what can be validated is here whole
            return await self._through(reading, body, _missed(reading, Reason.RANGE, reason))
        flight_key = _flight_key(reading)
        under_way = self._flights.under_way(flight_key)
        if under_way is None:
            return await self._lead_all(reading, body, reason, self._flights.take_off(flight_key))
        landed = await under_way.wait(FOLLOWER_WAIT)
        if isinstance(landed, UpstreamError):
            return await self._failed(reading, landed)
        if isinstance(landed, Shared) and self._may_share(landed, reading):
            return await self._collapsed(reading, landed, reason)
        # not to be shared, or too slow: each asks for itself and none waits for another
        return await self._lead(reading, body, reason, None)

    def refresh(self, reading: Reading, body: Body) -> None:
        """Fetch in the background what was just served stale."""
        if reading.stamp is None:
            return
        # a HEAD may be what finds it stale, but only a GET brings the body
        as_get = _as_get(reading)
        flight_key = _flight_key(reading)
        if self._flights.under_way(flight_key) is None:
            self._background.refresh(reading.key.full, lambda: self._refreshed(as_get, body, flight_key))

    def _may_share(self, landed: Shared, reading: Reading) -> bool:
        entry, request = landed.entry, reading.request
        if landed.reason is Reason.STALE_IF_ERROR and not reuse.may_serve_on_error(
            request, entry, reading.route, self._clock(), answered=True
        ):
            return False
        # by the word of this response, which another query may not have asked for (No-Vary-Search)
        if self._kept(reading, entry.head).request != entry.request:
            return False
        return reuse.second_key_names(entry, request) is None

    def _kept(self, reading: Reading, head: bytes) -> Key:
        return self._naming.kept(reading.first_key, reading.match, reading.request, reading.identity, head)

    async def serve(self, reading: Reading, reason: Reason) -> Reply:
        """The reply from the reading's entry."""
        assert reading.entry is not None, "only a reading with an entry is served"
        outcome = reading.outcome(reason, hit=True, ttl=reading.entry.ttl_at(self._clock()))
        return await self._from_entry(reading.entry, reading, outcome)

    async def _served(self, reading: Reading, outcome: Outcome) -> Reply:
        entry = reading.entry
        assert entry is not None, "only a reading with an entry is served"
        return await self._from_entry(entry, reading, replace(outcome, ttl=entry.ttl_at(self._clock())))

    async def _from_entry(self, entry: Entry, reading: Reading, outcome: Outcome) -> Reply:
        encodings = len(entry.encodings)
        reply = await from_entry(entry, reading.request, reading.route, outcome, self._clock())
        if len(entry.encodings) != encodings:
            self._cache.grew(entry)
        return reply

    async def _refreshed(self, reading: Reading, body: Body, flight_key: Hashable) -> None:
        if self._flights.under_way(flight_key) is not None:
            return  # somebody was quicker
        reply = await self._lead_all(reading, body, Reason.EXPIRED, self._flights.take_off(flight_key))
        reply.close()

    async def _lead_all(self, reading: Reading, body: Body, reason: Reason, flight: Flight) -> Reply:
        """Fetch for all replicas; or take what another of them has fetched, or is fetching (P5)."""
        landed: Landed = Reason.INCOMPLETE
        led = False
        try:
            found = await self._elsewhere(reading, reason)
            if not isinstance(found, Entry):
                flight.lease = found
                led = True
                return await self._lead(reading, body, reason, flight)
            landed = Shared(found, Reason.COLLAPSED)
            return await self._collapsed(reading, landed, reason)
        finally:
            if not led:
                self._land(flight, landed)

    async def _elsewhere(self, reading: Reading, reason: Reason) -> Lease | Entry | None:
        """What another replica has fetched, or the lease to fetch it for them; None: fetch without one.

        A store that just failed is not asked again: one request waits for one failure at most (P4).
        """
        stamp = reading.stamp
        assert stamp is not None, "a reading in doubt has no flight"
        if not self._leases.others or stamp.local or reason is Reason.STORE_UNAVAILABLE:
            return None
        found: Lease | Entry | Reason | None = None
        if reading.entry is not None:
            found = await self._newer(reading, stamp)
        if found is None:
            found = await self._leases.take(reading.key, stamp, lambda: self._newer(reading, stamp))
        if isinstance(found, Lease):
            found = await self._fetched_before(reading, stamp, found) or found
        return None if isinstance(found, Reason) else found

    async def _fetched_before(self, reading: Reading, stamp: Stamp, lease: Lease) -> Entry | None:
        """What another replica fetched, stored, and gave its lease back for, between our look and our claim."""
        try:
            found = await self._newer(reading, stamp)
        except BaseException:
            self._leases.release(lease, after=None)
            raise
        if not isinstance(found, Entry):
            return None
        self._leases.release(lease, after=None)
        return found

    async def _newer(self, reading: Reading, stamp: Stamp) -> Entry | Reason | None:
        found = await self._cache.find_newer(reading.key, reading.route.digest, stamp, reading.entry)
        if isinstance(found, Entry) and reuse.second_key_names(found, reading.request) is not None:
            return None
        return found

    async def _collapsed(self, reading: Reading, landed: Shared, reason: Reason) -> Reply:
        """The reply from an entry that was fetched for somebody else at the same time."""
        shared = reading._replace(entry=landed.entry)
        outcome = replace(_missed(shared, landed.reason, reason), hit=True, collapsed=True)
        return await self._served(shared, outcome)

    def _land(self, flight: Flight | None, landed: Landed) -> None:
        if flight is None:
            return
        flight.land(landed)
        lease, flight.lease = flight.lease, None
        if lease is not None:
            # whoever waits for the lease looks for the entry when it is given back
            self._leases.release(
                lease, after=self._cache.saving(landed.entry.key) if isinstance(landed, Shared) else None
            )

    async def _lead(self, reading: Reading, body: Body, reason: Reason, flight: Flight | None) -> Reply:
        landed: Landed = Reason.INCOMPLETE  # what followers hear when this is cancelled
        try:
            asked_at = self._clock()
            stale = reading.entry
            conditions = validation.conditions(stale, reading.request.method) if stale is not None else ()
            told = self._telling.fields(reading.identity, reading.request, reading.route.scope)
            stream = await self._upstream.fetch(_fill(reading, (*conditions, *told)), body, interim=reading.interim)
            status = stream.response.status
            if stale is not None and status == 304 and conditions:
                stream.close()
                updated = validation.freshened(stale, stream.response)
                if isinstance(updated, Reason):  # it speaks of another representation: ask for the whole one
                    whole, flight = flight, None
                    return await self._lead(reading._replace(entry=None), body, reason, whole)
                landed, reply = await self._revalidated(reading, stale, updated, asked_at)
                return reply
            if (
                stale is not None
                and reuse.is_failure(status)
                and reuse.may_serve_on_error(reading.request, stale, reading.route, asked_at, answered=True)
            ):
                stream.close()
                landed = Shared(stale, Reason.STALE_IF_ERROR)
                return await self._served(reading, _stood_in(reading, status))
            storable = self._storable(reading, stream.response, stream.framed, asked_at)
            if isinstance(storable, Reason):
                landed = storable
                return self._not_stored(reading, stream, storable, reason)
            outcome = _missed(reading, reason, reason, stored=True)
            body_now = stream.whole()
            if body_now is None:
                stored = self._stored(reading, stream, storable, outcome, flight, asked_at)
                flight = None  # it lands when the body is here
                return stored
            landed = Reason.TOO_LARGE
            if len(body_now) <= storable.max_body:
                landed = await self._put(reading, storable, body_now, asked_at, self._clock() - asked_at)
            return _at_once(reading, stream, outcome, body_now)
        except UpstreamError as failure:
            landed = failure
            return await self._failed(reading, failure)
        finally:
            self._land(flight, landed)

    def _storable(
        self, reading: Reading, response: Response, framed: bool, asked_at: float
    ) -> storing.Storable | Reason:
        return storing.decide(
            reading.request,
            self._telling.storable(response),
            reading.match,
            now=self._clock(),
            requested_at=asked_at,
            jitter=self._jitter(),
            framed=framed,
        )

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
                landed = await self._put(reading, storable, body, asked_at, seconds)
        finally:
            fill.settle()
            self._land(flight, landed)

    async def _put(
        self, reading: Reading, storable: storing.Storable, body: bytes, asked_at: float, seconds: float
    ) -> Landed:
        stamp = reading.stamp
        assert stamp is not None, "a reading in doubt is never stored"
        if not await self._asserted(reading, body):
            self._noted("assertion-failed", {"feature": reading.route.feature, "assert": str(reading.route.assertion)})
            return Reason.ASSERTION
        # the second key only while it covers what this response was selected by; the first one then names the fields
        key = reading.key if storable.selected_within(reading.key) else reading.first_key
        kept = self._kept(reading, storable.head)
        if kept.variant != key.variant or kept.split_by != key.split_by:
            kept = kept._replace(variant=key.variant, split_by=key.split_by)
        key = kept
        tags = storable.tags(key)
        held = await self._epochs.with_groups(stamp, tags) if storable.groups else stamp.of(tags)
        if held is None:
            return Reason.PURGED if storable.groups else Reason.NOT_FRESH
        entry = storable.entry(key, reading.request, body, held.hard, held.soft, seconds)
        refused = self._cache.put(entry, quota=reading.route.quota, asked_at=asked_at)
        if refused is None:
            self._naming.learn(key, reading.route, reading.request)
        return refused if refused is not None else self._shared(entry)

    async def _asserted(self, reading: Reading, body: bytes) -> bool:
        assertion = reading.route.assertion
        if assertion is None:
            return True
        if len(body) > OFF_LOOP_BYTES:
            return await asyncio.to_thread(storing.asserts, assertion, body, reading.identity)
        return storing.asserts(assertion, body, reading.identity)

    def _shared(self, entry: Entry) -> Landed:
        """Followers may have it only while it may be used without asking the upstream again."""
        usable = not entry.no_cache and self._clock() < entry.fresh_until
        return Shared(entry, Reason.COLLAPSED) if usable else Reason.NOT_FRESH

    async def _revalidated(
        self, reading: Reading, stale: Entry, updated: Response, asked_at: float
    ) -> tuple[Landed, Reply]:
        """The upstream said 304: the stored body under the updated head, stored anew if it may be."""
        storable = self._storable(reading, updated, True, asked_at)
        outcome = replace(_missed(reading, Reason.REVALIDATED, Reason.EXPIRED), fwd_status=304)
        if isinstance(storable, Reason):
            await self._cache.drop(stale.key)
            now = self._clock()
            age = corrected_initial_age(updated, asked_at, now)
            entry = replace(stale, head=pack_head(updated.fields), stored_at=now, age=age, encodings={})
            return storable, await self._from_entry(entry, reading, replace(outcome, reason=storable))
        landed = await self._put(reading, storable, stale.body, asked_at, self._clock() - asked_at)
        if isinstance(landed, Shared):
            return landed, await self._served(reading._replace(entry=landed.entry), replace(outcome, stored=True))
        fresh = replace(stale, head=storable.head, stored_at=storable.stored_at, age=storable.age, encodings={})
        return landed, await self._from_entry(fresh, reading, outcome)

    def _not_stored(self, reading: Reading, stream: Stream, verdict: Reason, reason: Reason) -> Reply:
        outcome = _missed(reading, verdict, reason)
        reply = unchanged(stream, reading.request, reading.route, outcome)
        if reply is not None:
            stream.close()
            return reply
        return from_stream(stream, reading.request, reading.route, outcome)

    async def _through(self, reading: Reading, body: Body, outcome: Outcome) -> Reply:
        told = self._telling.fields(reading.identity, reading.request)
        request = reading.request.with_fields(onward(forwarding.passing(reading.request), told))
        asked_at = self._clock()
        try:
            stream = await self._upstream.fetch(request, body, interim=reading.interim)
        except UpstreamError as failure:
            return await self._failed(reading, failure)
        if request.method == "HEAD":
            await self._freshen(reading, stream.response, asked_at)
        return from_stream(stream, reading.request, reading.route, outcome)

    async def _freshen(self, reading: Reading, response: Response, asked_at: float) -> None:
        """What the upstream says to HEAD is news of the stored GET as well (RFC 9111 4.3.5)."""
        stale = reading.entry
        if stale is None or response.status != 200:
            return
        updated = validation.freshened_by_head(stale, response)
        if updated is None:
            return
        as_get = _as_get(reading)
        verdict = updated if isinstance(updated, Reason) else self._storable(as_get, updated, True, asked_at)
        if isinstance(verdict, Reason):
            await self._cache.drop(stale.key)
        else:
            await self._put(as_get, verdict, stale.body, asked_at, self._clock() - asked_at)

    async def _failed(self, reading: Reading, failure: UpstreamError) -> Reply:
        stale = reading.entry
        if stale is not None and reuse.may_serve_on_error(
            reading.request, stale, reading.route, self._clock(), answered=False
        ):
            return await self._served(reading, _stood_in(reading, None))
        fields, text = upstream_problem(failure)
        outcome = _missed(reading, Reason.UPSTREAM_FAILED, Reason.UPSTREAM_FAILED)
        return Reply.own(failure.status, fields, text, outcome)


def _at_once(reading: Reading, stream: Stream, outcome: Outcome, body: bytes) -> Reply:
    """The reply of a response whose body was here with its head: stored by now, so that it needs no fill."""
    reply = unchanged(stream, reading.request, reading.route, outcome)
    return reply if reply is not None else from_stream(stream, reading.request, reading.route, outcome, body)


def _fill(reading: Reading, conditions: tuple[tuple[str, str], ...]) -> Request:
    """The request of a fill: only what is in the key reaches the upstream."""
    request = reading.request
    fields = forwarding.filling(request, conditions, directives=reading.awaited and reading.route.client_control)
    return Request(
        request.method, reading.key.target, fields, request.scheme, request.peer, request.peer_trusted,
        request.has_body, request.body,
    )  # fmt: skip


def _flight_key(reading: Reading) -> Hashable:
    """Who waits for whom: the same entry, under the same epochs, by the same rules."""
    return reading.key.full, reading.stamp, reading.route.digest


def _as_get(reading: Reading) -> Reading:
    """The same for a response that nobody waits for, and that has a body."""
    request = reading.request
    return reading._replace(request=replace(request, method=_filling_method(request)), interim=None, awaited=False)


def _filling_method(request: Request) -> str:
    return "GET" if request.method == "HEAD" else request.method


def _has_validator(entry: Entry | None) -> bool:
    return entry is not None and bool(validation.conditions(entry))


def _stood_in(reading: Reading, status: int | None) -> Outcome:
    """A stale response for an upstream that failed: by an answer with this status, or by none."""
    return replace(reading.outcome(Reason.STALE_IF_ERROR), hit=True, forward=Forward.STALE, fwd_status=status)


def _missed(reading: Reading, told: Reason, missed: Reason, *, stored: bool = False) -> Outcome:
    """A request that went to the upstream because of `missed`; `told` is what is worth knowing about it."""
    return reading.outcome(told, forward=_FORWARDS.get(missed, Forward.URI_MISS), stored=stored)


_FORWARDS = {
    Reason.EXPIRED: Forward.STALE,
    Reason.STALE_WHILE_REVALIDATE: Forward.STALE,
    Reason.VARIANT: Forward.VARY_MISS,
    Reason.REQUEST_CONTROL: Forward.REQUEST,
}
