"""proxy.serving.pool: who gets which connection, how many there are, and how long they live."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.serving.connection import Connection, Exchange
from proxy.serving.pool import Pool
from tests.serving.ends import End
from tests.wire import LIMIT, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Dialer:
    """Makes connections, and keeps their other ends in order."""

    def __init__(self) -> None:
        self.ends: list[End] = []
        self.fails = False

    async def __call__(self) -> Connection:
        if self.fails:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.ends.append(End(theirs))
        _, connection = await asyncio.get_running_loop().create_connection(Connection, sock=ours)
        return connection


@asynccontextmanager
async def pooled(limit: int = 10, **more: float) -> AsyncIterator[tuple[Pool, Dialer]]:
    dialer = Dialer()
    pool = Pool(dialer, limit, **more)
    yield pool, dialer
    pool.close()
    await asyncio.sleep(0)
    for end in dialer.ends:
        end.close()


def ask(connection: Connection) -> Exchange:
    return connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", None, None, interim=None, idle=10, moved=lambda last: None)


async def used(pool: Pool, dialer: Dialer, *, raw: bytes = OK) -> Connection:
    """A connection that was taken, had its request answered, and is back."""
    connection = await pool.take()
    exchange = ask(connection)
    await dialer.ends[-1].send(raw)
    await exchange.answered()
    return connection


async def test_the_connection_used_last_is_used_next():
    async with pooled() as (pool, dialer):
        first = await used(pool, dialer)
        assert (pool.in_use, pool.idle) == (0, 1)
        assert await pool.take() is first
        second = await used(pool, dialer)
        assert second is not first
        assert (pool.in_use, pool.idle, len(dialer.ends)) == (1, 1, 2)


async def test_it_is_ready_while_one_is_idle_and_nobody_waits():
    async with pooled() as (pool, dialer):
        assert not pool.is_ready
        await used(pool, dialer)
        assert pool.is_ready
        await pool.take()
        assert not pool.is_ready


async def test_a_fresh_one_is_never_one_that_was_used():
    async with pooled() as (pool, dialer):
        first = await used(pool, dialer)
        assert await pool.take(fresh=True) is not first
        assert pool.idle == 1


async def test_a_fresh_one_at_the_limit_takes_the_place_of_an_idle_one():
    async with pooled(limit=1) as (pool, dialer):
        first = await used(pool, dialer)
        await pool.take(fresh=True)
        assert (pool.in_use, pool.idle, first.transport.is_closing()) == (1, 0, True)


async def test_what_cannot_be_reused_is_not():
    async with pooled() as (pool, dialer):
        first = await used(pool, dialer, raw=b"HTTP/1.0 204 No Content\r\n\r\n")
        assert (pool.in_use, pool.idle) == (0, 0)
        assert await pool.take() is not first


@pytest.mark.parametrize("data", [b"x", b""])
async def test_a_connection_that_spoke_or_ended_while_idle_is_not_used(data):
    async with pooled() as (pool, dialer):
        first = await used(pool, dialer)
        if data:
            await dialer.ends[0].send(data)
        else:
            dialer.ends[0].sock.shutdown(socket.SHUT_RDWR)
        second = await pool.take()  # the loop has not even read it yet
        assert second is not first
        assert first.transport.is_closing()


async def test_at_the_limit_the_next_one_waits_for_a_place():
    async with pooled(limit=1) as (pool, dialer):
        connection = await pool.take()
        exchange = ask(connection)
        waiting = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        await dialer.ends[0].send(OK)
        await exchange.answered()
        assert await asyncio.wait_for(waiting, LIMIT) is connection


async def test_who_gives_up_waiting_or_fails_to_connect_takes_no_place():
    async with pooled(limit=1) as (pool, dialer):
        dialer.fails = True
        with pytest.raises(ConnectionRefusedError):
            await pool.take()
        dialer.fails = False
        connection = await pool.take()
        waiting = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        waiting.cancel()
        connection.end()
        await asyncio.wait_for(pool.take(), LIMIT)
        assert pool.in_use == 1


async def test_idle_connections_are_closed_when_their_time_is_over():
    async with pooled(keepalive=0.05) as (pool, dialer):
        await used(pool, dialer)
        await until(lambda: pool.idle == 0)
        assert await dialer.ends[0].receive(1000) == b"GET / HTTP/1.1\r\n\r\n"


async def test_an_idle_connection_is_not_used_after_its_time_even_before_it_is_swept():
    async with pooled(keepalive=100) as (pool, dialer):
        first = await used(pool, dialer)
        first.idle_since -= 101
        assert await pool.take() is not first
        assert first.transport.is_closing()


async def test_closing_ends_connections_in_use_and_idle():
    async with pooled() as (pool, dialer):
        idle = await used(pool, dialer)
        busy = await pool.take(fresh=True)
        pool.close()
        assert idle.transport.is_closing()
        assert busy.transport.is_closing()
