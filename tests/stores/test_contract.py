"""What every store promises (`proxy.stores.base`). A store joins by one entry in STORES."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from proxy.errors import StoreError
from proxy.stores.base import EPOCH_BYTES, Addition, Heard, Item, Store
from proxy.stores.breaker import Guarded
from proxy.stores.commands import CommandStore
from proxy.stores.memory import MemoryStore
from proxy.stores.redis import RedisLink
from proxy.stores.streams import is_id, position
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
        spaces = {"PUBLISH": "shared:", "PING": None, "SCAN": None, "PFCOUNT": None}
        commands = [
            (command[0], *(_in("tenant:", name) for name in command[1:])) if command[0] == "PFCOUNT" else command
            for command in commands
        ]
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


async def test_asking_for_no_names_gives_no_values(store):
    assert await store.get([]) == []


async def test_names_that_are_read_for_themselves_are_read_in_their_order(store):
    for name, value in (("a", b"1"), ("b", b"2")):
        await store.set(name, value, 60)
    assert await store.get_each(["b", "missing", "a", "b"]) == [b"2", None, b"1", b"2"]
    assert await store.get_each([]) == []


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


async def test_items_of_a_stream_come_back_in_their_order_and_ids_grow(store):
    ids = [await store.append("s", {"n": b"%d" % number, "at": b"x"}, 100, 60) for number in range(12)]
    assert len(set(ids)) == 12
    assert all(map(is_id, ids))
    assert sorted(ids, key=position) == ids
    assert await store.range("s", "", 100) == [(id, {"n": b"%d" % n, "at": b"x"}) for n, id in enumerate(ids)]


async def test_a_stream_is_read_on_from_an_id_in_parts(store):
    ids = [await store.append("s", {"n": b"%d" % number}, 100, 60) for number in range(7)]
    read: list[str] = []
    while part := await store.range("s", read[-1] if read else "", 3):
        read += [item.id for item in part]
        assert len(part) <= 3
    assert read == ids


async def test_a_stream_is_read_backwards_in_parts_the_newest_first(store):
    ids = [await store.append("s", {"n": b"%d" % number}, 100, 60) for number in range(7)]
    read: list[str] = []
    while part := await store.latest("s", read[-1] if read else "", 3):
        read += [item.id for item in part]
    assert read == ids[::-1]


async def test_what_was_there_and_has_gone_is_a_place_to_read_on_from(store):
    first, *later = [await store.append("s", {"n": b"%d" % number}, 3, 60) for number in range(6)]
    assert [item.id for item in await store.range("s", first, 10)] == later[2:]
    assert await store.latest("s", first, 10) == []


async def test_a_stream_keeps_its_last_items_and_no_more(store):
    ids = [await store.append("s", {"n": b"%d" % number}, 5, 60) for number in range(300)]
    assert [item.id for item in await store.range("s", "", 1000)] == ids[-5:]


async def test_ids_from_outside_are_places_like_any_other(store):
    id = await store.append("s", {"n": b"1"}, 5, 60)
    for early in ("0-0", "0-1", f"1-{2**64 - 1}"):
        assert [item.id for item in await store.range("s", early, 5)] == [id]
        assert await store.latest("s", early, 5) == []
    late = f"{2**63}-{2**64 - 1}"
    assert await store.range("s", late, 5) == []
    assert [item.id for item in await store.latest("s", late, 5)] == [id]


async def test_a_stream_that_was_never_appended_to_is_empty(store):
    assert await store.range("never", "", 5) == []
    assert await store.latest("never", "", 5) == []


async def test_fields_of_an_item_come_back_byte_for_byte(store):
    fields = {"every": bytes(range(256)), "empty": b"", "large": os.urandom(1 << 16), "text": "b64:grüße".encode()}
    await store.append("s", fields, 5, 60)
    ((_, read),) = await store.range("s", "", 5)
    assert read == fields


async def test_a_stream_is_forgotten_when_nothing_was_appended_for_its_time(subject):
    await subject.store.append("s", {"n": b"1"}, 5, 10)
    await subject.fast_forward(6)
    await subject.store.append("s", {"n": b"2"}, 5, 10)
    await subject.fast_forward(6)
    assert [item.fields["n"] for item in await subject.store.range("s", "", 5)] == [b"1", b"2"]
    await subject.fast_forward(6)
    assert await subject.store.range("s", "", 5) == []


async def test_an_item_that_a_stream_has_lost_is_put_back_under_its_own_id(store):
    kept = await store.append("s", {"n": b"1"}, 5, 60)
    lost = [Item(f"{position(kept)[0] + ahead}-{ahead}", {"n": b"%d" % ahead}) for ahead in (5, 6)]
    assert [await store.restore("s", item, 60) for item in lost] == [True, True]
    assert [item.id for item in await store.range("s", "", 5)] == [kept, *(item.id for item in lost)]
    assert (await store.range("s", kept, 5))[0].fields == {"n": b"5"}


async def test_nothing_is_put_in_before_or_twice(store):
    first = await store.append("s", {"n": b"1"}, 5, 60)
    last = await store.append("s", {"n": b"2"}, 5, 60)
    for id in (first, last, "1-1"):
        assert not await store.restore("s", Item(id, {"n": b"3"}), 60)
    assert [item.id for item in await store.range("s", "", 5)] == [first, last]


async def test_what_is_appended_behind_an_item_that_was_put_back_comes_after_it(store):
    ahead = Item(f"{int(time.time() * 1000) + 10**9}-7", {"n": b"1"})
    assert await store.restore("s", ahead, 60)
    assert position(await store.append("s", {"n": b"2"}, 5, 60)) > position(ahead.id)


async def test_a_stream_that_was_put_back_is_forgotten_in_its_time(subject):
    assert await subject.store.restore("s", Item("1-1", {"n": b"1"}), 10)
    await subject.fast_forward(6)
    assert [item.id for item in await subject.store.range("s", "", 5)] == ["1-1"]
    await subject.fast_forward(6)
    assert await subject.store.range("s", "", 5) == []


async def test_items_before_an_id_are_forgotten(store):
    ids = [await store.append("s", {"n": b"%d" % number}, 100, 60) for number in range(7)]
    await store.trim("s", ids[3])
    assert [item.id for item in await store.range("s", "", 10)] == ids[3:]
    await store.trim("s", "1-1")
    await store.trim("never", ids[3])
    assert [item.id for item in await store.latest("s", "", 10)] == ids[3:][::-1]


async def test_streams_do_not_share_items(store):
    await store.append("tenant:org_a:events:stream", {"n": b"a"}, 5, 60)
    assert await store.range("tenant:org_b:events:stream", "", 5) == []


async def test_all_that_is_appended_at_the_same_time_is_there_once(store):
    ids = await asyncio.gather(*(store.append("s", {"n": b"%d" % number}, 100, 60) for number in range(50)))
    items = await store.range("s", "", 1000)
    assert [item.id for item in items] == sorted(ids, key=position)
    assert {item.fields["n"] for item in items} == {b"%d" % number for number in range(50)}


def additions(*named: tuple[str, str, int], ttl: float = 60) -> list[Addition]:
    return [Addition(name, field, by, ttl) for name, field, by in named]


async def test_numbers_are_added_to_and_what_they_are_then_is_told(store):
    assert await store.add(additions(("a", "9", 2), ("a", "10", 1), ("b", "9", 5))) == [2, 1, 5]
    assert await store.add(additions(("a", "9", 3), ("a", "9", 1))) == [5, 6]
    assert await store.counts(["a", "none", "b"]) == [{"9": 6, "10": 1}, {}, {"9": 5}]
    assert await store.counts([]) == []
    assert await store.add([]) == []


async def test_all_that_is_added_at_the_same_time_is_added_once(store):
    await asyncio.gather(*(store.add(additions(("a", "0", 1), ("a", str(n % 7), 1))) for n in range(50)))
    (found,) = await store.counts(["a"])
    assert sum(found.values()) == 100


async def test_more_numbers_than_one_batch_holds_are_all_there(store):
    wanted = [(f"a{number % 40}", str(number), number + 1) for number in range(1200)]
    told = [await store.add(additions(*wanted[at : at + 400])) for at in range(0, len(wanted), 400)]
    assert [each for part in told for each in part] == [by for _, _, by in wanted]
    found = await store.counts([f"a{number}" for number in range(40)])
    assert {(f"a{index}", field, by) for index, each in enumerate(found) for field, by in each.items()} == set(wanted)


async def test_numbers_are_forgotten_when_none_was_new_for_their_time(subject):
    await subject.store.add(additions(("a", "1", 1), ttl=10))
    await subject.fast_forward(6)
    await subject.store.add(additions(("a", "2", 1), ttl=10))
    await subject.fast_forward(6)
    assert await subject.store.counts(["a"]) == [{"1": 1, "2": 1}]
    await subject.store.add(additions(("a", "2", 1), ttl=10))
    await subject.fast_forward(6)
    assert await subject.store.counts(["a"]) == [{}]


async def test_distinct_values_are_counted_once_over_several_sets(store):
    await store.observe("u:{x}:1", ["a", "b", "c"], 60)
    await store.observe("u:{x}:1", ["c", "a"], 60)
    await store.observe("u:{x}:2", ["c", "d"], 60)
    assert await store.distinct(["u:{x}:1"]) == 3
    assert await store.distinct(["u:{x}:1", "u:{x}:2", "u:{x}:3"]) == 4
    assert await store.distinct(["u:{x}:3"]) == 0
    assert await store.distinct([]) == 0


@pytest.mark.parametrize("many", [100, 1500, 20_000])
async def test_many_distinct_values_are_counted_within_four_standard_errors(store, many):
    for at in range(0, many, 2000):
        await store.observe("u:{x}", [f"user-{number}" for number in range(at, min(many, at + 2000))], 60)
    assert abs(await store.distinct(["u:{x}"]) - many) <= 4 * 0.0081 * many


async def test_a_set_of_distinct_values_is_forgotten_after_its_time(subject):
    await subject.store.observe("u", ["a"], 10)
    await subject.fast_forward(6)
    await subject.store.observe("u", ["b"], 10)
    await subject.fast_forward(6)
    assert await subject.store.distinct(["u"]) == 2
    await subject.fast_forward(6)
    assert await subject.store.distinct(["u"]) == 0


async def all_names(store, prefix: str, count: int = 10) -> list[str]:
    names: list[str] = []
    cursor = ""
    for _ in range(1000):
        page = await store.names(prefix, cursor, count)
        names += page.names
        if not (cursor := page.next):
            return names
    raise AssertionError("there is no end")


async def test_all_names_that_begin_so_are_listed_and_no_others(store):
    for number in range(137):
        await store.set(f"tenant:org_a:jobs:{number}", b"1", 60)
        await store.set(f"tenant:org_b:jobs:{number}", b"1", 60)
    for prefix, count in (("tenant:org_a:", 137), ("tenant:", 274), ("", 274), ("tenant:org_a:jobs:13", 8), ("x", 0)):
        assert len(set(await all_names(store, prefix))) == count
    assert set(await all_names(store, "tenant:org_a:jobs:5")) == {
        f"tenant:org_a:jobs:{number}" for number in (5, *range(50, 60))
    }


@pytest.mark.parametrize("prefix", ["a*", "a?", "[a]", "a\\", "^a", "a-"])
async def test_a_prefix_stands_for_itself(store, prefix):
    begins = f"tenant:{prefix}"
    await store.set(f"{begins}b", b"1", 60)
    for other in ("tenant:ab", "tenant:axb", "tenant:a"):
        await store.set(other, b"1", 60)
    assert await all_names(store, begins) == [f"{begins}b"]


@pytest.mark.parametrize("cursor", ["-1", "x", str(2**64), "1|", "|", "a|b", "1\n", "\u0663"])
async def test_a_cursor_from_elsewhere_does_no_harm(store, cursor):
    await store.set("tenant:a", b"1", 60)
    for _ in range(30):
        page = await store.names("none", cursor, 10)
        assert page.names == []
    assert await store.get(["tenant:a"]) == [b"1"]


async def test_a_name_that_has_expired_is_not_listed(subject):
    await subject.store.set("tenant:short", b"1", 10)
    await subject.store.set("tenant:long", b"1", 100)
    await subject.fast_forward(11)
    assert await all_names(subject.store, "") == ["tenant:long"]


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
        lambda store: store.append("s", {"a": b"1"}, 5, 60),
        lambda store: store.restore("s", Item("1-1", {"a": b"1"}), 60),
        lambda store: store.trim("s", "1-1"),
        lambda store: store.range("s", "", 5),
        lambda store: store.latest("s", "", 5),
        lambda store: store.add([Addition("a", "1", 1, 60)]),
        lambda store: store.counts(["a"]),
        lambda store: store.observe("a", ["1"], 60),
        lambda store: store.distinct(["a"]),
        lambda store: store.names("", "", 10),
        lambda store: store.publish("c", b"1"),
        lambda store: anext(store.listen(["c"])),
        lambda store: store.ping(),
    ],
    ids=(
        "get set claim delete epochs create_epochs advance_epochs append restore trim range latest "
        "add counts observe distinct names publish listen ping".split()
    ),
)
async def test_a_closed_store_raises_store_error_for_everything(store, call):
    await store.set("a", b"1", 60)
    await store.close()
    with pytest.raises(StoreError):
        await call(store)


async def test_closing_twice_is_closing_once(store):
    await store.close()
    await store.close()
