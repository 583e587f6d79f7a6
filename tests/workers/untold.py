"""A sidecar whose workers do not tell each other what they purge: what a history must uncover."""

import os
import time
from pathlib import Path

from proxy.cli import worker as real
from proxy.cli.run import run_until_done
from proxy.settings import load
from proxy.telemetry.logs import configure
from proxy.workers.seat import Seat
from proxy.workers.supervisor import supervise

ROOT = Path(__file__).parents[2]


async def _nothing(*_: object) -> None:
    pass


def worker() -> None:
    Seat.purged = _nothing  # type: ignore[assignment,method-assign]
    real.main()


def run() -> None:
    configure()
    boot = f"import sys; sys.path.append({str(ROOT)!r}); from tests.workers.untold import worker; worker()"
    run_until_done(supervise(load(os.environ), time.time, boot=boot))
