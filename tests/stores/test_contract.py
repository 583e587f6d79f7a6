"""What every store promises (`proxy.stores.base`). A store joins by one entry in STORES."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from proxy.errors import StoreError
from proxy.stores.base import EPOCH_BYTES, Heard, Store
from proxy.stores.breaker import Guarded
from proxy.stores.commands import CommandStore
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisLink
from proxy.stores.upstash import UpstashLink
from tests.doubles import FakeClock

MIB = 1 << 20


@dataclass
class Subject:
    """A store under test, and how time passes for it."""

    store: Store
    fast_forward: Callable[[float], Awaitable[None]]


def memory(_: pytest.FixtureRequest) -> Subject:
    clock = FakeClock()

    async def fast_forward(seconds: float) -> None:
        clock.advance(seconds)

    return Subject(MemoryStore(64 * MIB, clock), fast_forward)


def guarded(request: pytest.FixtureRequest) -> Subject:
    made = memory(request)
    store = Guarded(made.store, timeout=5.0, clock=time.monotonic, report=lambda event, details: None)
    return Subject(store, made.fast_forward)


def real(server: str) -> Callable[[pytest.FixtureRequest], Subject]:
    def make(request: pytest.FixtureRequest) -> Subject:
        at = request.getfixturevalue(f"{server}_at")
        at.flush()

        async def fast_forward(seconds: float) -> None:
            at.fast_forward(seconds)

        return Subject(CommandStore(RedisLink(at.access, clock=time.monotonic, timeout=5.0)), fast_forward)

    return make


def upstash(request: pytest.FixtureRequest) -> Subject:
    """Over REST to the emulator, which has a real server behind it."""
    at = request.getfixturevalue("upstash_at")
    at.flush()

    async def fast_forward(seconds: float) -> None:
        at.fast_forward(seconds)

    return Subject(CommandStore(UpstashLink(at.url, at.token, pool_size=10, timeout=5.0)), fast_forward)


class OnOurNames(RedisLink):
    """The suite's short names in the name space that we have: the shipped user may touch no other."""

    async def execute(self, commands):
        spaces = {"PUBLISH": "shared:", "PING": None}
        return await super().execute(
            [
                command
                if (space := spaces.get(command[0], "tenant:")) is None
                else (command[0], _in(space, command[1]), *command[2:])
                for command in commands
            ]
        )

    async def listen(self, channels):
        async with aclosing(super().listen([_in("shared:", channel) for channel in channels])) as heard:
            async for each in heard:
                yield each and Heard(each.channel.removeprefix("shared:"), each.message)


def _in(space: str, name: str) -> str:
    return name if name.startswith(space) else space + name


def shipped(request: pytest.FixtureRequest) -> Subject:
    """As the user of deploy/redis/users.acl, who is refused everything else."""
    at = request.getfixturevalue("shipped_at")
    at.flush()

    async def fast_forward(seconds: float) -> None:
        at.fast_forward(seconds)

    return Subject(CommandStore(OnOurNames(at.access, clock=time.monotonic, timeout=5.0)), fast_forward)


STORES = {"memory": memory, "guarded": guarded, **{server: real(server) for server in ("redis", "valkey", "cluster")}}
STORES |= {"upstash": upstash, "shipped": shipped}


@pytest.fixture(params=STORES)
async def subject(request):
    made = STORES[request.param](request)
    yield made
    await made.store.close()


@pytest.fixture
def store(subject):
    return subject.store


async def test_a_store_says_who_it_is_and_whether_it_is_shared(store):
    assert store.name in {"memory", "redis", "upstash"}
    assert store.shared is (store.name != "memory")


async def test_what_was_never_set_is_none(store):
    assert await store.get(["never"]) == [None]


async def test_values_come_back_in_the_order_of_their_names_with_gaps_and_repeats(store):
    await store.set("a", b"1", 60)
    await store.set("b", b"2", 60)
    assert await store.get(["b", "missing", "a", "b"]) == [b"2", None, b"1", b"2"]


async def test_replacing_sets_only_what_is_there(subject):
    store = subject.store
    assert await store.replace("a", b"1", 60) is False
    assert await store.get(["a"]) == [None]
    await store.set("a", b"1", 60)
    assert await store.replace("a", b"2", 60) is True
    assert await store.get(["a"]) == [b"2"]
    await store.delete(["a"])
    assert await store.replace("a", b"3", 60) is False


async def test_a_log_is_read_from_its_beginning_or_behind_an_entry(store):
    assert await store.entries("log", "", 10) == []
    for number in range(5):
        await store.append("log", b"\x00%d\xff" % number, 0)
    found = await store.entries("log", "", 10)
    assert [entry.value for entry in found] == [b"\x00%d\xff" % number for number in range(5)]
    assert await store.entries("log", "", 2) == found[:2]
    assert await store.entries("log", found[1].id, 2) == found[2:4]
    assert await store.entries("log", found[4].id, 10) == []
    await store.append("log", b"6", 0)
    assert [entry.value for entry in await store.entries("log", found[4].id, 10)] == [b"6"]


