"""Sessions of the dashboard: whose they are, how long, and that their ids are nowhere."""

from proxy.admin.access import Actor, Role
from proxy.admin.sessions import LIFETIME, MOST, MOST_OF_ONE, Sessions
from tests.doubles import FakeClock, counted

VERA = Actor("vera", Role.VIEWER)


def test_a_session_is_its_holders_until_it_ends_by_itself():
    clock = FakeClock()
    sessions = Sessions(clock, counted())
    name = sessions.begin(VERA)
    assert sessions.find(name) is VERA
    clock.advance(LIFETIME - 1)
    assert sessions.find(name) is VERA  # looking makes it no longer
    clock.advance(1)
    assert sessions.find(name) is None


def test_a_session_that_was_ended_is_nobodys():
    sessions = Sessions(FakeClock(), counted())
    name, other = sessions.begin(VERA), sessions.begin(VERA)
    assert sessions.end(name) is VERA
    assert (sessions.find(name), sessions.end(name), sessions.find(other)) == (None, None, VERA)


def test_what_was_never_given_out_is_nobodys():
    sessions = Sessions(FakeClock(), counted())
    name = sessions.begin(VERA)
    for guess in ("", name[:-1], name + "A", name.lower() + "x", "\udcff"):
        assert sessions.find(guess) is None


def test_there_are_so_many_at_most_and_the_first_makes_room():
    sessions = Sessions(FakeClock(), counted())
    names = [sessions.begin(Actor(f"vera-{number}", Role.VIEWER)) for number in range(MOST + 1)]
    assert sessions.find(names[0]) is None
    assert sessions.find(names[1]) is not None


def test_who_begins_too_many_ends_their_own_and_nobody_elses():
    sessions = Sessions(FakeClock(), counted())
    first = sessions.begin(Actor("otto", Role.OPERATOR))
    names = [sessions.begin(VERA) for _ in range(MOST_OF_ONE + 1)]
    assert sessions.find(first) is not None
    assert [sessions.find(each) for each in names[:2]] == [None, VERA]


def test_ids_are_long_and_not_kept():
    sessions = Sessions(FakeClock(), lambda size: b"\xab" * size)
    name = sessions.begin(VERA)
    assert len(name) == 43
    assert name not in repr(vars(sessions))
