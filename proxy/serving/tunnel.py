"""How do bytes cross after a 101? Two transports joined: exact bytes, each at the other's pace, half-closed like it."""

import asyncio
from collections.abc import Callable

from proxy.serving.outgoing import reset

Lost = Callable[[Exception | None], None]


class Tunnel:
    """Joins a client's transport and an upstream's until both are gone."""

    def __init__(self, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        self._sides = (_Side(client, upstream, self._lost), _Side(upstream, client, self._lost))
        self._sides[0].twin, self._sides[1].twin = self._sides[1], self._sides[0]
        self._open = len(self._sides)
        self._closed = asyncio.get_running_loop().create_future()

    def start(self, *, to_client: bytes, to_upstream: bytes) -> None:
        """Take over both transports, after what each is to be sent first."""
        for side, first in zip(self._sides, (to_upstream, to_client), strict=True):
            side.start()
            side.data_received(first)
        for side in self._sides:
            side.own.resume_reading()

    async def closed(self) -> None:
        """Until both transports are gone; the sides are cut off when this is cancelled."""
        try:
            await asyncio.shield(self._closed)
        finally:
            self.close()

    def close(self) -> None:
        """End both sides. No protocol is known here, so none can be told why."""
        for side in self._sides:
            side.own.abort()

    def _lost(self) -> None:
        self._open -= 1
        if not self._open and not self._closed.done():
            self._closed.set_result(None)


class _Side(asyncio.Protocol):
    """Passes on to `other` what `own` receives."""

    def __init__(self, own: asyncio.Transport, other: asyncio.Transport, lost: Callable[[], None]) -> None:
        self.own = own
        self.twin: _Side | None = None
        self.ended = False  # nothing more comes from it
        self._other = other
        self._lost = lost

    def start(self) -> None:
        self.own.set_protocol(self)
        if self.own.is_closing():
            self._other.close()

    def data_received(self, data: bytes) -> None:
        if data and not self._other.is_closing():
            self._other.write(data)

    def eof_received(self) -> bool:
        """Whether this side stays open for what the other still has to say."""
        self.ended = True
        over = self.twin is None or self.twin.ended or self._other.is_closing()
        if over or not (self.own.can_write_eof() and self._other.can_write_eof()):
            self._other.close()  # TLS, for one, knows no half-closed connection
            return False
        self._other.write_eof()
        return True

    def pause_writing(self) -> None:
        self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            reset(self._other)  # a broken connection must not look like an ended one
        else:
            self._other.close()
        self._lost()
