"""How does an event get into its mailbox without anybody waiting for the store? Through a short line for each tenant.

A line keeps the order. Whoever publishes waits a moment at most; what the store does not take is tried until it does.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.events.event import Event
from proxy.events.feed import Feeds
from proxy.events.mailbox import Mailboxes, Noted
from proxy.events.repair import Repairs
from proxy.events.written import MAX_DATA

PATIENCE = 0.05  # seconds that the answer to a write may take longer for its event
QUEUE = 1000  # events of this process that the store has not taken yet
RATE, BURST = 200.0, 400.0  # events of one tenant: a second, and at once
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_REMEMBERED = 10_000


class Result(StrEnum):
    """What became of an event within the time that its publisher waits."""

    STORED = "stored"
    QUEUED = "queued"  # it will be stored, if this process lives
    REPEATED = "repeated"  # it was published already
    TOO_MANY = "too-many"
    FULL = "queue-full"


@dataclass(slots=True)
class Figures:
    """What was counted since the start."""

    stored: int = 0
    repeated: int = 0
    refused: int = 0
    retried: int = 0
    withheld: int = 0
    lost: int = 0  # still waiting when this process ended


class _Waiting(NamedTuple):
    event: Event
    seal: bool
    stored: asyncio.Future[None]


class Publisher:
    """The lines of one process."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        feeds: Feeds,
        repairs: Repairs,
        background: Background,
        *,
        noted: Noted = lambda event, details: None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        queue: int = QUEUE,
        most_data: int = MAX_DATA,
    ) -> None:
        """`clock`: seconds of any origin. `most_data`: bytes that the data of one event may have."""
        self.most_data = most_data
        self._mailboxes = mailboxes
        self._feeds = feeds
        self._repairs = repairs
        self._background = background
        self._noted = noted
        self._sleep = sleep
        self._queue = queue
        self._lines: dict[str, deque[_Waiting]] = {}
        self._ringing: dict[str, bool] = {}  # True: once more
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._rates = _Rates(clock)
        self.waiting = 0
        self.figures = Figures()

    async def publish(self, tenant: str, event: Event, *, seal: bool = False, patience: float = PATIENCE) -> Result:
        """Returns within `patience`, whatever the store does."""
        if (tenant, event.id) in self._known:
            self.figures.repeated += 1
            return Result.REPEATED
        if not self._rates.admits(tenant):
            return self._refused(tenant, event, Result.TOO_MANY)
        if self.waiting >= self._queue:
            return self._refused(tenant, event, Result.FULL)
        self._know(tenant, event)
        stored = self._enqueue(tenant, event, seal)
        await asyncio.wait((stored,), timeout=patience)
        return Result.STORED if stored.done() else Result.QUEUED

    def _refused(self, tenant: str, event: Event, result: Result) -> Result:
        self.figures.refused += 1
        self._noted("event-refused", {"tenant": tenant, "name": event.name, "why": result.value})
        return result

    def _know(self, tenant: str, event: Event) -> None:
        self._known[tenant, event.id] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _enqueue(self, tenant: str, event: Event, seal: bool) -> asyncio.Future[None]:
        waiting = _Waiting(event, seal, asyncio.get_running_loop().create_future())
        self.waiting += 1
        line = self._lines.get(tenant)
        if line is None:
            self._lines[tenant] = deque((waiting,))
            _ = self._background.start(self._work(tenant))
        else:
            line.append(waiting)
        return waiting.stored

    async def _work(self, tenant: str) -> None:
        """Store what stands in this line, one after the other; it ends with the line."""
        line, pause = self._lines[tenant], _FIRST_PAUSE
        try:
            while line:
                first = line[0]
                try:
                    await self._repairs.settled(tenant)
                    entry = await self._mailboxes.append(tenant, first.event, seal=first.seal)
                except StoreError:
                    self._repairs.doubt(tenant)
                    self.figures.retried += 1
                    await self._sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                pause = _FIRST_PAUSE
                line.popleft()
                self.waiting -= 1
                self.figures.stored += 1
                self._repairs.remember(tenant, entry)
                if not first.stored.done():
                    first.stored.set_result(None)
                self._tell(tenant)
        finally:
            del self._lines[tenant]
            if line:
                self.waiting -= len(line)
                self.figures.lost += len(line)
                self._noted("events-not-stored", {"tenant": tenant, "events": str(len(line))})

    def _tell(self, tenant: str) -> None:
        """Readers here at once, those elsewhere by the doorbell: one ring for all that is stored meanwhile."""
        self._feeds.rung(tenant)
        if tenant in self._ringing:
            self._ringing[tenant] = True
        else:
            self._ringing[tenant] = True
            _ = self._background.start(self._ring(tenant))

    async def _ring(self, tenant: str) -> None:
        try:
            while self._ringing[tenant]:
                self._ringing[tenant] = False
                await self._mailboxes.ring(tenant)
        except StoreError:
            pass  # they look by themselves
        finally:
            del self._ringing[tenant]


class _Rates:
    """How many events a tenant may still publish now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, tenant: str) -> bool:
        now = self._clock()
        left, at = self._left.get(tenant, (BURST, now))
        left = min(BURST, left + max(0.0, now - at) * RATE)
        admitted = left >= 1
        self._left[tenant] = (left - 1 if admitted else left, now)
        self._left.move_to_end(tenant)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return admitted
