"""When is the store not worth asking? Deadlines for every call, and a breaker that spares requests the waiting."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from proxy.errors import StoreError, StoreFullError, StoreRefusedError
from proxy.stores.base import Addition, Heard, Item, Names, Store
from proxy.stores.deadline import Patience

State = Literal["closed", "open", "half-open"]
Report = Callable[[str, Mapping[str, object]], None]
T = TypeVar("T")

LATENCY_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)  # seconds
_BACKGROUND = 10  # times the deadline, for what no client waits for
_WATCHED = 1.0  # seconds between two looks at a store
_SAID_AGAIN = 60.0  # seconds after which a store that is still full is told of again
_PROBED = ("shared:epochs", "*")  # a hash and field that every user of the store may read


class Breaker:
    """Closed, until half of the last calls failed; then open, until one probe succeeds. It counts, nothing else."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        least: int = 5,
        last: int = 20,
        within: float = 10.0,
        pause: float = 1.0,
        longest_pause: float = 4.0,
    ) -> None:
        """Opens on `least` failures that are half of the `last` calls, all of them `within` seconds."""
        self.state: State = "closed"
        self.pause = pause
        self._clock = clock
        self._least = least
        self._last = last
        self._within = within
        self._first_pause = pause
        self._longest_pause = longest_pause
        self._calls: deque[tuple[float, bool]] = deque(maxlen=last)
        self._closed_at: float | None = None

    def record(self, good: bool, times: int = 1) -> bool:
        """Count calls that were let through; whether that opened the breaker. Late ones do not count any more."""
        if self.state != "closed" or not times:
            return False
        now = self._clock()
        self._calls.extend([(now, good)] * min(times, self._last))
        if good:
            return False
        while self._calls[0][0] < now - self._within:
            self._calls.popleft()
        failures = sum(not each for _, each in self._calls)
        if failures < self._least or 2 * failures < len(self._calls):
            return False
        # a store that answers probes and nothing else must not be tried, and logged, every second
        again = self._closed_at is not None and now - self._closed_at < self._within
        self.pause = min(2 * self.pause, self._longest_pause) if again else self._first_pause
        self.state = "open"
        return True

    def begin_probe(self) -> bool:
        """Whether the caller is the one who may ask the store now."""
        if self.state != "open":
            return False
        self.state = "half-open"
        return True

    def trip(self) -> bool:
        """Open without counting; whether it was closed."""
        if self.state != "closed":
            return False
        self.pause = self._first_pause
        self.state = "open"
        return True

    def end_probe(self, good: bool) -> None:
        self.state = "closed" if good else "open"
        self._calls.clear()
        if good:
            self._closed_at = self._clock()


@dataclass(slots=True)
class Calls:
    """What became of one kind of operation. `buckets`: how many took up to each of LATENCY_BOUNDS, or longer."""

    failed: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))


