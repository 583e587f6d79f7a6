"""How is the upstream reached? Over TCP, TLS (verified) or a Unix socket; the only place that knows its address."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from proxy.errors import UpstreamError
from proxy.serving.connection import Connection

_HAPPY_EYEBALLS_DELAY = 0.25  # seconds after which the next address is tried beside the first (RFC 8305 5)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the upstream is: a Unix socket's path, or host and port, with TLS or without."""

    host: str
    port: int
    authority: str  # the Host of a request that came without one
    prefix: str = ""  # of every target
    tls: ssl.SSLContext | None = None
    path: str | None = None

    @classmethod
    def of(cls, url: str, tls: ssl.SSLContext | None = None) -> "Origin":
        """From `http://`, `https://` or `unix:`; the settings have seen to it that it is one of these."""
        if url.startswith("unix:"):
            return cls("", 0, "localhost", path=url[5:].removeprefix("//"))
        parts = urlsplit(url)
        context = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        return cls(
            parts.hostname or "",
            parts.port or _PORTS[parts.scheme],
            parts.netloc.rpartition("@")[2],
            parts.path.rstrip("/"),
            context,
        )


async def dial(origin: Origin, timeout: float, factory: Callable[[], Connection] = Connection) -> Connection:
    """A new connection. UpstreamError when there is none in time; the request was then not delivered."""
    try:
        async with asyncio.timeout(timeout):
            if origin.path is not None:
                _, connection = await asyncio.get_running_loop().create_unix_connection(factory, origin.path)
                return connection
            return await _over_tcp(origin, factory)
    except TimeoutError as error:
        raise UpstreamError("connection_timeout", status=504, delivered=False) from error
    except socket.gaierror as error:
        raise UpstreamError("dns_error", delivered=False) from error
    except ssl.SSLError as error:
        raise UpstreamError("tls_certificate_error", delivered=False) from error
    except OSError as error:
        raise UpstreamError("connection_refused", delivered=False) from error


async def _over_tcp(origin: Origin, factory: Callable[[], Connection]) -> Connection:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    # not create_connection's own way of trying several addresses: uvloop has none
    sock = await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _, connection = await loop.create_connection(
            factory, sock=sock, ssl=origin.tls, server_hostname=origin.host if origin.tls is not None else None
        )
    except BaseException:
        sock.close()
        raise
    return connection
