"""Who waits for the shared store on a client's behalf? Nobody: the answer is given in the call that brings it."""

from aiohttp.http_parser import RawRequestMessage

from proxy.serving.protocol import ServerProtocol
from proxy.serving.turns import Turn


class Sought:
    """One request in its turn. It ends once: with what the store told, or because that takes too long."""

    __slots__ = ("_ended", "_head", "_message", "_protocol")

    def __init__(self, protocol: ServerProtocol, head: bytes, message: RawRequestMessage | None) -> None:
        """`message` is what the parser made of `head`; None: nothing yet."""
        self._protocol = protocol
        self._head = head
        self._message = message
        self._ended = False

    def told(self, answer: tuple[bytes, bytes] | None) -> None:
        """Head and body; None: it must be looked at anew."""
        if not self._ended:
            self._ended = True
            self._protocol.told(self._head, self._message, answer)

    def goes_on(self, turn: Turn) -> bool:
        """It takes long, but is on its way: `turn` brings the answer. False: the connection is over."""
        if self._ended:
            turn.close()
            return False
        self._ended = True
        self._protocol.told(self._head, self._message, turn)
        return True

    def cancel(self) -> None:
        if not self._ended:
            self._ended = True
            self._protocol.end_turn(goes_on=False)

    def resume(self) -> None:
        """Nothing was written yet."""
