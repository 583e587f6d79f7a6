"""The first tier: what it keeps, what goes first, and what it says it holds."""

import os
import random

import pytest

from proxy.cache.memory import MAX_VARIANTS, Memory
from proxy.policy.entry import Entry
from proxy.policy.outcome import Reason
from tests import builders
from tests.builders import NOW
from tests.cache.test_record import FULL, as_dict

ROOM = 1 << 20


def item(name: str, size: int = 1000, *, tenant: str = "org_a", feature: str = "jobs") -> Entry:
    key = f"tenant:{tenant}:{feature}:{name}"
    return builders.entry(key=key, tenant=tenant, body=os.urandom(size), tags=(feature, f"{feature}:{name}"))


def put(
    memory: Memory, entry: Entry, *, quota: int | None = None, until: float = NOW + 900, now: float = NOW
) -> Reason | None:
    return memory.put(entry, until=until, quota=quota, now=now)


@pytest.fixture
def memory():
    return Memory(ROOM)


@pytest.mark.parametrize("entry", [builders.entry(), FULL, builders.entry(tags=(), etag="", request="\udce9\x00")])
def test_an_entry_comes_back_as_it_was(memory, entry):
    assert put(memory, entry) is None
    back = memory.get(entry.key)
    assert back is not None
    assert as_dict(back) == as_dict(entry)


def test_what_was_never_put_is_not_there(memory):
    assert memory.get("k") is None
    assert memory.drop("k") is False
    memory.grew(item("1"))
    assert (len(memory), memory.size) == (0, 0)


def test_putting_again_replaces_the_entry_and_its_bytes(memory):
    put(memory, item("1", 50_000))
    put(memory, item("1", 10))
    assert len(memory) == 1
    assert memory.size < 1500
    back = memory.get("tenant:org_a:jobs:1")
    assert back is not None
    assert len(back.body) == 10


def test_dropping_gives_the_bytes_back(memory):
    put(memory, item("1"))
    assert memory.drop("tenant:org_a:jobs:1") is True
    assert memory.get("tenant:org_a:jobs:1") is None
    assert (len(memory), memory.size, memory.accounts()) == (0, 0, ())


def test_the_bound_holds_whatever_is_put_asked_for_grown_and_dropped(memory):
    chance = random.Random(7)
    for _ in range(8000):
        name = str(chance.randrange(400))
        match chance.randrange(6):
            case 0:
                memory.drop(f"tenant:org_a:jobs:{name}")
            case 1:
                entry = memory.get(f"tenant:org_a:jobs:{name}")
                if entry is not None:
                    entry.encodings["gzip"] = bytes(chance.randrange(3000))
                    memory.grew(entry)
            case 2:
                memory.get(f"tenant:org_a:jobs:{name}")
            case _:
                put(memory, item(name, chance.randrange(20_000)), until=NOW + chance.randrange(3), now=NOW + 1)
        assert memory.size <= ROOM
        assert memory.size == sum(resident.size() for resident in memory._table.values())
        assert memory.size == sum(account.size for account in memory.accounts())
        assert len(memory) == sum(account.entries for account in memory.accounts())
    assert memory.evictions > 100


def test_what_is_asked_for_survives_a_scan_of_what_is_not(memory):
    for number in range(300):
        put(memory, item(f"hot-{number}"))
    for number in range(5000):
        put(memory, item(f"scan-{number}"))
        memory.get(f"tenant:org_a:jobs:hot-{number % 300}")
    kept = sum(memory.get(f"tenant:org_a:jobs:hot-{number}") is not None for number in range(300))
    assert kept == 300


def test_what_was_asked_for_once_long_ago_goes_in_the_end(memory):
    put(memory, item("old"))
    memory.get("tenant:org_a:jobs:old")
    for number in range(3000):
        put(memory, item(str(number)))
        memory.get(f"tenant:org_a:jobs:{number}")
    assert memory.get("tenant:org_a:jobs:old") is None


