"""Which sockets do all workers share? Bound and listening before there is a worker, and open until the last has ended.

A listening socket of each worker's own (SO_REUSEPORT) would take the connections that wait in it along when it closes.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

from proxy.addresses import Address
from proxy.errors import ConfigError

BACKLOG = 1024


async def listening(address: Address, flag: str) -> list[socket.socket]:
    """The sockets of an address, one for each family its host has. ConfigError when it is taken or not ours."""
    opened: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, where in dict.fromkeys(found):
            opened.append(made := socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(where)
            made.listen(BACKLOG)
            made.setblocking(False)
    except OSError as error:
        for each in opened:
            each.close()
        raise cannot_listen(address, error, flag) from None
    return opened


def cannot_listen(address: Address, error: OSError, flag: str) -> ConfigError:
    # a name that does not resolve has an error number of its own kind
    number = None if isinstance(error, socket.gaierror) else error.errno
    reason = os.strerror(number) if number else error.strerror or str(error)
    separator = " " if flag.startswith("-") else "="
    return ConfigError(f"cannot listen on {address}: {reason.lower()}; {flag}{separator}HOST:PORT chooses another")


async def bind(listen: Callable[[str, int], Awaitable[None]], address: Address, flag: str) -> None:
    """ConfigError when it cannot."""
    try:
        await listen(address.host, address.port)
    except OSError as error:
        raise cannot_listen(address, error, flag) from None
