"""Is it alive, is it ready, is the store there? One word for the data port, details for the admin port (SPEC 13)."""

import asyncio
from collections.abc import Awaitable, Callable

from proxy.errors import StoreError
from proxy.live_rules import LiveRules

PING_KEPT = 1.0  # seconds for which one answer of the store speaks for all who ask


class Health:
    """Answers the three questions. Only `store` touches the store, at most once a second. `clock` is monotonic."""

    def __init__(self, rules: LiveRules, ping: Callable[[], Awaitable[str]], clock: Callable[[], float]) -> None:
        self._rules = rules
        self._ping = ping
        self._clock = clock
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._answer: str | StoreError = ""  # nothing bad is known before it was asked
        self.draining = False

    def ready(self) -> bool:
        """Ready unless draining: a store that is down or a rules file that is broken makes it degraded, not unready."""
        return not self.draining

    def word(self) -> str:
        if self.draining:
            return "draining"
        return "degraded" if self._rules.problems or isinstance(self._answer, StoreError) else "ready"

    def problems(self) -> tuple[str, ...]:
        """Why the rules file as it is now is not in force."""
        return tuple(map(str, self._rules.problems))

    def widening(self) -> bool:
        """Whether that is only because it shares more, which nobody has accepted."""
        return bool(self._rules.widening)

    async def store(self) -> str | StoreError:
        """The store's PONG, or its failure; at most one second old."""
        async with self._asking:  # who asks meanwhile gets the answer that is on its way
            if self._clock() - self._asked_at >= PING_KEPT:
                try:
                    self._answer = await self._ping()
                except StoreError as error:
                    self._answer = error
                self._asked_at = self._clock()
            return self._answer

    async def details(self) -> dict[str, object]:
        """What the admin port's /readyz says."""
        store = await self.store()
        return {
            "status": self.word(),
            "store": "healthy" if isinstance(store, str) else f"unhealthy: {store}",
            "rules": {
                "file": str(self._rules.file),
                "digest": self._rules.current.digest,
                "loaded_at": self._rules.loaded_at,
                "problems": [str(problem) for problem in self._rules.problems],
                "warnings": [str(warning) for warning in self._rules.current.warnings],
            },
        }
