"""How is one request answered beside aiohttp's handler? In a turn of its own, while the handler seems to be busy.

What holds meanwhile is what holds while the handler answers a request:

    order       without its `_waiter` nothing wakes the handler: what arrives is queued, and follows when the turn ends
    time        no idle time runs; behind the turn it runs anew
    shutdown    waits for the turn, and ends it when it takes too long
    the end     a connection that does not go on is closed, and the handler with it
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from aiohttp.web_protocol import RequestHandler

Turn = Coroutine[Any, Any, bool]  # whether the connection goes on after it


class Taker(Protocol):
    """Who answers in a turn without a task: until it ends the turn by itself."""

    def cancel(self) -> None:
        """End the turn now: it takes too long."""

    def resume(self) -> None:
        """The client takes more again."""


class TurnTaker(RequestHandler):
    """One client's connection, on which a turn can be taken while the handler waits."""

    __slots__ = ("_held", "_taker", "_turn")

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._turn: asyncio.Task[None] | None = None
        self._taker: Taker | None = None
        self._held: asyncio.Future[None] | None = None  # what the handler waits for, in a turn without a task

    def begin_turn(self, turn: Turn, waiter: asyncio.Future[None]) -> None:
        """`waiter` is what the handler waits for."""
        self._waiter = None
        self._request_in_progress = True
        self._turn = self._loop.create_task(self._take_turn(turn, waiter))

    async def _take_turn(self, turn: Turn, waiter: asyncio.Future[None]) -> None:
        goes_on = False
        try:
            goes_on = await turn
        except Exception:
            assert self._turn is not None, "this is its task"
            self._turn.add_done_callback(asyncio.Task.exception)  # told of where it failed
            raise
        finally:
            self._turn = None
            self._ended(waiter, goes_on)

    def give_turn(self, taker: Taker) -> None:
        """A turn that ends with `end_turn`."""
        self._held, self._waiter = self._waiter, None
        self._request_in_progress = True
        self._taker = taker

    def end_turn(self, *, goes_on: bool) -> None:
        self._ended(self._given(), goes_on)

    def take_back(self) -> asyncio.Future[None]:
        """As if no turn had been given; what the handler waits for."""
        self._waiter = waiter = self._given()
        self._request_in_progress = False
        return waiter

    def _given(self) -> asyncio.Future[None]:
        waiter, self._held, self._taker = self._held, None, None
        assert waiter is not None, "a turn was given"
        return waiter

    def _ended(self, waiter: asyncio.Future[None], goes_on: bool) -> None:
        self._request_in_progress = False
        if self._handler_waiter is not None:
            wake(self._handler_waiter)
        if goes_on and not (self._close or self._force_close or waiter.done()):
            self._go_on(waiter)
        else:
            waiter.cancel()
            self.force_close()

    def _go_on(self, waiter: asyncio.Future[None]) -> None:
        """As the handler does behind each of its requests."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        self._waiter = waiter
        if self._messages:
            wake(waiter)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taker is not None:
            self._taker.resume()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        await super().shutdown(timeout)
        if self._turn is not None:
            self._turn.cancel()
        if self._taker is not None:
            self._taker.cancel()


def wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
