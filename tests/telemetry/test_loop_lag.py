"""What blocks the event loop shows, long enough for a scrape, and not for ever."""

import time

from proxy.telemetry.loop_lag import LoopLag
from tests.wire import until


async def test_a_blocked_loop_shows():
    lag = LoopLag(apart=0.01)
    lag.start()
    time.sleep(0.1)  # noqa: ASYNC251 - what it looks for
    await until(lambda: lag.seconds >= 0.08)
    lag.close()


def test_the_worst_is_kept_for_a_period_after_its_own_and_then_forgotten():
    lag = LoopLag(apart=1, kept=3)
    assert lag.seconds == 0
    seen = []
    for late in (0.1, 0.7, 0.2, 0.1, 0.1, 0.1, 0.05):
        lag.saw(late)
        seen.append(lag.seconds)
    assert seen == [0.1, 0.7, 0.7, 0.7, 0.7, 0.1, 0.1]
