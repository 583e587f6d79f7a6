"""When calls are let through, how long they may take, and how the store is found to be back."""

import asyncio
import inspect
from contextlib import aclosing, asynccontextmanager

import pytest

from proxy.errors import StoreError, StoreFullError, StoreRefusedError
from proxy.stores.base import Addition, Item, Store
from proxy.stores.breaker import Breaker, Guarded
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, StoreDouble, settle

OPERATIONS = {
    "get": lambda store: store.get(["a"]),
    "set": lambda store: store.set("a", b"1", 60),
    "replace": lambda store: store.replace("a", b"1", 60),
    "claim": lambda store: store.claim("c", b"1", 60),
    "delete": lambda store: store.delete(["d"]),
    "epochs": lambda store: store.epochs("s", ["a"]),
    "create_epochs": lambda store: store.create_epochs("s", {"a": b"1"}),
    "advance_epochs": lambda store: store.advance_epochs("s", {"a": b"1"}),
    "append": lambda store: store.append("s", {"a": b"1"}, 10, 60),
    "restore": lambda store: store.restore("s", Item("1-1", {"a": b"1"}), 60),
    "trim": lambda store: store.trim("s", "1-1"),
    "range": lambda store: store.range("s", "", 10),
    "latest": lambda store: store.latest("s", "", 10),
    "names": lambda store: store.names("a", "", 10),
    "add": lambda store: store.add([Addition("a", "1", 1, 60)]),
    "counts": lambda store: store.counts(["h"]),
    "observe": lambda store: store.observe("u", ["a"], 60),
    "distinct": lambda store: store.distinct(["u"]),
    "publish": lambda store: store.publish("c", b"1"),
    "ping": lambda store: store.ping(),
}


# The breaker alone


def breaker(clock: FakeClock, calls: str) -> Breaker:
    """`+` a good call, `-` a bad one, `>` a second later."""
    made = Breaker(clock)
    for call in calls:
        if call == ">":
            clock.advance(1)
        else:
            made.record(call == "+")
    return made


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        # realistic
        ("", "closed"),
        ("+" * 100, "closed"),
        ("-----", "open"),
        ("----", "closed"),
        ("++++-+++-++-++++-", "closed"),
        ("+" * 100 + "-" * 9, "closed"),  # nine of the last twenty
        ("+" * 100 + "-" * 10, "open"),
        ("+-" * 10, "open"),
        # pathological: failures long ago are no reason
        ("---->>>>>>>>>>>-", "closed"),
        ("---->>>>>>>>>>>----", "closed"),
        ("-> -> -> -> -".replace(" ", ""), "open"),
        ("->>>->>>->>>->>>-", "closed"),
    ],
)
def test_half_of_the_last_calls_and_at_least_five_open_it(calls, state):
    assert breaker(FakeClock(), calls).state == state


def test_opening_is_said_once():
    made = Breaker(FakeClock())
    assert [made.record(False) for _ in range(8)] == [False] * 4 + [True] + [False] * 3


def test_of_all_who_want_to_probe_one_may():
    made = breaker(FakeClock(), "-----")
    assert [made.begin_probe() for _ in range(3)] == [True, False, False]
    assert made.state == "half-open"
    made.end_probe(False)
    assert made.state == "open"
    assert made.begin_probe()
    made.end_probe(True)
    assert (made.state, made.begin_probe()) == ("closed", False)


def test_after_a_good_probe_it_counts_from_nothing():
    made = breaker(FakeClock(), "-----")
    made.begin_probe()
    made.end_probe(True)
    assert [made.record(False) for _ in range(5)] == [False] * 4 + [True]


def test_calls_that_end_while_it_is_open_do_not_count():
    made = breaker(FakeClock(), "-----+++++++++++++++++++++++++")
    assert made.state == "open"


def test_who_answers_nothing_but_probes_is_probed_less_often_up_to_a_limit():
    clock = FakeClock()
    made = Breaker(clock)
    pauses = []
    for _ in range(5):
        for _ in range(5):
            made.record(False)
        pauses.append(made.pause)
        made.begin_probe()
        made.end_probe(True)
    assert pauses == [1, 2, 4, 4, 4]
    clock.advance(60)
    for _ in range(5):
        made.record(False)
    assert made.pause == 1


# Around a store


