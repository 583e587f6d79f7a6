"""What was purged lately, when, by whom? The last purges of this process, kept to explain what they did."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proxy.cache.binding import binding, hash_of, purged_fields

MOST = 512


@dataclass(frozen=True, slots=True)
class Purged:
    """One purge. `tags` by space; "" is what all tenants share."""

    at: float
    by: str  # an admin's name, or the route of the write
    tags: Mapping[str, Sequence[str]]
    soft: bool = False
    accepted: bool = True  # the store has it; otherwise this process repeats it until it has

    def touches(self, space: str, tags: tuple[str, ...]) -> bool:
        """Whether an entry of (space, tags) that was there is of no more use since."""
        bound = set(binding(space, tags))
        return any(
            (hash_of(purged), purged_fields(purged, tag)[0]) in bound
            for purged, listed in self.tags.items()
            for tag in listed
        )


class Purges:
    """The last of them, the newest first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: deque[Purged] = deque(maxlen=MOST)
        self.count = 0

    def note(self, by: str, tags: Mapping[str, Sequence[str]], *, soft: bool = False, accepted: bool = True) -> None:
        self.count += 1
        self._last.appendleft(Purged(self._clock(), by, tags, soft, accepted))

    def last(self) -> tuple[Purged, ...]:
        return tuple(self._last)
