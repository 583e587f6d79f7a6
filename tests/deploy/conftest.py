"""The image is built once for all who test it, whichever process they run in."""

import fcntl
import pickle
import shutil
from pathlib import Path

import pytest

from tests.deploy.container import Network
from tests.deploy.image import Image, build


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Image:
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "image"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = folder / "image.pickle"
        if not kept.exists():
            made = build(folder)
            for stage in folder.glob("stage-*"):
                if stage != made.root.path.parent:
                    shutil.rmtree(stage)
            kept.write_bytes(pickle.dumps(made))
        loaded: Image = pickle.loads(kept.read_bytes())
    return loaded


@pytest.fixture
def network():
    with Network() as made:
        yield made


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"