class World:
    def __init__(self, timeout: float = 0.1) -> None:
        self.clock = FakeClock()
        self.inner = StoreDouble(MemoryStore(1 << 20, self.clock))
        self.reports: list[tuple[str, dict]] = []
        self.wake = asyncio.Event()
        self.asleep = asyncio.Event()
        self.slept: list[float] = []
        self.store = Guarded(
            self.inner, timeout=timeout, clock=self.clock, sleep=self._sleep,
            report=lambda event, details: self.reports.append((event, dict(details))),
        )  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.asleep.set()
        await self.wake.wait()
        self.wake.clear()

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(StoreError):
                await self.store.get(["a"])

    async def probe(self) -> None:
        self.wake.set()
        await settle()


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.store.close()


def test_it_is_a_store_with_every_operation_of_one():
    operations = {name for name, member in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    assert operations - set(OPERATIONS) == {"get_each", "listen", "on_disturbance", "close"}  # see below


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_call_goes_through_and_is_counted(world, operation):
    expected = await OPERATIONS[operation](MemoryStore(1 << 20, world.clock))
    assert await OPERATIONS[operation](world.store) == expected
    assert (world.store.calls[operation].failed, sum(world.store.calls[operation].buckets)) == (0, 1)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_while_it_is_open_no_call_reaches_the_store(world, operation):
    world.inner.down = set(OPERATIONS)
    await world.fail(5)
    calls = len(world.inner.calls)
    with pytest.raises(StoreRefusedError, match="the store is not asked for now: get: the store is down"):
        await OPERATIONS[operation](world.store)
    assert len(world.inner.calls) == calls
    assert world.store.rejected == 1


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_store_that_does_not_answer_is_an_error_in_time(operation):
    world = World(timeout=0.005)
    world.inner.held = {operation}
    with pytest.raises(StoreError, match=r"did not answer within (5|50) ms"):
        await asyncio.wait_for(OPERATIONS[operation](world.store), 5)
    assert world.store.calls[operation].failed == 1
    await world.store.close()


async def test_what_requests_wait_for_has_the_short_deadline_and_the_rest_ten_times_that():
    world = World(timeout=0.005)
    world.inner.held = set(OPERATIONS)
    waits = {}
    for operation, call in OPERATIONS.items():
        world.store._breaker.state = "closed"
        with pytest.raises(StoreError) as caught:
            await call(world.store)
        waits[operation] = str(caught.value).split()[-2]
    patient = set(
        "set replace delete append restore trim range latest names add counts observe distinct publish".split()
    )
    assert {operation for operation, wait in waits.items() if wait == "50"} == patient
    await world.store.close()


async def test_answers_slower_than_half_the_deadline_count_as_failures_and_are_answers():
    world = World(timeout=0.4)

    async def slow() -> list[bytes | None]:
        await asyncio.sleep(0.35)  # however busy the machine is, half of it counts
        world.clock.advance(0.07)
        return [b"late"]

    world.inner.get = lambda names: slow()
    assert [await world.store.get(["a"]) for _ in range(5)] == [[b"late"]] * 5
    assert world.store.state == "open"
    assert world.reports == [("store-unavailable", {"store": "memory", "error": "get took 70 ms"})]
    assert world.store.calls["get"].failed == 0
    await world.store.close()


async def test_a_store_that_stands_still_for_a_moment_is_slow_once():
    """However many wait for it: opening for that would cost a thousand times as many misses."""
    world = World(timeout=0.4)

    async def slow() -> list[bytes | None]:
        await asyncio.sleep(0.35)
        return [b"late"]

    world.inner.get = lambda names: slow()
    calls = [asyncio.ensure_future(world.store.get(["a"])) for _ in range(30)]
    await asyncio.sleep(0.3)
    world.clock.advance(0.35)
    assert await asyncio.gather(*calls) == [[b"late"]] * 30
    assert (world.store.state, world.reports) == ("closed", [])
    assert [good for _, good in world.store._breaker._calls] == [False]
    await world.store.close()


async def test_what_is_read_together_counts_as_often_as_it_is_asked_for(world):
    assert await world.store.get_each(["a", "b", "c"]) == [None] * 3
    assert sum(world.store.calls["get"].buckets) == 3
    world.inner.down = {"get"}
    with pytest.raises(StoreError):
        await world.store.get_each(["a", "b", "c", "d", "e"])
    assert (world.store.calls["get"].failed, world.store.state) == (5, "open")
    with pytest.raises(StoreError):
        await world.store.get_each(["a", "b"])
    assert world.store.rejected == 2


async def test_what_fails_of_a_batch_counts_and_the_rest_is_answered(world):
    async def half() -> list[bytes | StoreError | None]:
        return [b"1", *[StoreError("that node is gone")] * 9]

    world.inner.get_each = lambda names: half()
    read = await world.store.get_each([str(number) for number in range(10)])
    assert (read[0], list(map(str, read[1:]))) == (b"1", ["that node is gone"] * 9)
    assert world.store.calls["get"].failed == 9
    assert world.reports == [("store-unavailable", {"store": "memory", "error": "that node is gone"})]


async def test_one_good_answer_in_a_large_batch_does_not_fill_the_whole_window():
    made = Breaker(FakeClock())
    made.record(True, times=1000)
    assert not made.record(False, times=9)
    assert made.record(False, times=1)


async def test_a_caller_that_goes_away_says_nothing_about_the_store(world):
    world.inner.held = {"get"}
    calls = [asyncio.ensure_future(world.store.get(["a"])) for _ in range(30)]
    await settle()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert (world.store.state, world.reports) == ("closed", [])


async def test_one_line_when_it_goes_and_one_when_it_comes(world):
    world.inner.down = set(OPERATIONS)
    disturbances: list[str] = []
    world.store.on_disturbance(disturbances.append)
    await asyncio.gather(*(world.store.get(["a"]) for _ in range(40)), return_exceptions=True)
    await world.fail(3)
    await settle()
    for _ in range(3):
        await world.probe()
    assert world.reports == [("store-unavailable", {"store": "memory", "error": "get: the store is down"})]
    assert (world.store.state, disturbances) == ("open", [])
    world.inner.down = set()
    await world.probe()
    assert world.reports[1:] == [("store-available", {"store": "memory"})]
    assert disturbances == ["the store can be used again"]
    assert await world.store.get(["a"]) == [None]
    assert world.slept == [1, 1, 1, 1]


async def test_a_store_that_answers_ping_and_serves_nothing_is_not_back(world):
    world.inner.down = set(OPERATIONS) - {"ping"}
    await world.fail(5)
    await settle()
    await world.probe()
    assert world.store.state == "open"


async def test_a_probe_has_the_deadline_too():
    world = World(timeout=0.005)
    world.inner.down = {"get"}
    await world.fail(5)
    await settle()
    world.inner.held = {"ping"}
    world.asleep.clear()
    world.wake.set()
    await asyncio.wait_for(world.asleep.wait(), 5)
    assert world.store.state == "open"
    await world.store.close()


async def test_disturbances_of_the_store_itself_are_passed_on(world):
    disturbances: list[str] = []
    world.store.on_disturbance(disturbances.append)
    world.inner.disturb()
    assert disturbances == ["said by the test"]


async def test_listening_goes_past_the_breaker(world):
    world.inner.down = {"get"}
    await world.fail(5)
    async with aclosing(world.store.listen(["c"])) as heard:
        assert await anext(heard) is None
        await world.inner.inner.publish("c", b"m")
        assert await anext(heard) == ("c", b"m")


async def test_closing_ends_the_probe_and_the_store(world):
    world.inner.down = {"get"}
    await world.fail(5)
    await settle()
    await world.store.close()
    with pytest.raises(StoreError, match="closed"):
        await world.store.ping()


async def test_a_full_store_is_told_of_once_a_minute_and_is_still_asked(world, monkeypatch):
    async def full(*arguments: object) -> None:
        raise StoreFullError("no room")

    monkeypatch.setattr(world.inner.inner, "set", full)
    for _ in range(30):
        with pytest.raises(StoreFullError):
            await world.store.set("k", b"v", 60)
    assert world.store.state == "closed"
    assert [event for event, _ in world.reports] == ["store-full"]
    world.clock.advance(61)
    with pytest.raises(StoreFullError):
        await world.store.set("k", b"v", 60)
    assert len(world.reports) == 2


@asynccontextmanager
async def watched(world):
    watching = asyncio.ensure_future(world.store.watch())
    await settle()
    yield
    watching.cancel()
    await asyncio.wait((watching,))


async def test_a_store_that_cannot_be_reached_at_the_start_is_found_out_without_a_request(world):
    world.inner.down = {"ping"}
    async with watched(world):
        assert [event for event, _ in world.reports] == ["store-unavailable"]
        assert world.store.state == "open"


async def test_a_store_that_is_lost_later_is_found_out_at_the_second_look(world):
    async with watched(world):
        world.inner.down = {"ping"}
        await world.probe()
        assert world.reports == []
        await world.probe()
        assert [event for event, _ in world.reports] == ["store-unavailable"]


async def test_one_failed_look_at_a_store_that_works_is_no_loss(world):
    async with watched(world):
        world.inner.down = {"ping"}
        await world.probe()
        world.inner.down = set()
        await world.probe()
        world.inner.down = {"ping"}
        await world.probe()
        assert world.reports == []
