"""The bookkeeping of copies: who is trusted until when, and what a purge voids, in every order of arrival."""

import itertools

import pytest

from proxy.cache.binding import EVERYTHING, NEVER_PURGED, SHARED, covering, hash_of, slot, soft_of
from proxy.cache.copies import Copies
from proxy.cache.stamp import Stamp

TAGS = ("jobs", "jobs:77")
ORG_A = hash_of("org_a")
ITEM = slot("org_a", "jobs:77")


def value(number: int) -> bytes:
    return number.to_bytes(16, "big")


class World:
    def __init__(self, trusted: float = 0.8, max_copies: int = 1000) -> None:
        self.copies = Copies(trusted, max_copies=max_copies)

    def read(
        self,
        sent: float = 0.0,
        *,
        space: str = "org_a",
        item: int = 1,
        ticket: int | None = None,
        refused: tuple[str, ...] = (),
    ) -> dict[tuple[str, str], bytes]:
        """The answer to a read of everything that binds TAGS; `item` is the epoch of jobs:77."""
        got: dict[tuple[str, str], bytes] = {}
        for hashed in dict.fromkeys((SHARED, hash_of(space))):
            names = [name for of, name in covering(space, TAGS) if of == hashed]
            values: dict[str, bytes | None] = {name: value(item if name == ITEM else 1) for name in names}
            ticketed = self.copies.next_ticket() if ticket is None else ticket
            got |= self.copies.accept(hashed, values, ticketed, sent, refused if hashed != SHARED else ())
        return got

    def peek(self, now: float = 0.0, space: str = "org_a") -> Stamp | None:
        return self.copies.peek(space, TAGS, now)


def test_a_read_is_trusted_for_its_time_and_a_later_one_extends_it():
    world = World()
    world.read(10.0)
    stamp = world.peek(10.79)
    assert stamp is not None
    assert world.peek(10.8) is None
    world.read(10.5)
    assert world.peek(11.29) == stamp
    assert world.peek(11.3) is None


def test_a_copy_in_use_is_due_at_half_its_time_and_one_that_is_not_never_is():
    world = World()
    world.read(10.0)
    world.peek(10.39)
    assert world.copies.due == {}
    world.peek(10.4)
    assert list(world.copies.due) == [("org_a", TAGS)]
    due = world.copies.take_due(10.4)
    assert {(hashed, name) for hashed, names in due.items() for name in names} == set(covering("org_a", TAGS))
    assert world.copies.due == {}


def test_what_was_read_meanwhile_is_not_due():
    world = World()
    world.read(10.0)
    world.peek(10.4)
    world.read(10.4)
    assert world.copies.take_due(10.42) == {}


def test_what_is_due_is_read_with_its_hash_s_first_field():
    world = World()
    world.read(10.0)
    world.peek(10.4)
    world.read(10.4)
    world.copies.drop(ORG_A, [soft_of(ITEM)])
    assert world.copies.take_due(10.42) == {ORG_A: [EVERYTHING, soft_of(ITEM)]}


def test_nothing_is_known_of_a_field_that_was_not_read():
    world = World()
    names = [name for hashed, name in covering("org_a", TAGS) if hashed == ORG_A]
    world.copies.accept(ORG_A, dict.fromkeys(names, value(1)), world.copies.next_ticket(), 0.0)
    assert world.peek() is None
    assert world.copies.last_known("org_a", TAGS) is None


@pytest.mark.parametrize("name", ["soft:*", "@"])
def test_a_field_that_may_be_absent_was_never_purged(name):
    world = World()
    assert world.copies.accept(ORG_A, {name: None}, 1, 0.0) == {(ORG_A, name): NEVER_PURGED}


def test_any_other_field_without_a_value_is_not_accepted():
    assert World().copies.accept(ORG_A, {"*": None}, 1, 0.0) == {}


