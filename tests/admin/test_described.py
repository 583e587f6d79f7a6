"""The description is the truth: whatever is sent to the real port, right or wrong, is answered as it says, and never
with a failure of ours. Wrong input gets a problem document that names the field.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.admin.world import TOKENS, World, port

EXAMPLES = 20  # for each operation and mode
BOUNDED = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
ENDLESS = {"/api/live"}  # an answer that goes on until one leaves: test_live has it
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


class Served:
    """The admin port on a loop of its own: what generates requests blocks."""

    def __init__(self, tmp_path) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(tmp_path)))
        self._thread.start()
        assert self._started.wait(10)

    async def _run(self, tmp_path) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with port(tmp_path) as (world, client):
            await filled(world)
            self.url = f"http://127.0.0.1:{client.port}"
            self.document = await (await client.get("/openapi.json")).json()
            self._started.set()
            await self._over.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


async def filled(world: World) -> None:
    for number in range(3):
        await world.keep(f"/api/jobs/{number}")
    await world.keep("/api/secrets/s1")
    world.purges.note("POST /api/jobs", {"org_a": ("jobs:list",)})


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


def headers_for(operation: dict[str, Any]) -> dict[str, str]:
    """Of somebody who may do it."""
    role = "backend" if "role backend" in operation.get("description", "") else "inspector"
    return {"Authorization": f"Bearer {TOKENS[role].token}"}


def says_what_is_wrong(problem: dict[str, Any], operation: dict[str, Any]) -> bool:
    """It names the field, the body as a whole, or the fields one of which is missing."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    known = [*(each["name"] for each in operation["parameters"]), *body.get("properties", {})]
    detail = problem["detail"]
    return "field" in problem or "The body" in detail or any(name in detail for name in known)


def has_input(operation: dict[str, Any]) -> bool:
    """That can be wrong: any text may stand in a path."""
    return any(each["in"] == "query" for each in operation["parameters"]) or "requestBody" in operation


def ask(served: Served, operation, mode: GenerationMode, statuses: Counter[int]) -> None:
    raw = operation.definition.raw

    @BOUNDED
    @given(operation.as_strategy(generation_mode=mode))
    def answered(case) -> None:
        response = case.call(base_url=served.url, headers=headers_for(raw), timeout=10)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            problem = response.json()
            assert problem["status"] == response.status_code
            assert response.status_code != 400 or says_what_is_wrong(problem, raw), problem

    answered()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_answer_is_described_and_every_refusal_says_what_is_wrong(served, mode):
    statuses: Counter[int] = Counter()
    for found in schemathesis.openapi.from_dict(served.document).get_all_operations():
        operation = found.ok()
        if operation.path in ENDLESS:
            continue
        if mode is GenerationMode.POSITIVE or has_input(operation.definition.raw):
            ask(served, operation, mode, statuses)
    if mode is GenerationMode.POSITIVE:
        assert statuses[200] + statuses[404] > 20, statuses  # it came past the checks
    assert statuses[400] > 100, statuses


def test_without_a_token_every_operation_that_needs_one_says_so(served):
    for found in schemathesis.openapi.from_dict(served.document).get_all_operations():
        raw = found.ok().definition.raw
        case = found.ok().Case(
            path_parameters={each["name"]: "jobs" for each in raw["parameters"] if each["in"] == "path"}
        )
        response = case.call(base_url=served.url, timeout=10)
        case.validate_response(response, checks=CHECKS)
        assert (response.status_code == 401) is ("security" in raw)
