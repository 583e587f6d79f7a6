"""How do counted requests reach the store? Summed up here, sent each second, and at the end; nobody waits for it.

What is promised (docs/analytics.md tells it to people):

    refused     the store did nothing, or was not asked: kept, added up with what follows, and sent again
    unanswered  whether it was added nobody knows: not sent again, so that nothing is ever counted twice
    bounded     MOST_KEPT numbers wait for a store that is away; what more there is, is lost and told
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from math import floor
from typing import Any, NamedTuple

from proxy.analytics import names
from proxy.analytics.values import Values
from proxy.errors import StoreError, StoreRefusedError
from proxy.rules.counting import Counted
from proxy.stores.base import Addition, Store

MOST_AT_ONCE = 20_000  # different things that are counted within one second
MOST_KEPT = 100_000  # numbers, and users, that wait for the store
_TOGETHER = 2048  # requests that are summed up at once: a fifth of a millisecond
_PART = 256  # additions that are sent together
_OBSERVED = 500  # users that one command takes
_AT_A_TIME = 500  # that are summed up before others have their turn
_LAST_TRIES = 3  # at the end, and the seconds between them
_BETWEEN = 0.2
_LIVE = 2.0  # seconds between two announcements

Announce = Callable[[str, str, Mapping[str, Any]], None]  # of a tenant and a report: its newest figures
Digest = Callable[..., str]
_BEYOND = names.OTHER * (names.MAX_VALUE + 1)  # too long for a name, and so one of the others


class Place(NamedTuple):
    """Where a number is kept, and for how long. `of`: the tenant and report whose whole it is, and its hour."""

    name: str
    field: str
    ttl: float
    of: tuple[str, str, float] | None = None


class Figures:
    """What became of what was to be added to the store."""

    def __init__(self) -> None:
        self.added = 0
        self.unanswered = 0
        self.lost = 0


class _Sum:
    """What was counted of one value in one second."""

    __slots__ = ("number", "who")

    def __init__(self) -> None:
        self.number = 0
        self.who: set[str] = set()


class Counters:
    """The counters of one process. `add` is called by whoever answers."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        *,
        digest: Digest,
        announce: Announce | None = None,
        is_watched: Callable[[str, str], bool] = lambda tenant, name: True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`digest` makes of a user what nobody can make a user of again."""
        self.figures = Figures()
        self.values = Values()
        self._store = store
        self._clock = clock
        self._digest = digest
        self._announce = announce
        self._is_watched = is_watched
        self._sleep = sleep
        self._lately: list[Counted] = []  # not summed up yet
        self._tally: Counter[Counted] = Counter()
        self._since = clock()  # of the tally
        self._kept: dict[Place, int] = {}
        self._users: dict[str, set[str]] = {}
        self._unseen = 0  # users among them, each once for each set
        self._kept_since: float | None = None
        self._newest: dict[tuple[str, str], tuple[float, int]] = {}  # the hour, and its count by all replicas
        self._announced = 0.0
        self._leaving = asyncio.Event()
        self._flushing = asyncio.Lock()

    def add(self, counted: Counted) -> None:
        """Count one request: a fraction of a microsecond, whatever the store does."""
        lately = self._lately
        lately.append(counted)
        if len(lately) >= _TOGETHER:
            self._sum_up()

    def _sum_up(self) -> None:
        """Many at once take a third of the time that they take one by one."""
        lately, tally = self._lately, self._tally
        if len(tally) + len(lately) <= MOST_AT_ONCE:
            tally.update(lately)
        else:
            for counted in lately:
                if counted in tally or len(tally) < MOST_AT_ONCE:
                    tally[counted] += 1
                else:
                    tally[counted._replace(value=counted.value and _BEYOND, who="")] += 1
        lately.clear()

    @property
    def waiting(self) -> int:
        """Numbers and users that the store has not taken yet."""
        return len(self._kept) + self._unseen

    def as_of(self) -> float:
        """Until when the store has all that was counted here."""
        return self._kept_since if self._kept_since is not None else self._since

    async def follow(self) -> None:
        """Send what was counted at each whole second, so that the last one of an hour counts in that hour."""
        while not self._leaving.is_set():
            now = self._clock()
            try:
                async with asyncio.timeout(floor(now) + 1 - now):
                    await self._leaving.wait()
            except TimeoutError:
                await self.flush()
                self.tell()

    async def close(self) -> None:
        """Send what is left; what the store does not take now is lost. `follow` ends."""
        self._leaving.set()
        for left in reversed(range(_LAST_TRIES)):
            if await self.flush():
                break
            if left:
                await self._sleep(_BETWEEN)
        self.figures.lost += self.waiting
        self._kept, self._users, self._unseen = {}, {}, 0

    async def flush(self) -> bool:
        """Whether nothing is left that is to be sent again."""
        async with self._flushing:
            await self._collect()
            if await self._add_all() and await self._observe_all():
                self._kept_since = None
            return self._kept_since is None

    # -- from requests to numbers

    async def _collect(self) -> None:
        self._sum_up()
        tally, self._tally = self._tally, Counter()
        at, self._since = self._since, self._clock()
        if tally and self._kept_since is None:
            self._kept_since = at
        sums: dict[tuple[str, str, str | None], _Sum] = {}
        for number, (counted, times) in enumerate(tally.items(), start=1):
            tenant, name, value, who = counted
            into = sums.get((tenant, name, value))
            if into is None:
                into = sums[tenant, name, value] = _Sum()
            into.number += times
            if who:
                into.who.add(self._digest("unique", tenant, name, who))
            if not number % _AT_A_TIME:
                await asyncio.sleep(0)
        for number, ((tenant, name, value), each) in enumerate(sums.items(), start=1):
            self._take(tenant, name, value, each, at)
            if not number % _AT_A_TIME:
                await asyncio.sleep(0)

    def _take(self, tenant: str, name: str, value: str | None, each: _Sum, at: float) -> None:
        self._keep_value(tenant, name, names.ALL, each, at)
        if value is None:
            return
        written = self.values.admitted(tenant, name, value, at)
        self._keep(Place(names.by_value(tenant, name, at), written, names.DAYS_KEPT), each.number)
        if written != names.OTHER:
            self._keep_value(tenant, name, written, each, at)

    def _keep_value(self, tenant: str, name: str, value: str, each: _Sum, at: float) -> None:
        whole = (tenant, name, at // names.HOUR * names.HOUR) if value == names.ALL else None
        place = Place(names.by_hour(tenant, name, value, at), names.hour_of(at), names.DAYS_KEPT, whole)
        self._keep(place, each.number)
        if len(self._kept) < MOST_KEPT // 2:  # of a store that is away for long, nobody looks at minutes
            minute = Place(names.by_minute(tenant, name, value, at), names.minute_of(at), names.MINUTES_KEPT)
            self._keep(minute, each.number)
        if each.who:
            self._see(names.uniques(tenant, name, value, at), each.who)

    def _keep(self, place: Place, number: int) -> None:
        before = self._kept.get(place)
        if before is None and len(self._kept) >= MOST_KEPT:
            self.figures.lost += 1
        else:
            self._kept[place] = number if before is None else before + number

    def _see(self, name: str, who: set[str]) -> None:
        if self._unseen >= MOST_KEPT:
            self.figures.lost += len(who)
            return
        users = self._users.setdefault(name, set())
        before = len(users)
        users |= who
        self._unseen += len(users) - before

    # -- from here to the store

    async def _add_all(self) -> bool:
        """Whether the store has, or may have, all of it. What it does not answer now is not worth asking it more."""
        while self._kept:
            part = dict(islice(self._kept.items(), _PART))
            for place in part:
                del self._kept[place]
            try:
                answers = await self._store.add(
                    [Addition(place.name, place.field, number, place.ttl) for place, number in part.items()]
                )
            except StoreError as error:
                answers = [error] * len(part)
            if not self._answered(part, answers):
                return False
        return True

    def _answered(self, part: dict[Place, int], answers: Sequence[int | StoreError]) -> bool:
        good = True
        for (place, number), answer in zip(part.items(), answers, strict=True):
            if isinstance(answer, int):
                self.figures.added += 1
                if place.of is not None:
                    tenant, name, hour = place.of
                    self._newest[tenant, name] = max((hour, answer), self._newest.get((tenant, name), (0.0, 0)))
                continue
            good = False
            if isinstance(answer, StoreRefusedError):
                self._keep(place, number)
            else:
                self.figures.unanswered += 1
        return good

    async def _observe_all(self) -> bool:
        """Whoever is sent twice counts once, so whatever is not known to be there is sent again."""
        while self._users:
            name, seen = next(iter(self._users.items()))
            while seen:
                part = list(islice(seen, _OBSERVED))
                try:
                    await self._store.observe(name, part, names.UNIQUES_KEPT)
                except StoreError:
                    return False
                seen.difference_update(part)
                self._unseen -= len(part)
            del self._users[name]
        return True

    # -- to those who watch

    def tell(self) -> None:
        """Announce what changed in the last seconds, once for each report: the newest figures are the only ones."""
        now = self._clock()
        if self._announce is None or now - self._announced < _LIVE:
            return
        self._announced = now
        newest, self._newest = self._newest, {}
        as_of = names.told(self.as_of())
        for (tenant, name), (hour, count) in newest.items():
            if self._is_watched(tenant, name):
                self._announce(tenant, name, {"hour": names.told(hour), "count": count, "as_of": as_of})
