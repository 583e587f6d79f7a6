"""Any history of reads, writes, purges, faults and time over several replicas: no read is older than promised.

P2: through the replica of a write, no later read is older than it. P3: through any other, not after a second from when
the store had the write's purge. P1: nobody reads what is another tenant's.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from proxy.cache import tiers
from proxy.cache.background import Background, Work
from proxy.cache.binding import SHARED, hash_of
from proxy.cache.epochs import Epochs
from proxy.cache.seal import Sealer
from proxy.cache.tiers import Cache, Found, Standing
from proxy.policy.key import Key
from proxy.stores.memory import MemoryStore
from tests.builders import entry
from tests.doubles import FakeClock, StoreDouble, counted, settle

TENANTS = ("org_a", "org_b")
ITEMS = ("list", "1", "2")
GROUP = {"2": ("@:g",)}  # what the response for an item says of its groups
BOUND = 1.0  # seconds, P3

Name = tuple[str, str]  # a tenant and an item


class Timeline(FakeClock):
    """Time passes only by `to`, and whoever sleeps wakes in order."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    async def sleep(self, seconds: float) -> None:
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._count), waking))
        await waking

    async def to(self, moment: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= moment:
            at, _, waking = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if not waking.done():
                waking.set_result(None)
            await settle()
        self.now = moment
        await settle()


class TimedBackground(Background):
    def __init__(self, clock: Timeline) -> None:
        self.raised: list[BaseException] = []
        super().__init__(self.raised.append)
        self._clock = clock

    def later(self, seconds: float, work: Work) -> None:
        async def wait() -> None:
            await self._clock.sleep(seconds)
            await work()

        _ = self.start(wait())


@dataclass
class Written:
    """A write: when the store had its purge, None while it has not."""

    name: Name
    version: int
    by: "Replica"
    reached: float | None = None


@dataclass(eq=False)
class Replica:
    store: StoreDouble
    background: TimedBackground
    epochs: Epochs
    cache: Cache
    acknowledged: dict[Name, int] = field(default_factory=dict)
    stale_from: dict[Name, int] = field(default_factory=dict)  # by soft purges: what was fetched before is stale


class Coherence(RuleBasedStateMachine):
    """`tampered` makes a replica a mutant."""

    hits = 0  # of all that ran

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Timeline()
        self.inner = MemoryStore(1 << 20, self.clock)
        self.random = counted()
        self.replicas: list[Replica] = []
        self.origin: dict[Name, int] = {(tenant, item): 0 for tenant in TENANTS for item in ITEMS}
        self.fetches = 0
        self.writes: list[Written] = []
        self.gates: list[asyncio.Future[None]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.wrong: list[str] = []
        self.saved: dict[str, dict[str, bytes]] | None = None
        self.since_saved: list[Written] = []

    def tampered(self, replica: Replica) -> None:
        """Nothing: these are as they are."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it, and let go on what can; it may end in a later step."""

        async def begin() -> None:
            self.tasks.append(asyncio.ensure_future(work))
            await settle(40)

        self.loop.run_until_complete(begin())
        for replica in self.replicas:
            if replica.epochs.pending == 0 and "advance_epochs" not in replica.store.held:
                for written in self.writes:
                    if written.by is replica and written.reached is None and self.answered(written):
                        written.reached = self.clock.now
        assert self.wrong == []

    def answered(self, written: Written) -> bool:
        return written.by.acknowledged.get(written.name, 0) >= written.version

    def some(self, number: int) -> Replica:
        return self.replicas[number % len(self.replicas)]

    @initialize()
    def begin(self) -> None:
        for _ in range(2):
            self.add_replica()

    # What clients do

    @rule(number=st.integers(0, 2), tenant=st.sampled_from(TENANTS), item=st.sampled_from(ITEMS), slow=st.booleans(),
          strict=st.booleans())  # fmt: skip
    def read(self, number: int, tenant: str, item: str, slow: bool, strict: bool) -> None:
        self.run(self._read(self.some(number), (tenant, item), slow, strict))

    @rule(number=st.integers(0, 2), tenant=st.sampled_from(TENANTS), item=st.sampled_from(ITEMS))
    def read_twice(self, number: int, tenant: str, item: str) -> None:
        for _ in range(2):
            self.run(self._read(self.some(number), (tenant, item), False, False))

    @rule(number=st.integers(0, 2), tenant=st.sampled_from(TENANTS), item=st.sampled_from(ITEMS))
    def write(self, number: int, tenant: str, item: str) -> None:
        self.run(self._write(self.some(number), (tenant, item), f"jobs:{item}"))

    @rule(number=st.integers(0, 2), tenant=st.sampled_from(TENANTS))
    def write_to_a_group(self, number: int, tenant: str) -> None:
        self.run(self._write(self.some(number), (tenant, "2"), "@:g"))

    @rule(
        number=st.integers(0, 2), tenant=st.sampled_from(TENANTS), tag=st.sampled_from(["jobs:1", "jobs", "@:g", "*"])
    )
    def purge_softly(self, number: int, tenant: str, tag: str) -> None:
        self.run(self._purge_softly(self.some(number), tenant, tag))

    @precondition(lambda self: self.gates)
    @rule(number=st.integers(0, 5))
    def an_upstream_answers(self, number: int) -> None:
        self.gates.pop(number % len(self.gates)).set_result(None)
        self.run(asyncio.sleep(0))

    # What happens to them

    @rule(seconds=st.sampled_from([0.05, 0.3, 0.5, 0.81, 1.0, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(self.clock.to(self.clock.now + seconds))
        self.run(asyncio.sleep(0))

    @rule(number=st.integers(0, 2), lost=st.booleans())
    def the_store_is_lost(self, number: int, lost: bool) -> None:
        store = self.some(number).store
        operations = {"get", "set", "epochs", "create_epochs", "advance_epochs", "publish", "listen"}
        store.down, store.lost = (set(), {"advance_epochs"}) if lost else (operations, set())

    @rule(number=st.integers(0, 2), way_back=st.booleans())
    def the_store_is_slow(self, number: int, way_back: bool) -> None:
        store = self.some(number).store
        store.held, store.delayed = (set(), {"epochs"}) if way_back else ({"epochs", "advance_epochs"}, set())

    @rule(number=st.integers(0, 2), disturbed=st.booleans())
    def the_store_is_back(self, number: int, disturbed: bool) -> None:
        self.run(self._back(self.some(number), disturbed))

    @rule(number=st.integers(0, 2))
    def an_answer_of_the_store_arrives(self, number: int) -> None:
        self.run(self._arrive(self.some(number)))

    @rule(number=st.integers(0, 2))
    def nobody_is_told(self, number: int) -> None:
        self.some(number).store.down = {"publish"}

    @rule(hashed=st.sampled_from([SHARED, *map(hash_of, TENANTS)]))
    def epochs_are_lost(self, hashed: str) -> None:
        self.inner._spaces.pop(hashed, None)

    @rule()
    def the_store_is_copied(self) -> None:
        self.saved = deepcopy(dict(self.inner._spaces))
        self.since_saved = []

    @precondition(lambda self: self.saved is not None)
    @rule()
    def the_copy_takes_over(self) -> None:
        """A failover that lost the latest writes: whoever is connected notices."""
        assert self.saved is not None
        self.inner._spaces.clear()
        self.inner._spaces.update(deepcopy(self.saved))
        for written in self.since_saved:
            written.reached = None
        self.run(self._disturb())

    @precondition(lambda self: len(self.replicas) < 3)
    @rule()
    def add_replica(self) -> None:
        self.run(self._add())

    @precondition(lambda self: len(self.replicas) > 2)
    @rule(number=st.integers(0, 2))
    def kill_replica(self, number: int) -> None:
        self.run(self._kill(self.replicas.pop(number % len(self.replicas))))

    # How

    async def _add(self) -> None:
        store = StoreDouble(self.inner)
        store.shared = True
        background = TimedBackground(self.clock)
        epochs = Epochs(store, self.clock, self.random, background, sleep=self.clock.sleep)
        cache = Cache(
            store, epochs, l1_bytes=1 << 20, clock=self.clock, sealer=Sealer(b"n" * 32), background=background
        )
        replica = Replica(store, background, epochs, cache)
        self.tampered(replica)
        epochs.start()
        self.replicas.append(replica)

    async def _disturb(self) -> None:
        for replica in self.replicas:
            replica.store.disturb()

    async def _kill(self, replica: Replica) -> None:
        await replica.epochs.close()
        self.wrong += map(repr, replica.background.raised)

    async def _back(self, replica: Replica, disturbed: bool) -> None:
        replica.store.down, replica.store.lost, replica.store.held, replica.store.delayed = set(), set(), set(), set()
        if disturbed:
            replica.store.disturb()
        while replica.store.gates:
            await self._arrive(replica)

    async def _arrive(self, replica: Replica) -> None:
        if replica.store.gates:
            replica.store.open_gate()
            await settle()

    def _at_least(self, replica: Replica, name: Name, bound: float) -> int:
        """The version a read that begins now may not be older than."""
        reached = [
            written.version
            for written in self.writes
            if written.name == name and written.reached is not None and written.reached <= self.clock.now - bound
        ]
        return max([replica.acknowledged.get(name, 0), *reached])

    async def _read(self, replica: Replica, name: Name, slow: bool, strict: bool) -> None:
        tenant, item = name
        at_least, stale_from = self._at_least(replica, name, 0 if strict else BOUND), replica.stale_from.get(name, 0)
        tags = ("jobs", f"jobs:{item}")
        key = Key(f"tenant:{tenant}:jobs:{item}", "", tenant, tags, f"GET /{item}", f"/{item}")
        found = await replica.cache.find(key, b"rule", strict=strict)
        if isinstance(found, Found) and (
            found.standing is not Standing.VALID or self.clock.now < found.entry.fresh_until
        ):
            served, version, fetched = found.entry.body.decode().split()
            Coherence.hits += 1
            if served != tenant:
                self.wrong.append(f"{name}: what is {served}'s")
            # what nobody vouches for only stands in for an upstream that fails; own purges hold for it as well
            proven = found.standing is not Standing.UNPROVEN
            least = at_least if proven else min(at_least, replica.acknowledged.get(name, 0))
            if int(version) < least:
                self.wrong.append(f"{name}: {version} instead of {least}, {found.standing}")
            if int(fetched) < stale_from and found.standing is Standing.VALID:
                self.wrong.append(f"{name}: fresh although it was purged softly")
            if proven:
                return
        if found.stamp is None:
            return
        asked_at = self.clock.now
        self.fetches += 1
        body = f"{tenant} {self.origin[name]} {self.fetches}".encode()
        if slow:
            gate: asyncio.Future[None] = self.loop.create_future()
            self.gates.append(gate)
            await gate
        bound: Any = found.stamp
        if item in GROUP:
            tags = (*tags, *GROUP[item])
            bound = await replica.epochs.with_groups(found.stamp, tags)
            if bound is None:
                return
        now = self.clock.now
        made = entry(
            key=key.full, tenant=tenant, request=key.request, body=body, tags=tags, stored_at=now,
            fresh_until=now + 900, grace_until=now + 900, error_until=now + 900,
            epochs_hard=bound.hard, epochs_soft=bound.soft,
        )  # fmt: skip
        _ = replica.cache.put(made, quota=None, asked_at=asked_at)

    async def _write(self, replica: Replica, name: Name, tag: str) -> None:
        self.origin[name] += 1
        written = Written(name, self.origin[name], replica)
        self.writes.append(written)
        self.since_saved.append(written)
        accepted = await replica.epochs.advance({name[0]: [tag]})
        replica.acknowledged[name] = max(replica.acknowledged.get(name, 0), written.version)
        if accepted and replica.epochs.pending == 0:
            written.reached = self.clock.now

    async def _purge_softly(self, replica: Replica, tenant: str, tag: str) -> None:
        hit = {"jobs:1": ("1",), "@:g": ("2",)}.get(tag, ITEMS)
        stale_from = self.fetches + 1
        _ = await replica.epochs.advance({tenant: [tag]}, soft=True)
        for item in hit:
            replica.stale_from[tenant, item] = stale_from

    def teardown(self) -> None:
        async def end() -> None:
            for gate in self.gates:
                gate.set_result(None)
            for replica in self.replicas:
                await self._back(replica, False)
                await self._kill(replica)
            pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            await self.loop.shutdown_asyncgens()

        self.loop.run_until_complete(end())
        self.loop.close()
        for task in self.tasks:
            if not task.cancelled():
                task.result()


FAST = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
CAUGHT = settings(FAST, max_examples=400, phases=[Phase.generate], derandomize=True)


def test_no_history_has_a_read_that_is_older_than_promised():
    Coherence.hits = 0
    run_state_machine_as_test(Coherence, settings=FAST)
    assert Coherence.hits > 10  # it was about a cache; how many there are varies widely with what is drawn


History = Callable[[Coherence], None]


class WithoutABound(Coherence):
    def tampered(self, replica: Replica) -> None:
        replica.epochs._copies._trusted = float("inf")


class WithoutDropping(Coherence):
    def tampered(self, replica: Replica) -> None:
        replica.epochs._copies.drop = lambda hashed, names: None  # type: ignore[method-assign]


class WithoutRepeating(Coherence):
    def tampered(self, replica: Replica) -> None:
        replica.epochs._recent.since = lambda now: {}  # type: ignore[method-assign]


class WithoutGuard(Coherence):
    def tampered(self, replica: Replica) -> None:
        async def with_groups(before: Any, tags: tuple[str, ...]) -> Any:
            return await replica.epochs.current(before.space, tags)

        replica.epochs.with_groups = with_groups  # type: ignore[method-assign]


def found_without_a_bound(machine: Coherence) -> None:
    machine.read_twice(1, "org_a", "1")
    machine.nobody_is_told(0)
    machine.write(0, "org_a", "1")
    machine.time_passes(BOUND)
    machine.read(1, "org_a", "1", slow=False, strict=False)


def found_without_dropping(machine: Coherence) -> None:
    machine.read_twice(0, "org_a", "1")
    machine.write(0, "org_a", "1")
    machine.read(0, "org_a", "1", slow=False, strict=False)


def found_without_repeating(machine: Coherence) -> None:
    machine.read_twice(0, "org_a", "1")
    machine.the_store_is_copied()
    machine.write(0, "org_a", "1")
    machine.the_copy_takes_over()
    machine.read(0, "org_a", "1", slow=False, strict=False)


def found_without_guard(machine: Coherence) -> None:
    machine.read(0, "org_a", "2", slow=True, strict=False)
    machine.write_to_a_group(0, "org_a")
    machine.an_upstream_answers(0)
    machine.read(0, "org_a", "2", slow=False, strict=False)


MUTANTS = [
    (WithoutABound, found_without_a_bound),
    (WithoutDropping, found_without_dropping),
    (WithoutRepeating, found_without_repeating),
    (WithoutGuard, found_without_guard),
]


def follow(machine: Coherence, history: History) -> None:
    try:
        machine.begin()
        history(machine)
    finally:
        machine.teardown()


@pytest.mark.parametrize(("mutant", "history"), MUTANTS)
def test_a_cache_that_forgets_part_of_it_is_caught_by_a_history_that_it_is_there_for(mutant, history):
    follow(Coherence(), history)
    with pytest.raises(AssertionError, match="instead of"):
        follow(mutant(), history)


def test_a_cache_that_does_not_drop_its_copies_is_caught_by_chance():
    with pytest.raises(AssertionError, match="instead of"):
        run_state_machine_as_test(WithoutDropping, settings=CAUGHT)


def test_a_cache_that_does_not_compare_epochs_is_caught_by_chance(monkeypatch):
    judge = tiers._judge

    def careless(held: Any, key: Any, policy: bytes, stamp: Any, now: float) -> Any:
        verdict = judge(held, key, policy, stamp, now)
        return verdict if isinstance(verdict, Found) else Found(held, stamp, Standing.VALID)

    monkeypatch.setattr(tiers, "_judge", careless)
    with pytest.raises(AssertionError, match="instead of"):
        run_state_machine_as_test(Coherence, settings=CAUGHT)


@pytest.mark.isolation
def test_a_cache_whose_keys_leave_the_tenant_out_is_caught(monkeypatch):
    def other_tenant(machine: Coherence) -> None:
        machine.read_twice(0, "org_a", "1")
        machine.read(0, "org_b", "1", slow=False, strict=False)

    follow(Coherence(), other_tenant)
    key_of = Key

    def one_for_all(full: str, *more: Any) -> Key:
        return key_of(full.replace("org_b", "org_a"), *more)

    monkeypatch.setattr(f"{__name__}.Key", one_for_all)
    monkeypatch.setattr(tiers, "_judge", lambda held, key, policy, stamp, now: Found(held, stamp, Standing.VALID))
    with pytest.raises(AssertionError, match="what is org_a"):
        follow(Coherence(), other_tenant)
