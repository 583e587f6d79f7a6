"""Where does the emulator keep its data? In a Redis or Valkey server of its own, which ends with it."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from proxy.dev.resp import Connection, Unanswered
from proxy.dev.upstash import Emulator
from proxy.errors import ConfigError

_BINARIES = ("valkey-server", "redis-server")
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0


async def serve(host: str, port: int, server: str | None, token: str, ready: Callable[[str, str], None]) -> None:
    """Run the emulator until SIGINT or SIGTERM. `ready` hears its URL and the server's address."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with reached(server) if server else own_server() as address, running(host, port, address, token) as url:
        ready(url, address)
        await stop.wait()


@asynccontextmanager
async def running(host: str, port: int, server: str, token: str) -> AsyncIterator[str]:
    """The emulator on this address; port 0 is any free one. Its URL."""
    # A subscriber that leaves is noticed at once instead of at the next message.
    runner = web.AppRunner(
        Emulator(server, token).make_app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def reached(server: str) -> AsyncIterator[str]:
    """A server that somebody else runs, if it answers."""
    if not await _answers(server):
        raise ConfigError(f"--redis {server}: no Redis or Valkey server answers there")
    yield server


@asynccontextmanager
async def own_server() -> AsyncIterator[str]:
    """A server as a child process: nothing on disk, no port, only a socket in a directory of its own."""
    binary = next(filter(None, map(shutil.which, _BINARIES)), None)
    if binary is None:
        raise ConfigError(
            f"a Redis or Valkey server is needed, and neither {' nor '.join(_BINARIES)} is installed: "
            "install one (apt install redis-server), or say --redis HOST:PORT"
        )
    with tempfile.TemporaryDirectory(prefix="sidecache-dev-") as folder:
        path = str(Path(folder, "redis.sock"))
        nothing = asyncio.subprocess.DEVNULL
        # a session of its own: Ctrl-C reaches it only through us
        process = await asyncio.create_subprocess_exec(
            *(binary, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", folder),
            stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True,
        )  # fmt: skip
        try:
            await _started(process, binary, path)
            yield path
        finally:
            await _stop(process)


async def _started(process: asyncio.subprocess.Process, binary: str, path: str) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _answers(path):
                if process.returncode is not None:
                    raise ConfigError(f"{binary} ended with code {process.returncode}")
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise ConfigError(f"{binary} did not start within {_START_SECONDS:g} seconds") from None


async def _answers(server: str) -> bool:
    try:
        connection = await Connection.open(server)
        try:
            await connection.call([[b"PING"]])
        finally:
            connection.close()
    except Unanswered:
        return False
    return True


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
