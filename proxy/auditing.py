"""What does one process audit with? Its own chain or its parent's, the stream of all, the counts of each minute."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from proxy.admin.audit import Audit
from proxy.admin.chain import Line
from proxy.admin.ledger import opened
from proxy.admin.rollup import Rollup
from proxy.admin.trail import Trail
from proxy.cache.background import Background
from proxy.settings import Settings
from proxy.stores.base import Store
from proxy.telemetry.metrics import Metrics, Sample
from proxy.workers.seat import Seat


@dataclass(frozen=True, slots=True)
class Auditing:
    audit: Audit
    trail: Trail
    rollup: Rollup
    rolling: "asyncio.Task[None]"
    lost: Callable[[], int]  # lines of this process that are in no log
    closed: Callable[[], Awaitable[None]]  # what they are written to, if it is this process's own

    async def close(self) -> None:
        """Until all is written, while what it is written to is still there."""
        self.rolling.cancel()
        await asyncio.wait((self.rolling,))
        self.rollup.roll()
        await self.audit.close()
        await self.closed()
        await self.trail.close()


def samples(audit: Audit, trail: Trail, lost: int) -> Iterator[Sample]:
    yield Sample("sidecache_audit_lost_total", "Audit lines that could not be written.", lost, counter=True)
    yield Sample("sidecache_audit_unstreamed_total", "Audit lines that the store missed.", trail.lost, counter=True)
    yield Sample(
        "sidecache_admin_denied_total", "Requests that the admin port refused: no known token, or not enough rights.",
        audit.denied, "status", counter=True,
    )  # fmt: skip


def auditing(
    settings: Settings, seat: Seat | None, store: Store, metrics: Metrics, background: Background,
    clock: Callable[[], float], unwritten: Callable[[str], None],
) -> Auditing:  # fmt: skip
    """ConfigError when the audit log cannot be written."""
    if seat is not None:
        trail = Trail(store, background, seat.audited)
        audit = Audit(seat.audit, clock, entered=trail.add, worker=seat.number)

        def lost() -> int:
            return audit.lost

        async def closed() -> None:
            pass  # the parent's

    else:
        ledger = opened(settings.audit_log, unwritten, form=settings.audit_format)

        async def recent() -> list[Line]:
            return ledger.recent()

        trail = Trail(store, background, recent)
        audit = Audit(ledger.enter, clock, entered=trail.add)

        def lost() -> int:
            return audit.lost + ledger.lost

        closed = ledger.close

    metrics.watch(lambda: samples(audit, trail, lost()))
    rollup = Rollup(metrics, audit)
    rolling = background.start(rollup.follow(), lasting=True)
    return Auditing(audit, trail, rollup, rolling, lost, closed)
