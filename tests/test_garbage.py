"""proxy.garbage: what has survived a full pass is not looked at by the next one; everything is, now and then."""

import gc
from collections.abc import Iterator

import pytest

from proxy.garbage import EVERYTHING_AFTER, Survivors, freeze_survivors


@pytest.fixture
def survivors() -> Iterator[Survivors]:
    before = list(gc.callbacks)
    freeze_survivors()
    (made,) = [each for each in gc.callbacks if isinstance(each, Survivors)]
    yield made
    gc.callbacks[:] = before
    gc.unfreeze()


def test_what_survives_a_full_pass_is_not_looked_at_again(survivors):
    kept = [[n] for n in range(1000)]
    gc.collect()
    assert not any(each is kept[7] for each in gc.get_objects())
    later = [[n] for n in range(10)]
    assert any(each is later[7] for each in gc.get_objects())


def test_a_younger_pass_freezes_nothing(survivors):
    frozen = gc.get_freeze_count()
    gc.collect(1)
    assert gc.get_freeze_count() <= frozen


def test_now_and_then_everything_is_looked_at_again(survivors):
    kept = [[n] for n in range(1000)]
    while survivors.passes % EVERYTHING_AFTER != EVERYTHING_AFTER - 1:
        gc.collect()
    gc.collect()
    assert gc.get_freeze_count() == 0
    assert any(each is kept[7] for each in gc.get_objects())
    gc.collect()
    assert gc.get_freeze_count() > 1000


def test_a_process_freezes_them_once(survivors):
    freeze_survivors()
    assert sum(isinstance(each, Survivors) for each in gc.callbacks) == 1
