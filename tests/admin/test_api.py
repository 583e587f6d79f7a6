"""The admin port over a real socket: health, metrics, and who may ask."""

from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin.api import application
from proxy.telemetry.metrics import Metrics
from tests.admin.test_health import Patient


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path / "rules.yaml")


@pytest.fixture
async def admin(aiohttp_client, patient: Patient) -> TestClient:
    metrics = Metrics()
    metrics.note("rules-loaded")

    async def exposition() -> bytes:
        return metrics.exposition()

    return await aiohttp_client(application(patient.health, exposition))


async def test_livez_says_alive_and_never_asks_the_store(admin, patient):
    patient.pings.down = True
    async with admin.get("/livez") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "alive"})
    assert patient.pings.asked == 0


async def test_readyz_tells_the_details_and_stays_ready_when_the_store_is_down(admin, patient):
    patient.pings.down = True
    async with admin.get("/readyz") as answer:
        details = await answer.json()
    assert (answer.status, details["status"], details["store"]) == (200, "degraded", "unhealthy: no answer")
    assert details["rules"]["file"] == str(patient.file)


async def test_readyz_is_503_while_draining(admin, patient):
    patient.health.draining = True
    async with admin.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (503, "draining")


async def test_api_health_is_the_guides_answer(admin):
    async with admin.get("/api/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "healthy", "result": "PONG"})


async def test_api_health_is_500_with_the_error_when_the_store_is_down(admin, patient):
    patient.pings.down = True
    async with admin.get("/api/health") as answer:
        assert (answer.status, await answer.json()) == (500, {"status": "unhealthy", "error": "no answer"})


async def test_metrics_are_in_the_format_they_say(admin):
    async with admin.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        families = {family.name for family in text_string_to_metric_families(await answer.text())}
    assert "sidecache_events" in families


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/health", "/metrics"])
async def test_no_answer_is_kept_by_a_cache(admin, path):
    async with admin.get(path) as answer:
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/livez", "POST", 405)])
async def test_what_is_not_there_is_said_without_a_traceback(admin, path, method, status):
    async with admin.request(method, path) as answer:
        assert answer.status == status
        assert "Traceback" not in await answer.text()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        # realistic
        ("127.0.0.1:9900", 200), ("localhost", 200), ("LOCALHOST:9900", 200), ("[::1]:9900", 200), ("[::1]", 200),
        ("127.8.8.8", 200), ("rebound.example:9900", 403), ("10.0.0.7:9900", 403),
        # pathological
        ("127.evil.example", 403), ("localhost.evil.example", 403), ("", 403), ("[::1", 403), ("a@127.0.0.1", 200),
        ("127.0.0.1@evil.example", 403),
    ],
)  # fmt: skip
async def test_a_name_that_someone_made_resolve_to_this_machine_is_refused(admin, host, status):
    async with admin.get("/readyz", headers={"Host": host}) as answer:
        assert answer.status == status
        if status == 403:
            assert "rules" not in await answer.text()


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:9900", 200), ("http://localhost:3000", 200), ("https://evil.example", 403), ("null", 403)],
)
async def test_a_foreign_page_is_refused(admin, origin, status):
    async with admin.get("/readyz", headers={"Origin": origin}) as answer:
        assert answer.status == status
