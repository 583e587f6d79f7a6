"""What was done that is no line of its own? Counted by feature, outcome and tenant, one audit line a minute."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from heapq import nlargest

from proxy.admin.audit import Audit
from proxy.telemetry.metrics import Labels, Metrics

EVERY = 60.0
MOST_ROWS = 200  # the most frequent ones; the others are told without their tenants


class Rollup:
    """Of one process."""

    def __init__(
        self, metrics: Metrics, audit: Audit, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._sleep = sleep

    async def follow(self) -> None:
        """Every minute, until cancelled."""
        while True:
            await self._sleep(EVERY)
            self.roll()

    def roll(self) -> None:
        """What was counted since the last time; nothing where there was nothing."""
        counts = self._metrics.turn()
        if counts:
            self._audit.record("rollup", target={"counts": _rows(counts)})


def _rows(counts: Mapping[Labels, int]) -> list[dict[str, object]]:
    foremost = dict.fromkeys(nlargest(MOST_ROWS, counts, key=lambda labels: counts[labels]))
    others: Counter[tuple[str, str, str]] = Counter()
    for labels, count in counts.items():
        if labels not in foremost:
            others[labels[:3]] += count
    told = [_row(labels, counts[labels], tenant=labels[3] or None) for labels in foremost]
    return told + [_row(labels, count, tenant="(others)") for labels, count in others.items()]


def _row(labels: tuple[str, ...], count: int, *, tenant: str | None) -> dict[str, object]:
    feature, result, reason = labels[:3]
    return {"feature": feature or None, "outcome": result, "reason": reason, "tenant": tenant, "count": count}
