"""Which ways can a request's head take beside aiohttp's handler? What `protocol` expects of each of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from aiohttp.http_parser import RawRequestMessage

from proxy.serving.turns import Turn

if TYPE_CHECKING:
    from proxy.serving.protocol import ServerProtocol


class Short(Protocol):
    """Answers heads in the call that brings them: head and body, or None for the ordinary way."""

    def known(self, data: bytes, trusted: bool) -> tuple[bytes, bytes] | None: ...

    def parsed(
        self, data: bytes, message: RawRequestMessage, peer: str, trusted: bool
    ) -> tuple[bytes, bytes] | None: ...


class Forwards(Protocol):
    """Forwards heads in the call that brings them, in a turn; or says no: the ordinary way."""

    def known(self, protocol: "ServerProtocol", data: bytes) -> bool: ...

    def shaped(self, protocol: "ServerProtocol", data: bytes) -> bool: ...

    def parsed(self, protocol: "ServerProtocol", data: bytes, message: RawRequestMessage) -> bool: ...


# Looks in the store for what `Short` did not find: the answer to a head (None: it is not parsed), in a turn. False: it
# is not there, or the ordinary way finds it.
Seeks = Callable[["ServerProtocol", bytes, RawRequestMessage | None], bool]

# The turn of a request without a body. None: it takes the ordinary way.
Turns = Callable[["ServerProtocol", RawRequestMessage, str, bool], Turn | None]
