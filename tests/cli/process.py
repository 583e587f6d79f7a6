"""The command as a process: what it prints and how it ends."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIDECACHE = (str(Path(sys.executable).with_name("sidecache")),)
MODULE = (sys.executable, "-m", "proxy")
LIMIT = 30.0
RULES = "version: 1\nfeatures:\n  jobs:\n    ttl: 15m\n    read: [GET /api/jobs]\n    write: [POST /api/jobs]\n"
UPSTREAM = ("--upstream", "http://127.0.0.1:9")
DEVELOPMENT = ("--profile", "development", *UPSTREAM)
ANYWHERE = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


def environment(**more: str) -> dict[str, str]:
    """Nothing of this machine's settings, and the package importable from anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECACHE_", "REDIS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def said(*words: str, cwd: Path, command: tuple[str, ...] = SIDECACHE, **environ: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    done = subprocess.run(
        [*command, *words], cwd=cwd, env=environment(**environ), capture_output=True, text=True, timeout=LIMIT
    )
    return done.returncode, done.stdout, done.stderr


class Sidecar:
    """A running process; what it logs is read as values."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def status(self, port: str, path: str) -> int:
        return self.read(port, path)[0]

    def read(self, port: str, path: str, method: str = "GET") -> tuple[int, str]:
        address = str(self.events("listening")[0][port])
        try:
            request = urllib.request.Request(f"http://{address}{path}", method=method)
            with urllib.request.urlopen(request, timeout=LIMIT) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@contextmanager
def running(home: Path, *words: str, environ: Mapping[str, str] | None = None, **how: Any) -> Iterator[Sidecar]:
    """`sidecache run` in this directory, once it listens; what it says on standard error is in `log`."""
    with (home / "log").open("a" if how.pop("keep_log", False) else "w") as log:
        command = [*how.pop("before", ()), *SIDECACHE, "run", *words]
        process = subprocess.Popen(
            command, cwd=home, env=environment(**(environ or {})), text=True, **{"stderr": log, **how}
        )
    started = Sidecar(process, home / "log")
    try:
        started.until(lambda: bool(started.events("listening")))
        yield started
    finally:
        process.kill()
        process.wait(LIMIT)
