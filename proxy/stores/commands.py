"""Which Redis commands are the store's operations? One code path for a node, a Cluster and REST: each is a `Link`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, Protocol

from proxy.errors import StoreError, StoreRefusedError
from proxy.stores.base import Addition, Heard, Item, Names
from proxy.stores.streams import first_after, last_before

# Commands, names and fields are str, numbers int, values bytes: a link that carries text encodes the bytes.
Argument = str | bytes | int
Command = tuple[Argument, ...]
# Values are bytes, numbers int, a status ("OK") str or bytes; items of a stream are sequences of sequences.
Reply = bytes | str | int | Sequence["Reply"] | None

_BEYOND = "equal or smaller than the target stream top item"  # what a server says to an id that comes too late

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
    replies: asyncio.Future[list[Any]]  # of Reply, and of StoreError where `each` is for itself
    each: bool = False


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

    async def get_each(self, names: Sequence[str]) -> list[bytes | StoreError | None]:
        values: list[bytes | StoreError | None] = []
        for replies in await self._read_all([("GET", name) for name in names], each=True):
            values += [reply if type(reply) is bytes else _value_or_error(reply) for reply in replies]
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

    async def append(self, stream: str, fields: Mapping[str, bytes], max_length: int, ttl: float) -> str:
        pairs = [argument for pair in fields.items() for argument in pair]
        added, _ = await self._write(
            [("XADD", stream, "MAXLEN", max_length, "*", *pairs), ("PEXPIRE", stream, _milliseconds(ttl))]
        )
        return _text(added)

    async def restore(self, stream: str, item: Item, ttl: float) -> bool:
        pairs = [argument for pair in item.fields.items() for argument in pair]
        try:
            await self._write([("XADD", stream, item.id, *pairs), ("PEXPIRE", stream, _milliseconds(ttl))])
        except StoreError as error:
            if _BEYOND in str(error):
                return False
            raise
        return True

    async def trim(self, stream: str, oldest: str) -> None:
        await self._write([("XTRIM", stream, "MINID", oldest)])

    async def range(self, stream: str, after: str, count: int) -> list[Item]:
        begin = first_after(after) if after else "-"
        (reply,) = await self._write([("XRANGE", stream, begin, "+", "COUNT", count)])
        return _items(reply)

    async def latest(self, stream: str, before: str, count: int) -> list[Item]:
        end = last_before(before) if before else "+"
        (reply,) = await self._write([("XREVRANGE", stream, end, "-", "COUNT", count)])
        return _items(reply)

    async def add(self, additions: Sequence[Addition]) -> list[int | StoreError]:
        replies = await self._each([("HINCRBY", each.name, each.field, each.by) for each in additions])
        told = [reply if isinstance(reply, int | StoreError) else _no_number() for reply in replies]
        # a field that holds what was just added is new, and so may be its hash: only then it needs an end
        new = {each.name: each.ttl for each, reply in zip(additions, told, strict=True) if reply == each.by}
        with suppress(StoreError):  # what was added was added; the next new field gives it one
            await self._each([("PEXPIRE", name, _milliseconds(ttl)) for name, ttl in new.items()])
        return told

    async def counts(self, names: Sequence[str]) -> list[Mapping[str, int]]:
        hashes: list[Mapping[str, int]] = []
        for replies in await self._read_all([("HGETALL", name) for name in names]):
            hashes += map(_numbers, replies)
        return hashes

    async def observe(self, name: str, values: Sequence[str], ttl: float) -> None:
        (changed,) = await self._write([("PFADD", name, *values)])
        if changed:
            await self._write([("PEXPIRE", name, _milliseconds(ttl))])

    async def distinct(self, names: Sequence[str]) -> int:
        if not names:
            return 0
        (reply,) = await self._write([("PFCOUNT", *names)])
        return _number(reply)

    async def names(self, prefix: str, cursor: str, count: int) -> Names:
        if cursor and not _is_cursor(cursor):
            return Names([], "")
        (reply,) = await self._write([("SCAN", cursor or "0", "MATCH", f"{_literal(prefix)}*", "COUNT", count)])
        position, found = _sequence(reply)
        next = _text(position)
        return Names([_text(name) for name in _sequence(found)], "" if next == "0" else next)

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

    async def _read_all(self, commands: list[Command], *, each: bool = False) -> list[list[Any]]:
        """The replies, in parts of at most MAX_BATCH."""
        self._check_open()
        parts = [self._read(commands[at : at + MAX_BATCH], each) for at in range(0, len(commands), MAX_BATCH)]
        return [await parts[0]] if len(parts) == 1 else list(await asyncio.gather(*parts))

    def _read(self, commands: Sequence[Command], each: bool) -> asyncio.Future[list[Any]]:
        loop = asyncio.get_running_loop()
        if not self._unsent:
            loop.call_soon(self._send)
        read = _Read(commands, loop.create_future(), each)
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

    async def _each(self, commands: list[Command]) -> list[Reply | StoreError]:
        """As `_write`, with an error as the reply of the command that it is about."""
        if self._closed:
            raise StoreRefusedError("the store is closed")
        if not commands:
            return []
        write = _Read(commands, asyncio.get_running_loop().create_future(), each=True)
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
                _settle(read._replace(each=False), [failure])
            raise
        at = 0
        for read in batch:
            _settle(read, replies[at : at + len(read.commands)])
            at += len(read.commands)


def _settle(read: _Read, replies: Sequence[Reply | StoreError]) -> None:
    waiting = read.replies
    if waiting.done():
        return
    if read.each:
        waiting.set_result(list(replies))
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


def _value_or_error(reply: Reply | StoreError) -> bytes | StoreError | None:
    if reply is None or isinstance(reply, bytes | StoreError):
        return reply
    return StoreError("the store answered with something that is no value")


def _number(reply: Reply) -> int:
    if isinstance(reply, int):
        return reply
    raise _no_number()


def _no_number() -> StoreError:
    return StoreError("the store answered with something that is no number")


def _numbers(reply: Reply | Mapping[Any, Any]) -> dict[str, int]:
    """Of a hash: a mapping, or names and values by turns."""
    pairs = reply.items() if isinstance(reply, Mapping) else _pairs(_sequence(reply))
    try:
        return {_text(name): int(value) for name, value in pairs}
    except (TypeError, ValueError):
        raise _no_number() from None


def _pairs(reply: Sequence[Reply]) -> Iterator[tuple[Any, Any]]:
    return zip(reply[::2], reply[1::2], strict=True)


def _is_cursor(text: str) -> bool:
    """Whether a server takes it; a cluster's begins with the address of a node."""
    own = text.rpartition("|")[2]
    return 0 < len(own) <= 20 and own.isascii() and own.isdigit() and int(own) < 1 << 64


def _literal(text: str) -> str:
    """What stands for itself in a pattern."""
    return "".join(f"\\{char}" if char in "*?[]^-\\" else char for char in text)


def _text(reply: Reply) -> str:
    if isinstance(reply, bytes):
        return reply.decode("ascii", "replace")
    raise StoreError("the store answered with something that is no text")


def _items(reply: Reply) -> list[Item]:
    items = []
    for each in _sequence(reply):
        id, pairs = _sequence(each)
        names_and_values = _sequence(pairs)
        names, values = names_and_values[::2], names_and_values[1::2]
        fields = {_text(name): _value(value) or b"" for name, value in zip(names, values, strict=True)}
        items.append(Item(_text(id), fields))
    return items


def _sequence(reply: Reply) -> Sequence[Reply]:
    if isinstance(reply, Sequence) and not isinstance(reply, bytes | str):
        return reply
    raise StoreError("the store answered with something that is no list")
