"""One process's knowledge of revocations: at once here, soon elsewhere, and never lost while one process lives."""

import asyncio
import os
import random
from collections.abc import Sequence

import pytest

from proxy.cache.background import Background
from proxy.cache.doorbell import Doorbell
from proxy.errors import StoreError
from proxy.policy.identity import Presented, Standing
from proxy.sessions import revocation as module
from proxy.sessions.notbefore import Kind, Revocation, of_user
from proxy.sessions.revocation import LOG, Revocations
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, StoreDouble, settle


class Replica:
    def __init__(self, clock: FakeClock, inner: MemoryStore, *, shared: bool = True, siblings=None) -> None:
        self.clock = clock
        self.store = StoreDouble(inner)
        self.store.shared = shared
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append)
        self.slept: list[float] = []
        self.awake = asyncio.Event()
        self.news: list[Revocation] = []
        self.reports: list[str] = []
        self.doorbell = Doorbell(
            self.store, os.urandom(4).hex(), heard=lambda *_: None, deaf=lambda: None, sleep=self.sleep
        )
        self.revocations = Revocations(
            self.store, self.doorbell, clock, self.background, applied=self.news.extend, siblings=siblings,
            sleep=self.sleep, report=lambda event, details: self.reports.append(event),
        )  # fmt: skip

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.awake.clear()
        await self.awake.wait()

    async def wake(self) -> None:
        self.awake.set()
        await settle(40)

    def standing(self, user: str = "u1", issued: float | None = None) -> Standing:
        return self.revocations.of(Presented(user, issued=self.clock() - 60 if issued is None else issued))

    async def revoke(self, user: str = "u1", kind: Kind = Kind.ENDED) -> bool:
        return await self.revocations.revoke([self.revocations.revocation(of_user(user), self.clock(), kind)])

    async def end(self) -> None:
        await self.revocations.close()
        await self.background.drain(0.0)
        assert self.failures == []


@pytest.fixture
async def world():
    clock = FakeClock()
    inner = MemoryStore(1 << 20, clock)
    made: list[Replica] = []

    def make(**more) -> Replica:
        made.append(Replica(clock, inner, **more))
        return made[-1]

    make.clock, make.inner = clock, inner
    yield make
    for each in made:
        await each.end()


async def test_before_the_log_was_read_nobody_is_vouched_for(world):
    one = world()
    assert one.standing() is Standing.UNKNOWN
    one.store.down = {"range"}
    await one.revocations.start()
    assert one.standing() is Standing.UNKNOWN
    assert one.revocations.age == float("inf")
    one.store.down = set()
    await one.wake()
    assert one.standing() is Standing.GOOD
    assert one.revocations.age == 0.0


async def test_a_store_of_this_process_alone_needs_no_log(world):
    one = world(shared=False)
    await one.revocations.start()
    assert one.standing() is Standing.GOOD
    assert await one.revoke()
    assert one.standing() is Standing.REVOKED
    assert one.store.calls == []


async def test_it_holds_here_before_the_store_has_answered(world):
    one = world()
    await one.revocations.start()
    one.store.held = {"append"}
    revoking = asyncio.ensure_future(one.revoke())
    await settle()
    assert one.standing() is Standing.REVOKED
    assert not revoking.done()
    one.store.open_gate()
    await settle()
    one.store.open_gate()
    assert await revoking is True


async def test_no_question_is_a_question_to_the_store(world):
    one = world()
    await one.revocations.start()
    await one.revoke()
    calls = len(one.store.calls)
    for _ in range(100):
        one.standing()
    await settle()
    assert len(one.store.calls) - calls <= 1  # the message to the others


async def test_another_replica_knows_at_its_next_read_and_after_a_restart(world):
    one, two = world(), world()
    await one.revocations.start()
    await two.revocations.start()
    await one.revoke()
    assert two.standing() is Standing.GOOD
    assert two.slept == [module.REREAD]
    await two.wake()
    assert two.standing() is Standing.REVOKED
    assert [each.subject for each in two.news] == ["u:u1"]
    late = world()
    await late.revocations.start()
    assert late.standing() is Standing.REVOKED


async def test_a_message_tells_it_at_once(world):
    one, two = world(), world()
    await one.revocations.start()
    await two.revocations.start()
    listening = asyncio.ensure_future(two.doorbell.listen())
    await settle()
    await one.revoke()
    await settle()
    assert two.standing() is Standing.REVOKED
    listening.cancel()
    await asyncio.wait((listening,))


