"""How is a server started, found ready and ended? By its own id, pinned to one core, on a free port of loopback."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.machine import NotAvailable

START_SECONDS = 60.0  # on a machine that is not ours alone
STOP_SECONDS = 10.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(
    command: list[str], port: int, core: int, *, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[int]:
    """The id of a process that accepts connections on `port`; NotAvailable with its last words when it does not."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ
        )
    try:
        _wait(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    words = log.read_text(errors="replace").strip().splitlines()
    raise NotAvailable(words[-1] if words else f"did not start within {START_SECONDS:.0f} s")


def clean_environment(**ours: str) -> dict[str, str]:
    """This environment without settings of a sidecar or a store, and `ours` over it."""
    unwanted = ("SIDECACHE_", "REDIS_", "UPSTASH_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)} | ours
