import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from proxy.demo.portal import bind, main

pytestmark = pytest.mark.process


@asynccontextmanager
async def started(*flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    command = [sys.executable, "-m", "proxy.demo.portal", "--listen", "127.0.0.1:0", "--latency-ms", "0", *flags]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("portal ready on http://127.0.0.1:")
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, bytes]:
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    return process.returncode, errors


async def test_the_process_serves_some_thousands_of_jobs_and_ends_on_a_signal_with_a_stream_open():
    async with started() as (process, url), aiohttp.ClientSession(url) as session:
        async with session.post("/oauth/token", data={"org": "org_acme"}) as response:
            headers = {"Authorization": f"Bearer {(await response.json())['access_token']}"}
        async with session.get("/api/jobs", headers=headers) as response:
            assert (response.status, (await response.json())["total"] > 3000) == (200, True)
        async with session.get("/api/stream", headers=headers) as stream:
            await stream.content.readuntil(b"\n\n")
            process.terminate()
            assert await ended(process) == (0, b"")


async def test_until_eof_it_ends_with_whoever_holds_its_standard_input():
    async with started("--until-eof") as (process, _):
        process.stdin.close()
        assert await ended(process) == (0, b"")


def test_an_address_in_use_is_said_in_one_line(capsys):
    with bind("127.0.0.1:0") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit) as stopped:
            main(["--listen", address])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"cannot listen on {address}: ")


@pytest.mark.parametrize("address", ["here", "127.0.0.1:port", "127.0.0.1:99999", ":"])
def test_an_address_that_is_none_is_refused(address, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--listen", address])
    assert stopped.value.code == 2
    assert "cannot listen on" in capsys.readouterr().err


def test_without_a_place_for_its_database_it_says_so_in_a_line(monkeypatch, capsys):
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with pytest.raises(SystemExit) as ended_with:
        main(["--listen", "127.0.0.1:0"])
    assert ended_with.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "no directory for temporary files can be written: set TMPDIR (in a container: a tmpfs at /tmp)"
    ]
