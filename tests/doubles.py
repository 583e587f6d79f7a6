"""Stand-ins that several tests share: a clock that moves when told, a store that fails or waits when told, a counter
for randomness."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

from proxy.cache.background import Background, Work
from proxy.errors import StoreError
from proxy.stores.base import Addition, Heard, Item, Names, Store


class FakeClock:
    """Seconds that pass only by `advance`, or by `sleep`, which passes them at once."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class HeldBack(Background):
    """Background work whose delayed part is kept in `delayed` and started by nobody but the test."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__(failed)
        self.delayed: list[tuple[float, Work]] = []

    def later(self, seconds: float, work: Work) -> None:
        self.delayed.append((seconds, work))


class StoreDouble:
    """A store around a real one. `down` names the operations that raise StoreError; `lost` those that are carried out
    and then raise it (the answer was lost); `held` those that wait at `gates`, once on their way there and once on
    their way back; `delayed` those that wait on their way back only. `calls` lists every operation with its names.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.name = inner.name
        self.shared = inner.shared
        self.down: set[str] = set()
        self.lost: set[str] = set()
        self.held: set[str] = set()
        self.delayed: set[str] = set()
        self.gates: list[tuple[str, asyncio.Future[None]]] = []
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self._reports: list[Callable[[str], None]] = []

    async def _before(self, operation: str, names: Sequence[str]) -> None:
        self.calls.append((operation, tuple(names)))
        if operation in self.held:
            await self.wait(operation)
        if operation in self.down:
            raise StoreError(f"{operation}: the store is down")

    async def _after(self, operation: str) -> None:
        if operation in self.held or operation in self.delayed:
            await self.wait(operation)
        if operation in self.lost:
            raise StoreError(f"{operation}: the answer was lost")

    async def wait(self, operation: str) -> None:
        """Stand at a gate until it is opened; for a test's own steps too."""
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append((operation, gate))
        await gate

    def open_gate(self, index: int = 0) -> str:
        """Let one waiting operation take its next step; which one it was."""
        operation, gate = self.gates.pop(index)
        if not gate.done():  # whoever stood there may have left
            gate.set_result(None)
        return operation

    def count(self, operation: str) -> int:
        return sum(called == operation for called, _ in self.calls)

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        await self._before("get", names)
        values = await self.inner.get(names)
        await self._after("get")
        return values

    async def get_each(self, names: Sequence[str]) -> list[bytes | StoreError | None]:
        await self._before("get", names)
        values = await self.inner.get_each(names)
        await self._after("get")
        return values

    async def set(self, name: str, value: bytes, ttl: float) -> None:
        await self._before("set", (name,))
        await self.inner.set(name, value, ttl)
        await self._after("set")

    async def claim(self, name: str, value: bytes, ttl: float) -> bool:
        await self._before("claim", (name,))
        claimed = await self.inner.claim(name, value, ttl)
        await self._after("claim")
        return claimed

    async def replace(self, name: str, value: bytes, ttl: float) -> bool:
        await self._before("replace", (name,))
        replaced = await self.inner.replace(name, value, ttl)
        await self._after("replace")
        return replaced

    async def delete(self, names: Sequence[str]) -> int:
        await self._before("delete", names)
        deleted = await self.inner.delete(names)
        await self._after("delete")
        return deleted

    async def epochs(self, space: str, fields: Sequence[str]) -> list[bytes | None]:
        await self._before("epochs", (space, *fields))
        values = await self.inner.epochs(space, fields)
        await self._after("epochs")
        return values

    async def create_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        await self._before("create_epochs", (space, *values))
        await self.inner.create_epochs(space, values)
        await self._after("create_epochs")

    async def advance_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        await self._before("advance_epochs", (space, *values))
        await self.inner.advance_epochs(space, values)
        await self._after("advance_epochs")

    async def append(self, stream: str, fields: Mapping[str, bytes], max_length: int, ttl: float) -> str:
        await self._before("append", (stream,))
        id = await self.inner.append(stream, fields, max_length, ttl)
        await self._after("append")
        return id

    async def restore(self, stream: str, item: Item, ttl: float) -> bool:
        await self._before("restore", (stream, item.id))
        restored = await self.inner.restore(stream, item, ttl)
        await self._after("restore")
        return restored

    async def trim(self, stream: str, oldest: str) -> None:
        await self._before("trim", (stream, oldest))
        await self.inner.trim(stream, oldest)
        await self._after("trim")

    async def range(self, stream: str, after: str, count: int) -> list[Item]:
        await self._before("range", (stream,))
        items = await self.inner.range(stream, after, count)
        await self._after("range")
        return items

    async def latest(self, stream: str, before: str, count: int) -> list[Item]:
        await self._before("latest", (stream,))
        items = await self.inner.latest(stream, before, count)
        await self._after("latest")
        return items

    async def add(self, additions: Sequence[Addition]) -> list[int | StoreError]:
        await self._before("add", [each.name for each in additions])
        told = await self.inner.add(additions)
        await self._after("add")
        return told

    async def counts(self, names: Sequence[str]) -> list[Mapping[str, int]]:
        await self._before("counts", names)
        found = await self.inner.counts(names)
        await self._after("counts")
        return found

    async def observe(self, name: str, values: Sequence[str], ttl: float) -> None:
        await self._before("observe", (name,))
        await self.inner.observe(name, values, ttl)
        await self._after("observe")

    async def distinct(self, names: Sequence[str]) -> int:
        await self._before("distinct", names)
        found = await self.inner.distinct(names)
        await self._after("distinct")
        return found

    async def names(self, prefix: str, cursor: str, count: int) -> Names:
        await self._before("names", (prefix,))
        found = await self.inner.names(prefix, cursor, count)
        await self._after("names")
        return found

    async def publish(self, channel: str, message: bytes) -> None:
        await self._before("publish", (channel,))
        await self.inner.publish(channel, message)
        await self._after("publish")

    async def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        await self._before("listen", channels)
        async with aclosing(self.inner.listen(channels)) as heard:
            async for each in heard:
                if "listen" in self.down:
                    raise StoreError("listen: the store is down")
                yield each

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        """`disturb` is how a test says so."""
        self._reports.append(report)

    def disturb(self) -> None:
        for report in self._reports:
            report("said by the test")

    async def ping(self) -> str:
        await self._before("ping", ())
        return await self.inner.ping()

    async def close(self) -> None:
        await self.inner.close()


async def settle(turns: int = 12) -> None:
    """Let every task that can go on go on: after this all of them wait for something else."""
    for _ in range(turns):
        await asyncio.sleep(0)


def counted() -> Callable[[int], bytes]:
    """Random bytes, except that they are not: never the same twice."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")
