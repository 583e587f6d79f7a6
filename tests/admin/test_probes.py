"""What orchestrators and scrapers are told, on this machine and from outside."""

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin.access import Gate
from proxy.admin.api import application
from proxy.admin.probes import Probes
from tests.admin.world import ENTRIES, bearer


async def test_livez_says_alive_and_never_asks_the_store(world, client):
    world.store.down.add("ping")
    async with client.get("/livez") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "alive"})
    assert world.store.count("ping") == 0


async def test_readyz_tells_the_details_and_stays_ready_when_the_store_is_down(world, client):
    world.store.down.add("ping")
    async with client.get("/readyz") as answer:
        details = await answer.json()
    assert (answer.status, details["status"]) == (200, "degraded")
    assert details["store"] == "unhealthy: ping: the store is down"
    assert details["rules"]["file"] == str(world.rules.file)


async def test_readyz_is_503_while_draining(world, client):
    world.health.draining = True
    async with client.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (503, "draining")


async def test_api_health_is_the_guides_answer(client):
    async with client.get("/api/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "healthy", "result": "PONG"})


async def test_api_health_is_500_with_the_error_when_the_store_is_down(world, client):
    world.store.down.add("ping")
    async with client.get("/api/health") as answer:
        assert answer.status == 500
        assert await answer.json() == {"status": "unhealthy", "error": "ping: the store is down"}


async def test_metrics_are_in_the_format_they_say(world, client):
    world.metrics.note("rules-loaded")
    async with client.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        families = {family.name for family in text_string_to_metric_families(await answer.text())}
    assert "sidecache_events" in families


@pytest.fixture
async def outside(world):
    """The same on a port that is not on loopback."""
    probes = Probes(world.health, world.exposition, inside=False)
    gate = Gate(ENTRIES, listens_on_loopback=False)
    async with TestClient(TestServer(application(gate, world.audit, probes.endpoints()))) as client:
        yield client


async def test_from_outside_a_probe_hears_a_word_and_nothing_of_the_inside(world, outside):
    world.store.down.add("ping")
    async with outside.get("/readyz", headers={"Host": "10.0.0.9:9900"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "degraded"})
    async with outside.get("/api/health") as answer:
        assert await answer.json() == {"status": "unhealthy", "error": "the store does not answer"}


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("backend", 403), ("viewer", 200)])
async def test_from_outside_metrics_need_a_viewer(outside, who, status):
    async with outside.get("/metrics", headers=bearer(who)) as answer:
        assert answer.status == status
