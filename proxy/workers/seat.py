"""What has a worker to do with the others? What it was given to start with, what it tells them, and what it is told.

Its names of messages are the protocol between parent and workers:

    to the parent      join (from now on I hear of everything), listening, leaving, reload, tell and ask (pass this on),
                       audit (write these), audited (what was written last)
    to every worker    purged, revoked, doubt (another one ended), rules, bypasses, leave, speak (for the admin port)
    asked of them      unaccepted and unrevoked (what the store has not taken), switched, figures; what is given
                       to `answer` (see proxy.admin.sight)
"""

import asyncio
import os
import socket
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client.core import Metric

from proxy.bypasses import Bypass, Bypasses
from proxy.cache.background import Background
from proxy.cache.epochs import Epochs
from proxy.live_rules import LiveRules
from proxy.rules.source import Problem
from proxy.sessions.revocation import Packed, Revocations
from proxy.settings import Settings
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.together import together
from proxy.workers.channel import Channel, Content, Handler
from proxy.workers.shares import Shares

LOST = 70  # the exit code of a worker that lost its parent


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is started with. The numbers are those of inherited file descriptors."""

    number: int
    settings: Settings
    rules: bytes
    channel: int
    data: tuple[int, ...]
    admin: tuple[int, ...]
    shares: int
    metrics: tuple[int, ...] = ()
    former: tuple[bytes, ...] = ()  # rules, as `LiveRules.load` takes them


class Seat:
    """A worker's place among the others."""

    def __init__(self, assignment: Assignment, *, orphaned: Callable[[], None] = lambda: os._exit(LOST)) -> None:
        self.number = assignment.number
        self.rules, self.former = assignment.rules, assignment.former
        self.data = [socket.socket(fileno=number) for number in assignment.data]
        self.admin = [socket.socket(fileno=number) for number in assignment.admin]
        self.metrics = [socket.socket(fileno=number) for number in assignment.metrics]
        self.share = Shares(assignment.shares, assignment.settings.workers).of(assignment.number)
        self.all_leave = False  # the others as well
        self._socket = socket.socket(fileno=assignment.channel)
        self._handlers: dict[str, Handler] = {}
        self._channel: Channel | None = None
        # without a parent no purge of another worker is heard: nothing may be answered from then on
        self._orphaned = orphaned

    async def open(self, background: Background, leave: Callable[[], None]) -> None:
        """Be there for the parent. `leave` is called when all workers are to end."""

        async def left(_: Content) -> None:
            self.all_leave = True
            leave()

        self._handlers["leave"] = left
        self._channel = Channel(self._handlers, start=background.start, lost=lambda: self._orphaned())
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(self._made, sock=self._socket)

    def _made(self) -> Channel:
        assert self._channel is not None
        return self._channel

    def close(self) -> None:
        """The end of this worker; that the parent hangs up as well is no surprise any more."""
        self._orphaned = _nothing
        if self._channel is not None:
            self._channel.close()

    def hear(
        self,
        epochs: Epochs,
        revocations: Revocations,
        rules: LiveRules,
        bypasses: Bypasses,
        metrics: Metrics,
        background: Background,
    ) -> None:
        """Be ready for what others tell."""

        async def purged(content: Content) -> None:
            epochs.told(content["accepted"], content["refused"])

        async def revoked(content: Content) -> None:
            revocations.told(*content)

        async def unrevoked(_: Content) -> Content:
            return revocations.unaccepted()

        async def doubt(_: Content) -> None:
            epochs.distrust()

        async def unaccepted(_: Content) -> Content:
            return epochs.unaccepted()

        async def changed(content: Content) -> None:
            _ = background.start(rules.take_over(*unpacked(content)))

        async def figures(_: Content) -> Content:
            return [str(self.number), metrics.figures()]

        async def bypassed(content: Content) -> None:
            bypasses.take_over([Bypass(**each) for each in content])

        async def switched(_: Content) -> Content:
            return [asdict(each) for each in bypasses.active()]

        self._handlers |= {
            "purged": purged, "doubt": doubt, "unaccepted": unaccepted, "rules": changed, "figures": figures,
            "bypasses": bypassed, "switched": switched, "revoked": revoked, "unrevoked": unrevoked,
        }  # fmt: skip

    def answer(self, question: str, give: Handler) -> None:
        """Other workers may ask this one."""
        self._handlers[question] = give

    async def others(self, question: str, content: Content) -> list[Content]:
        """The answers of all other workers that give one in time."""
        found: list[Content] = await self._made().ask("ask", [question, content])
        return found

    async def audit(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The lines that the parent has written of these."""
        lines: list[dict[str, Any]] = await self._made().ask("audit", list(records))
        return lines

    async def audited(self) -> list[dict[str, Any]]:
        """The last lines of all workers, the newest first."""
        lines: list[dict[str, Any]] = await self._made().ask("audited")
        return lines

    def speak(self, listen: Callable[[], Awaitable[None]]) -> None:
        """`listen` is called when this worker is to answer the admin port, and that of the metrics, for all."""

        async def spoken(_: Content) -> None:
            await listen()

        self._handlers["speak"] = spoken

    async def join(self, epochs: Epochs, revocations: Revocations, rules: LiveRules, bypasses: Bypasses) -> None:
        """From here on this worker hears of everything, and knows what it has missed."""
        latest = await self._made().ask("join")
        for purges in await self._made().ask("tell", ["unaccepted", None]):
            epochs.told({}, purges)
        for packed in await self._made().ask("tell", ["unrevoked", None]):
            revocations.told(packed, False)
        for switches in (await self._made().ask("ask", ["switched", None]))[:1]:  # all know the same
            bypasses.take_over([Bypass(**each) for each in switches])
        await rules.take_over(*unpacked(latest))

    async def listening(self) -> None:
        await self._made().ask("listening")

    async def leaving(self) -> None:
        """This worker leaves and the others stay: somebody else is to speak for all."""
        await self._made().ask("leaving")

    async def purged(self, accepted: Mapping[str, Sequence[str]], refused: Mapping[str, Sequence[str]]) -> None:
        """`Siblings` of the epochs."""
        await self._made().ask("tell", ["purged", {"accepted": accepted, "refused": refused}])

    async def revoked(self, packed: Packed, accepted: bool) -> None:
        """`Siblings` of the revocations."""
        await self._made().ask("tell", ["revoked", [packed, accepted]])

    async def switched(self, bypasses: Bypasses) -> None:
        """Here caching was switched off or on: all know when this returns."""
        await self._made().ask("tell", ["bypasses", [asdict(each) for each in bypasses.active()]])

    async def read_rules(self, accept: str) -> tuple[bytes | Problem, str]:
        """The file as the parent reads it now, and what is accepted; the other workers hear of it as well."""
        return unpacked(await self._made().ask("reload", accept))

    async def collected(self, metrics: Metrics) -> list[Metric]:
        """The figures of all, those of workers that do not answer left out."""
        others = await self._made().ask("ask", ["figures", None])
        return together({str(self.number): metrics.figures(), **dict(others)})


def packed(rules: LiveRules) -> Content:
    """The latest content of the rules file for a message."""
    latest, accepted = rules.latest, {"accepted": rules.accepted}
    if isinstance(latest, Problem):
        return {"file": latest.file, "message": latest.message, **accepted}
    return {"base64": b64encode(latest).decode(), **accepted}


def unpacked(content: Content) -> tuple[bytes | Problem, str]:
    """The content, and the digest that is accepted."""
    if "base64" in content:
        return b64decode(content["base64"]), content["accepted"]
    return Problem(content["file"], 1, 1, "error", "", content["message"]), content["accepted"]


def _nothing() -> None:
    pass
