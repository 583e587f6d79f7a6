"""`sidecache demo` as a person meets it: started, pasted from, interrupted."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
import typer

from proxy.addresses import Address
from proxy.cli.demo import find_rules, introduction, lines_to_paste, running_portal, together
from proxy.errors import ConfigError
from proxy.settings import Settings
from tests.cli import process as finished

RULES = """
version: 1
identity: {tenant: [jwt.org_id], user: jwt.sub, roles: jwt.permissions}
features:
  jobs:
    ttl: 15m
    read: [GET /api/jobs]
    write: [POST /api/jobs]
"""


async def start(directory: Path, ports: list[int]) -> asyncio.subprocess.Process:
    """The command in a directory with a rules.yaml, up to the point where it says that it runs."""
    (directory / "rules.yaml").write_text(RULES)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    flags = ["--listen", addresses[0], "--admin", addresses[1], "--portal", addresses[2], "--latency-ms", "0"]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "demo", *flags,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def said(process: asyncio.subprocess.Process) -> str:
    """The introduction, up to its last line."""
    text = ""
    async with asyncio.timeout(30):
        while "proxy.demo.traffic" not in text:
            line = await process.stdout.readline()
            assert line, (await process.stderr.read()).decode()
            text += line.decode()
    return text


async def paste(line: str) -> list[str]:
    shell = await asyncio.create_subprocess_exec("bash", "-c", line, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(20):
        output, _ = await shell.communicate()
    return output.decode().splitlines()


@pytest.mark.process
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
async def test_the_five_lines_show_miss_hit_other_tenant_write_and_fresh_read(tmp_path, unused_tcp_port_factory):
    process = await start(tmp_path, [unused_tcp_port_factory() for _ in range(3)])
    try:
        text = await said(process)
        assert str(tmp_path / "rules.yaml") in text
        lines = [line for line in text.splitlines() if line.startswith("curl ")]
        miss, hit, other, write, fresh = [await paste(line) for line in lines]
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert (miss[0], miss[1]) == ("HTTP/1.1 200 OK", "Cache-Status: sidecache; fwd=uri-miss; stored")
    assert miss[2].startswith('{"org_id":"org_acme","total":3334')
    assert hit[1].startswith("Cache-Status: sidecache; hit; ttl=")
    assert hit[2] == miss[2]
    assert "fwd=uri-miss; stored" in other[1]
    assert other[2].startswith('{"org_id":"org_globex"')
    assert write[0] == "HTTP/1.1 201 Created"
    assert "fwd=" in fresh[1]
    assert '"total":3335' in fresh[2]
    assert "Night-shift welder" in fresh[2]
    assert all(output[3].startswith("time: 0.") for output in (miss, hit, other, write, fresh))


@pytest.mark.process
async def test_the_portal_ends_even_when_the_demo_is_killed(tmp_path, unused_tcp_port_factory):
    process = await start(tmp_path, [unused_tcp_port_factory() for _ in range(3)])
    await said(process)
    process.kill()
    async with asyncio.timeout(20):
        await process.communicate()  # ends when nobody, the portal included, holds the error stream any more


@pytest.mark.process
async def test_a_running_portal_answers_and_is_stopped_at_the_end():
    async with running_portal("127.0.0.1:0", 0) as portal, aiohttp.ClientSession() as session:
        async with session.get(f"{portal.url}/_demo/requests") as response:
            assert response.status == 200
        assert portal.process.returncode is None
    assert portal.process.returncode == 0


@pytest.mark.process
async def test_a_portal_that_cannot_start_is_a_configuration_error(capfd):
    with pytest.raises(ConfigError, match="did not start on 127"):
        async with running_portal("127.0.0.1:99999", 0):
            pass
    assert "cannot listen" in capfd.readouterr().err


@pytest.mark.process
async def test_when_the_portal_ends_the_sidecar_is_ended_too(capsys):
    closed = asyncio.Event()

    async def sidecar() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()

    portal = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    with pytest.raises(typer.Exit) as stopped:
        await together(portal, sidecar())
    assert (stopped.value.exit_code, closed.is_set()) == (1, True)
    assert "The portal has ended" in capsys.readouterr().err


@pytest.mark.process
async def test_what_the_sidecar_fails_with_is_what_the_demo_fails_with():
    async def sidecar() -> None:
        raise ConfigError("no")

    portal = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    try:
        with pytest.raises(ConfigError, match="no"):
            await together(portal, sidecar())
        assert portal.returncode is None
    finally:
        portal.kill()
        await portal.communicate()


def test_the_first_rules_file_that_exists_is_used(tmp_path):
    packaged = tmp_path / "packaged.yaml"
    with pytest.raises(ConfigError, match="--rules FILE"):
        find_rules(tmp_path / "rules.yaml", packaged)
    packaged.touch()
    assert find_rules(tmp_path / "rules.yaml", packaged) == packaged
    (tmp_path / "rules.yaml").touch()
    assert find_rules(tmp_path / "rules.yaml", packaged) == tmp_path / "rules.yaml"


def test_the_introduction_names_addresses_one_can_go_to():
    settings = Settings(
        "http://127.0.0.1:1", Path("rules.yaml"), listen=Address("0.0.0.0", 80), admin=Address("::1", 2)
    )
    text = introduction(settings, "http://127.0.0.1:1")
    assert "http://127.0.0.1:80/api/jobs" in text
    assert "http://[::1]:2/metrics" in text
    assert "0.0.0.0" not in text
    assert all(f"\n{line}\n" in text for _, line in lines_to_paste("http://127.0.0.1:80", "http://127.0.0.1:1"))


def test_a_name_for_the_portal_is_for_a_portal_that_runs_alone(tmp_path):
    code, out, err = finished.said("demo", "--portal-url", "http://portal", cwd=tmp_path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--portal-url: only with --portal-only" in err
