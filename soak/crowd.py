"""Who asks all the while? Clients that check every answer, endure what they are told to, and note when."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests import wire
from tests.portal import TENANTS, TOKENS, History, User, is_vouched_for, item, operate

_AGAIN = 0.05  # seconds before a client comes back that was cut off
_QUIET = range(1000, 1_000_000)  # items that only `hits_again` asks for


class Lost(Exception):
    """No answer, or half of one: which replica's, and to which method."""


@dataclass(frozen=True, slots=True)
class Wrong:
    at: float
    kind: str
    told: str


class Watched(History):
    """A history that knows when what was seen."""

    found: list[Wrong]

    def _check(self, kind: str, holds: bool, told: str) -> None:
        if not holds:
            self.found = [*getattr(self, "found", []), Wrong(time.monotonic(), kind, told)]
        super()._check(kind, holds, told)

    def of(self, *kinds: str) -> list[Wrong]:
        return [each for each in getattr(self, "found", []) if each.kind in kinds]


class Patient(User):
    """Comes back after it was cut off."""

    async def ask(self, replica: int, tenant: str, path: str, method: str = "GET") -> wire.Message:
        try:
            return await super().ask(replica, tenant, path, method)
        except (OSError, wire.Cut) as error:
            client = self._clients.pop(replica, None)
            if client is not None:
                client.writer.transport.abort()
            raise Lost(f"{method} at {replica}: {type(error).__name__} {error}") from None


class Crowd:
    """Random reads and writes through random replicas, until it is told to end."""

    def __init__(self, history: Watched, *, users: int = 10, seed: int = 1, tokens: Mapping[str, str] = TOKENS) -> None:
        self.history = history
        self.lost: Counter[str] = Counter()
        self.examples: list[str] = []
        self._users = users
        self._chance = random.Random(seed)
        self._tokens = tokens
        self._ending = False
        self._quiet = iter(_QUIET)

    @property
    def failed(self) -> int:
        return self.lost.total()

    @asynccontextmanager
    async def asking(self, **more: Any) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(self._use(**more)) for _ in range(self._users)]
        try:
            yield
        finally:
            self._ending = True
            await asyncio.gather(*tasks)

    async def _use(self, writes: float = 0.05, items: int = 20, prices: int = 4) -> None:
        user = Patient(self.history.ports, self._tokens)
        try:
            while not self._ending:
                try:
                    await operate(self.history, user, self._chance, writes, items, prices)
                except Lost as lost:
                    self.lost[str(lost).partition(":")[0]] += 1
                    self.examples.append(str(lost))
                    await asyncio.sleep(_AGAIN)
        finally:
            await user.close()

    async def hits_again(self, replicas: range | None = None, *, within: float = 30.0) -> float:
        """Seconds until both tenants have hits at these replicas that the store vouches for; `within`: it gave up."""
        began = time.monotonic()
        user = Patient(self.history.ports, self._tokens)
        try:
            for replica in replicas or range(len(self.history.ports)):
                for tenant in TENANTS:
                    path = item(next(self._quiet))
                    while not await self._is_kept(user, replica, tenant, path):
                        if time.monotonic() > began + within:
                            break
                        await asyncio.sleep(0.02)
        finally:
            await user.close()
        return time.monotonic() - began

    async def _is_kept(self, user: User, replica: int, tenant: str, path: str) -> bool:
        try:
            return is_vouched_for(await self.history.read(user, replica, tenant, path))
        except Lost:
            return False
