"""Who is fetching this already? One upstream request for all who want the same entry at the same time (P5)."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass

from proxy.cache.lease import Lease
from proxy.errors import UpstreamError
from proxy.policy.entry import Entry
from proxy.policy.outcome import Reason


@dataclass(frozen=True, slots=True)
class Shared:
    """An entry that every follower under the same key and epochs may be served."""

    entry: Entry
    reason: Reason


# What a flight brings back: an entry to share, or why there is none (each follower then asks for itself), or the
# upstream's failure (which all of them share: a hundred waiters must not become a hundred timeouts in a row).
Landed = Shared | Reason | UpstreamError


class Flight:
    """One fetch under way. Its leader lands it exactly once; landing again is ignored.

    `lease` is the leader's right to fetch for other replicas too.
    """

    __slots__ = ("_flights", "_key", "_landed", "lease")

    def __init__(self, flights: "Flights", key: Hashable) -> None:
        self._flights = flights
        self._key = key
        self.lease: Lease | None = None
        self._landed: asyncio.Future[Landed] = asyncio.get_running_loop().create_future()

    def land(self, landed: Landed) -> None:
        if not self._landed.done():
            self._landed.set_result(landed)
            self._flights._ended(self._key, self)

    async def wait(self, seconds: float) -> Landed | None:
        """What the leader brought, or None after `seconds`: a bounded wait, then each on its own."""
        done, _ = await asyncio.wait((self._landed,), timeout=seconds)
        return self._landed.result() if done else None


class Flights:
    """The fetches under way, by what they will bring.

    The key must include the epochs the fetch began under: a reader that arrives after a purge then never joins a
    fetch that began before it (DESIGN 3.7).
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def under_way(self, key: Hashable) -> Flight | None:
        return self._flights.get(key)

    def take_off(self, key: Hashable) -> Flight:
        """Become the leader. Whoever takes off must land, whatever happens."""
        flight = self._flights[key] = Flight(self, key)
        return flight

    def _ended(self, key: Hashable, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
