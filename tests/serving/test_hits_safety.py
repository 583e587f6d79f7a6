"""The short way on one client's connection: what is split, pipelined, hidden in a body, too late, or never read."""

import asyncio
import json

import pytest

from proxy.serving.outgoing import Limits
from tests.serving.short import dated, head, prompt, served, turns
from tests.serving.world import unsigned
from tests.wire import LIMIT, connect, until

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 0s, if-error: 0s}
features:
  jobs:
    ttl: 10m
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs]
"""
HEAD = head()


async def warm(made, client, data: bytes = HEAD, times: int = 5) -> None:
    """Ask until this head is known by its bytes."""
    for _ in range(times):
        await client.send(data)
        assert (await client.response()).status == 200
        await made.settle()


async def version(client, data: bytes = HEAD) -> int:
    await client.send(data)
    return json.loads((await client.response()).body)["n"]


@pytest.fixture
async def made():
    async with served(RULES) as made:
        made.world.upstream.answer = lambda request, n: dated({"n": n})
        yield made


async def test_a_head_that_comes_in_two_pieces_is_one_wherever_it_is_cut(made):
    async with await prompt(made.port) as client:
        await warm(made, client)
        for at in range(1, len(HEAD)):
            await client.send(HEAD[:at])
            await turns()
            assert await version(client, HEAD[at:]) == 1
            assert await version(client) == 1
    assert made.hits.repeated > len(HEAD) - 5


async def test_a_head_that_comes_byte_by_byte_is_one(made):
    async with await prompt(made.port) as client:
        await warm(made, client)
        for at in range(len(HEAD)):
            await client.send(HEAD[at : at + 1])
            await turns()
        assert (await client.response()).status == 200
        assert await version(client) == 1


@pytest.mark.parametrize("count", [2, 3, 40])
async def test_pipelined_heads_are_answered_in_their_order(made, count):
    others = head("/api/jobs/7")
    async with await prompt(made.port) as client:
        await warm(made, client)
        await warm(made, client, others)
        await client.send((HEAD + others) * count + HEAD)
        await client.send(others)
        got = [json.loads((await client.response()).body)["n"] for _ in range(2 * count + 2)]
    assert got == [1, 2] * (count + 1)


async def test_a_head_behind_one_that_is_under_way_waits_for_its_answer(made):
    async with await prompt(made.port) as client:
        await warm(made, client)
        made.world.upstream.gate = asyncio.Event()
        await client.send(head("/api/jobs/new"))
        await until(lambda: len(made.world.upstream.asked) == 2)
        await client.send(HEAD)
        await turns()
        made.world.upstream.gate.set()
        assert [json.loads((await client.response()).body)["n"] for _ in range(2)] == [2, 1]


FRAMES = {
    "by its length": lambda body: (f"Content-Length: {len(body)}", body),
    "in chunks": lambda body: ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("apart", [True, False])
async def test_a_head_inside_a_body_is_body(made, frame, apart):
    line, framed = frame(HEAD * 3)
    async with await prompt(made.port) as client:
        await warm(made, client)
        answered = made.short
        post = head("/api/jobs", line, method="POST")
        cut = framed.index(b"GET ")
        pieces = [post, framed[:cut], HEAD, HEAD, HEAD, framed[cut + 3 * len(HEAD) :]] if apart else [post + framed]
        for piece in pieces:
            if piece:
                await client.send(piece)
                await turns()
        assert json.loads((await client.response()).body) == {"n": 2}
        assert made.world.upstream.bodies[-1] == HEAD * 3
        assert made.short == answered
        assert await version(client) == 3  # the write purged it


async def test_a_head_that_begins_behind_a_body_is_not_lost(made):
    line, framed = FRAMES["by its length"](b"{}")
    async with await prompt(made.port) as client:
        await warm(made, client)
        await client.send(head("/api/jobs", line, method="POST") + framed + HEAD[:30])
        assert (await client.response()).status == 200
        assert await version(client, HEAD[30:]) == 3
        assert await version(client) == 3


@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["at once", "behind an empty line"])
async def test_a_head_behind_a_chunked_body_is_one(made, end):
    line, framed = FRAMES["in chunks"](b"{}")
    async with await prompt(made.port) as client:
        await warm(made, client)
        await client.send(head("/api/jobs", line, method="POST"))
        await turns()
        await client.send(framed + end + HEAD)
        assert [(await client.response()).status for _ in range(2)] == [200, 200]
        assert await version(client) == 3


# What ends an answer, while its connection stays open


async def test_a_write_on_another_connection_is_seen_by_the_next_head(made):
    async with await prompt(made.port) as client, await prompt(made.port) as writer:
        await warm(made, client)
        for n in range(2, 8, 2):
            assert await version(client) == n - 1
            await writer.send(head("/api/jobs", "Content-Length: 2", method="POST") + b"{}")
            assert (await writer.response()).status == 200
            assert await version(client) == n + 1
            await made.settle()
            await warm(made, client)
    assert made.hits.repeated > 6


async def test_a_token_that_expires_on_an_open_connection_is_asked_about(made):
    data = head(token=unsigned(exp=made.world.clock.now + 5))
    async with await prompt(made.port) as client:
        await warm(made, client, data)
        made.world.clock.advance(4.999)
        assert await version(client, data) == 1
        repeated = made.hits.repeated
        made.world.clock.advance(0.001)
        await client.send(data)
        got = await client.response()
        assert (got.cache, made.hits.repeated) == ("sidecache; fwd=bypass; detail=token-expired", repeated)


async def test_new_rules_hold_for_the_next_head(made):
    async with await prompt(made.port) as client:
        await warm(made, client)
        made.reload(RULES.replace("ttl: 10m", "ttl: 10m\n    require: [admin]"))
        await client.send(HEAD)
        assert (await client.response()).cache == "sidecache; fwd=bypass; detail=permission"


async def test_an_entry_that_is_gone_or_another_is_not_served(made):
    async with await prompt(made.port) as client:
        await warm(made, client)
        await made.world.cache.drop("tenant:org_a:jobs:list")
        assert await version(client) == 2
        await made.settle()
        assert await version(client) == 2


async def test_a_head_that_is_too_large_is_so_though_the_rest_of_it_is_known(made):
    async with await prompt(made.port) as client:
        await warm(made, client)
        await client.send(head("/api/jobs", *["Cookie: " + "c" * 15_000] * 3))
        assert (await client.response()).status == 431
        assert await client.ended()


# Clients that do not read


async def test_heads_of_a_client_that_does_not_read_do_not_become_answers_in_memory():
    body = b"x" * 20_000
    async with served(RULES) as made:
        made.world.upstream.answer = lambda request, n: dated(body)
        async with await prompt(made.port, receive_buffer=4096) as client:
            await warm(made, client)
            client.writer.transport.pause_reading()
            (connection,) = made.listener._runner.server.connections
            most = 0
            for _ in range(3000):
                client.writer.write(HEAD)
                await asyncio.sleep(0)
                most = max(most, connection.transport.get_write_buffer_size())
            assert 0 < most < 256 << 10
            assert len(connection._messages) <= 33
            client.writer.transport.resume_reading()
            for _ in range(3000):
                assert len((await client.response()).body) == len(body)


async def test_a_client_that_takes_nothing_of_an_answer_is_given_up():
    async with served(RULES, limits=Limits(unsent=0.1)) as made:
        made.world.upstream.answer = lambda request, n: dated(b"x" * (1 << 20))
        async with await prompt(made.port, receive_buffer=4096) as client:
            await warm(made, client)
            client.writer.transport.pause_reading()
            for _ in range(40):
                client.writer.write(HEAD)
                await turns()
            await until(lambda: made.listener.connections == 0)


# Connections that end


async def test_once_it_leaves_each_answer_ends_its_connection(made):
    async with await prompt(made.port) as client:
        await warm(made, client)
        made.listener.leaving()
        await client.send(HEAD)
        got = await client.response()
        assert (got.status, got.get("connection"), json.loads(got.body)) == (200, "close", {"n": 1})
        assert await client.ended()


async def test_an_idle_connection_ends_and_each_hit_renews_its_time():
    async with served(RULES, limits=Limits(idle=0.4, head_time=0.05)) as made:
        made.world.upstream.answer = lambda request, n: dated({"n": n})
        loop = asyncio.get_running_loop()
        async with await prompt(made.port) as client:
            await warm(made, client)
            until_then = loop.time() + 0.6  # longer than an idle connection may stay
            (connection,) = made.listener._runner.server.connections
            while loop.time() < until_then:
                before = connection._next_keepalive_close_time
                assert await version(client) == 1
                assert connection._next_keepalive_close_time > before
                async with await connect(made.port) as clock:
                    assert await clock.ended()  # a head's time is over
            assert made.hits.repeated > 3
            assert await client.ended()


async def test_a_hit_stops_the_clock_for_a_new_connections_first_head():
    async with served(RULES, limits=Limits(head_time=0.3)) as made:
        made.world.upstream.answer = lambda request, n: dated({"n": n})
        async with await prompt(made.port) as client:
            await warm(made, client)
        async with await prompt(made.port) as client:
            await until(lambda: any(each._waiter is not None for each in made.listener._runner.server.connections))
            answered = made.hits.repeated
            assert await version(client) == 1
            assert made.hits.repeated == answered + 1
            async with await connect(made.port) as clock:
                assert await clock.ended()  # a head's time is over
            assert await version(client) == 1
            await client.send(HEAD[:20])
            assert (await client.response()).status == 408


async def test_a_parser_that_breaks_leaves_no_handler_behind(made, monkeypatch, caplog):
    async with await prompt(made.port) as client:
        await warm(made, client)
        (connection,) = made.listener._runner.server.connections
        handler = connection._task_handler
        monkeypatch.setattr(type(connection), "_received", lambda self, data: 1 / 0)
        await client.send(head("/api/jobs/9"))
        assert await client.ended()
        await asyncio.wait_for(asyncio.wait({handler}), LIMIT)
    caplog.clear()
