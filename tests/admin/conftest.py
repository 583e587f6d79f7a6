"""The world of the admin API and a client of its port: with tokens (staging), and without (development)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from tests.admin.world import World, port


@pytest.fixture
async def staging(tmp_path: Path) -> AsyncIterator[tuple[World, TestClient]]:
    async with port(tmp_path) as opened:
        yield opened


@pytest.fixture
def world(staging: tuple[World, TestClient]) -> World:
    return staging[0]


@pytest.fixture
def client(staging: tuple[World, TestClient]) -> TestClient:
    return staging[1]


@pytest.fixture
async def development(tmp_path: Path) -> AsyncIterator[tuple[World, TestClient]]:
    async with port(tmp_path, "development") as opened:
        yield opened
