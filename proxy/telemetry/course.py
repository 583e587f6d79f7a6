"""How has it gone in the last minutes? A row every two seconds, kept for ten minutes, whether anybody looks or not."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from proxy.telemetry.metrics import BOUNDS, Taken

EVERY = 2.0  # seconds
KEPT = 300  # rows
LAST_MINUTE = 30

COLUMNS = (
    "at", "hits", "misses", "passes", "failed", "saved", "p50", "p95", "p99", "hit_p95", "other_p95", "store_up",
    "rules_loaded_at",
)  # fmt: skip


class Step(NamedTuple):
    """What came in the time since the row before: numbers of requests, bytes, and how long they took, by bucket."""

    at: float
    seconds: float
    hits: int
    misses: int
    passes: int
    failed: int
    saved: int
    hit_seconds: tuple[int, ...]
    other_seconds: tuple[int, ...]
    store_up: bool
    rules_loaded_at: float


@dataclass(frozen=True, slots=True)
class State:
    """What else a row tells, as of now."""

    store_up: bool
    rules_loaded_at: float


class Course:
    """The rows of one sidecar. `take` gives the counters of each of its processes. `clock` gives unix seconds."""

    def __init__(
        self,
        take: Callable[[], Awaitable[Iterable[Taken]]],
        state: Callable[[], State],
        clock: Callable[[], float],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._take = take
        self._state = state
        self._clock = clock
        self._sleep = sleep
        self._steps: deque[Step] = deque(maxlen=LAST_MINUTE)
        self._rows: deque[list[float | None]] = deque(maxlen=KEPT)
        self._before: tuple[float, Taken] | None = None
        self._turned = asyncio.Event()
        self.number = 0  # of turns so far
        self.closed = False

    async def run(self) -> None:
        """A turn every two seconds, for ever."""
        while True:
            await self.turn()
            await self._sleep(EVERY)

    async def turn(self) -> None:
        """Take the counters, make a row of them, and tell who waits."""
        now, taken = self._clock(), _summed(await self._take())
        if self._before is not None:
            self._steps.append(_step(self._before, (now, taken), self._state()))
            self._rows.append(_row(self._steps[-1]))
        self._before = (now, taken)
        self.number += 1
        self._turned.set()
        self._turned = asyncio.Event()

    async def turned(self) -> None:
        """Until the next turn, or the end."""
        if not self.closed:
            await self._turned.wait()

    def close(self) -> None:
        """There are no more turns."""
        self.closed = True
        self._turned.set()

    def rows(self, last: int = KEPT) -> list[list[float | None]]:
        """The last rows, as values of COLUMNS: rates are per second, times in seconds. None: nothing was asked."""
        return list(self._rows)[-last:]

    def last_minute(self) -> dict[str, Any]:
        """The last thirty rows as one."""
        steps = self._steps
        requests = sum(each.hits + each.misses + each.passes for each in steps)
        hits = sum(each.hits for each in steps)
        seconds = sum(each.seconds for each in steps)
        of_hits = _added(each.hit_seconds for each in steps)
        others = _added(each.other_seconds for each in steps)
        everything = _added((of_hits, others))
        return {
            "seconds": round(seconds, 1), "requests": requests, "hits": hits,
            "misses": sum(each.misses for each in steps), "passes": sum(each.passes for each in steps),
            "failed": sum(each.failed for each in steps),
            "hit_ratio": round(hits / requests, 4) if requests else None,
            "rate": round(requests / seconds, 2) if seconds else 0.0,
            "saved": sum(each.saved for each in steps),
            "p50": quantile(everything, 0.5), "p95": quantile(everything, 0.95), "p99": quantile(everything, 0.99),
            "hit_p95": quantile(of_hits, 0.95), "other_p95": quantile(others, 0.95),
        }  # fmt: skip

    def since_start(self) -> dict[str, int]:
        """All that was counted."""
        taken = _summed([self._before[1]] if self._before is not None else [])
        return {name: taken[name] for name in ("hits", "misses", "passes", "failed", "saved")}


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The time that this share of requests took at most, from counts by bucket; None where there are none.

    Within a bucket it is taken to be even; what is longer than the last bound counts as that bound.
    """
    total = sum(counts)
    if not total:
        return None
    below, place = 0, share * total
    for number, count in enumerate(counts):
        if count and below + count >= place:
            if number == len(BOUNDS):
                break
            begin = BOUNDS[number - 1] if number else 0.0
            return round(begin + (BOUNDS[number] - begin) * (place - below) / count, 6)
        below += count
    return BOUNDS[-1]


def _summed(taken: Iterable[Taken]) -> Taken:
    summed: Taken = {
        "hits": 0, "misses": 0, "passes": 0, "failed": 0, "saved": 0,
        "hit_seconds": [0] * (len(BOUNDS) + 1), "other_seconds": [0] * (len(BOUNDS) + 1),
    }  # fmt: skip
    for each in taken:
        for name, value in each.items():
            summed[name] = _added((summed[name], value)) if isinstance(value, list) else summed[name] + value
    return summed


def _step(before: tuple[float, Taken], now: tuple[float, Taken], state: State) -> Step:
    """What lies between two times. A process that has ended takes its counts along: nothing falls below zero."""
    (then, old), (at, new) = before, now

    def grown(name: str) -> int:
        return max(0, int(new[name]) - int(old[name]))

    def more(name: str) -> tuple[int, ...]:
        return tuple(max(0, one - other) for one, other in zip(new[name], old[name], strict=True))

    return Step(
        at, max(at - then, 0.001), grown("hits"), grown("misses"), grown("passes"), grown("failed"), grown("saved"),
        more("hit_seconds"), more("other_seconds"), state.store_up, state.rules_loaded_at,
    )  # fmt: skip


def _row(step: Step) -> list[float | None]:
    everything = _added((step.hit_seconds, step.other_seconds))
    rates = (step.hits, step.misses, step.passes, step.failed, step.saved)
    return [
        round(step.at, 2),
        *(round(each / step.seconds, 2) for each in rates),
        *(quantile(everything, share) for share in (0.5, 0.95, 0.99)),
        quantile(step.hit_seconds, 0.95), quantile(step.other_seconds, 0.95),
        int(step.store_up), round(step.rules_loaded_at, 2),
    ]  # fmt: skip


def _added(counts: Iterable[Sequence[int]]) -> list[int]:
    total = [0] * (len(BOUNDS) + 1)
    for each in counts:
        for number, count in enumerate(each):
            total[number] += count
    return total
