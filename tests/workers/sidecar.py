"""A sidecar of several processes in front of a portal, over a real store: its log, and who holds which connection."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prometheus_client.parser import text_string_to_metric_families

from tests import servers, wire
from tests.cli.process import LIMIT, SIDECACHE, environment
from tests.faults.scene import reached_at
from tests.portal import HOST, RULES, History, Portal

# Instead of the command: the same, but for what its workers leave out.
UNTOLD = (sys.executable, "-c", "from tests.workers.untold import run; run()")


@dataclass
class Workers:
    process: subprocess.Popen[bytes]
    folder: Path
    portal: Portal
    clients: list[wire.Client] = field(default_factory=list)

    @property
    def text(self) -> str:
        return (self.folder / "log").read_text()

    def events(self, *names: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] in names]

    def _port(self, name: str) -> int:
        return int(self.events("listening")[0][name].rpartition(":")[2])

    @property
    def port(self) -> int:
        return self._port("data")

    @property
    def admin_port(self) -> int:
        return self._port("admin")

    @property
    def pids(self) -> list[int]:
        """Of the workers that have not ended, the oldest first."""
        ended = {line["pid"] for line in self.events("worker-ended")}
        return [line["pid"] for line in self.events("worker-started") if line["pid"] not in ended]

    def history(self) -> History:
        return History(self.portal, [self.port])

    async def has(self, event: str, times: int = 1) -> None:
        await self.until(lambda: len(self.events(event)) >= times)

    async def until(self, condition: Any, *, runs: bool = True) -> None:
        async def met() -> bool:
            assert not runs or self.process.poll() is None, self.text
            found = condition()
            return bool(await found if asyncio.iscoroutine(found) else found)

        async with asyncio.timeout(LIMIT):
            while not await met():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        async with asyncio.timeout(LIMIT):
            return await asyncio.to_thread(self.process.wait, LIMIT)

    async def admin(self, path: str) -> wire.Message:
        return await wire.fetch(self._port("admin"), path, host="127.0.0.1")

    async def post(self, path: str, document: dict[str, Any], method: str = "POST") -> tuple[int, bytes]:
        body = json.dumps(document).encode()
        client = await wire.connect(self._port("admin"))
        answer = await client.ask(
            path, "Content-Type: application/json", method=method, body=body, host=f"127.0.0.1:{self._port('admin')}"
        )
        await client.close()
        return answer.status, answer.body

    async def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        text = (await self.admin("/metrics")).body.decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def watched(self) -> list[tuple[str, str]]:
        """The requests that a dashboard is told of when it is opened: worker and request."""
        stream = await wire.connect(self._port("admin"))
        host = f"127.0.0.1:{self._port('admin')}"
        await stream.send(f"GET /api/live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await stream.head()
        data = b""
        while b"\n\n" not in data:
            data += await stream.chunk()
        await stream.close()
        past = json.loads(data.partition(b"data: ")[2].partition(b"\n\n")[0])
        return [(each["id"].partition(".")[0], each["request"]) for each in past["requests"]]

    async def connect(self) -> wire.Client:
        """A connection that is closed at the end of the test."""
        self.clients.append(client := await wire.connect(self.port))
        return client

    def holder(self, client: wire.Client, port: int | None = None) -> int:
        """The worker that has this connection; 0 when it has ended."""
        found = _holders(port or self.port, self.pids)
        return found.get(client.writer.get_extra_info("sockname")[1], 0)

    def holders(self) -> Counter[int]:
        """How many connections each worker has."""
        return Counter(_holders(self.port, self.pids).values())

    async def spread(self, each: int = 2) -> dict[int, list[wire.Client]]:
        """Connections, at least so many at each worker."""
        held: dict[int, list[wire.Client]] = {pid: [] for pid in self.pids}
        async with asyncio.timeout(LIMIT):
            while min(map(len, held.values())) < each:
                client = await self.connect()
                await client.ask("/.sidecache/livez", host=HOST)
                held[self.holder(client)].append(client)
        return held


def _holders(port: int, pids: Sequence[int]) -> dict[int, int]:
    """The process that has the connection from each client's port."""
    inodes: dict[str, int] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if state == "01" and int(local.partition(":")[2], 16) == port:
            inodes[f"socket:[{rest[5]}]"] = int(remote.partition(":")[2], 16)
    found = {}
    for pid in pids:
        with suppress(FileNotFoundError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    if (client := inodes.get(os.readlink(entry))) is not None:
                        found[client] = pid
    return found


def _started(
    command: tuple[str, ...], folder: Path, environ: dict[str, str], stdout: BinaryIO | None
) -> subprocess.Popen[bytes]:
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(**environ), stderr=log, stdout=stdout)


@asynccontextmanager
async def workers(
    server: servers.Server, folder: Path, count: int = 2, *, rules: str = RULES,
    command: tuple[str, ...] = (*SIDECACHE, "run"), stdout: BinaryIO | None = None, **environ: str,
) -> AsyncIterator[Workers]:  # fmt: skip
    portal = Portal()
    (folder / "rules.yaml").write_text(rules)
    async with wire.upstream(portal.answer) as upstream:
        environ = {
            "SIDECACHE_UPSTREAM": f"http://127.0.0.1:{upstream.port}", "SIDECACHE_PROFILE": "development",
            "SIDECACHE_LISTEN": "127.0.0.1:0", "SIDECACHE_ADMIN_LISTEN": "127.0.0.1:0", "SIDECACHE_HOSTS": HOST,
            "SIDECACHE_DEV_AUTH": "1", "SIDECACHE_POOL_SIZE": "5", "SIDECACHE_DRAIN_S": "5",
            "SIDECACHE_WORKERS": str(count), "REDIS_PROVIDER": "redis", **reached_at(server), **environ,
        }  # fmt: skip
        process = _started(command, folder, environ, stdout)
        made = Workers(process, folder, portal)
        try:
            await made.has("listening")
            yield made
        finally:
            pids = made.pids
            for pid in (process.pid, *pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(LIMIT)
            for client in made.clients:
                await client.close()