@pytest.mark.parametrize("said", [{}, [], [7], None, "u:u1", [["u:u1", float("inf"), 1, "ended"]]])
async def test_what_a_message_cannot_mean_changes_nothing(world, said):
    one = world()
    await one.revocations.start()
    one.revocations.heard(said)
    assert one.standing() is Standing.GOOD


async def test_a_log_longer_than_a_page_is_read_whole(world, monkeypatch):
    monkeypatch.setattr(module, "_PAGE", 3)
    one = world()
    await one.revocations.start()
    for number in range(11):
        await one.revoke(f"u{number}")
    late = world()
    await late.revocations.start()
    assert all(late.standing(f"u{number}") is Standing.REVOKED for number in range(11))


async def test_each_read_goes_back_a_little_and_no_further(world):
    one, two = world(), world()
    await one.revocations.start()
    await two.revocations.start()
    for number in range(20):
        await one.revoke(f"u{number}")
        world.clock.advance(1.0)
        await two.wake()
        assert two.standing(f"u{number}") is Standing.REVOKED
    entries = await world.inner.range(LOG, two.revocations._cursors[0][1], 100)
    assert 4 <= len(entries) <= 8


async def test_what_the_store_refuses_holds_here_and_is_repeated(world):
    one, two = world(), world()
    await one.revocations.start()
    await two.revocations.start()
    one.store.down = {"append"}
    assert await one.revoke("u1") is False
    assert await one.revoke("u2") is False
    assert one.standing() is Standing.REVOKED
    assert one.revocations.pending == 2
    await one.wake()
    assert one.revocations.pending == 2
    one.store.down = set()
    await one.wake()
    assert one.revocations.pending == 0
    await two.wake()
    assert two.standing("u1") is two.standing("u2") is Standing.REVOKED


async def test_an_answer_that_was_lost_is_repeated_and_does_no_harm(world):
    one = world()
    await one.revocations.start()
    one.store.lost = {"append"}
    assert await one.revoke() is False
    one.store.lost = set()
    await one.wake()
    assert one.revocations.pending == 0
    assert len(await world.inner.range(LOG, "", 10)) == 2


async def test_who_goes_away_does_not_take_a_revocation_along(world):
    one = world()
    await one.revocations.start()
    one.store.held = {"append"}
    revoking = asyncio.ensure_future(one.revoke())
    await settle()
    revoking.cancel()
    await settle()
    one.store.open_gate()
    await settle()
    one.store.open_gate()
    await settle()
    assert len(await world.inner.range(LOG, "", 10)) == 1


async def test_a_store_that_has_lost_its_log_is_told_again_by_whoever_is_left(world):
    one, two = world(), world()
    await one.revocations.start()
    await two.revocations.start()
    await one.revoke("u1")
    await two.revoke("u2", Kind.CHANGED)
    await one.wake()
    world.inner._streams.clear()
    one.store.disturb()
    await one.wake()
    assert one.revocations.figures.repeated == 2
    await one.wake()
    assert one.revocations.pending == 0
    late = world()
    await late.revocations.start()
    assert late.standing("u1") is Standing.REVOKED
    assert late.standing("u2") is Standing.OUTDATED


async def test_a_log_whose_ids_begin_anew_is_read_from_its_beginning(world):
    one, two = world(), world()
    await two.revocations.start()
    await one.revocations.start()
    await one.revoke("u1")
    await two.wake()
    world.inner._streams.clear()
    world.clock.now -= 3600  # the clock of the new primary is behind
    await one.revoke("u3")
    two.store.disturb()
    world.clock.now += 3600
    await two.wake()
    assert two.standing("u3", issued=0.0) is Standing.REVOKED


class Siblings:
    def __init__(self, others: Sequence[Replica]) -> None:
        self.others = others

    async def revoked(self, packed, accepted) -> None:
        for other in self.others:
            other.revocations.told(packed, accepted)


