"""Two ends of one connection inside this process: a protocol under test on one, plain bytes on the other."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tests.wire import LIMIT

P = TypeVar("P", bound=asyncio.BaseProtocol)


class End:
    """The other end: what a peer does on its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(self._loop.sock_sendall(self.sock, data), LIMIT)

    async def receive(self, size: int | None = None) -> bytes:
        """Exactly `size` bytes, or less when it ends before; everything until the end without it."""
        got = bytearray()
        while size is None or len(got) < size:
            chunk = await asyncio.wait_for(self._loop.sock_recv(self.sock, 1 << 16), LIMIT)
            if not chunk:
                break
            got += chunk
        return bytes(got)

    def close(self) -> None:
        self.sock.close()


@asynccontextmanager
async def joined(factory: Callable[[], P]) -> AsyncIterator[tuple[P, End]]:
    """A connected protocol and its peer's end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().create_connection(factory, sock=ours)
    end = End(theirs)
    try:
        yield protocol, end
    finally:
        transport.abort()
        end.close()
        await asyncio.sleep(0)
