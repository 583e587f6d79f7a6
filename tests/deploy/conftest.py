"""The image is built once for all who test it, in whichever process, and kept until something in it changes."""

import pytest

from tests.deploy.container import Network
from tests.deploy.image import Image, kept


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
