"""Which signals end it? SIGTERM and SIGINT: the first in order, the second at once."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT; a second one ends the process at once."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)

    def leave() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    def stopped() -> None:
        leave()
        stop()

    for number in numbers:
        loop.add_signal_handler(number, stopped)
    try:
        yield
    finally:
        leave()
