"""What does a client hear before its response? The upstream's 1xx, and a 100 of our own when that is silent."""

import asyncio

from proxy.policy.fields import end_to_end
from proxy.policy.message import Response
from proxy.serving.protocol import ServerProtocol

PATIENCE = 1.0  # seconds for which the upstream may think about a request before its body is asked for here

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class InterimResponses:
    """Those of one request. `speaks`: its client knows them, that is HTTP/1.1 (RFC 9110 15.2).

    `awaits`: it waits for a 100 before it sends its body.
    """

    def __init__(self, protocol: ServerProtocol, *, speaks: bool, awaits: bool, patience: float = PATIENCE) -> None:
        self._protocol = protocol
        self._open = speaks
        self.awaited = speaks and awaits  # and not yet said
        self._timer = (
            asyncio.get_running_loop().call_later(patience, self._continue, _CONTINUE) if self.awaited else None
        )

    def __call__(self, response: Response) -> None:
        """Pass one on."""
        head = _head(response)
        if response.status == 100:
            self._continue(head)
        else:
            self._write(head)

    def end(self) -> None:
        """The response itself is here."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()

    def _continue(self, head: bytes) -> None:
        if self.awaited:
            self._write(head)
        self.awaited = False

    def _write(self, head: bytes) -> None:
        transport = self._protocol.transport
        # for a client that takes nothing they would pile up: "a client ... MAY ignore unexpected 1xx" (RFC 9110 15.2)
        if self._open and transport is not None and not self._protocol.writing_paused:
            transport.write(head)


def _head(response: Response) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines.extend(f"{name}: {value}" for name, value in end_to_end(response.fields))
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
