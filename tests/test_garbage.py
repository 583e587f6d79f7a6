"""proxy.garbage: what has survived a full pass is not looked at by the next one; everything is, now and then.

A cycle that was frozen while it was in use stays until then: so requests and connections leave none behind.
"""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.garbage import EVERYTHING_AFTER, Survivors, freeze_survivors
from tests import wire
from tests.cli.process import ROOT
from tests.serving.world import unsigned

PERMISSIONS = ["read:jobs", "read:companies", "read:analytics", "read:applications", "write:jobs"]
BEARER = f"Authorization: Bearer {unsigned('org_a', 'auth0|u', permissions=PERMISSIONS)}"
LENGTH = "Content-Length: 2"
# request lines, where {} is another number for each, and a further field
REQUESTS = [
    ("GET /api/jobs/1", BEARER),
    ("GET /api/jobs/{}", BEARER),
    ("GET /api/search?q=chunked-{}", BEARER),
    ("GET /api/jobs/{}/applications", BEARER),
    ("GET /api/jobs/{}", "X-Nobody: 1"),
    ("GET /api/billing/{}", BEARER),
    ("GET /api/billing/chunked-{}", BEARER),
    ("PUT /api/jobs/{}", f"{BEARER}\r\n{LENGTH}"),
    ("POST /api/jobs/{}/applications", f"{BEARER}\r\n{LENGTH}"),
    ("POST /api/billing/{}", LENGTH),
    ("OPTIONS /api/jobs", "Origin: https://elsewhere.test"),
    ("GET /.sidecache/reports/job-views", BEARER),
    ("GET /.sidecache/events/poll", BEARER),
    ("GET /.sidecache/readyz", "X-Nobody: 1"),
    ("GET /api/jobs/a#b", BEARER),
]
STREAMS = ["GET /api/billing/stream-{}", "GET /.sidecache/events"]  # which the client leaves


@pytest.fixture
def survivors() -> Iterator[Survivors]:
    before = list(gc.callbacks)
    freeze_survivors()
    (made,) = [each for each in gc.callbacks if isinstance(each, Survivors)]
    yield made
    gc.callbacks[:] = before
    gc.unfreeze()


def test_what_survives_a_full_pass_is_not_looked_at_again(survivors):
    kept = [[n] for n in range(1000)]
    gc.collect()
    assert not any(each is kept[7] for each in gc.get_objects())
    later = [[n] for n in range(10)]
    assert any(each is later[7] for each in gc.get_objects())


def test_a_younger_pass_freezes_nothing(survivors):
    frozen = gc.get_freeze_count()
    gc.collect(1)
    assert gc.get_freeze_count() <= frozen


def test_now_and_then_everything_is_looked_at_again(survivors):
    kept = [[n] for n in range(1000)]
    while survivors.passes % EVERYTHING_AFTER != EVERYTHING_AFTER - 1:
        gc.collect()
    gc.collect()
    assert gc.get_freeze_count() == 0
    assert any(each is kept[7] for each in gc.get_objects())
    gc.collect()
    assert gc.get_freeze_count() > 1000


def test_a_process_freezes_them_once(survivors):
    freeze_survivors()
    assert sum(isinstance(each, Survivors) for each in gc.callbacks) == 1


async def answer(request: wire.Message, peer: wire.Peer) -> None:
    json = "Content-Type: application/json"
    if b"chunked" in request.target:
        await peer.send(wire.chunked([b'{"id":', b" 1}"], json))
    elif b"stream" in request.target:
        await peer.send(wire.chunked([b"data: 1\n\n"], "Content-Type: text/event-stream", end=False))
        await peer.gone.wait()
    else:
        await peer.send(wire.response(b'{"id": 1}', json, status="201 Created" if request.body else "200 OK"))


async def ask(client: wire.Client, line: str, fields: str, number: int) -> None:
    method = line.partition(" ")[0]
    head = f"{line.format(number)} HTTP/1.1\r\nHost: portal.test\r\n{fields}\r\n\r\n"
    await client.send(head.encode() + b"{}" * (LENGTH in fields))
    if line in STREAMS:
        await client.reader.readuntil(b"data: ")
    else:
        await client.response(method)


async def left_by(port: int, line: str, fields: str, numbers: range) -> list[str]:
    """What of ours waits for the collector after so many connections, with two such requests each."""
    gc.collect()
    gc.disable()
    try:
        for number in numbers:
            async with await wire.connect(port) as client:
                await ask(client, line, fields, number)
                if line not in STREAMS and "#" not in line:  # a refusal ends the connection
                    await ask(client, line, fields, -number)
        await asyncio.sleep(0.05)  # connections are closed on the other side too
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return [type(each).__name__ for each in gc.garbage if type(each).__module__.startswith(("proxy.", "aiohttp."))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_no_request_and_no_connection_leaves_anything_to_the_collector(tmp_path: Path):
    rules = (ROOT / "rules.yaml").read_text()
    async with wire.upstream(answer, keeps=False) as up, wire.sidecar(up.port, tmp_path, rules) as running:
        for line, fields in [*REQUESTS, *((line, BEARER) for line in STREAMS)]:
            await left_by(running.data_port, line, fields, range(1, 4))  # what is made once
            assert await left_by(running.data_port, line, fields, range(10, 20)) == [], line