def test_an_entry_that_would_take_more_than_a_quarter_is_refused(memory):
    put(memory, item("1"))
    assert put(memory, item("2", ROOM // 4)) is Reason.TOO_LARGE
    assert memory.get("tenant:org_a:jobs:1") is not None
    assert memory.get("tenant:org_a:jobs:2") is None


def test_expired_entries_are_found_and_removed_by_later_puts(memory):
    for number in range(10):
        put(memory, item(f"short-{number}"), until=NOW + 10)
    for number in range(10):
        put(memory, item(f"long-{number}"), now=NOW + 20)
    assert len(memory) == 10


def test_a_quota_is_of_one_feature_of_one_tenant(memory):
    quota = 10_000
    outcomes = [put(memory, item(str(number)), quota=quota) for number in range(20)]
    assert outcomes[0] is None
    assert outcomes[-1] is Reason.QUOTA
    (account,) = memory.accounts()
    assert account.size <= quota
    assert put(memory, item("1", tenant="org_b"), quota=quota) is None
    assert put(memory, item("1", feature="search"), quota=quota) is None


def test_replacing_an_entry_needs_no_more_room_than_it_adds(memory):
    put(memory, item("1", 5000))
    assert put(memory, item("1", 5100), quota=6000) is None
    assert put(memory, item("1", 7000), quota=6000) is Reason.QUOTA


def test_expired_entries_do_not_count_against_a_quota(memory):
    for number in range(6):
        put(memory, item(f"short-{number}"), until=NOW + 10)
    assert put(memory, item("new"), quota=5000) is Reason.QUOTA
    assert put(memory, item("new"), quota=5000, now=NOW + 20) is None


def test_a_primary_key_has_at_most_32_variants(memory):
    for number in range(MAX_VARIANTS + 5):
        assert put(memory, item(f"77.v-{number}")) is None
    assert (len(memory), memory.evictions) == (MAX_VARIANTS, 5)
    assert memory.get("tenant:org_a:jobs:77.v-4") is None
    assert put(memory, item("77")) is None
    assert put(memory, item("78.v-0")) is None
    assert len(memory) == MAX_VARIANTS + 2


def test_made_up_variants_do_not_push_out_one_that_is_asked_for(memory):
    put(memory, item("77.v-real"))
    for number in range(5 * MAX_VARIANTS):
        assert memory.get("tenant:org_a:jobs:77.v-real") is not None
        put(memory, item(f"77.v-{number}"))


def test_a_variant_that_is_new_comes_in_though_all_others_are_asked_for(memory):
    for number in range(MAX_VARIANTS):
        put(memory, item(f"77.v-{number}"))
        memory.get(f"tenant:org_a:jobs:77.v-{number}")
    put(memory, item("77.v-new"))
    assert memory.get("tenant:org_a:jobs:77.v-new") is not None
    assert memory.get("tenant:org_a:jobs:77.v-0") is None


def test_variants_that_are_gone_leave_nothing_behind(memory):
    for number in range(40):
        put(memory, item(f"{number}.v-1"))
        memory.drop(f"tenant:org_a:jobs:{number}.v-1")
    assert memory._variants == {}


def test_encodings_that_grew_are_kept_and_counted(memory):
    put(memory, item("1"))
    size = memory.size
    entry = memory.get("tenant:org_a:jobs:1")
    assert entry is not None
    entry.encodings["gzip"] = b"z" * 700
    memory.grew(entry)
    assert memory.size == size + 700
    again = memory.get("tenant:org_a:jobs:1")
    assert again is not None
    assert again.encodings == {"gzip": b"z" * 700}
    memory.drop("tenant:org_a:jobs:1")
    assert memory.size == 0


def test_encodings_of_a_body_that_was_replaced_are_not_kept(memory):
    put(memory, item("1"))
    old = memory.get("tenant:org_a:jobs:1")
    assert old is not None
    put(memory, item("1"))
    old.encodings["gzip"] = b"of the old body"
    memory.grew(old)
    back = memory.get("tenant:org_a:jobs:1")
    assert back is not None
    assert back.encodings == {}


def test_encodings_that_make_an_entry_too_large_are_not_kept(memory):
    put(memory, item("1"))
    entry = memory.get("tenant:org_a:jobs:1")
    assert entry is not None
    entry.encodings["gzip"] = bytes(ROOM // 4)
    memory.grew(entry)
    back = memory.get("tenant:org_a:jobs:1")
    assert back is not None
    assert back.encodings == {}


def test_an_entry_put_with_encodings_keeps_them(memory):
    entry = item("1")
    entry.encodings["zstd"] = b"z" * 100
    put(memory, entry)
    back = memory.get(entry.key)
    assert back is not None
    assert back.encodings == {"zstd": b"z" * 100}


def test_dropping_and_putting_for_ever_does_not_grow_the_queues(memory):
    for _ in range(2000):
        put(memory, item("1"))
        memory.drop("tenant:org_a:jobs:1")
    assert len(memory._new.residents) <= 70
    assert len(memory._ring) <= 70


def test_entries_that_expire_unasked_for_ever_do_not_grow_the_queues(memory):
    for second in range(5000):
        put(memory, item(str(second)), until=NOW + second + 10, now=NOW + second)
    assert len(memory) < 30
    assert len(memory._new.residents) <= 130
    assert len(memory._ring) <= 130


def test_to_look_is_not_to_ask_and_keys_are_those_of_now():
    memory = Memory(1 << 20)
    kept = builders.entry()
    assert memory.put(kept, until=NOW + 900, quota=None, now=NOW) is None
    found = memory.look(kept.key)
    assert found is not None
    assert (found.body, memory.look("nothing")) == (kept.body, None)
    assert memory.resident(kept).touched is False
    assert memory.keys() == [kept.key]
    memory.drop(kept.key)
    assert memory.keys() == []


def test_what_is_elsewhere_too_gets_others_room_when_it_is_asked_for_again(memory):
    assert memory.wants("a", 100)  # there is room
    for number in range(ROOM // 1000):
        put(memory, item(str(number)))
    kept = memory.keys()[0]
    assert memory.wants(kept, 1000)
    assert [memory.wants(name, 1000) for name in "abab"] == [False, False, True, True]
    for number in range(3 * len(memory)):
        assert not memory.wants(f"once-{number}", 1000)
    assert not memory.wants("a", 1000)  # it is forgotten by then
