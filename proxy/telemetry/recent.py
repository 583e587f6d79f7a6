"""Which requests came last, and what became of each? The last few hundred, for the dashboard; nothing is written down.

Of hits in memory only a few a second are kept, and repeated ones never: those are counted. A path is kept without its
query, and who may see it is for the admin port to decide.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from proxy.policy.message import Request
from proxy.policy.outcome import Outcome
from proxy.telemetry.metrics import result_of

KEPT = 500
HITS_A_TURN = 20  # between two calls of `turn`
_LONGEST = 300  # characters of a path


class Seen(NamedTuple):
    """One request; its fields are what JSON can say, so that another process can tell of it."""

    number: int  # of its process, from 1
    at: float
    method: str
    path: str
    status: int
    seconds: float
    result: str
    reason: str
    feature: str
    tenant: str | None
    said: str  # the member of Cache-Status


class Recent:
    """The last requests of one process. `clock` gives unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._noted: deque[tuple[int, float, str, str, int, float, Outcome]] = deque(maxlen=KEPT)
        self._room = HITS_A_TURN
        self._number = 0

    def note(self, request: Request, outcome: Outcome, status: int, seconds: float) -> None:
        self.noting(request, outcome)(status, seconds)

    def noting(self, request: Request, outcome: Outcome) -> Callable[[int, float], None]:
        """What notes further requests like this one. The request itself is not kept: there are tokens in it."""
        method, path = _plain(request.method[:20]), _plain(request.path[:_LONGEST])
        noted, clock = self._noted, self._clock

        def note(status: int, seconds: float) -> None:
            self._number += 1
            noted.append((self._number, clock(), method, path, status, seconds, outcome))

        return note

    def note_hit(self, request: Request, outcome: Outcome, status: int) -> None:
        """One that was answered at once: as long as there is room for those."""
        if self._room > 0:
            self._room -= 1
            self.note(request, outcome, status, 0.0)

    def has_room(self) -> bool:
        """Whether the next of those is kept."""
        return self._room > 0

    def turn(self) -> None:
        """There is room for hits again."""
        self._room = HITS_A_TURN

    def since(self, number: int) -> list[Seen]:
        """Those that came after this one and are still here, the oldest first. All, if none has that number yet."""
        number = number if number <= self._number else 0  # it is of a process in whose place this one was started
        found: list[Seen] = []
        for each, at, method, path, status, seconds, outcome in reversed(self._noted):
            if each <= number:
                break
            found.append(
                Seen(
                    each, at, method, path, status, seconds, result_of(outcome), outcome.reason.value,
                    outcome.feature or "", outcome.tenant, outcome.cache_status(),
                )
            )  # fmt: skip
        found.reverse()
        return found


def _plain(text: str) -> str:
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()
