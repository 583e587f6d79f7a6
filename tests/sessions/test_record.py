"""Session records: created when first seen, touched once a minute, and never brought back."""

import asyncio

import pytest

from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.policy.identity import Identity, Presented, Standing
from proxy.sessions.notbefore import Kind, NotBefore, Revocation, of_member, of_organisation, of_session, of_user
from proxy.sessions.record import TOUCHED, TTL, Record, Records, name_of, unpacked
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, StoreDouble, settle

NAME = "session:u1:org_a"


class Replica:
    """One process's records; `kept` is what it knows of revocations."""

    def __init__(self, clock: FakeClock, inner: MemoryStore) -> None:
        self.clock = clock
        self.store = StoreDouble(inner)
        self.kept = NotBefore()
        self.failures: list[BaseException] = []
        self.background = Background(self.failures.append)
        self.records = Records(self.store, self, clock, self.background, most=100)

    @property
    def any(self) -> bool:
        return self.kept.any

    @property
    def version(self) -> int:
        return len(self.kept)

    def of(self, presented: Presented) -> Standing:
        return self.kept.of(presented, self.clock())

    async def see(self, user: str = "u1", age: float = 60, **more) -> None:
        presented = Presented(user, "org_a", more.get("session"), self.clock() - age, digest=f"{user}{age}".encode())
        if self.of(presented) is Standing.GOOD:  # nobody else is said to have been seen
            self.records.seen(Identity("org_a", user, frozenset({"b", "a"}), presented=presented))
        await settle(40)

    def know(self, subject: str, kind: Kind = Kind.ENDED) -> None:
        now = self.clock()
        self.records.forget(self.kept.merge([Revocation(subject, now, now + 86400, kind)], now))


@pytest.fixture
def made():
    clock = FakeClock()
    inner = MemoryStore(1 << 20, clock)
    return lambda: Replica(clock, inner)


async def stored(replica: Replica) -> Record | None:
    (value,) = await replica.store.inner.get([NAME])
    return unpacked(value) if value is not None else None


async def test_the_first_sight_makes_one_and_it_ends_an_hour_after_the_last(made):
    one = made()
    now = one.clock()
    await one.see(session="s1")
    assert await stored(one) == Record("u1", "org_a", "s1", ("a", "b"), now - 60, None, now, now)
    assert await one.records.read("u1", "org_a") == await stored(one)
    one.clock.advance(TTL)
    assert await stored(one) is None


async def test_it_is_touched_once_a_minute_however_often_it_is_seen(made):
    one = made()
    token = one.clock() - 60
    for second in range(180):
        await one.see(age=one.clock() - token)
        one.clock.advance(1)
        assert one.store.count("replace") == second // 60
    assert one.store.count("claim") == 1
    record = await stored(one)
    assert (record.created, record.seen) == (token + 60, token + 60 + 120)


async def test_a_newer_token_is_noted_at_once_and_an_older_beside_it_is_not(made):
    one = made()
    await one.see(age=60)
    await one.see(age=10)
    assert (await stored(one)).issued == one.clock() - 10
    calls = len(one.store.calls)
    for _ in range(10):
        await one.see(age=60)
        await one.see(age=10)
    assert len(one.store.calls) == calls


async def test_replicas_have_one_record_between_them(made):
    one, two = made(), made()
    await one.see()
    one.clock.advance(5)
    await two.see(age=65)
    record = await stored(one)
    assert (record.created, record.seen) == (one.clock() - 5, one.clock())


@pytest.mark.parametrize(
    "subject", [of_user("u1"), of_member("org_a", "u1"), of_organisation("org_a"), of_session("s1")]
)
async def test_a_revocation_deletes_what_was_seen_here(made, subject):
    one = made()
    await one.see(session="s1")
    await one.see("u2", session="s2")
    one.know(subject)
    await settle(40)
    assert await stored(one) is None
    assert await one.records.read("u1", "org_a") is None
    await one.see(session="s1")  # refused before
    assert await stored(one) is None
    other = await one.records.read("u2", "org_a")
    assert (other is None) is (subject == of_organisation("org_a"))


async def test_who_logs_in_again_has_a_record_again(made):
    one = made()
    await one.see()
    one.know(of_user("u1"))
    await settle(40)
    one.clock.advance(1)
    await one.see(age=0)
    assert (await stored(one)).issued == one.clock()


async def test_a_revocation_heard_late_leaves_the_record_of_a_newer_login(made):
    one, two = made(), made()
    await one.see()
    subject, instant = of_user("u1"), one.clock()
    one.know(subject)
    await settle(40)
    one.clock.advance(1)
    await one.see(age=0)
    two.records.forget(two.kept.merge([Revocation(subject, instant, instant + 9e4)], one.clock()))
    await settle(40)
    assert (await stored(one)).issued == one.clock()


