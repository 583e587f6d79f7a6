"""Messages between two processes: whole, answered, in any pieces they arrive in."""

import asyncio
import socket

import pytest

from proxy.cache.background import Background
from proxy.workers.channel import Channel
from tests.wire import until


class Pair:
    """Both ends, and what one of them was told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.lost: list[str] = []
        self.gate = asyncio.Event()
        self.failed: list[BaseException] = []
        self.background = Background(self.failed.append)

        async def echo(content: object) -> object:
            self.told.append(content)
            return content

        async def slow(content: object) -> object:
            await self.gate.wait()
            return content

        handlers = {"echo": echo, "slow": slow}
        self.one = Channel({}, start=self.background.start, lost=lambda: self.lost.append("one"))
        self.other = Channel(handlers, start=self.background.start, lost=lambda: self.lost.append("other"))

    async def connect(self) -> "Pair":
        loop = asyncio.get_running_loop()
        for channel, sock in zip((self.one, self.other), socket.socketpair(), strict=True):
            await loop.create_unix_connection(lambda channel=channel: channel, sock=sock)
        return self


@pytest.fixture
async def pair():
    made = await Pair().connect()
    yield made
    made.one.close()
    made.other.close()
    await made.background.drain(1)
    assert made.failed == []


@pytest.mark.parametrize(
    "content", [None, "", {"a": [1, 2.5, None]}, "x" * 300_000], ids=["none", "empty", "json", "long"]
)
async def test_what_is_asked_is_answered(pair, content):
    assert await pair.one.ask("echo", content) == content
    assert pair.told == [content]


async def test_many_at_once_each_have_their_own_answer(pair):
    answers = [pair.one.ask("echo", number) for number in range(500)]
    assert await asyncio.gather(*answers) == list(range(500))
    assert pair.told == list(range(500))  # in order


async def test_a_slow_answer_holds_up_no_other(pair):
    slow = pair.one.ask("slow", 1)
    assert await pair.one.ask("echo", 2) == 2
    assert not slow.done()
    pair.gate.set()
    assert await slow == 1


async def test_who_stops_waiting_disturbs_nobody(pair):
    slow = pair.one.ask("slow")
    assert await pair.one.ask("echo", 0) == 0
    slow.cancel()
    pair.gate.set()
    assert await pair.one.ask("echo", 1) == 1


def test_a_message_may_come_in_any_pieces():
    started: list[object] = []
    channel = Channel({}, start=started.append, lost=lambda: None)
    message = b'[1,"name","content"]'
    data = (len(message).to_bytes(4, "big") + message) * 2
    for place in range(len(data)):
        channel.data_received(data[place : place + 1])
    assert len(started) == 2
    for coroutine in started:
        coroutine.close()


async def test_the_end_of_one_is_noticed_by_the_other_and_answers_nothing(pair):
    slow = pair.one.ask("slow")
    assert await pair.one.ask("echo") is None
    pair.other.close()
    await until(lambda: len(pair.lost) >= 2)
    pair.one.ask("echo")  # nobody is there to hear it
    assert not slow.done()
    pair.gate.set()
