"""Is anything being answered? What a listener that closes waits for."""

import asyncio


class UnderWay:
    def __init__(self) -> None:
        self._count = 0
        self._quiet = asyncio.Event()

    def begin(self) -> None:
        self._count += 1

    def end(self) -> None:
        self._count -= 1
        if not self._count:
            self._quiet.set()

    async def ended(self) -> None:
        """Until nothing is."""
        while self._count:
            self._quiet.clear()
            await self._quiet.wait()
