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

_GATHERED = 0.001  # seconds at most
_ENOUGH = 64  # names that need not gather any further

Value = bytes | None | StoreError
Tell = Callable[[Value], object]


class Reads:
    """The reads of one process. The store's deadline begins when they are sent: waiting here is no fault of it."""

    def __init__(self, store: Store, background: Background) -> None:
        self._store = store
        self._background = background
        self._asked: list[tuple[str, Tell]] = []
        self._sending: asyncio.Handle | None = None
        self._under_way = 0

    def ask(self, name: str, tell: Tell) -> None:
        """`tell` is called once, in a later turn; what it raises is its own affair."""
        self._asked.append((name, tell))
        if self._sending is None:
            loop = asyncio.get_running_loop()
            self._sending = loop.call_later(_GATHERED, self._send) if self._under_way else loop.call_soon(self._send)
        elif len(self._asked) == _ENOUGH and self._under_way:
            self._send_soon()

    def _send_soon(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._sending = None
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
