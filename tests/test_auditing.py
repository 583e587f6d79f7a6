"""One process's audit: a chain of its own, or lines that its parent writes; both are in the store's stream."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from proxy.admin.audit import MOST_A_MINUTE
from proxy.admin.chain import verify
from proxy.admin.ledger import Ledger
from proxy.auditing import Auditing, auditing
from proxy.cache.background import Background
from proxy.policy.outcome import Outcome, Reason
from proxy.settings import load
from proxy.stores.memory import MemoryStore
from proxy.telemetry.exposition import exposition
from proxy.telemetry.metrics import Metrics
from tests.doubles import FakeClock


class Parent:
    """What a worker's seat is to its audit."""

    number = 1

    def __init__(self) -> None:
        self.ledger = Ledger(None, pytest.fail)

    async def audit(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return await self.ledger.enter(records)

    async def audited(self) -> list[dict[str, Any]]:
        return self.ledger.recent()


def made(where: str, parent: Parent | None = None) -> tuple[Auditing, Metrics]:
    clock, metrics = FakeClock(), Metrics()
    settings = load(
        {"SIDECACHE_AUDIT_LOG": where}, upstream="http://127.0.0.1:9", profile="development", admin="127.0.0.1:0"
    )
    audited = auditing(
        settings, parent, MemoryStore(1 << 20, clock), metrics, Background(pytest.fail), clock, pytest.fail  # type: ignore[arg-type]
    )  # fmt: skip
    return audited, metrics


async def read(audited: Auditing) -> list[tuple[str, int | None]]:
    page = await audited.trail.page(lambda line: True, cursor=None, limit=10, since=0.0)
    return [(line["event"], line.get("worker")) for line in page.lines]


async def test_alone_it_writes_its_own_log_and_the_last_minute_when_it_ends(tmp_path):
    audited, metrics = made(str(tmp_path / "audit"))
    audited.audit.record("purge")
    metrics.count(Outcome(Reason.NO_RULE), 0.1)
    await audited.close()
    lines = await asyncio.to_thread(lambda: (tmp_path / "audit").read_bytes().splitlines())
    assert (verify(lines).lines, verify(lines).broken_at, audited.lost()) == (2, None, 0)
    assert await read(audited) == [("rollup", None), ("purge", None)]
    assert b"sidecache_audit_lost_total 0.0" in exposition(metrics.collected())


async def test_every_denial_counts_by_its_status_also_those_that_are_no_line_any_more():
    audited, metrics = made("off")
    assert b'sidecache_admin_denied_total{status="401"} 0.0' in exposition(metrics.collected())
    for _ in range(MOST_A_MINUTE + 1):
        audited.audit.record("denied", result="403")
    audited.audit.record("purge")
    told = exposition(metrics.collected())
    assert f'sidecache_admin_denied_total{{status="403"}} {MOST_A_MINUTE + 1}.0'.encode() in told
    assert b'sidecache_admin_denied_total{status="401"} 0.0' in told
    await audited.close()


async def test_a_worker_s_lines_are_written_by_its_parent_and_say_which(tmp_path):
    parent = Parent()
    audited, _ = made(str(tmp_path / "audit"), parent)
    audited.audit.record("purge")
    await audited.close()
    assert not (tmp_path / "audit").exists()
    assert [(line["event"], line["worker"]) for line in parent.ledger.recent()] == [("purge", 1)]
    assert await read(audited) == [("purge", 1)]
