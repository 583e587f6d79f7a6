"""How is a Redis server reached, and which setting is to blame when it cannot be?"""

import functools
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio import Connection, SSLConnection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from proxy.errors import StoreError, StoreFullError
from proxy.stores.commands import Command
from proxy.stores.conversation import Answer, Conversation

# Whatever goes wrong between us and a server is one of these; `explained` makes a StoreError of it.
FAILURES = (RedisError, OSError, TimeoutError)

_READ_SIZE = 1 << 18
_SHOWN = 160  # characters of a server's own words


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to be let in. `host` and `port` are where the first connection goes."""

    host: str
    port: int = 6379
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    credentials: CredentialProvider | None = field(default=None, repr=False)  # instead of a password
    tls: bool = False
    tls_ca: str | None = None  # a file; None: the system's
    connect_timeout: float = 1.0

    def connection(self, host: str, port: int) -> "PlainConnection":
        """A connection that is not open yet. It repeats nothing and has no deadline of its own once it is open."""
        arguments: dict[str, Any] = {
            "host": host, "port": port, "protocol": 3, "socket_timeout": None,
            "socket_connect_timeout": self.connect_timeout, "socket_read_size": _READ_SIZE,
            "retry": Retry(NoBackoff(), 0), "driver_info": None,
            # redis-py's default switches off the look at what is left on a connection, and sends a command nobody knows
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "username": self.username if self.credentials is None else None, "password": self.password,
            "credential_provider": self.credentials,
        }  # fmt: skip
        if self.tls:
            connection = TlsConnection(**arguments)
            connection.ssl_context.context = _tls_context(self.tls_ca)  # redis-py reads all authorities once each
            return connection
        return PlainConnection(**arguments)


class PlainConnection(Connection):
    """A connection that can say whether it may be used again."""

    _conversation: Conversation | None = None

    async def ask(self, commands: Sequence[Command]) -> list[Answer]:
        """All replies to these commands (`Conversation.ask`). From the first of them on it is for nothing else."""
        if self._conversation is None:
            reader, writer = self._reader, self._writer
            if reader is None or writer is None or reader._buffer:  # type: ignore[attr-defined]
                raise RedisConnectionError("the connection is not open, or something is left on it")
            parser: Any = self._parser  # hiredis's reader has no public name
            self._conversation = Conversation(writer.transport, parser._reader, NOT_ENOUGH_DATA)
        return await self._conversation.ask(commands)

    def is_clean(self) -> bool:
        """Open, and nothing has arrived that nobody asked for."""
        return self._conversation is not None and self._conversation.is_clean

    async def disconnect(self, *_: object, **__: object) -> None:
        """As redis-py does after every failure; over TLS it would leave the connection to linger for half a minute."""
        self.abandon()

    def abandon(self) -> None:
        """Close without waiting for the other side to agree."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None
        self._parser.on_disconnect()  # type: ignore[no-untyped-call]


class TlsConnection(PlainConnection, SSLConnection):
    """The same over TLS: certificate and host name are checked."""


@functools.cache
def _tls_context(authorities: str | None) -> ssl.SSLContext:
    """Only these authorities count; with none given, the system's."""
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def explained(error: BaseException, access: Access, address: str, *, greeted: bool = True) -> StoreError:
    """One line that names the setting to look at. `greeted`: the connection had been open before this happened."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, StoreError):
            return each
    for each in chain:
        if isinstance(each, OutOfMemoryError):
            return StoreFullError(f"{address}: the server has no room left (maxmemory)")
        if (line := _setting_at_fault(each, access, address)) is not None:
            # a plain port waits for the end of what it takes for a command
            doubt = " (or not with TLS: REDIS_TLS)" if access.tls and not greeted and "in time" in line else ""
            return StoreError(line + doubt)
    if not greeted:
        wanted = "does it speak plain text only?" if access.tls else "does it want TLS?"
        return StoreError(f"REDIS_TLS: {address} broke off the greeting; {wanted}")
    return StoreError(f"{address}: the connection was lost ({type(error).__name__})")


def _setting_at_fault(error: BaseException, access: Access, address: str) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"REDIS_TLS_CA: the certificate of {address} is not accepted: {_short(error.verify_message)}"
        case ssl.SSLError():
            return f"REDIS_TLS: {address} does not answer with TLS ({_short(error.reason or 'no reason given')})"
        case socket.gaierror():
            return f"REDIS_HOST: {address} cannot be resolved"
        case ConnectionRefusedError():
            return f"REDIS_HOST, REDIS_PORT: nothing listens at {address}"
        case AuthenticationError() | AuthorizationError():
            names = "REDIS_IAM_AUTH, REDIS_USERNAME" if access.credentials else "REDIS_USERNAME, REDIS_PASSWORD"
            return f"{names}: {address} refuses them"
        case NoPermissionError():
            return f"REDIS_USERNAME: the user may not do this at {address}: {_short(str(error))}"
        case BusyLoadingError():
            return f"{address}: the server is loading its data"
        case InvalidResponse():
            return f"REDIS_PORT: {address} answers with something that is not the Redis protocol"
        case MovedError():
            return f"REDIS_CLUSTER: {address} is part of a cluster; set it to auto"
        case ResponseError():
            code = error.status_code
            return f"{address}: {_short(' '.join(filter(None, (code, str(error)))))}"
        case TimeoutError() | RedisTimeoutError():
            return f"REDIS_HOST, REDIS_PORT: {address} does not answer in time"
        case _:
            return None


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it was raised from, the innermost first: redis-py wraps what says why."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found[::-1]


def _short(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_SHOWN]
