"""Is this response stored, under which key and epochs? What the rules say of its head, then of its body."""

import asyncio
import re
from collections.abc import Callable, Hashable, Mapping

from proxy.cache.coalesce import Landed, Shared
from proxy.cache.epochs import Epochs
from proxy.cache.stamp import Stamp
from proxy.cache.tiers import Cache
from proxy.policy import storing, validation
from proxy.policy.entry import Entry
from proxy.policy.key import Key
from proxy.policy.message import Response
from proxy.policy.outcome import Reason
from proxy.serving.encoding import OFF_LOOP_BYTES
from proxy.serving.naming import Naming
from proxy.serving.reading import Reading
from proxy.serving.response_parser import Head
from proxy.sessions.telling import Telling, TellsNothing

_MOST_VERDICTS = 512
_MOST_BYTES = 2 << 10  # of a head

# As servers write them. A line that is written otherwise stays, and then its head is like no other.
_VOLATILE = re.compile(
    b"\r\n(?:[Dd]ate|E[Tt]ag|etag|[Cc]ontent-[Ll]ength|[Ll]ast-[Mm]odified): [\t\x20-\x7e]*+(?=\r\n)"
)


class Keeping:
    """Puts into the cache what was fetched for reads."""

    def __init__(
        self,
        *,
        cache: Cache,
        epochs: Epochs,
        naming: Naming,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        noted: Callable[[str, Mapping[str, str]], None],
        telling: Telling | TellsNothing,
    ) -> None:
        self._cache = cache
        self._epochs = epochs
        self._naming = naming
        self._clock = clock
        self._jitter = jitter
        self._noted = noted
        self._telling = telling
        self._verdicts: dict[Hashable, storing.Verdict] = {}

    def storable(
        self, reading: Reading, response: Response, framed: bool, asked_at: float
    ) -> storing.Storable | Reason:
        """What the rules say of a response whose head has come just now."""
        return storing.decide(
            reading.request, self._telling.storable(response), reading.match, now=self._clock(), requested_at=asked_at,
            jitter=self._jitter(), framed=framed,
        )  # fmt: skip

    def storable_alike(
        self, reading: Reading, head: Head, asked_at: float, head_at: float
    ) -> storing.Storable | Reason:
        """The same for the answer to a GET, whose head came at `head_at`. Many differ in what nothing hangs on."""
        route, response, jitter = reading.route, self._telling.storable(head.response), self._jitter()
        kind = route.digest, _VOLATILE.sub(b"", head.raw), storing.kind_of(reading.request, route)
        known = self._verdicts.get(kind) if response is head.response else None
        if known is not None and known.route is route:
            return storing.decide_alike(
                known, response, now=head_at, requested_at=asked_at, jitter=jitter, framed=head.framed
            )
        found = storing.decide(
            reading.request, response, reading.match, now=head_at, requested_at=asked_at, jitter=jitter,
            framed=head.framed,
        )  # fmt: skip
        if isinstance(found, storing.Storable) and response is head.response and len(head.raw) <= _MOST_BYTES:
            if len(self._verdicts) >= _MOST_VERDICTS:
                self._verdicts.clear()
            self._verdicts[kind] = found.verdict
        return found

    def takes_time(self, reading: Reading, storable: storing.Storable, size: int) -> bool:
        """Whether `put` may have to wait: for the epochs of groups, or for a thread."""
        return bool(storable.groups) or (reading.route.assertion is not None and size > OFF_LOOP_BYTES)

    async def put(
        self, reading: Reading, storable: storing.Storable, body: bytes, asked_at: float, seconds: float
    ) -> Landed:
        """Store it; why it cannot be, or be shared, otherwise."""
        if not self.takes_time(reading, storable, len(body)):
            return self.put_now(reading, storable, body, asked_at, seconds)
        assertion, stamp = reading.route.assertion, reading.stamp
        assert stamp is not None, "a reading in doubt is never stored"
        if assertion is not None and not await asyncio.to_thread(storing.asserts, assertion, body, reading.identity):
            return self._unasserted(reading)
        key = self._key(reading, storable)
        tags = storable.tags(key)
        held = await self._epochs.with_groups(stamp, tags) if storable.groups else stamp.of(tags)
        return self._put(reading, storable, key, body, held, asked_at, seconds)

    def put_now(
        self, reading: Reading, storable: storing.Storable, body: bytes, asked_at: float, seconds: float
    ) -> Landed:
        """The same for what does not take time."""
        assertion, stamp = reading.route.assertion, reading.stamp
        assert stamp is not None, "a reading in doubt is never stored"
        if assertion is not None and not storing.asserts(assertion, body, reading.identity):
            return self._unasserted(reading)
        key = self._key(reading, storable)
        return self._put(reading, storable, key, body, stamp.of(storable.tags(key)), asked_at, seconds)

    def _unasserted(self, reading: Reading) -> Reason:
        self._noted("assertion-failed", {"feature": reading.route.feature, "assert": str(reading.route.assertion)})
        return Reason.ASSERTION

    def _key(self, reading: Reading, storable: storing.Storable) -> Key:
        # the second key only while it covers what this response was selected by; the first one then names the fields
        key = reading.key if storable.selected_within(reading.key) else reading.first_key
        kept = self.kept(reading, storable.head)
        if kept.variant != key.variant or kept.split_by != key.split_by:
            kept = kept._replace(variant=key.variant, split_by=key.split_by)
        return kept

    def _put(
        self, reading: Reading, storable: storing.Storable, key: Key, body: bytes, held: Stamp | None, asked_at: float,
        seconds: float,
    ) -> Landed:  # fmt: skip
        if held is None:
            return Reason.PURGED if storable.groups else Reason.NOT_FRESH
        entry = storable.entry(key, reading.request, body, held.hard, held.soft, seconds)
        refused = self._cache.put(entry, quota=reading.route.quota, asked_at=asked_at)
        if refused is None:
            self._naming.learn(key, reading.route, reading.request)
        return refused if refused is not None else self._shared(entry)

    def kept(self, reading: Reading, head: bytes) -> Key:
        return self._naming.kept(reading.first_key, reading.match, reading.request, reading.identity, head)

    async def freshen(self, reading: Reading, response: Response, asked_at: float) -> None:
        """What the upstream says to HEAD is news of the stored GET as well (RFC 9111 4.3.5)."""
        stale = reading.entry
        if stale is None or response.status != 200:
            return
        updated = validation.freshened_by_head(stale, response)
        if updated is None:
            return
        as_get = reading.as_get()
        verdict = updated if isinstance(updated, Reason) else self.storable(as_get, updated, True, asked_at)
        if isinstance(verdict, Reason):
            await self._cache.drop(stale.key)
        else:
            await self.put(as_get, verdict, stale.body, asked_at, self._clock() - asked_at)

    def _shared(self, entry: Entry) -> Landed:
        """Followers may have it only while it may be used without asking the upstream again."""
        usable = not entry.no_cache and self._clock() < entry.fresh_until
        return Shared(entry, Reason.COLLAPSED) if usable else Reason.NOT_FRESH
