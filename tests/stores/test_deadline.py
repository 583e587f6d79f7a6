"""A deadline that a hung store misses, and a busy loop does not."""

import asyncio
import threading
import time

import pytest

from proxy.stores.deadline import Patience


async def hops(count: int) -> None:
    """The way of an answer from its socket to whoever waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_does_not_come_is_a_timeout_in_time():
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with Patience(0.05)() as deadline:
            await asyncio.Event().wait()
    assert 0.04 <= time.monotonic() - began < 1.0
    assert deadline.half_over


async def test_what_comes_at_once_is_in_time_and_leaves_no_timer():
    async with Patience(0.02)() as deadline:
        await hops(10)
    await asyncio.sleep(0.04)  # were the timer still there, it would end this
    assert not deadline.half_over


async def test_what_comes_in_the_second_half_is_late_and_yet_in_time():
    async with Patience(0.2)() as deadline:
        while not deadline.half_over:  # noqa: ASYNC110 - this is what is asked about
            await asyncio.sleep(0.005)
    assert deadline.half_over


@pytest.mark.parametrize("turns", [0, 3, 8])
async def test_what_came_while_the_loop_was_busy_is_in_time(turns):
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    threading.Timer(0.005, loop.call_soon_threadsafe, (arrived.set,)).start()
    loop.call_soon(time.sleep, 0.15)  # longer than the deadline
    async with Patience(0.05)() as deadline:
        await arrived.wait()
        await hops(turns)
    assert not deadline.half_over


async def test_a_loop_that_is_busy_in_every_turn_does_not_spoil_it():
    loop, ended = asyncio.get_running_loop(), False

    def busy() -> None:
        time.sleep(0.02)
        if not ended:
            loop.call_soon(busy)

    loop.call_soon(busy)
    async with Patience(0.05)() as deadline:
        await hops(8)
    ended = True
    assert not deadline.half_over


async def test_whoever_is_cancelled_is_cancelled_and_nothing_else():
    async def wait() -> None:
        async with Patience(5.0)():
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
