"""How does a connection change to another protocol? The upstream decides; after its 101 the bytes are not ours."""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from proxy.errors import UpstreamError
from proxy.policy import forwarding
from proxy.policy.fields import end_to_end, list_members
from proxy.policy.identity import Presented
from proxy.policy.message import Fields, Request, Response
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.serving.decided import Admitted
from proxy.serving.problem import problem, upstream_problem
from proxy.serving.reply import VIA, Reply, from_stream
from proxy.serving.tunnel import Tunnel
from proxy.serving.upstream import HttpUpstream, Switched

_OUTCOME = Outcome(Reason.UPGRADE, forward=Forward.BYPASS)
_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 4.2.2


Admit = Callable[[Request], Awaitable[Admitted | Reply]]  # whose connection it will be, or the refusal
Watch = Callable[[Presented, Callable[[], None]], Callable[[], None]]


async def _anybody(request: Request) -> Admitted:
    return Admitted(request, (), None, _OUTCOME)


def _for_ever(presented: Presented, end: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


class UpgradeBridge:
    """Takes requests that ask for another protocol to one upstream, and tunnels to those that it grants."""

    def __init__(
        self,
        upstream: HttpUpstream,
        finished: Callable[[Request, Outcome, int], None],
        is_write: Callable[[Request], bool] = lambda request: False,
        admit: Admit = _anybody,
        watch: Watch = _for_ever,
    ) -> None:
        self._admit = admit
        self._watch = watch
        self._is_write = is_write  # a write stays with the exchange, which purges what it changed
        self._upstream = upstream
        self._finished = finished
        self._open: set[Tunnel] = set()

    def takes(self, request: Request) -> bool:
        """Whether this asks for another protocol in a way that can be granted (RFC 9110 7.8)."""
        wanted = _protocols(request.fields)
        return (
            request.method == "GET"
            and not request.has_body
            and bool(wanted)
            # h2c would take what follows past every decision made here
            and not any(protocol.startswith(("h2", "http")) for protocol in wanted)
            and not self._is_write(request)
        )

    async def __call__(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse | Reply:
        admitted = await self._admit(request)
        transport, protocol = incoming.transport, incoming.protocol
        if transport is None or protocol._messages:
            # what follows on the connection was read as HTTP, and may not have been meant so
            return self._said(request, _refused())
        if isinstance(admitted, Reply):
            return self._said(request, admitted)
        outcome = admitted.outcome
        if _protocols(request.fields) != ["websocket"]:
            transport.pause_reading()  # aiohttp parses what follows, except behind a WebSocket's handshake
        try:
            answer = await self._upstream.switch(replace(request, fields=_asking(admitted)))
        except UpstreamError as failure:
            transport.resume_reading()
            return self._said(request, _failed(failure, outcome))
        if not isinstance(answer, Switched):
            transport.resume_reading()
            return self._said(request, from_stream(answer, request, None, outcome))
        if not _is_granted(request.fields, answer.response):
            answer.close()
            transport.resume_reading()
            return self._said(request, _failed(UpstreamError("http_protocol_error"), outcome))
        await self._tunnel(incoming, answer, admitted.presented)
        self._finished(request, outcome, 101)
        return _Switched()

    async def close(self) -> None:
        """End all tunnels: what they carry cannot be told why."""
        for tunnel in tuple(self._open):
            tunnel.close()

    async def _tunnel(self, incoming: web.BaseRequest, switched: Switched, presented: Presented | None) -> None:
        client, protocol = incoming.transport, incoming.protocol
        if client is None:
            switched.close()
            return
        tunnel = Tunnel(client, switched.transport)
        self._open.add(tunnel)
        release = self._watch(presented, tunnel.close) if presented is not None else None
        try:
            early, protocol._message_tail = protocol._message_tail, b""
            tunnel.start(to_client=_head(switched.response) + switched.rest, to_upstream=early)
            await tunnel.closed()
        finally:
            self._open.discard(tunnel)
            if release is not None:
                release()
            switched.close()
            protocol.connection_lost(None)  # its transport was taken away

    def _said(self, request: Request, reply: Reply) -> Reply:
        self._finished(request, reply.outcome, reply.status)
        return reply


class _Switched(web.StreamResponse):
    """What is left for aiohttp's server to say after a tunnel: nothing."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        pass


def _protocols(fields: Fields) -> list[str]:
    """The protocols asked for, or granted: only when Connection says that they are for this hop."""
    options = [option.lower() for option in list_members(fields.get("connection") or "")]
    return [name.lower() for name in list_members(fields.get("upgrade") or "")] if "upgrade" in options else []


def _asking(admitted: Admitted) -> Fields:
    upgrade = admitted.request.fields.get("upgrade") or ""
    return Fields(
        (*forwarding.passing(admitted.request), *admitted.told, ("Connection", "Upgrade"), ("Upgrade", upgrade))
    )


def _is_granted(asked: Fields, response: Response) -> bool:
    """Whether the upstream switches to what was asked for, and a WebSocket's handshake answers the client's key."""
    granted = _protocols(response.fields)
    if not granted or not set(granted) <= set(_protocols(asked)):
        return False
    if "websocket" not in granted:
        return True
    key = (asked.get("sec-websocket-key") or "").encode("latin-1")
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SALT, usedforsecurity=False).digest()).decode()
    return response.fields.get("sec-websocket-accept") == accept


def _head(response: Response) -> bytes:
    fields = (
        *end_to_end(response.fields).without(("content-length",)),
        ("Connection", "Upgrade"),
        ("Upgrade", response.fields.get("upgrade") or ""),
        ("Cache-Status", _OUTCOME.cache_status()),
        ("Via", VIA),
    )
    lines = [f"HTTP/1.1 101 {response.reason}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _failed(failure: UpstreamError, outcome: Outcome) -> Reply:
    fields, body = upstream_problem(failure)
    return Reply.own(failure.status, fields, body, replace(outcome, reason=Reason.UPSTREAM_FAILED))


def _refused() -> Reply:
    fields, body = problem(400, "Nothing may follow a request for another protocol before its answer.")
    return Reply.own(400, fields, body, _OUTCOME, last=True)