def test_a_purge_voids_the_copy_and_every_read_sent_before_it():
    world = World()
    world.read()
    early = world.copies.next_ticket()
    world.copies.drop(ORG_A, [ITEM])
    assert world.peek() is None
    assert (ORG_A, ITEM) not in world.read(ticket=early)
    assert world.peek() is None
    assert (ORG_A, ITEM) in world.read(item=2)
    assert world.peek() is not None


def test_a_refused_field_is_not_accepted_whatever_the_store_says():
    world = World()
    assert (ORG_A, ITEM) not in world.read(refused=(ITEM,))
    assert world.peek() is None


def test_of_two_reads_the_one_that_was_sent_last_holds():
    world = World()
    world.read()
    early, late = world.copies.next_ticket(), world.copies.next_ticket()
    world.read(ticket=late, item=2)
    new = world.peek()
    assert (ORG_A, ITEM) not in world.read(ticket=early, item=1)
    assert world.peek() == new


def test_no_order_of_answers_and_a_purge_leaves_the_old_epoch_behind():
    """Two reads from before the purge, two from after it; the answers arrive in any order, around its news."""
    for order in itertools.permutations(["old 1", "old 2", "news", "new 1", "new 2"]):
        if order.index("news") > min(order.index("new 1"), order.index("new 2")):
            continue  # they are sent after the news
        world = World()
        tickets = {name: world.copies.next_ticket() for name in ("old 1", "old 2")}
        for name in order:
            if name == "news":
                world.copies.drop(ORG_A, [ITEM])
                tickets |= {new: world.copies.next_ticket() for new in ("new 1", "new 2")}
            else:
                world.read(ticket=tickets[name], item=1 if name.startswith("old") else 2)
        assert world.copies.keeps((ORG_A, ITEM), value(2)), order


def test_distrust_voids_everything_and_every_read_under_way_but_not_what_was_last_known():
    world = World()
    world.read()
    known = world.peek()
    early = world.copies.next_ticket()
    world.copies.distrust()
    assert world.peek() is None
    assert world.read(ticket=early) == {}
    assert world.copies.last_known("org_a", TAGS) == known
    world.read()
    assert world.peek() == known


def test_what_was_purged_is_not_known_any_more():
    world = World()
    world.read()
    world.copies.drop(ORG_A, [ITEM])
    assert world.copies.last_known("org_a", TAGS) is None


def test_a_local_stamp_changes_with_each_purge_that_binds_it_and_with_no_other():
    world = World()
    before = world.copies.local("org_a", TAGS)
    world.copies.drop(ORG_A, ["search"])
    world.copies.drop(hash_of("org_b"), [ITEM])
    assert world.copies.local("org_a", TAGS) == before
    world.copies.drop(ORG_A, [soft_of(ITEM)])
    softly = world.copies.local("org_a", TAGS)
    assert softly.hard == before.hard
    assert softly.soft != before.soft
    world.copies.drop(ORG_A, [ITEM])
    assert world.copies.local("org_a", TAGS).hard != before.hard


def test_distrust_changes_every_local_stamp():
    world = World()
    before = world.copies.local("org_a", TAGS)
    world.copies.distrust()
    assert world.copies.local("org_a", TAGS).hard != before.hard


def test_a_local_stamp_holds_when_the_space_of_its_purge_makes_room():
    """The barriers that go leave the floor behind: nothing is older than it."""
    world = World(max_copies=30)
    before = world.copies.local("org_a", TAGS)
    world.copies.drop(ORG_A, [ITEM])
    early = world.copies.next_ticket() - 2
    for number in range(10):
        world.read(space=f"org_{number}")
    assert world.copies._spaces.get(ORG_A) is None
    assert len(world.copies) <= 30
    assert world.copies.local("org_a", TAGS).hard != before.hard
    assert world.read(ticket=early) == {}


def test_the_only_replica_s_copies_are_never_due():
    world = World(float("inf"))
    world.read()
    assert world.peek(1e12) is not None
    assert world.copies.due == {}
