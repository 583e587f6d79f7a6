"""How are frames written to one client that stays? Straight to its connection, as chunks where it speaks HTTP/1.1."""

import array
import fcntl
import termios
from asyncio import Transport
from contextlib import suppress
from typing import Protocol


class Framed(Protocol):
    @property
    def plain(self) -> bytes: ...

    @property
    def chunk(self) -> bytes: ...


class Outlet:
    """The body of one response whose head was sent. Nobody waits: whoever writes looks at `unsent`."""

    __slots__ = ("_chunked", "_transport")

    def __init__(self, transport: Transport, *, chunked: bool) -> None:
        self._transport = transport
        self._chunked = chunked

    def write(self, frame: Framed) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame.chunk if self._chunked else frame.plain)

    @property
    def unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def taken(self) -> bool:
        """Whether the other end's system has acknowledged every byte. False: nobody knows, too."""
        if self._transport.get_write_buffer_size():
            return False
        waiting = array.array("i", [1])
        with suppress(OSError, ValueError):  # the connection may be gone
            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, waiting)
        return not waiting[0]
