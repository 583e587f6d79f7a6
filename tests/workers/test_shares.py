"""Who has fewer connections goes first; who takes none holds nobody up."""

from contextlib import closing

from proxy.workers.shares import Shares, new_shares


def test_a_worker_waits_for_those_that_have_fewer():
    with closing(new_shares(3)) as shares:
        one, two, three = (shares.of(number) for number in range(3))
        for share, connections in ((one, 4), (two, 3), (three, 3)):
            share.has(connections)
        assert [share.is_before_others() for share in (one, two, three)] == [True, False, False]
        two.leaves()
        three.leaves()
        assert not one.is_before_others()


def test_a_worker_that_has_not_begun_is_not_waited_for():
    with closing(new_shares(2)) as shares:
        shares.of(0).has(100)
        assert not shares.of(0).is_before_others()


def test_all_processes_see_the_same():
    with closing(new_shares(2)) as shares:
        again = Shares(shares.descriptor, 2)
        shares.of(1).has(7)
        again.of(0).has(8)
        assert shares.counts() == again.counts() == [8, 7]