class Guarded:
    """A store that fails within its deadline, and at once while the breaker is open.

    Whether it is back is found out by a probe in the background: no request waits for that.
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout: float,
        clock: Callable[[], float],
        report: Report,
        breaker: Breaker | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`timeout` is for what requests wait for: reads, claims and purges."""
        self.name = store.name
        self.shared = store.shared
        self.rejected = 0
        self.calls: dict[str, Calls] = {}
        self._store = store
        self._prompt = Patience(timeout)
        self._patient = Patience(_BACKGROUND * timeout)
        self._clock = clock
        self._report = report
        self._breaker = breaker or Breaker(clock)
        self._sleep = sleep
        self._disturbed: list[Callable[[str], None]] = []
        self._last_error = ""
        self._full_at = float("-inf")
        self._slow_at = float("-inf")  # when the last answer came that was slow
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def state(self) -> State:
        return self._breaker.state

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        self._admit()
        return await self._call("get", self._store.get(names), self._prompt)

    async def get_each(self, names: Sequence[str]) -> list[bytes | StoreError | None]:
        """One deadline for all; each counts as a call of its own."""
        self._admit(len(names))
        return await self._call("get", self._store.get_each(names), self._prompt, len(names), _errors_among)

    async def set(self, name: str, value: bytes, ttl: float) -> None:
        self._admit()
        await self._call("set", self._store.set(name, value, ttl), self._patient)

    async def claim(self, name: str, value: bytes, ttl: float) -> bool:
        self._admit()
        return await self._call("claim", self._store.claim(name, value, ttl), self._prompt)

    async def replace(self, name: str, value: bytes, ttl: float) -> bool:
        self._admit()
        return await self._call("replace", self._store.replace(name, value, ttl), self._patient)

    async def delete(self, names: Sequence[str]) -> int:
        self._admit()
        return await self._call("delete", self._store.delete(names), self._patient)

    async def epochs(self, space: str, fields: Sequence[str]) -> list[bytes | None]:
        self._admit()
        return await self._call("epochs", self._store.epochs(space, fields), self._prompt)

    async def create_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        self._admit()
        await self._call("create_epochs", self._store.create_epochs(space, values), self._prompt)

    async def advance_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        self._admit()
        await self._call("advance_epochs", self._store.advance_epochs(space, values), self._prompt)

    async def append(self, stream: str, fields: Mapping[str, bytes], max_length: int, ttl: float) -> str:
        self._admit()
        call = self._store.append(stream, fields, max_length, ttl)
        return await self._call("append", call, self._patient)

    async def restore(self, stream: str, item: Item, ttl: float) -> bool:
        self._admit()
        return await self._call("restore", self._store.restore(stream, item, ttl), self._patient)

    async def trim(self, stream: str, oldest: str) -> None:
        self._admit()
        await self._call("trim", self._store.trim(stream, oldest), self._patient)

    async def range(self, stream: str, after: str, count: int) -> list[Item]:
        self._admit()
        return await self._call("range", self._store.range(stream, after, count), self._patient)

    async def latest(self, stream: str, before: str, count: int) -> list[Item]:
        self._admit()
        return await self._call("latest", self._store.latest(stream, before, count), self._patient)

    async def add(self, additions: Sequence[Addition]) -> list[int | StoreError]:
        self._admit()
        return await self._call("add", self._store.add(additions), self._patient)

    async def counts(self, names: Sequence[str]) -> list[Mapping[str, int]]:
        self._admit()
        return await self._call("counts", self._store.counts(names), self._patient)

    async def observe(self, name: str, values: Sequence[str], ttl: float) -> None:
        self._admit()
        await self._call("observe", self._store.observe(name, values, ttl), self._patient)

    async def distinct(self, names: Sequence[str]) -> int:
        self._admit()
        return await self._call("distinct", self._store.distinct(names), self._patient)

    async def names(self, prefix: str, cursor: str, count: int) -> Names:
        self._admit()
        return await self._call("names", self._store.names(prefix, cursor, count), self._patient)

    async def publish(self, channel: str, message: bytes) -> None:
        self._admit()
        await self._call("publish", self._store.publish(channel, message), self._patient)

    async def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        """Past the breaker: whoever listens waits for nothing, and tries again by themselves."""
        async with aclosing(self._store.listen(channels)) as heard:
            async for each in heard:
                yield each

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        self._disturbed.append(report)
        self._store.on_disturbance(report)

    async def ping(self) -> str:
        self._admit()
        return await self._call("ping", self._store.ping(), self._prompt)

    async def watch(self) -> None:
        """Find out without a request that the store cannot be reached, from the start on; until cancelled.

        Two failures in a row open the breaker: one may be a connection that was cut.
        """
        failures = 1
        while True:
            if self._breaker.state == "closed":
                try:
                    await self.ping()
                    failures = 0
                except StoreError as error:
                    failures += 1
                    if failures >= 2 and self._breaker.trip():
                        self._open(error)
            await self._sleep(_WATCHED)

    async def close(self) -> None:
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait((self._probing,))
        await self._store.close()

    # -- calls

    def _admit(self, times: int = 1) -> None:
        if self._breaker.state != "closed" and not self._closed:
            self.rejected += times
            raise StoreRefusedError(f"the store is not asked for now: {self._last_error}")

    async def _call(
        self,
        operation: str,
        call: Coroutine[Any, Any, T],
        patience: Patience,
        times: int = 1,
        errors_in: Callable[[T], Sequence[StoreError]] = lambda result: (),
    ) -> T:
        began = self._clock()
        try:
            async with patience() as deadline:
                result = await call
        except TimeoutError:
            error = StoreError(f"the store did not answer within {patience.seconds * 1000:.0f} ms")
            self._failed(operation, began, error, times)
            raise error from None
        except StoreFullError as error:
            self._count(operation, began, times)
            self.calls[operation].failed += times
            self._note_full(error)
            raise
        except StoreError as error:
            self._failed(operation, began, error, times)
            raise
        # an answer that came late is one, and yet a sign
        took = self._count(operation, began, times)
        errors = errors_in(result)
        self.calls[operation].failed += len(errors)
        if not deadline.half_over:
            self._breaker.record(True, times - len(errors))
        elif began >= self._slow_at:
            # all that was under way while the store stood still is one sign, however much it was
            self._slow_at = began + took
            if self._breaker.record(False):
                self._open(StoreError(f"{operation} took {took * 1000:.0f} ms"))
        if self._breaker.record(False, len(errors)):
            self._open(errors[0])
        return result

    def _note_full(self, error: StoreError) -> None:
        """Say so once a while. It answers what it is asked, so there is no reason not to ask it."""
        now = self._clock()
        if now - self._full_at >= _SAID_AGAIN:
            self._full_at = now
            self._report("store-full", {"store": self.name, "error": str(error)})

    def _failed(self, operation: str, began: float, error: StoreError, times: int) -> None:
        self._count(operation, began, times)
        self.calls[operation].failed += times
        if self._breaker.record(False, times):
            self._open(error)

    def _count(self, operation: str, began: float, times: int) -> float:
        took = self._clock() - began
        calls = self.calls.get(operation)
        if calls is None:
            calls = self.calls[operation] = Calls()
        calls.seconds += took * times
        calls.buckets[bisect_left(LATENCY_BOUNDS, took)] += times
        return took

    # -- while it is open

    def _open(self, error: StoreError) -> None:
        self._last_error = str(error)
        if self._closed:
            return
        self._report("store-unavailable", {"store": self.name, "error": self._last_error})
        self._probing = asyncio.get_running_loop().create_task(self._probe_until_back())

    async def _probe_until_back(self) -> None:
        while True:
            await self._sleep(self._breaker.pause)
            if not self._breaker.begin_probe():
                return
            try:
                async with self._prompt():
                    await self._store.ping()
                    await self._store.epochs(_PROBED[0], _PROBED[1:])  # a server may answer PING and serve nothing
            except (TimeoutError, StoreError) as error:
                self._last_error = str(error) or self._last_error
                self._breaker.end_probe(False)
            except BaseException:
                self._breaker.end_probe(False)
                raise
            else:
                self._breaker.end_probe(True)
                break
        self._report("store-available", {"store": self.name})
        for report in self._disturbed:
            report("the store can be used again")


def _errors_among(values: Sequence[bytes | StoreError | None]) -> Sequence[StoreError]:
    return [value for value in values if isinstance(value, StoreError)]
