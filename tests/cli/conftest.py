"""A directory to start a sidecar in."""

from pathlib import Path

import pytest

from tests.cli.process import RULES


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path
