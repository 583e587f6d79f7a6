"""Which Redis commands are the store's operations? One code path for a node, a Cluster and REST: each is a `Link`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

from proxy.errors import StoreError
from proxy.stores.base import Heard, Logged

# Commands, names and fields are str, numbers int, values bytes: a link that carries text encodes the bytes.
Argument = str | bytes | int
Command = tuple[Argument, ...]
# Values are bytes, numbers int, a status ("OK") str or bytes. Of a stream: pairs of an id and a list of fields.
Reply = bytes | str | int | Sequence[Any] | None

MAX_BATCH = 512  # commands; what is read in one turn of the loop beyond that goes as a further batch


class Link(Protocol):
    """Carries commands to one server, one cluster or one REST endpoint. It repeats nothing and bounds every wait."""

    name: str  # redis | upstash

    async def execute(self, commands: Sequence[Command]) -> list[Reply | StoreError]:
        """The replies in the order of the commands, one round trip per node; commands for one name keep their order.

        A command that failed has its StoreError as its reply. StoreError is raised when there are no replies at all.
        """

    def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        """As `Store.listen`; StoreError also when the link is closed meanwhile."""

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        """As `Store.on_disturbance`."""

    async def close(self) -> None:
        """Release connections; calls and listeners that are under way get StoreError."""


class _Read(NamedTuple):
    commands: Sequence[Command]
    replies: asyncio.Future[list[Reply]]


class CommandStore:
    """The shared store. What is read in one turn of the event loop is sent together; writes go at once.

    Commands run in tasks of their own: a caller that is cancelled leaves no unread reply on a connection.
    """

    shared = True

    def __init__(self, link: Link) -> None:
        self.name = link.name
        self._link = link
        self._unsent: list[_Read] = []
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        for replies in await self._read_all([("GET", name) for name in names]):
            values += [_value(reply) for reply in replies]
        return values

    async def set(self, name: str, value: bytes, ttl: float) -> None:
        await self._write([("SET", name, value, "PX", _milliseconds(ttl))])

    async def claim(self, name: str, value: bytes, ttl: float) -> bool:
        (reply,) = await self._write([("SET", name, value, "NX", "PX", _milliseconds(ttl))])
        return reply is not None

    async def replace(self, name: str, value: bytes, ttl: float) -> bool:
        (reply,) = await self._write([("SET", name, value, "XX", "PX", _milliseconds(ttl))])
        return reply is not None

    async def delete(self, names: Sequence[str]) -> int:
        return sum(map(_number, await self._write([("DEL", name) for name in names])))

    async def epochs(self, space: str, fields: Sequence[str]) -> list[bytes | None]:
        if not fields:
            return []
        ((reply,),) = await self._read_all([("HMGET", space, *fields)])
        if not isinstance(reply, Sequence) or isinstance(reply, bytes | str) or len(reply) != len(fields):
            raise StoreError("the store answered HMGET with something else")
        return [_value(value) for value in reply]

    async def create_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        await self._write([("HSETNX", space, field, value) for field, value in values.items()])

    async def advance_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        if values:
            pairs = [argument for pair in values.items() for argument in pair]
            await self._write([("HSET", space, *pairs)])

    async def append(self, log: str, value: bytes, oldest: float) -> None:
        await self._write([("XADD", log, "MINID", "~", max(0, int(oldest * 1000)), "*", "v", value)])

    async def entries(self, log: str, after: str, most: int) -> list[Logged]:
        ((reply,),) = await self._read_all([("XRANGE", log, f"({after}" if after else "-", "+", "COUNT", most)])
        if not isinstance(reply, Sequence) or isinstance(reply, bytes | str):
            raise StoreError("the store answered XRANGE with something else")
        return [_logged(entry) for entry in reply]

    async def publish(self, channel: str, message: bytes) -> None:
        await self._write([("PUBLISH", channel, message)])

    async def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        self._check_open()
        async with aclosing(self._link.listen(channels)) as heard:
            async for each in heard:
                yield each
        raise StoreError("the store stopped telling")

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        self._link.on_disturbance(report)

    async def ping(self) -> str:
        (reply,) = await self._write([("PING",)])  # alone, not behind what others read
        return reply.decode("ascii", "replace") if isinstance(reply, bytes) else str(reply)

    async def close(self) -> None:
        self._closed = True
        await self._link.close()
        while self._running:
            await asyncio.wait(self._running)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")

    # -- reading

    async def _read_all(self, commands: list[Command]) -> list[list[Reply]]:
        """The replies, in parts of at most MAX_BATCH."""
        self._check_open()
        parts = [self._read(commands[at : at + MAX_BATCH]) for at in range(0, len(commands), MAX_BATCH)]
        return [await parts[0]] if len(parts) == 1 else list(await asyncio.gather(*parts))

    def _read(self, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        loop = asyncio.get_running_loop()
        if not self._unsent:
            loop.call_soon(self._send)
        read = _Read(commands, loop.create_future())
        self._unsent.append(read)
        return read.replies

    def _send(self) -> None:
        reads, self._unsent = self._unsent, []
        batch: list[_Read] = []
        size = 0
        for read in reads:
            if read.replies.done():
                continue  # whoever asked has gone
            if size + len(read.commands) > MAX_BATCH:
                self._start(batch)
                batch, size = [], 0
            batch.append(read)
            size += len(read.commands)
        if batch:
            self._start(batch)

    # -- sending

    async def _write(self, commands: list[Command]) -> list[Reply]:
        self._check_open()
        if not commands:
            return []
        write = _Read(commands, asyncio.get_running_loop().create_future())
        self._start([write])
        return await write.replies

    def _start(self, batch: Sequence[_Read]) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(batch))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)

    async def _carry(self, batch: Sequence[_Read]) -> None:
        """Give everybody in the batch their replies, or their error."""
        commands = [command for read in batch for command in read.commands]
        try:
            replies = await self._link.execute(commands)
            if len(replies) != len(commands):
                raise StoreError("the store answered another number of commands than it was sent")
        except StoreError as error:
            replies = [error] * len(commands)
        except BaseException as error:  # a defect of the link: whoever waits must not wait for ever
            failure = StoreError(f"the store's client failed: {type(error).__name__}")
            for read in batch:
                _settle(read.replies, [failure])
            raise
        at = 0
        for read in batch:
            _settle(read.replies, replies[at : at + len(read.commands)])
            at += len(read.commands)


def _settle(waiting: asyncio.Future[list[Reply]], replies: Sequence[Reply | StoreError]) -> None:
    if waiting.done():
        return
    good: list[Reply] = []
    for reply in replies:
        if isinstance(reply, StoreError):
            # one object for each who waits: a traceback grows with every `raise`
            waiting.set_exception(type(reply)(str(reply)))
            return
        good.append(reply)
    waiting.set_result(good)


def _milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))  # never later than asked for


def _value(reply: Reply) -> bytes | None:
    if reply is None or isinstance(reply, bytes):
        return reply
    raise StoreError("the store answered with something that is no value")


def _logged(entry: Any) -> Logged:
    match entry:
        case [bytes(id), [_, bytes(value)]]:
            return Logged(id.decode("ascii", "replace"), value)
        case _:
            raise StoreError("the store answered with something that is no entry of a log")


def _number(reply: Reply) -> int:
    if isinstance(reply, int):
        return reply
    raise StoreError("the store answered with something that is no number")
