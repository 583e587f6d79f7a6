"""Which entries are read together? All that are asked for in one turn of the event loop, by one call of the store.

Whoever asks is told by a call, not by waking a task: of what reading an entry costs, tasks and futures were the most.
What is left is a price for each batch. So while one is on its way the next one gathers; but not for long: its own way
must not depend on what another one's values weigh, or on where a cluster has them.
"""

import asyncio
from collections.abc import Callable

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.stores.base import Store

_GATHERED = 0.001  # seconds between two looks
_ENOUGH = 64  # names that need not gather any further

Value = bytes | None | StoreError
Tell = Callable[[Value], object]


class Reads:
    """The reads of one process. The store's deadline begins when they are sent: waiting here is no fault of it."""

    def __init__(self, store: Store, background: Background) -> None:
        self._store = store
        self._background = background
        self._asked: list[tuple[str, Tell]] = []
        self._sending = False  # in the next turn of the loop
        self._under_way = 0
        self._watched = False
        self._waited = False  # what is gathered was there at the last look

    def ask(self, name: str, tell: Tell) -> None:
        """`tell` is called once, in a later turn; what it raises is its own affair."""
        self._asked.append((name, tell))
        if self._sending:
            return
        if not self._under_way or len(self._asked) >= _ENOUGH:
            self._send_soon()
        elif not self._watched:
            self._watched = True
            asyncio.get_running_loop().call_later(_GATHERED, self._watch)

    def _watch(self) -> None:
        """One timer for all that gathers, as timers are dear: nothing is gathered at two looks at it."""
        self._watched = False
        if not self._asked:
            return
        if self._waited:
            self._send_soon()
        else:
            self._waited = self._watched = True
            asyncio.get_running_loop().call_later(_GATHERED, self._watch)

    def _send_soon(self) -> None:
        if self._asked and not self._sending:
            self._sending = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._sending = self._waited = False
        asked, self._asked = self._asked, []
        self._under_way += 1
        _ = self._background.start(self._read(asked))

    async def _read(self, asked: list[tuple[str, Tell]]) -> None:
        values: list[Value]
        try:
            values = await self._store.get_each([name for name, _ in asked])
        except StoreError as error:
            values = [error] * len(asked)
        finally:
            self._under_way -= 1
            self._send_soon()
        soon = asyncio.get_running_loop().call_soon
        for (_, tell), value in zip(asked, values, strict=True):
            soon(tell, value)
