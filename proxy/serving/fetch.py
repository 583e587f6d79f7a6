"""Who asks the upstream for what is missing or stale? One for all who wait for the same, on all replicas (P2, P5)."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace

from proxy.cache.background import Background
from proxy.cache.coalesce import Flight, Flights, Landed, Shared
from proxy.cache.epochs import Epochs
from proxy.cache.lease import Lease, Leases
from proxy.cache.stamp import Stamp
from proxy.cache.tiers import Cache
from proxy.errors import UpstreamError
from proxy.policy import ranges, reuse, validation
from proxy.policy.entry import Entry
from proxy.policy.message import Request
from proxy.policy.outcome import Reason
from proxy.serving.keeping import Keeping
from proxy.serving.leading import Leading
from proxy.serving.naming import Naming
from proxy.serving.reading import Reading
from proxy.serving.reply import Reply
from proxy.serving.response_parser import Head
from proxy.serving.upstream import Body, Stream, Upstream
from proxy.sessions.telling import Telling, TellsNothing

FOLLOWER_WAIT = 10.0  # seconds a follower waits for another's fetch before it asks for itself


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
        telling = telling if telling is not None else TellsNothing()
        self._cache = cache
        self._flights = flights
        self._leases = leases
        self._background = background
        self._clock = clock
        self._keeping = Keeping(
            cache=cache, epochs=epochs, naming=naming, clock=clock, jitter=jitter, noted=noted, telling=telling
        )
        self._leading = Leading(
            upstream=upstream, cache=cache, leases=leases, keeping=self._keeping, background=background, clock=clock,
            telling=telling,
        )  # fmt: skip

    async def fetch(self, reading: Reading, body: Body, reason: Reason) -> Reply:
        """Join the fetch that is under way for the same entry under the same epochs, or lead one."""
        if reading.stamp is None:
            return await self._leading.through(reading, body, reading.missed(Reason.STORE_UNAVAILABLE, reason))
        if reading.request.method == "HEAD":
            # it is answered from a stored GET but brings no body to store
            return await self._leading.through(reading, body, reading.missed(reason, reason))
        if ranges.is_asked(reading.request) and not _has_validator(reading.entry):
            # the part that was asked for, of what may be too large to store; what can be validated is here whole
            return await self._leading.through(reading, body, reading.missed(Reason.RANGE, reason))
        flight_key = _flight_key(reading)
        under_way = self._flights.under_way(flight_key)
        if under_way is None:
            return await self._lead_all(reading, body, reason, self._flights.take_off(flight_key))
        landed = await under_way.wait(FOLLOWER_WAIT)
        if isinstance(landed, UpstreamError):
            return await self._leading.failed(reading, landed)
        if isinstance(landed, Shared) and self._may_share(landed, reading):
            return await self._collapsed(reading, landed, reason)
        # not to be shared, or too slow: each asks for itself and none waits for another
        return await self._leading.lead(reading, body, reason, None)

    def is_alone(self, reading: Reading, reason: Reason) -> bool:
        """Whether a read may ask at once: there is nothing to wait for first, and nobody."""
        stamp = reading.stamp
        if stamp is None or ranges.is_asked(reading.request) or self._asks_others(stamp, reason):
            return False
        return self._flights.under_way(_flight_key(reading)) is None

    def take_off(self, reading: Reading) -> Flight:
        """The flight of one that does; it ends with `answered_now` or `went_on`."""
        return self._flights.take_off(_flight_key(reading))

    def answered_now(
        self, reading: Reading, whole: Callable[[], Request], reason: Reason, flight: Flight, stream: Stream,
        head: Head, asked_at: float, head_at: float,
    ) -> Reply | None:  # fmt: skip
        """The reply, where the answer is here whole. None: with `went_on`."""
        return self._leading.answered_now(reading, whole, reason, flight, stream, head, asked_at, head_at)

    async def went_on(
        self, reading: Reading, reason: Reason, flight: Flight, answer: Stream | UpstreamError, asked_at: float
    ) -> Reply:
        """What `fetch` does once there is an answer."""
        if isinstance(answer, UpstreamError):
            self._leading.land(flight, answer)
            return await self._leading.failed(reading, answer)
        return await self._leading.answered(reading, None, reason, flight, answer, asked_at)

    def refresh(self, reading: Reading, body: Body) -> None:
        """Fetch in the background what was just served stale."""
        if reading.stamp is None:
            return
        # a HEAD may be what finds it stale, but only a GET brings the body
        as_get = reading.as_get()
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
        if self._keeping.kept(reading, entry.head).request != entry.request:
            return False
        return reuse.second_key_names(entry, request) is None

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
                return await self._leading.lead(reading, body, reason, flight)
            landed = Shared(found, Reason.COLLAPSED)
            return await self._collapsed(reading, landed, reason)
        finally:
            if not led:
                self._leading.land(flight, landed)

    async def _elsewhere(self, reading: Reading, reason: Reason) -> Lease | Entry | None:
        """What another replica has fetched, or the lease to fetch it for them; None: fetch without one.

        A store that just failed is not asked again: one request waits for one failure at most (P4).
        """
        stamp = reading.stamp
        assert stamp is not None, "a reading in doubt has no flight"
        if not self._asks_others(stamp, reason):
            return None
        found: Lease | Entry | Reason | None = None
        if reading.entry is not None:
            found = await self._newer(reading, stamp)
        if found is None:
            found = await self._leases.take(reading.key, stamp, lambda: self._newer(reading, stamp))
        if isinstance(found, Lease):
            found = await self._fetched_before(reading, stamp, found) or found
        return None if isinstance(found, Reason) else found

    def _asks_others(self, stamp: Stamp, reason: Reason) -> bool:
        return self._leases.others and not stamp.local and reason is not Reason.STORE_UNAVAILABLE

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
        outcome = replace(shared.missed(landed.reason, reason), hit=True, collapsed=True)
        return await self._leading.served(shared, outcome)

    async def serve(self, reading: Reading, reason: Reason) -> Reply:
        """The reply from the reading's entry."""
        assert reading.entry is not None, "only a reading with an entry is served"
        return await self._leading.served(reading, reading.outcome(reason, hit=True))


def _flight_key(reading: Reading) -> Hashable:
    """Who waits for whom: the same entry, under the same epochs, by the same rules."""
    return reading.key.full, reading.stamp, reading.route.digest


def _has_validator(entry: Entry | None) -> bool:
    return entry is not None and bool(validation.conditions(entry))
