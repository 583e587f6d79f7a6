"""What happens when many ask at once for what is not there yet? A stampede of clients, and how long each one waited."""

import asyncio
import re
import time

from bench.heads import Head
from bench.load import Answered

CLIENTS = 200
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


async def stampede(port: int, head: Head) -> Answered:
    """CLIENTS connections are open before the first asks; all of them send one and the same new request."""
    request = head.filled()
    clients = [await asyncio.open_connection("127.0.0.1", port, limit=1 << 20) for _ in range(CLIENTS)]
    started = time.perf_counter()
    waits = await asyncio.gather(*(_ask(reader, writer, request) for reader, writer in clients))
    seconds = time.perf_counter() - started
    for _, writer in clients:
        writer.close()
    ordered = sorted(waits)
    p50, p90, p99 = (ordered[len(ordered) * percent // 100] * 1e6 for percent in (50, 90, 99))
    return Answered(len(waits), seconds, p50, p90, p99)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> float:
    started = time.perf_counter()
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        if not answer.startswith(b"HTTP/1.1 200") or length is None:
            raise ValueError(f"herd: {answer[:200]!r}")
        await reader.readexactly(int(length[1]))
    return time.perf_counter() - started
