"""The production overlay at work: its environment, secrets in files, Redis with TLS, rules swapped as kubelets do."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import servers, wire
from tests.cli.process import SIDECACHE
from tests.deploy.manifests import FOLDER, SECRETS, needs_kustomize, rendered, write_secrets
from tests.issuer import Issuer, serve_jwks

pytestmark = [pytest.mark.process, servers.needs_redis, needs_kustomize]

LIMIT = 30.0
POD = "10.0.3.7:8080"  # what a kubelet sends as Host
RULES = (FOLDER / "base" / "rules.yaml").read_text()
MORE = RULES.replace("features:\n", "features:\n  invoices: {ttl: 1m, read: [GET /api/invoices], write: []}\n", 1)


class MountedConfig:
    """A ConfigMap as a kubelet mounts it: files are links into ..data, which is a link that is replaced as one step."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()
        self.replace(**files)
        for name in files:
            (folder / _file(name)).symlink_to(Path("..data") / _file(name))

    def replace(self, **files: str) -> None:
        before = self.folder / f"..2026_11_26_{self._number}"
        self._number += 1
        now = self.folder / f"..2026_11_26_{self._number}"
        now.mkdir()
        for name, text in files.items():
            (now / _file(name)).write_text(text)
        (self.folder / "..data_tmp").symlink_to(now.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        if before.exists():
            for old in before.iterdir():
                old.unlink()
            before.rmdir()


def _file(name: str) -> str:
    return name.replace("_", ".")


@dataclass
class Pod:
    """The sidecar of one pod, and what it talks to."""

    process: Process
    log: Path
    rules: MountedConfig
    store: servers.Server
    issuer: Issuer
    admin_token: str
    portal: wire.Upstream
    http: aiohttp.ClientSession

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(LIMIT):
            while not await holds():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def get(self, port: str, path: str, **fields: str) -> tuple[int, str, str]:
        """Status, Cache-Status, body."""
        (listening,) = self.events("listening")
        async with self.http.get(f"http://{listening[port]}{path}", headers=fields) as response:
            return response.status, response.headers.get("Cache-Status", ""), await response.text()

    async def probe(self, container: dict[str, Any], name: str) -> int:
        probe = container[f"{name}Probe"]["httpGet"]
        assert probe["port"] == 8080
        return (await self.get("data", probe["path"], Host=POD))[0]


def environment(folder: Path, **mapped: str) -> dict[str, str]:
    """Of the overlay, and what takes the place of its hosts, ports and folders here."""
    own = rendered("production").environment()
    assert mapped.keys() <= own.keys() | {"SIDECACHE_JWKS_URL", "SSL_CERT_FILE"}
    own = {name: value.replace(SECRETS, str(folder / "secrets")) for name, value in own.items()}
    return {"PATH": os.defpath, **own, **mapped}


@pytest.fixture(scope="module")
def store() -> Iterator[servers.Server]:
    with servers.running(servers.shipped_server(tls=servers.authority())) as made:
        yield made


@pytest.fixture
async def pod(tmp_path: Path, store: servers.Server) -> AsyncIterator[Pod]:
    own = rendered("production").environment()
    token = write_secrets(tmp_path / "secrets", servers.SHIPPED_PASSWORD)
    rules = MountedConfig(tmp_path / "rules", rules_yaml=RULES)
    issuer = Issuer(own["SIDECACHE_JWT_ISSUER"], own["SIDECACHE_JWT_AUDIENCE"])
    answer = wire.response(b"{}", "Content-Type: application/json")
    async with wire.upstream(answer) as portal, serve_jwks(issuer) as keys, aiohttp.ClientSession() as http:
        environ = environment(
            tmp_path, REDIS_HOST="127.0.0.1", REDIS_PORT=str(store.port), SIDECACHE_JWKS_URL=keys.url,
            SIDECACHE_UPSTREAM=f"http://127.0.0.1:{portal.port}", SIDECACHE_LISTEN="127.0.0.1:0",
            SIDECACHE_ADMIN_LISTEN="127.0.0.1:0", SIDECACHE_METRICS_LISTEN="127.0.0.1:0",
            SIDECACHE_RULES=str(rules.folder / "rules.yaml"), SSL_CERT_FILE=str(servers.authority().ca),
        )  # fmt: skip
        with (tmp_path / "log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                *SIDECACHE, *rendered("production").sidecar["args"], cwd=tmp_path, env=environ, stderr=log,
                stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        made = Pod(process, tmp_path / "log", rules, store, issuer, token, portal, http)
        try:
            await made.until(lambda: _is(bool(made.events("listening"))))
            yield made
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _is(value: bool) -> bool:
    return value


async def test_it_serves_answers_probes_and_ends_as_the_manifest_says(pod):
    made = rendered("production")
    host = made.environment()["SIDECACHE_HOSTS"]
    assert {name: await pod.probe(made.sidecar, name) for name in ("startup", "liveness", "readiness")} == {
        "startup": 200, "liveness": 200, "readiness": 200,
    }  # fmt: skip
    assert await pod.probe(made.portal, "readiness") == 200
    probed = made.portal["readinessProbe"]["httpGet"]["path"]
    assert [each.target.decode() for each in pod.portal.requests] == [probed]  # as the portal itself would answer

    credentials = {
        "Host": host,
        "Authorization": f"Bearer {pod.issuer.token(org_id='org_a', permissions=['read:jobs'])}",
    }

    async def is_hit() -> bool:
        return "; hit" in (await pod.get("data", "/api/jobs", **credentials))[1]

    await pod.until(is_hit)  # once the issuer's keys are there

    async def is_in_the_store() -> bool:
        return any(name.startswith(b"tenant:org_a:jobs") for name in pod.store.admin.scan_iter())

    await pod.until(is_in_the_store)
    status, _, text = await pod.get("metrics", "/metrics")
    assert status == 200
    assert "sidecache_store_up 1.0" in text
    assert "sidecache_rules_valid 1.0" in text
    assert (await pod.get("admin", "/api/cache/status"))[0] == 401
    assert (await pod.get("admin", "/api/cache/status", Authorization=f"Bearer {pod.admin_token}"))[0] == 200
    assert pod.events("setting") == []

    pod.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(made.pod["terminationGracePeriodSeconds"]):
        assert await pod.process.wait() == 0


async def test_new_rules_are_in_force_when_the_config_map_was_swapped_and_broken_ones_never(pod):
    host = {"Host": rendered("production").environment()["SIDECACHE_HOSTS"]}

    async def said() -> str:
        return (await pod.get("data", "/api/invoices", **host))[1].rpartition("detail=")[2]

    assert await said() == "no-rule"
    pod.rules.replace(rules_yaml=MORE.replace("ttl: 1m", "tll: 1m", 1))
    await pod.until(lambda: _is(bool(pod.events("rules-refused"))))
    assert await said() == "no-rule"
    assert (await pod.get("data", "/.sidecache/readyz"))[::2] == (200, "degraded\n")
    pod.rules.replace(rules_yaml=MORE)
    await pod.until(lambda: _is(bool(pod.events("rules-loaded"))))
    assert await said() == "no-credentials"
    assert (await pod.get("data", "/.sidecache/readyz"))[::2] == (200, "ready\n")


async def test_probes_hold_while_the_store_is_away(pod):
    made = rendered("production")
    pod.store.pause()
    try:
        await pod.until(lambda: _is(bool(pod.events("store-unavailable"))))
        for name in ("startup", "liveness", "readiness"):
            assert await pod.probe(made.sidecar, name) == 200
        assert await pod.probe(made.portal, "readiness") == 200
    finally:
        pod.store.resume()
