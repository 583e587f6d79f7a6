"""What came in the last seconds? Counters and requests of all processes of this sidecar, for an open dashboard."""

import asyncio
from collections.abc import Mapping
from typing import Any

from proxy.admin.sight import Others, nobody
from proxy.telemetry.metrics import Metrics, Taken
from proxy.telemetry.recent import Recent, Seen

QUESTION = "lately"

Content = Any


class Lately:
    """`others` asks the other processes QUESTION; each of them gives its `answer`. `name`: of this process."""

    def __init__(self, metrics: Metrics, recent: Recent, *, name: str = "0", others: Others = nobody) -> None:
        self._metrics = metrics
        self._recent = recent
        self._name = name
        self._others = others

    async def taken(self) -> list[Taken]:
        """The counters of each; there is room for hits again."""
        return await self._asked({"what": "taken"})

    async def seen(self, after: Mapping[str, int]) -> list[tuple[str, list[Seen]]]:
        """The requests that came after these numbers, by process."""
        found = await self._asked({"what": "seen", "after": dict(after)})
        return [(name, [Seen(*each) for each in listed]) for name, listed in found]

    async def answer(self, question: Content) -> Content:
        """This process's part."""
        if question["what"] == "taken":
            self._recent.turn()
            return self._metrics.taken()
        return [self._name, [list(each) for each in self._recent.since(question["after"].get(self._name, 0))]]

    async def _asked(self, question: Content) -> list[Content]:
        own, others = await asyncio.gather(self.answer(question), self._others(QUESTION, question))
        return [own, *others]
