"""Is what was stored still valid, as far as purges know? Epochs read, copied for a moment, and advanced (DESIGN 4).

A fill stamps its entry with the epochs read before the upstream was asked; a hit needs equal ones; a purge replaces
them. Which epochs bind what is `binding`'s to say, how long a copy is believed `copies`', what is purged again
`repeats`'.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from proxy.cache.background import Background
from proxy.cache.binding import (
    ANY_GROUP,
    EVERYTHING,
    Field,
    covering,
    group_fields,
    hash_of,
    may_be_absent,
    purged_fields,
    slot,
    soft_of,
)
from proxy.cache.copies import MAX_KNOWN, Copies, Known
from proxy.cache.doorbell import Doorbell, Report
from proxy.cache.repeats import Recent, Refused
from proxy.cache.stamp import Stamp, stamp
from proxy.errors import StoreError
from proxy.stores.base import EPOCH_BYTES, Store

TRUSTED_SECONDS = 0.8  # a copy counts this long after its read was sent (P3: 1 s, less a slow read's way back)
_ATTEMPTS = 3  # reads of one request that purges may overtake before it goes without
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.8  # a store that is back has the pending purges within a second
_GATHERED = 0.02  # seconds in which copies that are due come together for one batch of reads
_RECENT_SECONDS = 300.0  # no failover loses writes older than this
_PURGED_AGAIN = (2.0, 15.0)  # after a disturbance, beside at once: a new primary may lose a first repetition as well
_DISTURBANCES_APART = 1.0  # those that come closer are one

Fields = Mapping[str, Sequence[str]]  # names of fields by hash


@dataclass(slots=True)
class Figures:
    """What was counted since the start."""

    local: int = 0  # stamps without the store's word
    renewals: int = 0  # batches of copies in use that were read again
    disturbances: int = 0  # times the store may have lost what it had acknowledged
    refused: int = 0  # purges the store did not accept at once


class Siblings(Protocol):
    """The other processes of this replica, each with copies of its own."""

    async def purged(self, accepted: Fields, refused: Fields) -> None:
        """Fields by hash, as the store took them or not: each sibling has heard of them, or is no more."""


class Epochs:
    """One process's epochs. `clock` must not go backwards: it measures how old a copy is, nothing else.

    `sole`: no other replica purges what this one serves, so a copy may be believed for ever.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        background: Background,
        *,
        sole: bool = False,
        siblings: Siblings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_copies: int = 196_608,  # all of the shared hash (131,072, hard and soft) and 65,536 of tenants
        max_pending: int = 4096,
        report: Report = lambda event, details: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._background = background
        self._sleep = sleep
        self._siblings = siblings
        self._copies = Copies(float("inf") if sole else TRUSTED_SECONDS, max_copies=max_copies)
        self._bound: dict[tuple[str, str, str], Known] = {}
        self._refused = Refused(max_pending)
        self._recent = Recent(_RECENT_SECONDS, max_pending)
        self.sole = sole
        self._others = store.shared and not sole
        self._disturbed_at = float("-inf")
        self._creating: dict[tuple[str, tuple[str, ...]], asyncio.Task[str | None]] = {}
        self._repeater: asyncio.Task[None] | None = None
        self._renewer: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self.doorbell = Doorbell(
            store, random(8).hex(), heard=self._copies.drop, deaf=self._copies.distrust, sleep=sleep, report=report
        )
        self.figures = Figures()
        store.on_disturbance(self._disturbed)

    @property
    def pending(self) -> int:
        """Fields whose purge the store has not accepted yet, or may have lost."""
        return len(self._refused)

    def pending_of(self, space: str) -> int:
        """The same of one tenant."""
        return len(self._refused.of(hash_of(space)))

    def start(self) -> None:
        """Listen to what other replicas purge."""
        if self._others:
            self._listener = self._background.start(self.doorbell.listen(), lasting=True)

    async def close(self) -> None:
        """Stop listening and repeating. What is still pending ends with this process; other replicas never knew."""
        tasks = [task for task in (self._listener, self._renewer, self._repeater) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # -- reading

    def peek(self, space: str, tags: tuple[str, ...]) -> Stamp | None:
        """The stamp without asking the store, when every copy it needs is trusted."""
        found = self._copies.peek(space, tags, self._clock())
        self._see_to_due()
        return found

    def known(self, space: str, tags: tuple[str, ...]) -> Known | None:
        """The same for whoever asks `holds` again and again; None when `peek` gives none."""
        return self._copies.known(space, tags, self._clock())

    def bound(self, space: str, tags: tuple[str, ...]) -> Known | None:
        """The same for a feature and one of its items, of which many have the same epochs: the stamp names any."""
        name = (space, tags[0], slot(space, tags[1]))
        known = self._bound.get(name)
        if known is not None and self.holds(known):
            return known
        known = self.known(space, tags)
        if known is not None:
            if len(self._bound) >= MAX_KNOWN:
                self._bound.clear()
            self._bound[name] = known
        return known

    def holds(self, known: Known) -> bool:
        """Whether the stamp is still what `peek` would give."""
        now = self._clock()
        if known.is_good(now):
            return True
        held = self._copies.holds(known, now)
        self._see_to_due()
        return held

    def _see_to_due(self) -> None:
        if self._copies.due and self._renewer is None and self._others:
            self._renewer = self._background.start(self._renew())

    async def current(self, space: str, tags: tuple[str, ...], *, strict: bool = False) -> Stamp:
        """The stamp as of now; a local one when the store gives none. `strict` asks it whatever the copies say."""
        if not strict and (found := self.peek(space, tags)) is not None:
            return found
        return await asyncio.shield(self._background.start(self._read(space, tags, strict)))

    async def with_groups(self, before: Stamp, tags: tuple[str, ...]) -> Stamp | None:
        """The stamp of `tags`, groups among them, as it was when `before` was read; None when that cannot be told.

        For groups that came with a response to a request made after that read (RFC 9875).
        """
        hashed = hash_of(before.space)
        # a hash that the store has lost meanwhile says `@` was never replaced, but it has another `*`
        guards = (EVERYTHING, ANY_GROUP)
        read = await self._groups(before, hashed, (*guards, *group_fields(before.space, tags)))
        if read is None or any(read[hashed, name] != before.read[hashed, name] for name in guards):
            return None
        # what was read before the fetch stays as it was
        return replace(before, read={**read, **before.read}).of(tags)

    def local(self, space: str, tags: tuple[str, ...]) -> Stamp:
        """The stamp of what this process knows of purges by itself."""
        return self._copies.local(space, tags)

    def last_known(self, space: str, tags: tuple[str, ...]) -> Stamp | None:
        """The stamp as the store last gave it, unless this process knows of a purge since."""
        return self._copies.last_known(space, tags)

    async def _groups(self, before: Stamp, hashed: str, names: Sequence[str]) -> dict[Field, bytes] | None:
        if before.local:
            return self._copies.local_values([(hashed, name) for name in names])
        read = await asyncio.shield(self._background.start(self._read_or_none(hashed, list(names))))
        return read if read is not None and len(read) == len(names) else None

    async def _read(self, space: str, tags: tuple[str, ...], strict: bool) -> Stamp:
        fields = covering(space, tags)
        by_hash: dict[str, list[str]] = {}
        for hashed, name in fields:
            by_hash.setdefault(hashed, []).append(name)
        fresh: dict[Field, bytes] = {}
        for _ in range(_ATTEMPTS):
            if self._refused.meets(by_hash):
                break
            try:
                fresh |= await self._read_hashes(by_hash, fresh, strict)
            except StoreError:
                break
            # what was read before a purge arrived is void by now, whichever hash it came from
            fresh = {name: value for name, value in fresh.items() if self._copies.keeps(name, value)}
            if len(fresh) == len(fields):
                return stamp(space, tags, fresh)
        self.figures.local += 1
        return self._copies.local(space, tags)

    async def _read_hashes(
        self, by_hash: Mapping[str, list[str]], fresh: Mapping[Field, bytes], strict: bool
    ) -> dict[Field, bytes]:
        """The fields not in `fresh`: from trusted copies unless `strict`, else from the store, all hashes at once."""
        now = self._clock()
        values: dict[Field, bytes] = {}
        reads = []
        for hashed, names in by_hash.items():
            if all((hashed, name) in fresh for name in names):
                continue
            copies = {} if strict else self._copies.trusted(hashed, names, now)
            if len(copies) == len(names):
                values |= copies
            else:
                reads.append(self._read_hash(hashed, names))
        found = [await reads[0]] if len(reads) == 1 else await asyncio.gather(*reads)
        for part in found:
            values |= part
        return values

    async def _read_hash(self, hashed: str, names: list[str]) -> dict[Field, bytes]:
        """The fields of one hash as the store has them, created where they are missing."""
        sent, ticket = self._clock(), self._copies.next_ticket()
        values = await self._store.epochs(hashed, names)
        missing = [name for name, value in zip(names, values, strict=True) if value is None and not may_be_absent(name)]
        if missing:
            # "set if absent", and read again: two creators then agree on the first one's
            await self._create(hashed, tuple(missing))
            sent, ticket = self._clock(), self._copies.next_ticket()
            values = await self._store.epochs(hashed, names)
        read = dict(zip(names, values, strict=True))
        return self._copies.accept(hashed, read, ticket, sent, self._refused.of(hashed))

    async def _create(self, hashed: str, names: tuple[str, ...]) -> None:
        """One write, however many find the same missing at once: all requests of a cold tenant do."""
        creating = self._creating.get((hashed, names))
        if creating is None:
            creating = self._background.start(self._created(hashed, names))
            self._creating[hashed, names] = creating
            creating.add_done_callback(lambda _: self._creating.pop((hashed, names), None))
        if (failed := await asyncio.shield(creating)) is not None:
            raise StoreError(failed)

    async def _created(self, hashed: str, names: tuple[str, ...]) -> str | None:
        """What the store says against it."""
        try:
            await self._store.create_epochs(hashed, {name: self._random(EPOCH_BYTES) for name in names})
        except StoreError as error:
            return str(error)
        return None

    async def _renew(self) -> None:
        """Read copies in use again before they run out, so that no hit waits for it."""
        try:
            while self._copies.due:
                await self._sleep(_GATHERED)
                due = self._copies.take_due(self._clock())
                if due:
                    self.figures.renewals += 1
                    # where that fails, copies run out; the next request finds out what then
                    await asyncio.gather(*[self._read_or_none(hashed, names) for hashed, names in due.items()])
        finally:
            self._renewer = None

    async def _read_or_none(self, hashed: str, names: list[str]) -> dict[Field, bytes] | None:
        try:
            return await self._read_hash(hashed, names)
        except StoreError:
            return None

    # -- purging

    async def advance(self, purges: Mapping[str, Sequence[str]], *, soft: bool = False) -> bool:
        """Purge tags (`feature`, `feature:identifier`, `@:group` or `*`), by space. True when the store accepted all.

        Otherwise this replica distrusts what it could not purge and repeats until the store accepts; the caller goes
        on. A caller that is cancelled does not cancel the purge.
        """
        fields: dict[str, dict[str, None]] = {}
        for space, tags in purges.items():
            for tag in tags:
                first, *guards = purged_fields(space, tag)
                names = (soft_of(first) if soft else first, *guards)
                fields.setdefault(hash_of(space), {}).update(dict.fromkeys(names))
        return await asyncio.shield(self._background.start(self._advance_everywhere(fields)))

    async def _advance_everywhere(self, fields: Mapping[str, Mapping[str, None]]) -> bool:
        accepted = await self._advance_all(fields)
        if self._siblings is not None:
            # after the store: what they read from now on is the new epoch
            told: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
            for hashed, names in fields.items():
                told[0 if hashed in accepted else 1][hashed] = list(names)
            await self._siblings.purged(*told)
        return len(accepted) == len(fields)

    async def _advance_all(self, fields: Mapping[str, Mapping[str, None]]) -> set[str]:
        """The hashes whose purge the store took."""
        purges = {hashed: tuple(names) for hashed, names in fields.items()}
        accepted = await asyncio.gather(*[self._advance_hash(hashed, names) for hashed, names in purges.items()])
        taken = {hashed: names for (hashed, names), done in zip(purges.items(), accepted, strict=True) if done}
        self._ring(taken)
        return set(taken)

    async def _advance_hash(self, hashed: str, names: tuple[str, ...]) -> bool:
        accepted = await self._attempt(hashed, names)
        if not accepted:
            self.figures.refused += 1
            self._remember(hashed, names)
        self._copies.drop(hashed, names)
        return accepted

    async def _attempt(self, hashed: str, names: Sequence[str]) -> bool:
        """One write with new epochs: a late duplicate of an earlier one must not restore epochs filled under since."""
        self._recent.add(hashed, names, self._clock())
        try:
            await self._store.advance_epochs(hashed, {name: self._random(EPOCH_BYTES) for name in names})
        except StoreError:
            return False
        return True

    def told(self, accepted: Fields, refused: Fields) -> None:
        """What a sibling purged. It counts as purged here: should its process end, this one repeats it all the same."""
        for hashed, names in {**accepted, **refused}.items():
            self._recent.add(hashed, names, self._clock())
            if hashed in refused:
                self._remember(hashed, names)
            self._copies.drop(hashed, names)

    def unaccepted(self) -> dict[str, list[str]]:
        """The purges that the store has not accepted, for a sibling that begins."""
        return {hashed: list(names) for hashed, names in self._refused.items()}

    def distrust(self) -> None:
        """A sibling ended, perhaps between a purge and telling of it."""
        self._copies.distrust()

    def _ring(self, purged: Mapping[str, Sequence[str]]) -> None:
        if self._others and purged:
            _ = self._background.start(self.doorbell.ring(purged))

    def _remember(self, hashed: str, names: Sequence[str]) -> None:
        for widened in self._refused.add(hashed, names, self._copies.next_ticket()):
            self._copies.drop(widened, (EVERYTHING,))
        if self._repeater is None:
            self._repeater = self._background.start(self._repeat())

    async def _repeat(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while self._refused:
                await self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                await self._try_again()
        finally:
            self._repeater = None

    async def _try_again(self) -> None:
        await asyncio.gather(*[self._repeated(hashed, attempted) for hashed, attempted in self._refused.items()])

    async def _repeated(self, hashed: str, attempted: Mapping[str, int]) -> None:
        if await self._attempt(hashed, tuple(attempted)):
            self._copies.drop(hashed, self._refused.accepted(hashed, attempted))
            self._ring({hashed: tuple(attempted)})

    def _disturbed(self, why: str) -> None:
        """What the store acknowledged may be lost: nothing it said before counts, and recent purges are made again.

        Until they are they count as refused: the store may say anew what they had replaced.
        """
        self._copies.distrust()
        now = self._clock()
        for hashed, names in self._recent.since(now).items():
            self._remember(hashed, names)
            self._copies.drop(hashed, names)
        if now - self._disturbed_at < _DISTURBANCES_APART:
            return
        self._disturbed_at = now
        self.figures.disturbances += 1
        _ = self._background.start(self._try_again())
        for seconds in _PURGED_AGAIN:
            self._background.later(seconds, lambda: self._purge_again(now))

    async def _purge_again(self, disturbed_at: float) -> None:
        fields = self._recent.since(disturbed_at)
        await self._advance_all({hashed: dict.fromkeys(names) for hashed, names in fields.items()})