async def test_one_that_another_replica_makes_at_the_same_time_is_over_for_whoever_reads_it(made):
    """It has judged the token, and not heard of the logout yet."""
    one, two = made(), made()
    await one.see()
    one.know(of_user("u1"))
    await settle(40)
    await two.see(age=60)
    assert await stored(one) is not None
    assert await one.records.read("u1", "org_a") is None
    two.know(of_user("u1"))
    await settle(40)
    assert await stored(one) is None


@pytest.mark.parametrize("steps", range(8))
async def test_a_logout_between_any_two_steps_of_the_first_sight_leaves_nothing(made, steps):
    one = made()
    one.store.held = {"get", "claim", "delete"}
    await one.see()
    for _ in range(steps):
        if one.store.gates:
            one.store.open_gate()
            await settle(10)
    one.know(of_user("u1"))
    await settle(10)
    while one.store.gates:
        one.store.open_gate()
        await settle(10)
    assert await stored(one) is None
    assert one.failures == []


@pytest.mark.parametrize("steps", range(8))
async def test_a_logout_between_any_two_steps_of_a_touch_leaves_nothing(made, steps):
    one = made()
    await one.see()
    one.clock.advance(TOUCHED)
    one.store.held = {"get", "replace", "delete"}
    await one.see(age=120)
    for _ in range(steps):
        if one.store.gates:
            one.store.open_gate()
            await settle(10)
    one.know(of_user("u1"))
    await settle(10)
    while one.store.gates:
        one.store.open_gate(len(one.store.gates) - 1)
        await settle(10)
    one.store.held = set()
    assert await one.records.read("u1", "org_a") is None


async def test_changed_roles_end_a_record_until_there_is_a_newer_token(made):
    one = made()
    await one.see()
    one.know(of_member("org_a", "u1"), Kind.CHANGED)
    await settle(40)
    await one.see()
    assert await stored(one) is None
    one.clock.advance(1)
    await one.see(age=0)
    assert await stored(one) is not None


@pytest.mark.parametrize("down", ["get", "claim", "replace", "delete"])
async def test_a_store_that_fails_is_counted_and_tried_at_the_next_touch(made, down):
    one = made()
    one.store.down = {down}
    await one.see()
    one.know(of_user("u2"))
    one.clock.advance(TOUCHED)
    await one.see(age=120)
    one.store.down = set()
    one.clock.advance(TOUCHED)
    await one.see(age=180)
    assert await stored(one) is not None
    assert one.failures == []
    one.store.down = {"get"}
    with pytest.raises(StoreError):
        await one.records.read("u1", "org_a")


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"user": "u1"}', b"\xff", b'{"user":"u2","tenant":"org_a","session":null,"roles":null,'
     b'"issued":null,"expires":null,"created":1,"seen":1}'],
)  # fmt: skip
async def test_what_is_no_record_of_this_session_is_none_and_is_replaced(made, value):
    one = made()
    await one.store.inner.set(NAME, value, 60)
    assert await one.records.read("u1", "org_a") is None
    if b"u2" not in value:
        await one.see()
        assert (await stored(one)).user == "u1"


async def test_callers_without_a_user_or_a_credential_have_none(made):
    one = made()
    one.records.seen(Identity("org_a", None, presented=Presented(None, "org_a")))
    one.records.seen(Identity("org_a", "u1"))  # a trusted peer's word
    await settle()
    assert one.store.calls == []


async def test_what_a_process_remembers_is_bounded(made):
    one = made()
    for number in range(150):
        await one.see(f"u{number}")
    assert len(one.records) == 100


@pytest.mark.isolation
def test_every_session_has_a_name_of_its_own_that_a_store_takes():
    users = ["u1", "auth0|ada", "a:b", "u1:org_a", "José", "x" * 256, "x" * 255, "\ud800", "a b", "h-1"]
    names = [name_of(user, "org_a") for user in users]
    assert names[:3] == ["session:u1:org_a", "session:auth0|ada:org_a", "session:a:b:org_a"]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and name.isprintable() and " " not in name and len(name) < 250 for name in names)


async def test_a_thousand_at_once_are_all_kept(made):
    one = made()
    one.records._most = 2000
    for number in range(1000):
        presented = Presented(f"u{number}", "org_a", None, 0.0, digest=b"x")
        one.records.seen(Identity("org_a", f"u{number}", presented=presented))
    await asyncio.sleep(0)
    await one.background.drain(5.0)
    assert len(one.store.inner) == 1000
