"""proxy.stores.conversation: each reply is its command's own; a connection with anything else on it is done with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from proxy.stores.access import Access
from proxy.stores.conversation import Conversation, packed
from tests.doubles import settle

GETS = [("GET", "a"), ("GET", "b")]


class Server:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.heard = b""
        self.writer: asyncio.StreamWriter

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.005)


@asynccontextmanager
async def conversing() -> AsyncIterator[tuple[Conversation, Server]]:
    server, connected = Server(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.writer = writer
        connected.set()
        while data := await reader.read(1 << 16):
            server.heard += data

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        host, port = listening.sockets[0].getsockname()
        connection = Access(host, port).connection(host, port)
        _, writer = await asyncio.open_connection(host, port)
        connection._parser.on_connect(connection)
        made = Conversation(writer.transport, connection._parser._reader, NOT_ENOUGH_DATA)
        await connected.wait()
        yield made, server
        writer.transport.abort()
        server.writer.transport.abort()
        await settle()


async def asking(made: Conversation, commands=GETS) -> asyncio.Task:
    task = asyncio.ensure_future(made.ask(commands))
    await asyncio.sleep(0)
    return task


async def test_replies_come_back_in_the_order_of_the_commands_however_they_arrive():
    async with conversing() as (made, server):
        for pieces in ([b"$1\r\n1\r\n$1\r\n2\r\n"], [b"$1\r", b"\n1\r\n", b"$1\r\n2", b"\r\n"]):
            task = await asking(made)
            await server.say(*pieces)
            assert await task == [b"1", b"2"]
            assert made.is_clean
        assert server.heard == packed(GETS) * 2


async def test_an_error_of_one_command_is_its_answer():
    async with conversing() as (made, server):
        task = await asking(made)
        await server.say(b"-WRONGTYPE no\r\n$1\r\n2\r\n")
        error, value = await task
        assert isinstance(error, ResponseError)
        assert (value, made.is_clean) == (b"2", True)


async def test_an_error_of_the_server_as_such_is_nobody_s_answer():
    async with conversing() as (made, server):
        task = await asking(made)
        await server.say(b"-LOADING it is\r\n$-1\r\n")
        with pytest.raises(RedisConnectionError):
            await task


@pytest.mark.parametrize("more", [b"$1\r\n3\r\n", b"+OK\r\n", b"$1"])
async def test_what_comes_with_the_last_reply_spoils_the_connection(more):
    async with conversing() as (made, server):
        task = await asking(made)
        await server.say(b"$1\r\n1\r\n$1\r\n2\r\n" + more)
        assert await task == [b"1", b"2"]
        assert not made.is_clean
        with pytest.raises(RedisConnectionError):
            await made.ask(GETS)


@pytest.mark.parametrize("stray", [b"$1\r\n3\r\n", b"x", b">2\r\n+a\r\n+b\r\n"])
async def test_what_nobody_asked_for_ends_the_connection(stray):
    async with conversing() as (made, server):
        await server.say(stray)
        assert not made.is_clean


async def test_a_notification_between_replies_is_none():
    async with conversing() as (made, server):
        task = await asking(made)
        await server.say(b"$1\r\n1\r\n>2\r\n+moving\r\n:1\r\n$1\r\n2\r\n")
        assert await task == [b"1", b"2"]


async def test_what_is_no_reply_at_all_is_an_error_for_whoever_waits():
    async with conversing() as (made, server):
        task = await asking(made)
        await server.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(InvalidResponse):
            await task
        assert not made.is_clean


@pytest.mark.parametrize("said", [b"", b"$1\r\n1\r\n$5\r\nab"])
async def test_a_connection_that_ends_is_an_error_for_whoever_waits(said):
    async with conversing() as (made, server):
        task = await asking(made)
        if said:
            await server.say(said)
        server.writer.transport.abort()
        with pytest.raises(RedisConnectionError):
            await task
        assert not made.is_clean


async def test_until_the_replies_of_whoever_stopped_waiting_are_here_the_connection_is_not_clean():
    async with conversing() as (made, server):
        task = await asking(made)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not made.is_clean
        await server.say(b"$1\r\n1\r\n")
        assert not made.is_clean
        await server.say(b"$1\r\n2\r\n")
        assert made.is_clean
        task = await asking(made)
        await server.say(b"$1\r\n3\r\n$1\r\n4\r\n")
        assert await task == [b"3", b"4"]
