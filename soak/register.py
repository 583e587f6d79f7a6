"""What stands behind the sidecar in the long run? A portal that costs little, and says whose and how new it is."""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from typing import cast

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TOKEN = re.compile(rb"\r\nauthorization: *Bearer ([^\r]+)", re.IGNORECASE)
_LINE = re.compile(rb"(\S+) (\S+) ")
_PADDING = b"x" * 400
_APPLICATION = re.compile(rb"/api/jobs/\d+/applications")


class Register:
    """A number of writes for each tenant and path. `who`: of a token, its tenant and user."""

    def __init__(self, who: Mapping[bytes, tuple[str, str]]) -> None:
        self.who = who
        self.versions: Counter[tuple[str, bytes]] = Counter()
        self.asked = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Register":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    def answer(self, method: bytes, target: bytes, token: bytes) -> bytes:
        self.asked += 1
        tenant, user = self.who.get(token, ("nobody", "nobody"))
        path = target.partition(b"?")[0]
        if method in (b"PUT", b"POST") and path != b"/api/search":
            self.versions[tenant, path] += 1
        whose = f"tenant={tenant} user={user} " if path == b"/api/me" else f"tenant={tenant} "
        said = b"%bpath=%b version=%d " % (whose.encode(), target, self.versions[tenant, path])
        body = b'{"id": "app_%d", "created_at": "now", "said": "%b%b"}' % (self.asked, said, _PADDING)
        status = b"201 Created" if method == b"POST" and _APPLICATION.fullmatch(path) else b"200 OK"
        return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            status, len(body), body,
        )  # fmt: skip


class _Connection(asyncio.Protocol):
    """Requests come one after the other here: a sidecar does not send the next before it has the answer."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        chunked = length is None and b"\nTransfer-Encoding: chunked" in head
        whole = body.endswith(b"0\r\n\r\n") if chunked else len(body) >= (int(length[1]) if length else 0)
        if not end or not whole:
            return
        self._received = b""
        line, token = _LINE.match(head), _TOKEN.search(head)
        assert line is not None
        assert self._transport is not None
        self._transport.write(self._register.answer(line[1], line[2], token[1] if token else b""))