async def test_a_log_keeps_what_is_not_older_than_it_was_told(subject):
    store = subject.store
    now = time.time() if not isinstance(store, MemoryStore | Guarded) else 1_700_000_000.0
    for number in range(3):
        await store.append("log", b"%d" % number, now - 3600)
    assert [entry.value for entry in await store.entries("log", "", 10)] == [b"0", b"1", b"2"]


async def test_asking_for_no_names_gives_no_values(store):
    assert await store.get([]) == []


@pytest.mark.parametrize(
    "value",
    [
        b'{"id":77}',  # realistic
        b"x" * (256 * 1024),  # realistic
        b"",  # pathological
        bytes(range(256)),  # pathological: every byte
        b"\r\n$-1\r\n\x00\xff+OK\r\n",  # pathological: looks like a protocol
        os.urandom(4 * MIB),  # pathological: large, not compressible
    ],
    ids=["json", "256k", "empty", "every-byte", "protocol", "4m"],
)
async def test_a_value_comes_back_byte_for_byte(store, value):
    await store.set("tenant:org_a:jobs:77", value, 60)
    assert await store.get(["tenant:org_a:jobs:77"]) == [value]


async def test_a_name_of_249_characters_is_a_name_like_any_other(store):
    name = "tenant:" + "n" * 242
    await store.set(name, b"long", 60)
    assert await store.get([name, name[:-1]]) == [b"long", None]


async def test_many_names_are_read_at_once(store):
    names = [f"tenant:org_a:jobs:{number}" for number in range(1000)]
    for name in names[::2]:
        await store.set(name, name.encode(), 60)
    values = await store.get(names)
    assert values == [name.encode() if place % 2 == 0 else None for place, name in enumerate(names)]


async def test_setting_again_replaces_the_value_and_its_time(subject):
    await subject.store.set("k", b"old", 10)
    await subject.store.set("k", b"new", 1000)
    await subject.fast_forward(11)
    assert await subject.store.get(["k"]) == [b"new"]


async def test_setting_again_can_shorten_the_time(subject):
    await subject.store.set("k", b"old", 1000)
    await subject.store.set("k", b"new", 10)
    await subject.fast_forward(11)
    assert await subject.store.get(["k"]) == [None]


async def test_a_value_is_there_before_its_time_is_over_and_never_after(subject):
    await subject.store.set("k", b"v", 10)
    await subject.fast_forward(9)
    assert await subject.store.get(["k"]) == [b"v"]
    await subject.fast_forward(1.5)
    assert await subject.store.get(["k"]) == [None]


async def test_reading_does_not_lengthen_the_time(subject):
    await subject.store.set("k", b"v", 10)
    for _ in range(3):
        await subject.fast_forward(4)
        await subject.store.get(["k"])
    assert await subject.store.get(["k"]) == [None]


async def test_a_ttl_may_be_a_fraction_of_a_second(subject):
    await subject.store.set("k", b"v", 0.5)
    await subject.fast_forward(0.6)
    assert await subject.store.get(["k"]) == [None]


async def test_delete_forgets_and_says_how_many_there_were(store):
    await store.set("a", b"1", 60)
    await store.set("b", b"2", 60)
    assert await store.delete(["a", "missing", "b"]) == 2
    assert await store.get(["a", "b"]) == [None, None]
    assert await store.delete(["a"]) == 0


async def test_delete_does_not_count_what_has_expired(subject):
    await subject.store.set("k", b"v", 10)
    await subject.fast_forward(11)
    assert await subject.store.delete(["k"]) == 0


async def test_epochs_that_were_never_made_are_none(store):
    assert await store.epochs("tenant:org_a:epochs", ["*", "jobs"]) == [None, None]


async def test_epochs_come_back_in_the_order_of_their_fields(store):
    values = {"*": os.urandom(EPOCH_BYTES), "jobs": os.urandom(EPOCH_BYTES)}
    await store.create_epochs("tenant:org_a:epochs", values)
    read = await store.epochs("tenant:org_a:epochs", ["jobs", "slot:00", "*"])
    assert read == [values["jobs"], None, values["*"]]


async def test_creating_never_replaces_an_epoch_and_still_makes_the_others(store):
    await store.create_epochs("s", {"a": b"first"})
    await store.create_epochs("s", {"a": b"second", "b": b"new"})
    assert await store.epochs("s", ["a", "b"]) == [b"first", b"new"]


async def test_creators_at_the_same_time_agree_on_one_epoch(store):
    async def create(number: int) -> bytes | None:
        await store.create_epochs("s", {"a": b"%d" % number})
        values: list[bytes | None] = await store.epochs("s", ["a"])
        return values[0]

    seen = await asyncio.gather(*(create(number) for number in range(20)))
    assert len(set(seen)) == 1
    assert seen[0] is not None


async def test_advancing_replaces_epochs_and_makes_missing_ones(store):
    await store.create_epochs("s", {"a": b"1", "b": b"1"})
    await store.advance_epochs("s", {"a": b"2", "c": b"2"})
    assert await store.epochs("s", ["a", "b", "c"]) == [b"2", b"1", b"2"]


