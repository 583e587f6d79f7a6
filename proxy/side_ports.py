"""On which ports does this process answer beside the data port? Its own, or those of all workers once it speaks."""

import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from proxy.addresses import Address
from proxy.serving.accepting import SharedSite
from proxy.workers.listening import cannot_listen
from proxy.workers.seat import Seat

_LEAVES = 1.0  # seconds for answers that are under way


class SidePorts:
    """`stack` closes them."""

    def __init__(self, stack: AsyncExitStack, seat: Seat | None) -> None:
        self._stack = stack
        self._seat = seat
        self._shared: list[tuple[web.AppRunner, Sequence[socket.socket], Callable[[], None]]] = []
        if seat is not None:
            seat.speak(self._speak)

    async def open(
        self, app: web.Application, address: Address, flag: str, shared: Sequence[socket.socket],
        begun: Callable[[], None] = lambda: None,
    ) -> int:  # fmt: skip
        """The port where `app` answers. ConfigError when the address cannot be used. `shared`: a worker's sockets.

        `begun` is called when it is this process that answers there.
        """
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_LEAVES)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        if self._seat is not None:
            self._shared.append((runner, shared, begun))
            return int(shared[0].getsockname()[1])
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise cannot_listen(address, error, flag) from None
        begun()
        return int(runner.addresses[0][1])

    async def leave(self) -> None:
        """Somebody else speaks."""
        for runner, _, _ in self._shared:
            for site in list(runner.sites):
                await site.stop()

    async def _speak(self) -> None:
        for runner, sockets, begun in self._shared:
            for each in sockets:
                await SharedSite(runner, each).start()
            begun()
