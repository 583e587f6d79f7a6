"""RESP2 with a real server, and with what is none."""

import asyncio

import pytest

from proxy.dev.resp import Connection, Failed, Pool, Status, Unanswered, packed
from tests.stores.service import hang


def test_a_command_is_packed_as_the_protocol_says():
    assert packed([b"GET", b"a\r\n\xff"]) == b"*2\r\n$3\r\nGET\r\n$4\r\na\r\n\xff\r\n"


@pytest.mark.parametrize(
    ("command", "value", "raw"),
    [
        ([b"PING"], Status("PONG"), b"+PONG\r\n"),
        ([b"SET", b"k", b"v"], Status("OK"), b"+OK\r\n"),
        ([b"ECHO", b"OK"], b"OK", b"$2\r\nOK\r\n"),
        ([b"ECHO", b""], b"", b"$0\r\n\r\n"),
        ([b"ECHO", b"\xff\r\n"], b"\xff\r\n", b"$3\r\n\xff\r\n\r\n"),
        ([b"GET", b"missing"], None, b"$-1\r\n"),
        ([b"INCR", b"n"], 1, b":1\r\n"),
        ([b"MGET", b"missing", b"missing"], [None, None], b"*2\r\n$-1\r\n$-1\r\n"),
        ([b"EVAL", b"return {1,{'a'},{err='ERR x'}}", b"0"], [1, [b"a"], Failed("ERR x")], None),
    ],
)
async def test_replies_are_read_whole_and_kept_as_they_came(address, command, value, raw):
    pool = Pool(address)
    (reply,) = await pool.call([command])
    pool.close()
    assert reply.value == value
    assert type(reply.value) is type(value)
    assert raw is None or reply.raw == raw


async def test_an_error_is_a_reply_like_others(address):
    pool = Pool(address)
    replies = await pool.call([[b"SET", b"k", b"v"], [b"INCR", b"k"], [b"GET", b"k"]])
    pool.close()
    assert [type(reply.value) for reply in replies] == [Status, Failed, bytes]


async def test_connections_are_used_again_but_never_after_a_cancellation(server, address):
    pool = Pool(address)
    for _ in range(3):
        await pool.call([[b"PING"]])
    (first,) = await pool.call([[b"CLIENT", b"ID"]])
    blocked = asyncio.ensure_future(pool.call([[b"BLPOP", b"never", b"0"]]))
    await asyncio.sleep(0)  # it has its connection
    (other,) = await pool.call([[b"CLIENT", b"ID"]])
    blocked.cancel()
    await asyncio.wait([blocked])
    (after,) = await pool.call([[b"CLIENT", b"ID"]])
    pool.close()
    assert first.value != other.value == after.value


@pytest.mark.parametrize("server_name", ["127.0.0.1:1", "nowhere.invalid:6379", "/nowhere/redis.sock", "no address"])
async def test_a_server_that_is_not_there_is_named(server_name):
    with pytest.raises(Unanswered, match=server_name):
        await Connection.open(server_name)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nabc", b""])
async def test_what_is_no_redis_server_is_an_error(said):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    pool = Pool(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    with pytest.raises(Unanswered):
        await pool.call([[b"PING"]])
    listener.close()


async def test_a_server_that_does_not_answer_is_waited_for_only_so_long(monkeypatch):
    monkeypatch.setattr("proxy.dev.resp._ANSWER_SECONDS", 0.05)
    waiting: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.add(asyncio.current_task())
        try:
            await hang(writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    pool = Pool(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    with pytest.raises(Unanswered, match="did not answer"):
        await pool.call([[b"PING"]])
    listener.close()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
