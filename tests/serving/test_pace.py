"""proxy.serving.pace: how long a sender may take."""

import pytest

from proxy.serving.pace import Pace


@pytest.mark.parametrize(
    ("sent", "now", "left"),
    [
        ({}, 0.0, 30.0),  # realistic
        ({}, 29.0, 1.0),
        ({10: 5120}, 10.0, 30.0),
        ({10: 5120}, 40.0, 0.0),
        (dict.fromkeys(range(1, 101), 512), 100.0, 30.0),
        ({}, 30.0, 0.0),  # pathological
        (dict.fromkeys(range(2, 42, 2), 1), 40.0, -10.0 + 20 / 512),
        ({1: 1 << 30}, 1.0, 30.0),
        ({1: 1 << 30}, 32.0, -1.0),
    ],
)
def test_bytes_renew_the_time_up_to_the_grace(sent, now, left):
    pace = Pace(30.0, 512.0, 0.0)
    for at, size in sent.items():
        pace.received(size)
        pace.left(at)
    assert pace.left(now) == pytest.approx(left)


def test_time_stands_still_while_the_sender_is_held_back():
    pace = Pace(30.0, 512.0, 0.0)
    pace.hold(10.0)
    pace.hold(20.0)  # already
    assert pace.left(500.0) == 20.0
    pace.release(1000.0)
    pace.release(1000.0)
    assert pace.left(1000.0) == 20.0
    assert pace.left(1020.0) == 0.0