async def test_workers_know_before_it_is_answered_and_repeat_what_was_refused(world):
    other = world()
    one = world(siblings=Siblings([other]))
    await one.revocations.start()
    await other.revocations.start()
    one.store.down = other.store.down = {"append"}
    assert await one.revoke() is False
    assert other.standing() is Standing.REVOKED
    assert other.revocations.unaccepted() == one.revocations.unaccepted()
    await one.revocations.close()  # its process ends
    other.store.down = set()
    await other.wake()
    assert len(await world.inner.range(LOG, "", 10)) == 1


async def test_what_stands_in_the_log_and_is_none_of_ours_is_passed_over(world):
    for value in (b"\xff", b"{", b'"x"', b'[["u:u9",1,2,"never"]]'):
        await world.inner.append(LOG, {"v": value}, 10, 60)
    one = world()
    await one.revocations.start()
    assert one.standing() is Standing.GOOD
    assert len(one.revocations) == 0


async def test_it_is_kept_as_long_as_a_token_of_its_subject_can_live(world):
    one = world()
    await one.revocations.start()
    one.revocations._keep = lambda: 3600.0
    now = world.clock()
    assert one.revocations.revocation("u:1", now).until == now + 3600
    assert one.revocations.revocation("u:1", now, expires=now + 7200).until == now + 7200
    assert one.revocations.revocation("u:1", now, expires=float("inf")).until == now + 3600


async def test_too_many_are_reported(world, monkeypatch):
    one = world()
    await one.revocations.start()
    one.revocations._set._most = 10
    for number in range(12):
        await one.revoke(f"u{number}")
        world.clock.advance(1)
    assert "revocations-overflow" in one.reports
    assert all(one.standing(f"u{number}", issued=0.0) is Standing.REVOKED for number in range(12))


async def test_a_closed_store_is_no_surprise(world):
    one = world()
    await one.revocations.start()
    await world.inner.close()
    with pytest.raises(StoreError):
        await world.inner.range(LOG, "", 1)
    assert await one.revoke() is False
    assert one.standing() is Standing.REVOKED


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_happens_to_stores_and_replicas_nobody_revoked_is_ever_let_in_again(world, seed):
    """Random histories: what one has revoked it always refuses, and all do once each has read the log."""
    chance = random.Random(seed)
    replicas = [world() for _ in range(3)]
    for each in replicas:
        await each.revocations.start()
    known: list[set[str]] = [set() for _ in replicas]
    for step in range(60):
        index = chance.randrange(3)
        one = replicas[index]
        match chance.randrange(7):
            case 0 | 1:
                user = f"u{step}"
                await one.revoke(user)
                known[index].add(user)
            case 2:
                one.store.down = set() if one.store.down else {"append", "range", "publish"}
            case 3:
                one.store.lost = set() if one.store.lost else {"append"}
            case 4:  # a failover: the newest are lost, and everybody notices
                stream = world.inner._streams._live(LOG, world.clock())
                for _ in range(chance.randint(0, len(stream.items)) if stream is not None else 0):
                    stream.items.pop()
                for each in replicas:
                    each.store.disturb()
            case 5:
                await one.wake()
            case 6:
                world.clock.advance(chance.choice((0.1, 1.0, 7.0)))
        for each, users in zip(replicas, known, strict=True):
            assert all(each.standing(user, issued=0.0) is Standing.REVOKED for user in users)
    for each in replicas:
        each.store.down, each.store.lost = set(), set()
    for _ in range(4):
        for each in replicas:
            await each.wake()
    late = world()
    await late.revocations.start()
    for each in (*replicas, late):
        assert all(each.standing(user, issued=0.0) is Standing.REVOKED for user in set().union(*known))


async def test_a_log_that_is_gone_without_a_word_is_told_again(world):
    """Evicted, or deleted: the store has not been away."""
    one, two = world(), world()
    await one.revocations.start()
    await two.revocations.start()
    await one.revoke("u1")
    await one.wake()
    world.inner._streams.clear()
    world.clock.advance(module._LOOKED)
    await one.wake()
    await one.wake()
    assert one.revocations.figures.repeated == 1
    late = world()
    await late.revocations.start()
    assert late.standing("u1") is Standing.REVOKED


async def test_a_store_that_hangs_holds_up_a_logout_no_longer_than_its_timeout(world):
    one = world()
    await one.revocations.start()
    one.store.held = {"append"}
    one.revocations._timeout = 0.01
    async with asyncio.timeout(5):
        assert await one.revoke() is False
    assert one.standing() is Standing.REVOKED
    assert one.revocations.pending == 1
