"""How does the portal run? `python -m proxy.demo.portal --listen 127.0.0.1:9901`, until it is told to stop."""

import argparse
import asyncio
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence

from aiohttp import web

from proxy.demo import api
from proxy.demo.data import Size, fill
from proxy.demo.database import Database
from proxy.demo.issuer import Issuer


async def serve(listener: socket.socket, url: str, *, latency: float, until_eof: bool = False) -> None:
    """Run on this bound socket. `until_eof`: also stop when standard input ends, which it does with the parent."""
    database = Database(lambda connection: fill(connection, Size(), now=time.time()), latency=latency)
    runner = web.AppRunner(api.make(database, Issuer(url)), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        print(f"portal ready on {url}", flush=True)
        await _stop_requested(until_eof)
    finally:
        await runner.cleanup()


async def _stop_requested(until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        # The parent writes nothing: readable means that the other end is gone, however the parent ended.
        loop.add_reader(sys.stdin, stop.set)
    await stop.wait()
    if until_eof:
        loop.remove_reader(sys.stdin)


def bind(address: str) -> socket.socket:
    """HOST:PORT as a listening socket; OSError or ValueError says why not."""
    host, _, number = address.rpartition(":")
    port = int(number)
    if not host or not 0 <= port <= 65535:
        raise ValueError("say HOST:PORT")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.portal", description="A small employer portal API.")
    parser.add_argument("--listen", default="127.0.0.1:9901", metavar="HOST:PORT", help="port 0: any free one")
    parser.add_argument("--url", help="the URL that others know it by (default: made from --listen)")
    parser.add_argument(
        "--latency-ms", type=float, default=8.0, help="simulated network time to the database per query (default: 8)"
    )
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    try:
        tempfile.gettempdir()  # where the database will be
    except OSError:
        parser.exit(
            2, "no directory for temporary files can be written: set TMPDIR (in a container: a tmpfs at /tmp)\n"
        )
    try:
        listener = bind(options.listen)
    except (OSError, ValueError) as error:
        parser.exit(2, f"cannot listen on {options.listen}: {error}\n")
    host = options.listen.rpartition(":")[0]
    url = options.url or f"http://{host}:{listener.getsockname()[1]}"
    asyncio.run(serve(listener, url, latency=max(0.0, options.latency_ms) / 1000, until_eof=options.until_eof))


if __name__ == "__main__":
    main()
