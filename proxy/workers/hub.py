"""Who has heard? Passes a message to every worker, and does not return before each has answered, or is no more.

A worker that is silent might still answer from what a purge has made void. Copies of epochs run out by themselves
after 800 ms, but not where the store refused the purge, for a sole replica, or in place of an upstream that fails. So
whoever has not answered when they would have run out is killed, and the message counts as heard when its end is
certain. Waiting that long keeps a worker alive that was merely held up: one late reply instead of all its connections.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy.workers.channel import Channel, Content

PATIENCE = 1.0
_SLICES = 10  # of that time: when all processes were held up, this one too, only one of them is over


@dataclass(eq=False)
class Member:
    """A worker that answers requests, or is about to. `gone` has a result when its process has ended."""

    number: int
    channel: Channel
    kill: Callable[[], None]
    gone: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Hub:
    """The workers that must hear of everything. `silent` is called before one of them is killed."""

    def __init__(self, silent: Callable[[Member, str], None], *, patience: float = PATIENCE) -> None:
        self._silent = silent
        self._slice = patience / _SLICES
        self._members: list[Member] = []

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def add(self, member: Member) -> None:
        self._members.append(member)

    def remove(self, member: Member) -> None:
        """Its process has ended."""
        if member in self._members:
            self._members.remove(member)
        if not member.gone.done():
            member.gone.set_result(None)

    async def tell(self, name: str, content: Content, *, besides: Member | None = None) -> list[Content]:
        """What every worker must know before anything else happens; their answers."""
        return await self._spread(self._told, name, content, besides)

    async def ask(self, name: str, content: Content, *, besides: Member | None = None) -> list[Content]:
        """The answers of those that give one in time."""
        return await self._spread(self._asked, name, content, besides)

    async def _spread(
        self, way: Callable[[Member, str, Content], Coroutine[Any, Any, list[Content]]],
        name: str, content: Content, besides: Member | None,
    ) -> list[Content]:  # fmt: skip
        others = [member for member in self._members if member is not besides]
        found = await asyncio.gather(*[way(member, name, content) for member in others])
        return [answer for each in found for answer in each]

    async def _told(self, member: Member, name: str, content: Content) -> list[Content]:
        found = await self._asked(member, name, content)
        if not found and not member.gone.done():
            self._silent(member, name)
            member.kill()
            await asyncio.shield(member.gone)
        return found

    async def _asked(self, member: Member, name: str, content: Content) -> list[Content]:
        """Its answer, as a list of one; an empty list when there is none in time."""
        answer = member.channel.ask(name, content)
        for _ in range(_SLICES):
            await asyncio.wait((answer, member.gone), timeout=self._slice, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return [answer.result()]
            if member.gone.done():
                break
        answer.cancel()
        return []
