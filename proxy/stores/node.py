"""Which connection carries a batch to one Redis server? A bounded pool that never uses a doubtful connection again."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from redis.exceptions import ReadOnlyError, ResponseError

from proxy.errors import StoreError, StoreRefusedError
from proxy.stores.access import FAILURES, Access, PlainConnection, explained
from proxy.stores.commands import Command
from proxy.stores.conversation import Answer
from proxy.stores.deadline import Patience

# What a server says of itself: its answer to HELLO, with "run_id" and "maxmemory_policy" where INFO is allowed.
Greeting = Mapping[str, str]

_OLDEST = 11 * 3600  # seconds; connections of an ElastiCache IAM user are cut after 12 hours


class Node:
    """The connections to one address. A batch has one of them to itself, and ends with a question only it can know the
    answer to: a stray reply, whenever it arrived, shifts the others and is noticed.
    """

    def __init__(
        self,
        access: Access,
        host: str,
        port: int,
        *,
        size: int,
        timeout: float,
        clock: Callable[[], float],
        disturbed: Callable[[str], None],
        admit: Callable[[Greeting], None],
    ) -> None:
        """`timeout`: from the wait for a connection to the last reply. `admit` raises StoreError for a wrong server."""
        self.host = host
        self.port = port
        self.address = f"{host}:{port}"
        self.failing = False
        self._access = access
        self._patience = Patience(timeout)
        self._clock = clock
        self._disturbed = disturbed
        self._admit = admit
        self._idle: deque[_Pooled] = deque()  # the one used last goes first: the others may grow old and be closed
        self._busy: set[_Pooled] = set()
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._numbers = itertools.count(1)
        self._generation = 0
        self._run_id = ""
        self._closed = False
        self.greeting: Greeting = {}

    async def execute(self, commands: Sequence[Command]) -> list[Answer]:
        """The replies; an error that the server answered is one of them. StoreError when there are none."""
        stage = _Stage()
        try:
            async with self._patience(), self._free:
                stage.name = "connect"
                pooled = await self._take()
                stage.name = "reply"
                answers = await self._converse(pooled, commands)
        except FAILURES as error:
            self.failing = True
            failure = self._failure(error, stage.name)
            raise (failure if stage.name == "reply" else StoreRefusedError.of(failure)) from None
        if self.failing:
            self.failing = False
            self._disturbed(f"{self.address} is reached again")
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            self.disconnect()
            self._disturbed(f"{self.address} is no primary any more")
        return answers

    async def warm(self, count: int) -> None:
        """Open connections ahead of need, one after the other: greetings over TLS would stop the loop together."""
        while len(self._idle) < min(count, self._size) and not self._closed:
            try:
                async with self._patience(), self._free:
                    self._give_back(await self._open())
            except FAILURES as error:
                raise self._failure(error, "connect") from None

    def disconnect(self) -> None:
        """Let no connection of now be used again: idle ones are closed here, the others when their batch ends."""
        self._generation += 1
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._closed = True
        self.disconnect()

    def abort(self) -> None:
        """End what is under way too."""
        self.close()
        for pooled in list(self._busy):
            pooled.close()

    def _failure(self, error: BaseException, stage: str) -> StoreError:
        if self._closed:
            return StoreError("the store is closed")
        if stage == "wait" and isinstance(error, TimeoutError):
            return StoreError(f"SIDECACHE_POOL_SIZE: all {self._size} connections to {self.address} are in use")
        return explained(error, self._access, self.address, greeted=stage == "reply")

    async def _take(self) -> "_Pooled":
        """An idle connection that is as it was left, or a new one."""
        if self._closed:
            raise StoreError("the store is closed")
        while self._idle:
            pooled = self._idle.pop()
            if pooled.connection.is_clean() and self._clock() - pooled.born < _OLDEST:
                return pooled
            pooled.close()
        return await self._open()

    async def _open(self) -> "_Pooled":
        connection = self._access.connection(self.host, self.port)
        pooled = _Pooled(connection, self._clock(), self._generation)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await self._greet(pooled)
        except BaseException:
            pooled.close()
            raise
        return pooled

    async def _greet(self, pooled: "_Pooled") -> None:
        """Who is there? A server that was restarted, or is another one behind the same name, may have lost writes."""
        hello, *told = await pooled.converse([("HELLO",), ("INFO", "server"), ("INFO", "memory")], b"greeting")
        if isinstance(hello, ResponseError):
            raise hello
        greeting = {_text(name): _text(value) for name, value in hello.items() if isinstance(value, bytes)}
        for section, name in zip(told, ("run_id", "maxmemory_policy"), strict=True):
            if isinstance(section, bytes):
                greeting[name] = _text(section.partition(b"%b:" % name.encode())[2].partition(b"\r")[0])
        self._admit(greeting)
        before, self._run_id = self._run_id, greeting.get("run_id") or self._run_id
        self.greeting = greeting
        if before and before != self._run_id:
            self.disconnect()
            pooled.generation = self._generation
            self._disturbed(f"{self.address} was restarted or is another server now")

    async def _converse(self, pooled: "_Pooled", commands: Sequence[Command]) -> list[Answer]:
        self._busy.add(pooled)
        try:
            answers = await pooled.converse(commands, b"%d" % next(self._numbers))
        except BaseException:
            pooled.close()
            raise
        finally:
            self._busy.discard(pooled)
        self._give_back(pooled)
        return answers

    def _give_back(self, pooled: "_Pooled") -> None:
        if self._closed or pooled.generation != self._generation:
            pooled.close()
        else:
            self._idle.append(pooled)


class _Stage:
    """How far a batch came before it failed."""

    name = "wait"


class _Pooled:
    """One connection, when it was opened, and before which disconnection."""

    def __init__(self, connection: PlainConnection, born: float, generation: int) -> None:
        self.connection = connection
        self.born = born
        self.generation = generation

    async def converse(self, commands: Sequence[Command], token: bytes) -> list[Answer]:
        """Send the commands and PING with a token that must come back last: then every reply is its command's own."""
        answers = await self.connection.ask([*commands, ("PING", token)])
        last = answers.pop()
        if isinstance(last, ResponseError):
            raise last
        if last != token:
            raise StoreError(f"{self.connection.host}:{self.connection.port} sent a reply that nobody asked for")
        return answers

    def close(self) -> None:
        self.connection.abandon()


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")
