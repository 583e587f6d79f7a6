"""Which credentials have been revoked, as far as this process knows? Known at once here, and soon everywhere.

here          in memory; no request asks the store
workers       told before the answer that caused it is released
replicas      by a message (milliseconds), and by a log in the store that each reads every REREAD seconds
restarts      the log is read from its beginning; until then nobody's standing is known
failovers     the log is read anew, and what it has lost is added to it again
store lost    what it did not take is added as soon as it does
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from proxy.cache.background import Background
from proxy.cache.doorbell import Doorbell
from proxy.errors import StoreError
from proxy.policy.identity import Presented, Standing
from proxy.sessions.notbefore import Kind, NotBefore, Revocation, unpacked
from proxy.stores.base import Store
from proxy.stores.deadline import Patience
from proxy.stores.streams import position

LOG = "shared:revocations"
REREAD = 0.5  # seconds between two reads: with a read that fails for its whole timeout still within a second (P10)
_FIELD = "v"
_LONGEST = 500_000  # entries of the log; a process keeps fewer revocations
_LOOKED = 10.0  # seconds between two looks at where the log ends
_PAGE = 512  # entries of the log in one read
_AT_ONCE = 256  # revocations in one entry
_OVERLAP = 5.0  # seconds that are read again: a replica of the store may show entries out of their order
_AGAIN = (2.0, 15.0)  # after a disturbance, beside at once: a new primary may lose what was repeated as well
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.8
_PRUNED = 60.0
_PATIENCE = 1.0  # seconds that a start waits for the log

Report = Callable[[str, Mapping[str, object]], None]
Packed = list[list[Any]]


@dataclass(slots=True)
class Figures:
    """What was counted since the start."""

    applied: int = 0
    refused: int = 0  # not taken by the store at once
    repeated: int = 0  # added again, as the store had lost them
    reads: int = 0


class Siblings(Protocol):
    """The other processes of this replica."""

    async def revoked(self, packed: Packed, accepted: bool) -> None:
        """Each sibling has heard of these, or is no more."""


class Revocations:
    """One process's knowledge. `clock` gives unix seconds; `applied` hears of everything that is new here."""

    def __init__(
        self,
        store: Store,
        doorbell: Doorbell,
        clock: Callable[[], float],
        background: Background,
        *,
        applied: Callable[[Sequence[Revocation]], None],
        siblings: Siblings | None = None,
        keep: Callable[[], float] = lambda: 86400.0,
        timeout: float = 0.1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        report: Report = lambda event, details: None,
    ) -> None:
        self._store = store
        self._doorbell = doorbell
        self._clock = clock
        self._background = background
        self._applied = applied
        self._siblings = siblings
        self._keep = keep  # seconds after which the longest-lived token has expired
        self._patience = Patience(timeout)  # for what the answer to a logout waits for
        self._sleep = sleep
        self._report = report
        self._set = NotBefore()
        self._pending: dict[tuple[str, Kind], Revocation] = {}  # not in the store, as far as is known
        self._cursors: deque[tuple[float, str]] = deque([(float("-inf"), "")])  # when the log was read up to where
        self._whole = True  # the next read begins at the beginning
        self._read_at: float | None = None if store.shared else float("inf")
        self._pruned_at = clock()
        self._repeater: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._looked_at = clock()
        self.figures = Figures()
        self.version = 0
        doorbell.revoked = self.heard
        store.on_disturbance(self._disturbed)

    # What is known

    @property
    def any(self) -> bool:
        return self._set.any

    def of(self, presented: Presented) -> Standing:
        """What has become of this credential, as of now."""
        self._set.keep = self._keep()
        if self._read_at is None:
            standing = self._set.of(presented, self._clock())
            return standing if standing is Standing.REVOKED else Standing.UNKNOWN
        return self._set.of(presented, self._clock())

    def __len__(self) -> int:
        return len(self._set)

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def age(self) -> float:
        """Seconds since the store's log was read; infinite before the first time."""
        if self._read_at is None:
            return float("inf")
        return max(0.0, self._clock() - self._read_at)

    # What happens

    async def start(self) -> None:
        """Follow the store's log until `close`. A store that answers has been read when this returns."""
        if self._store.shared:
            self._reader = self._background.start(self._follow(), lasting=True)
            first = self._background.start(self.read())
            await asyncio.wait((first,), timeout=_PATIENCE)

    async def close(self) -> None:
        tasks = [task for task in (self._reader, self._repeater) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def revocation(self, subject: str, instant: float, kind: Kind = Kind.ENDED, expires: float = 0.0) -> Revocation:
        """One that is kept until every token has expired that it could mean; `expires`: of one that is at hand."""
        until = max(self._clock() + self._keep(), expires if expires != float("inf") else 0.0)
        return Revocation(subject, instant, until, kind)

    async def revoke(self, revocations: Sequence[Revocation]) -> bool:
        """In effect here and in all workers when this returns. True: the store has it, and other replicas soon.

        Whoever is cancelled meanwhile does not cancel it.
        """
        return await asyncio.shield(self._background.start(self._revoke(list(revocations))))

    async def _revoke(self, revocations: list[Revocation]) -> bool:
        self._apply(revocations)
        accepted = not self._store.shared or await self._append(revocations)
        if not accepted:
            self.figures.refused += 1
            self._remember(revocations)
        if self._siblings is not None:
            await self._siblings.revoked([each.packed() for each in revocations], accepted)
        return accepted

    def heard(self, said: object) -> None:
        """A message of another replica; whatever else it is, it is not trusted to be well-formed."""
        self._apply(unpacked(said, self._clock()))

    def told(self, packed: Packed, accepted: bool) -> None:
        """What a sibling revoked. What the store refused is repeated here as well, should the sibling end."""
        revocations = unpacked(packed, self._clock())
        self._apply(revocations)
        if not accepted:
            self._remember(revocations)

    def unaccepted(self) -> Packed:
        """What the store has not taken yet, for a sibling that begins."""
        return [each.packed() for each in self._pending.values()]

    def _apply(self, revocations: Sequence[Revocation]) -> None:
        now = self._clock()
        floor = self._set.floor
        news = self._set.merge(revocations, now)
        if now - self._pruned_at >= _PRUNED:
            self._pruned_at = now
            self._set.prune(now)
        if self._set.floor != floor:
            self._report("revocations-overflow", {"kept": len(self._set), "floor": self._set.floor})
        if news:
            self.figures.applied += len(news)
            self.version += 1
            self._applied(news)

    # Towards the store

    async def _append(self, revocations: Sequence[Revocation]) -> bool:
        kept = self._keep() + 3600.0
        try:
            for at in range(0, len(revocations), _AT_ONCE):
                packed = [each.packed() for each in revocations[at : at + _AT_ONCE]]
                async with self._patience():  # somebody waits for the answer to a logout
                    await self._store.append(LOG, {_FIELD: orjson.dumps(packed)}, _LONGEST, kept)
                _ = self._background.start(self._doorbell.ring({}, revoked=packed))
        except (StoreError, TimeoutError):
            return False  # it may be there all the same: twice does no harm
        return True

    def _remember(self, revocations: Sequence[Revocation]) -> None:
        for each in revocations:
            self._pending[each.subject, each.kind] = each
        if self._repeater is None and self._pending:
            self._repeater = self._background.start(self._repeat())

    async def _repeat(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while self._pending:
                await self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                attempted = dict(self._pending)
                if await self._append(list(attempted.values())):
                    for key, each in attempted.items():
                        if self._pending.get(key) is each:
                            del self._pending[key]
        finally:
            self._repeater = None

    async def _follow(self) -> None:
        while True:
            await self._sleep(REREAD)
            await self.read()

    async def read(self) -> bool:
        """Take in what the log holds that was not read before; whether the store answered."""
        async with self._reading:
            began = self._clock()
            try:
                await self._look_for_the_end(began)
            except StoreError:
                return False
            whole, self._whole = self._whole, False
            try:
                found = await self._read_from("" if whole else self._cursors[0][1])
            except StoreError:
                self._whole = self._whole or whole
                return False
            self.figures.reads += 1
            if self._read_at is None:
                self.version += 1
            self._read_at = began
            if whole:
                self._repeat_what_is_lost(found)
            return True

    async def _look_for_the_end(self, now: float) -> None:
        """A log may end without a disturbance, evicted or deleted: then it begins anew, with what is known here."""
        cursor = self._cursors[-1][1]
        if self._whole or not cursor or now - self._looked_at < _LOOKED:
            return
        newest = await self._store.latest(LOG, "", 1)
        self._looked_at = now
        if not newest or position(newest[0].id) < position(cursor):
            self._begin_anew()

    async def _read_from(self, cursor: str) -> dict[tuple[str, Kind], float]:
        """Apply everything behind `cursor`; the instants that were there."""
        found: dict[tuple[str, Kind], float] = {}
        now = self._clock()
        while True:
            page = await self._store.range(LOG, cursor, _PAGE)
            revocations = [each for item in page for each in unpacked(_parsed(item.fields.get(_FIELD, b"")), now)]
            self._apply(revocations)
            for each in revocations:
                key = each.subject, each.kind
                found[key] = max(found.get(key, each.instant), each.instant)
            cursor = page[-1].id if page else cursor
            if len(page) < _PAGE:
                break
        self._cursors.append((now, cursor))
        while len(self._cursors) > 1 and self._cursors[1][0] <= now - _OVERLAP:
            self._cursors.popleft()
        return found

    def _repeat_what_is_lost(self, there: Mapping[tuple[str, Kind], float]) -> None:
        """Of what is known here, the log may have lost some, or all."""
        lost = [each for each in self._set if there.get((each.subject, each.kind), float("-inf")) < each.instant]
        if lost:
            self.figures.repeated += len(lost)
            self._remember(lost)

    def _disturbed(self, why: str) -> None:
        """What the store acknowledged may be lost, and the ids of its log may begin anew."""
        if not self._store.shared:
            return
        self._begin_anew()
        for seconds in _AGAIN:
            self._background.later(seconds, self._read_anew)

    def _begin_anew(self) -> None:
        self._whole = True
        self._cursors = deque([(float("-inf"), "")])

    async def _read_anew(self) -> None:
        self._begin_anew()
        await self.read()


def _parsed(value: bytes) -> object:
    try:
        return orjson.loads(value)
    except ValueError:
        return None
