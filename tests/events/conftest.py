import pytest

from tests.events.world import World


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.close()
    assert made.failures == []


@pytest.fixture
async def other(world):
    """A second process on the same store."""
    made = World(world)
    yield made
    await made.close()
    assert made.failures == []
