"""What does a client allow that takes nothing, or leaves? What was written waits for it, but not for ever."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from proxy.serving.turns import TurnTaker

_NO_LINGER = struct.pack("ii", 1, 0)
REST_OF_THE_LINE = 64  # bytes of a request line beside its target: the method, the version and what is between them


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds."""

    line: int = 16 << 10
    head: int = 32 << 10
    fields: int = 128
    head_time: float = 10.0  # for a whole head; from the first byte, on a new connection from its beginning
    body_grace: float = 30.0  # for which a body may stand still
    body_rate: float = 512.0  # bytes a second that it must keep up
    idle: float = 75.0  # between requests; longer than a load balancer's 60, so that it is never us who close under it
    unsent: float = 60.0  # for which a client may take nothing of what waits for it
    linger: float = 5.0  # for the rest of a body that nobody wants

    @property
    def target(self) -> int:
        return self.line - REST_OF_THE_LINE


class Outgoing(TurnTaker):
    """One client's connection, as far as bytes leave on it."""

    __slots__ = ("_gone", "_limits", "_stalled", "on_lost")

    def __init__(self, *args: Any, limits: Limits, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.on_lost: Callable[[], None] | None = None
        self._limits = limits
        self._gone: asyncio.Future[None] | None = None  # awaited at the end
        self._stalled: asyncio.TimerHandle | None = None

    async def written(self) -> None:
        """Wait until the client has taken most of what was written: only then is its next request begun."""
        if self._paused:
            await self._drain_helper()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._loop.call_later(self._limits.unsent, reset, self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stalled()

    def _stop_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    async def start(self) -> None:
        transport = self.transport
        try:
            await super().start()
        finally:
            self._abandon(transport)

    def force_close(self) -> None:
        transport = self.transport
        super().force_close()
        self._abandon(transport)

    def _abandon(self, transport: asyncio.Transport | None) -> None:
        """A closed connection still waits, without end, for a client to take what was written."""
        if transport is not None and transport.is_closing() and transport.get_write_buffer_size():
            self._loop.call_later(self._limits.unsent, transport.abort)

    async def linger(self) -> None:
        """Wait for the client to close, or not for long.

        "If a server performs an immediate close of a TCP connection, there is a significant risk that the client will
        not be able to read the last HTTP response" (RFC 9112 9.6): closed over bytes that were not read, it is reset.
        """
        if self.transport is None or self.transport.is_closing():
            return
        self._gone = self._loop.create_future()
        self.transport.write_eof()
        self._resume_transport_reading()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger):
                await self._gone

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_stalled()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)


def reset(transport: asyncio.Transport | None) -> None:
    """End the connection with RST: FIN would be the proper end of a body without a length."""
    if transport is not None and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
