"""How is a sidecar run as a process of its own, looked at, stopped, paused and killed?"""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bench.cpu import Tree
from tests import servers, wire
from tests.cli.process import MODULE, environment
from tests.portal import HOST, RULES, Portal

START = 90.0  # seconds for a start on a busy machine
_SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
# nothing of the kind may ever be in a log: a traceback, a task that nobody looked after
_ALARMING = re.compile(r"Traceback|never retrieved|never awaited|background-failed|a request failed|worker-silent")


class Sidecar:
    """One at fixed ports, that can be started again. `before`: words before its `command`, such as `prlimit`."""

    def __init__(
        self, folder: Path, upstream: int, rules: str, *, profile: str = "development", before: Sequence[str] = (),
        command: Sequence[str] = MODULE, **environ: str,
    ) -> None:  # fmt: skip
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.rules = folder / "rules.yaml"
        self.rules.write_text(rules)
        self.port, self.admin_port = servers.free_port(), servers.free_port()
        self.log = folder / "log"
        own = {"SIDECACHE_HOSTS": HOST, "SIDECACHE_DRAIN_S": "5", "SIDECACHE_AUDIT_LOG": "off"}
        if profile == "development":
            own["SIDECACHE_DEV_AUTH"] = "1"
        self._environ = environment(**{**own, **environ})
        self._command = [
            *before, *command, "run", "--profile", profile, "--upstream", f"http://127.0.0.1:{upstream}",
            "--rules", str(self.rules), "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}",
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def begin(self, *, stdout: int | None = None, stderr: int | None = None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._environ, stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout, stderr=log if stderr is None else stderr,
            )  # fmt: skip

    async def start(self, **streams: int) -> "Sidecar":
        self.begin(**streams)
        until = time.monotonic() + START
        while not await self.ready():
            assert self.runs, self.log.read_text()[-2000:]
            assert time.monotonic() < until, f"it did not become ready: {self.log.read_text()[-2000:]}"
            await asyncio.sleep(0.02)
        return self

    async def ready(self) -> bool:
        """What a readiness probe finds."""
        try:
            async with asyncio.timeout(1.0):
                return (await wire.fetch(self.port, "/.sidecache/readyz")).status == 200
        except (OSError, wire.Cut):
            return False

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def ended(self, seconds: float = 60.0) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)

    async def stop(self) -> None:
        if self.runs:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                await self.ended(20.0)
            except subprocess.TimeoutExpired:
                self.send(signal.SIGKILL)
                await self.ended()

    # What it says and has

    async def metrics(self) -> dict[str, float]:
        answer = await wire.fetch(self.admin_port, "/metrics", host="127.0.0.1")
        return {name: float(value) for name, value in _SAMPLE.findall(answer.body.decode())}

    def events(self, *names: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] in names]

    def alarming(self) -> list[str]:
        return [line for line in self.log.read_text(errors="replace").splitlines() if _ALARMING.search(line)]

    def held(self) -> dict[str, float]:
        """Memory in MiB, descriptors and threads, of all of its processes."""
        pids = Tree(self.pid).pids()
        held = dict.fromkeys(("resident", "peak", "descriptors", "threads"), 0.0)
        for pid in pids:
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                held["resident"] += _number(status, "VmRSS") / 1024
                held["peak"] += _number(status, "VmHWM") / 1024
                held["threads"] += _number(status, "Threads")
                held["descriptors"] += len(os.listdir(f"/proc/{pid}/fd"))
        return held


def _number(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


@asynccontextmanager
async def running(*sidecars: Sidecar) -> AsyncIterator[None]:
    try:
        for each in sidecars:
            await each.start()
        yield
    finally:
        for each in sidecars:
            await each.stop()


@asynccontextmanager
async def surroundings(portal: Portal) -> AsyncIterator[tuple[servers.Server, wire.Upstream]]:
    """A redis-server, and the portal at a port: what a sidecar stands between."""
    with servers.running(servers.redis_server()) as server:
        async with wire.upstream(portal.answer) as upstream:
            yield server, upstream


@asynccontextmanager
async def replicas(folder: Path, portal: Portal, *, count: int = 1, **more: Any) -> AsyncIterator[list[Sidecar]]:
    """So many before the portal, all ready, on one redis-server."""
    async with surroundings(portal) as (server, upstream):
        made = [Sidecar(folder / f"{n}", upstream.port, RULES, **more, **over(server.port)) for n in range(count)]
        async with running(*made):
            yield made


def over(port: int) -> Mapping[str, str]:
    """The settings for a Redis at this port of loopback."""
    # what stands before it shares this machine, and a loop, with all who ask: 100 ms would be about them
    return {
        "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port), "SIDECACHE_POOL_SIZE": "8",
        "SIDECACHE_STORE_TIMEOUT_MS": "250",
    }  # fmt: skip
