"""What is done when the store may have lost what it had acknowledged? What this process knows of it is put back.

At once, and again later: a new primary may lose that as well. A tenant's events are put back before others of this
process are added behind them, so that they find their places still free.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.events.feed import Feeds
from proxy.events.mailbox import Mailboxes
from proxy.events.window import Entry, Window

AGAIN = (0.0, 2.0, 15.0)  # seconds after a disturbance
REMEMBERED_FOR = 300.0  # seconds that this process knows what it has published
_MOST = 10_000  # entries, over all tenants
_MOST_BYTES = 16 << 20


class Repairs:
    """What this process has published lately, and which mailboxes may lack some of it. `clock`: unix seconds."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        feeds: Feeds,
        background: Background,
        clock: Callable[[], float],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._mailboxes = mailboxes
        self._feeds = feeds
        self._background = background
        self._clock = clock
        self._sleep = sleep
        self._recent: deque[tuple[float, str, Entry]] = deque()
        self._bytes = 0
        self._doubtful: OrderedDict[str, None] = OrderedDict()
        self._mending: asyncio.Task[None] | None = None

    def remember(self, tenant: str, entry: Entry) -> None:
        now = self._clock()
        self._recent.append((now, tenant, entry))
        self._bytes += entry.size
        while self._recent and (
            self._recent[0][0] < now - REMEMBERED_FOR or len(self._recent) > _MOST or self._bytes > _MOST_BYTES
        ):
            self._bytes -= self._recent.popleft()[2].size

    def doubt(self, tenant: str) -> None:
        """Whether the last words to the store about this tenant have arrived, nobody knows."""
        self._doubtful[tenant] = None

    async def settled(self, tenant: str) -> None:
        """Returns when nothing is known to be missing in this mailbox. StoreError: nobody knows yet."""
        if tenant in self._doubtful:
            await self._mend(tenant)

    def disturbed(self, why: str) -> None:
        """The store may have lost something of any tenant."""
        for tenant in self._tenants():
            self.doubt(tenant)
        if self._mending is not None:
            self._mending.cancel()
        self._mending = self._background.start(self._mend_all(), lasting=True)

    async def _mend_all(self) -> None:
        before = 0.0
        for after in AGAIN:
            await self._sleep(after - before)
            before = after
            for tenant in self._tenants():
                try:
                    await self._mend(tenant)
                except StoreError:
                    self.doubt(tenant)

    def _tenants(self) -> dict[str, None]:
        return dict.fromkeys((*self._feeds.tenants, *(tenant for _, tenant, _ in self._recent)))

    async def _mend(self, tenant: str) -> None:
        recent = [entry for _, owner, entry in self._recent if owner == tenant]
        if not await self._feeds.mend(tenant, recent) and recent:
            _ = await self._mailboxes.mend(tenant, Window(recent))
        self._doubtful.pop(tenant, None)