async def test_creating_after_an_advance_does_not_undo_it(store):
    await store.advance_epochs("s", {"a": b"advanced"})
    await store.create_epochs("s", {"a": b"created"})
    assert await store.epochs("s", ["a"]) == [b"advanced"]


async def test_whoever_reads_after_an_advance_returned_reads_it(store):
    for number in range(50):
        await store.advance_epochs("s", {"a": b"%d" % number})
        readers = await asyncio.gather(*(store.epochs("s", ["a"]) for _ in range(4)))
        assert readers == [[b"%d" % number]] * 4


async def test_a_read_sees_one_advance_whole_or_not_at_all(store):
    await store.advance_epochs("s", {"a": b"0", "b": b"0"})

    async def advance() -> None:
        for number in range(1, 50):
            await store.advance_epochs("s", {"a": b"%d" % number, "b": b"%d" % number})

    async def read() -> list[list[bytes | None]]:
        return [await store.epochs("s", ["a", "b"]) for _ in range(50)]

    _, *seen = await asyncio.gather(advance(), read(), read())
    assert all(first == second for reads in seen for first, second in reads)


async def test_spaces_do_not_share_fields(store):
    await store.advance_epochs("tenant:org_a:epochs", {"jobs": b"a"})
    await store.advance_epochs("tenant:org_b:epochs", {"jobs": b"b"})
    assert await store.epochs("tenant:org_a:epochs", ["jobs"]) == [b"a"]


async def test_epochs_are_not_values_and_have_no_end(subject):
    await subject.store.advance_epochs("s", {"a": b"1"})
    await subject.fast_forward(400 * 86400)
    assert await subject.store.epochs("s", ["a"]) == [b"1"]


async def test_of_all_who_claim_a_name_one_gets_it(store):
    claims = await asyncio.gather(*(store.claim("lease", b"%d" % number, 60) for number in range(20)))
    assert claims.count(True) == 1
    assert await store.get(["lease"]) == [b"%d" % claims.index(True)]


async def test_a_claim_ends_with_its_time_or_when_it_is_deleted(subject):
    assert await subject.store.claim("lease", b"a", 10)
    assert not await subject.store.claim("lease", b"b", 10)
    await subject.fast_forward(11)
    assert await subject.store.claim("lease", b"c", 10)
    await subject.store.delete(["lease"])
    assert await subject.store.claim("lease", b"d", 0.5)


async def test_a_claim_does_not_replace_a_value(store):
    await store.set("k", b"v", 60)
    assert not await store.claim("k", b"w", 60)
    assert await store.get(["k"]) == [b"v"]


async def test_listeners_hear_what_is_published_after_they_subscribed_in_its_order(store):
    await store.publish("doorbell", b"before")
    async with aclosing(store.listen(["doorbell", "other"])) as heard:
        assert await anext(heard) is None
        for message in (b"1", bytes(range(256)), b"", b"a,b\r\n\r\ndata: c"):
            await store.publish("doorbell", message)
        await store.publish("unheard", b"x")
        await store.publish("other", b"last")
        messages = [await asyncio.wait_for(anext(heard), 5) for _ in range(5)]
    assert messages == [
        ("doorbell", b"1"),
        ("doorbell", bytes(range(256))),
        ("doorbell", b""),
        ("doorbell", b"a,b\r\n\r\ndata: c"),
        ("other", b"last"),
    ]


async def test_every_listener_hears_every_message(store):
    async with aclosing(store.listen(["c"])) as one, aclosing(store.listen(["c"])) as two:
        assert [await anext(one), await anext(two)] == [None, None]
        await store.publish("c", b"m")
        assert [await asyncio.wait_for(anext(each), 5) for each in (one, two)] == [("c", b"m")] * 2


async def test_a_listener_hears_that_the_store_was_closed(store):
    async with aclosing(store.listen(["c"])) as heard:
        assert await anext(heard) is None
        await store.close()
        with pytest.raises(StoreError):
            await asyncio.wait_for(anext(heard), 5)


async def test_ping_gives_the_store_s_own_answer(store):
    assert await store.ping() == "PONG"


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get(["a"]),
        lambda store: store.set("a", b"1", 1),
        lambda store: store.claim("a", b"1", 1),
        lambda store: store.delete(["a"]),
        lambda store: store.epochs("s", ["a"]),
        lambda store: store.create_epochs("s", {"a": b"1"}),
        lambda store: store.advance_epochs("s", {"a": b"1"}),
        lambda store: store.publish("c", b"1"),
        lambda store: anext(store.listen(["c"])),
        lambda store: store.ping(),
    ],
    ids="get set claim delete epochs create_epochs advance_epochs publish listen ping".split(),
)
async def test_a_closed_store_raises_store_error_for_everything(store, call):
    await store.set("a", b"1", 60)
    await store.close()
    with pytest.raises(StoreError):
        await call(store)


async def test_closing_twice_is_closing_once(store):
    await store.close()
    await store.close()
