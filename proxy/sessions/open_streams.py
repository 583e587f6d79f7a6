"""Whose connections are open for long, and must end when their credential does? WebSockets, event streams."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from proxy.identity.sources import Standings
from proxy.policy.identity import Presented, Standing

_LONGEST = 7 * 86400.0  # a timer for later than that is no use


@dataclass(eq=False, slots=True)
class _Open:
    presented: Presented
    end: Callable[[], None]
    timer: asyncio.TimerHandle | None = None


class OpenStreams:
    """Ends what is open for a credential that was revoked or has expired. `clock` gives unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: set[_Open] = set()
        self.ended = 0

    def __len__(self) -> int:
        return len(self._open)

    def watch(self, presented: Presented, end: Callable[[], None]) -> Callable[[], None]:
        """`end` is called once when the credential is over; what is returned stops the watching."""
        one = _Open(presented, end)
        self._open.add(one)
        left = presented.expires - self._clock()
        if left < _LONGEST:
            one.timer = asyncio.get_running_loop().call_later(max(0.0, left), self._end, one)

        def release() -> None:
            self._open.discard(one)
            if one.timer is not None:
                one.timer.cancel()

        return release

    def judge(self, standings: Standings) -> None:
        """Something was revoked: end what that means."""
        for one in [each for each in self._open if standings.of(each.presented) is Standing.REVOKED]:
            self._end(one)

    def _end(self, one: _Open) -> None:
        if one not in self._open:
            return
        self._open.discard(one)
        if one.timer is not None:
            one.timer.cancel()
        self.ended += 1
        one.end()
