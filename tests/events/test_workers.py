"""Several processes that look like one: each has streams of its own, and what one publishes all of them tell."""

import json
import os
import signal

import pytest

from tests import servers, wire
from tests.portal import HOST, RULES, TENANTS, item
from tests.serving.world import unsigned
from tests.workers.sidecar import workers

pytestmark = [pytest.mark.process, servers.needs_redis, pytest.mark.timeout(120)]

AUTH = f"Authorization: Bearer {unsigned(TENANTS[0])}"
PUBLISHING = RULES.replace(
    'write: ["PUT /api/jobs/{job-id}"]',
    'write: [{route: "PUT /api/jobs/{job-id}", publish: {event: job.changed, to: tenant, data: {job: path.job-id}}}]',
    1,
)


@pytest.fixture
def server():
    with servers.running(servers.redis_server()) as made:
        yield made


async def listen(client: wire.Client, *headers: str) -> str:
    """Begin a stream on this connection; the id of its first frame."""
    lines = ["GET /.sidecache/events HTTP/1.1", f"Host: {HOST}", AUTH, *headers]
    await client.send("\r\n".join([*lines, "", ""]).encode())
    assert (await client.head()).status == 200
    hello = await client.chunk()
    assert b'"recovered":true' in hello
    return hello.partition(b"id: ")[2].partition(b"\n")[0].decode()


async def job(client: wire.Client) -> tuple[str, str]:
    """The next event: its id, and the job."""
    while b"event: job.changed" not in (chunk := await client.chunk()):
        pass
    said = dict(line.partition(": ")[::2] for line in chunk.decode().splitlines())
    return said["id"], json.loads(said["data"])["job"]


async def test_what_one_worker_publishes_all_of_them_tell_and_one_that_leaves_sends_its_readers_on(server, tmp_path):
    async with workers(server, tmp_path, 2, rules=PUBLISHING) as made:
        held = await made.spread(2)
        one, other = made.pids
        readers = [held[one][0], held[other][0]]
        for each in readers:
            await listen(each)
        write = await held[one][1].ask(item(7), AUTH, method="PUT", body=b"{}", host=HOST)
        assert write.status == 200
        places = [await job(each) for each in readers]
        assert {told for _, told in places} == {"7"}
        assert len(set(places)) == 1  # the same place in both: one is as good as the other

        os.kill(one, signal.SIGTERM)
        drain = await readers[0].chunk()
        assert b"event: drain" in drain
        assert (await held[other][1].ask(item(8), AUTH, method="PUT", body=b"{}", host=HOST)).status == 200
        assert (await job(readers[1]))[1] == "8"
        again = await made.connect()
        await listen(again, f"Last-Event-ID: {places[0][0]}")
        assert (await job(again))[1] == "8"
