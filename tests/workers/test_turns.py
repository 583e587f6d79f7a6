"""Who has fewer connections goes first; who takes none holds nobody up."""

from contextlib import closing

from proxy.workers.turns import Turns, new_turns


def test_a_worker_waits_for_those_that_have_fewer():
    with closing(new_turns(3)) as turns:
        one, two, three = (turns.of(number) for number in range(3))
        for turn, connections in ((one, 4), (two, 3), (three, 3)):
            turn.has(connections)
        assert [turn.is_before_others() for turn in (one, two, three)] == [True, False, False]
        two.leaves()
        three.leaves()
        assert not one.is_before_others()


def test_a_worker_that_has_not_begun_is_not_waited_for():
    with closing(new_turns(2)) as turns:
        turns.of(0).has(100)
        assert not turns.of(0).is_before_others()


def test_all_processes_see_the_same():
    with closing(new_turns(2)) as turns:
        again = Turns(turns.descriptor, 2)
        turns.of(1).has(7)
        again.of(0).has(8)
        assert turns.counts() == again.counts() == [8, 7]
