"""The port for scrapers: metrics and livez without a token, and nothing else."""

import asyncio

import pytest
from prometheus_client import CONTENT_TYPE_LATEST

from proxy.admin.scrapes import KEPT, Scrapes
from tests.doubles import FakeClock


class Made:
    def __init__(self) -> None:
        self.times = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> bytes:
        self.times += 1
        await self.gate.wait()
        return b"made %d\n" % self.times


@pytest.fixture
async def port(aiohttp_client):
    made, clock = Made(), FakeClock()
    return made, clock, await aiohttp_client(Scrapes(made, clock).application())


async def text(client, path: str = "/metrics") -> str:
    async with client.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_metrics_need_no_token(port):
    _, _, client = port
    async with client.get("/metrics") as answer:
        assert (answer.status, await answer.text()) == (200, "made 1\n")
        assert answer.headers["Content-Type"] == CONTENT_TYPE_LATEST


async def test_it_is_alive(port):
    assert await text(port[2], "/livez") == '{"status":"alive"}\n'


@pytest.mark.parametrize("path", ["/", "/readyz", "/api/cache/status", "/api/cache/keys", "/openapi.json", "/metrics/"])
async def test_nothing_else_is_there(port, path):
    async with port[2].get(path) as answer:
        assert answer.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(port, method):
    async with port[2].request(method, "/metrics") as answer:
        assert answer.status == 405


async def test_who_asks_often_costs_no_more(port):
    made, clock, client = port
    assert [await text(client) for _ in range(5)] == ["made 1\n"] * 5
    clock.now += KEPT
    assert await text(client) == "made 2\n"
    assert made.times == 2


async def test_all_who_ask_at_once_get_the_same(port):
    made, _, client = port
    made.gate.clear()
    asking = [asyncio.create_task(text(client)) for _ in range(5)]
    while not made.times:  # noqa: ASYNC110 - they are on their way through a socket
        await asyncio.sleep(0.01)
    made.gate.set()
    assert await asyncio.gather(*asking) == ["made 1\n"] * 5
