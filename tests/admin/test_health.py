"""What health says in good and in bad times, and how often it asks the store."""

import asyncio
from pathlib import Path

import pytest

from proxy.admin.health import PING_KEPT, Health
from proxy.errors import StoreError
from proxy.live_rules import LiveRules
from tests.doubles import FakeClock, settle

RULES = """
version: 1
features:
  jobs:
    ttl: 15m
    read: [GET /api/jobs]
"""


class Pings:
    """A store that answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> str:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise StoreError("no answer")
        return "PONG"


class Patient:
    def __init__(self, file: Path) -> None:
        file.write_text(RULES)
        self.file = file
        self.clock = FakeClock()
        self.pings = Pings()
        self.rules = LiveRules(file, "production", self.clock, lambda event, details: None)
        self.rules.load()
        self.health = Health(self.rules, self.pings, self.clock)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path / "rules.yaml")


async def test_a_sidecar_that_nothing_ails_is_ready_and_has_not_asked_the_store(patient):
    assert (patient.health.ready(), patient.health.word()) == (True, "ready")
    assert patient.pings.asked == 0


async def test_a_store_that_is_down_makes_it_degraded_and_never_unready(patient):
    patient.pings.down = True
    assert str(await patient.health.store()) == "no answer"
    assert (patient.health.ready(), patient.health.word()) == (True, "degraded")


async def test_a_broken_rules_file_makes_it_degraded_and_never_unready(patient):
    patient.file.write_text("broken: [")
    await patient.rules.reload()
    assert (patient.health.ready(), patient.health.word()) == (True, "degraded")


async def test_draining_makes_it_unready_whatever_else_is_wrong(patient):
    patient.pings.down = True
    await patient.health.store()
    patient.health.draining = True
    assert (patient.health.ready(), patient.health.word()) == (False, "draining")


async def test_one_answer_of_the_store_is_kept_for_a_second(patient):
    for _ in range(5):
        assert await patient.health.store() == "PONG"
    assert patient.pings.asked == 1
    patient.pings.down = True
    patient.clock.advance(PING_KEPT - 0.01)
    assert await patient.health.store() == "PONG"
    patient.clock.advance(0.01)
    assert isinstance(await patient.health.store(), StoreError)
    patient.pings.down = False
    patient.clock.advance(PING_KEPT)
    assert await patient.health.store() == "PONG"
    assert patient.health.word() == "ready"


async def test_those_who_ask_at_once_share_one_question_and_its_answer(patient):
    patient.pings.gate = asyncio.Event()
    asking = [asyncio.create_task(patient.health.store()) for _ in range(10)]
    await settle()
    patient.pings.gate.set()
    assert await asyncio.gather(*asking) == ["PONG"] * 10
    assert patient.pings.asked == 1


async def test_one_who_asks_and_leaves_takes_no_answer_away(patient):
    patient.pings.gate = asyncio.Event()
    leaving, staying = (asyncio.create_task(patient.health.store()) for _ in range(2))
    await settle()
    leaving.cancel()
    patient.pings.gate.set()
    assert await staying == "PONG"


async def test_the_details_name_the_rules_and_what_is_wrong_with_their_file(patient):
    patient.file.write_text(RULES.replace("15m", "15:00"))
    await patient.rules.reload()
    details = await patient.health.details()
    rules = details["rules"]
    assert details["status"] == "degraded"
    assert details["store"] == "healthy"
    assert rules["file"] == str(patient.file)
    assert rules["digest"] == patient.rules.current.digest
    assert rules["loaded_at"] == patient.clock.now
    assert [problem for problem in rules["problems"] if f"{patient.file}:5:5: error: features.jobs.ttl" in problem]
    assert [warning for warning in rules["warnings"] if "read without a write" in warning]


async def test_the_details_name_the_stores_failure(patient):
    patient.pings.down = True
    assert (await patient.health.details())["store"] == "unhealthy: no answer"


async def test_the_problems_of_the_rules_file_are_told_without_the_store(patient):
    assert patient.health.problems() == ()
    patient.file.write_text("broken: [")
    await patient.rules.reload()
    assert len(patient.health.problems()) == 1
    assert patient.pings.asked == 0
