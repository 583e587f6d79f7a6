"""The image is built once for all who test it, in whichever process, and kept until something in it changes."""

import pytest

from tests.deploy.container import Network
from tests.deploy.image import Image, kept


@pytest.hookimpl(trylast=True)  # of those that are chosen, in the order that was chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first who tests it builds it before all else, the others come last: nobody waits while it is built."""
    testing, rest = [], []
    for item in items:
        (testing if "image" in getattr(item, "fixturenames", ()) else rest).append(item)
    items[:] = [*testing[:1], *rest, *testing[1:]]


@pytest.fixture(scope="session")
def image() -> Image:
    return kept()


@pytest.fixture
def network():
    with Network() as made:
        yield made


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"
