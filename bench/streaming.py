"""How much memory does a large body cost, and the others who ask meanwhile? 1 GiB each way through a real sidecar.

What the others wait is compared with the same transfer past the sidecar, from the same upstream: whatever the machine
and this harness cost them is in both.

python -m bench.streaming [--json FILE]
"""

import argparse
import asyncio
import json
import re
import socket
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory

SIZE = 1 << 30
BLOCK = b"x" * (1 << 20)
_PAUSE = 0.005
_ALONE = 3.0  # seconds of small requests and nothing else


async def _upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"GET /small"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
    if head.startswith(b"POST"):
        left = SIZE
        while left and (chunk := await reader.read(1 << 20)):
            left -= len(chunk)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(BLOCK)):
            writer.write(BLOCK)
            await writer.drain()
    await writer.drain()
    writer.close()


async def _download(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    left = SIZE
    while left and (chunk := await reader.read(1 << 20)):
        left -= len(chunk)
    writer.close()


async def _slow_download(port: int) -> None:
    """With a small receive buffer, and a pause after each MiB."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=64 << 10)
    writer.write(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(SIZE // len(BLOCK)):
        await reader.readexactly(len(BLOCK))
        await asyncio.sleep(_PAUSE)
    writer.close()


async def _others(port: int, latencies: list[float]) -> None:
    """Small requests, one after the other, until this is cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            started = time.perf_counter()
            writer.write(b"GET /small HTTP/1.1\r\nHost: bench\r\n\r\n")
            await reader.readuntil(b"\r\n\r\nok")
            latencies.append(time.perf_counter() - started)
            await asyncio.sleep(_PAUSE)
    finally:
        writer.close()


async def _beside(port: int, work: Awaitable[None]) -> tuple[float, float]:
    """What others wait through the sidecar while this is done (p99, ms), and how long it takes (s)."""
    latencies: list[float] = []
    others = asyncio.create_task(_others(port, latencies))
    started = time.perf_counter()
    await work
    seconds = time.perf_counter() - started
    others.cancel()
    await asyncio.wait({others})
    return sorted(latencies)[int(len(latencies) * 0.99)] * 1e3, seconds


async def _upload(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // len(BLOCK)):
        writer.write(BLOCK)
        await writer.drain()
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


def _peak(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


async def measured() -> dict[str, dict[str, float]]:
    """By direction: seconds, the peak resident memory before and after, and what small requests took meanwhile."""
    figures: dict[str, dict[str, float]] = {}
    server = await asyncio.start_server(_upstream, "127.0.0.1", 0, limit=1 << 20)
    with TemporaryDirectory() as folder:
        rules = Path(folder, "rules.yaml")
        rules.write_text(  # noqa: ASYNC240
            "version: 1\nfeatures: {open: {ttl: 1m, scope: public, read: [GET /open]}}\n"
        )
        sidecar = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "run", "--rules", str(rules), "--profile", "development",
            "--upstream", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert sidecar.stdout is not None
        port = None
        while port is None:
            line = re.sub(r"\x1b\[[0-9;]*m", "", (await sidecar.stdout.readline()).decode())
            found = re.search(r'data["=: ]+127\.0\.0\.1:(\d+)', line)
            port = int(found[1]) if found else None
        direct = server.sockets[0].getsockname()[1]
        alone, _ = await _beside(port, asyncio.sleep(_ALONE))
        for name, transfer in (("slow_download", _slow_download), ("download", _download), ("upload", _upload)):
            past, _ = await _beside(port, transfer(direct))
            before = _peak(sidecar.pid)
            through, seconds = await _beside(port, transfer(port))
            figures[name] = {
                "seconds": round(seconds, 2),
                "peak_mib_before": round(before, 1),
                "peak_mib_after": round(_peak(sidecar.pid), 1),
                "others_p99_ms": round(through, 2),
                "others_p99_ms_past": round(past, 2),
                "others_p99_ms_alone": round(alone, 2),
                "ratio": round(through / past, 2),
            }
        sidecar.terminate()
        await sidecar.wait()
    server.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    figures = asyncio.run(measured())
    memory = f"{'peak before, MiB':>18}{'after, MiB':>12}"
    others = f"{'others p99, ms':>16}{'past it':>10}{'alone':>8}{'ratio':>8}"
    print(f"{'1 GiB through the sidecar':<28}{'seconds':>10}{memory}{others}")
    for name, figure in figures.items():
        memory = f"{figure['peak_mib_before']:>18}{figure['peak_mib_after']:>12}"
        others = f"{figure['others_p99_ms']:>16}{figure['others_p99_ms_past']:>10}{figure['others_p99_ms_alone']:>8}"
        print(f"{name:<28}{figure['seconds']:>10}{memory}{others}{figure['ratio']:>8}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
