"""What readers got of what was published, and what of that must not be.

E1 nothing is lost: a reader has every event of their audience that was published while they were there or away, but for
those of a time of which they were told that something may be missing. E2 nothing comes twice. E3 the events of one
publisher come in their order, and places only grow. E4 nobody gets what is not for them.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.events.cursor import Cursor, parsed
from proxy.events.window import Window
from tests import wire
from tests.serving.world import unsigned

RULES = """
version: 1
identity: {tenant: jwt.org_id, user: jwt.sub, roles: jwt.permissions}
features:
  notes:
    write:
      - route: POST /to-tenant
        publish: {event: note.tenant, to: tenant, data: {n: request.n, by: request.by}}
      - route: POST /to-role
        publish: {event: note.role, to: "role:read:notes", data: {n: request.n, by: request.by}}
      - route: POST /to-user
        publish: {event: note.user, to: "user:request.user", data: {n: request.n, by: request.by}}
"""
TENANTS = ("org_a", "org_b")
USERS = ("u1", "u2")


@dataclass(frozen=True)
class Event:
    tenant: str
    kind: str  # tenant | role | user
    user: str
    by: int
    n: int


@dataclass
class Reader:
    """One client that comes back with the last id it has seen."""

    tenant: str
    user: str
    roles: tuple[str, ...]
    there: bool = False
    got: list[tuple[Cursor, int, int]] = field(default_factory=list)  # place, publisher, number
    last: str | None = None
    excused: set[tuple[int, int]] = field(default_factory=set)
    gaps: int = 0

    @property
    def token(self) -> str:
        return unsigned(self.tenant, self.user, permissions=list(self.roles))

    def may(self, event: Event) -> bool:
        return event.tenant == self.tenant and (
            event.kind == "tenant"
            or (event.kind == "role" and "read:notes" in self.roles)
            or (event.kind == "user" and event.user == self.user)
        )


class History:
    def __init__(self, ports: list[int], seed: int) -> None:
        self.ports = ports
        self.chance = random.Random(seed)
        self.published: dict[tuple[int, int], Event] = {}
        self.wrong: dict[str, list[str]] = {}
        self.readers = [
            Reader(tenant, user, roles)
            for tenant in TENANTS for user in USERS for roles in (("read:notes",), ())
        ]  # fmt: skip
        self.away: set[str] = set()  # users
        self.ending = False  # all is published
        self.over = False

    @property
    def got(self) -> int:
        return sum(len(reader.got) for reader in self.readers)

    @property
    def gaps(self) -> int:
        return sum(reader.gaps for reader in self.readers)

    # Publishing

    async def publish(self, by: int, count: int) -> None:
        for n in range(count):
            kind, tenant, user = (self.chance.choice(each) for each in (("tenant", "role", "user"), TENANTS, USERS))
            event = self.published[by, n] = Event(tenant, kind, user, by, n)
            body = json.dumps({"n": n, "by": by, "user": user}).encode()
            auth = f"Authorization: Bearer {unsigned(tenant, 'writer')}"
            port = self.ports[by % len(self.ports)]
            answer = await wire.fetch(port, f"/to-{event.kind}", auth, method="POST", body=body)
            assert answer.status == 201, answer
            await asyncio.sleep(self.chance.random() * 0.02)

    # Reading

    async def read(self, reader: Reader) -> None:
        """Come and go until all is told."""
        while not self.over and (not self.ending or self.missing(reader)):
            if reader.user not in self.away:
                reader.there = True
                with suppress(OSError, wire.Cut):
                    await self._visit(reader, self.chance.choice(self.ports), self.chance.randrange(1, 12))
                reader.there = False
            await asyncio.sleep(self.chance.random() * 0.05)

    @asynccontextmanager
    async def without(self, user: str) -> AsyncIterator[None]:
        """They are away all the while: what they get of that time comes from what is kept."""
        self.away.add(user)
        await wire.until(lambda: not any(reader.there for reader in self.readers if reader.user == user))
        yield
        self.away.discard(user)

    async def _visit(self, reader: Reader, port: int, frames: int) -> None:
        client = await wire.connect(port)
        place = [] if reader.last is None else [f"Last-Event-ID: {reader.last}"]
        lines = [
            "GET /.sidecache/events HTTP/1.1",
            "Host: portal.test",
            f"Authorization: Bearer {reader.token}",
            *place,
        ]
        try:
            await client.send("\r\n".join([*lines, "", ""]).encode())
            head = await client.head()
            if head.status == 503:  # what it must know of sessions or of the mailbox is not known yet: come back
                return
            assert head.status == 200, head
            for _ in range(frames):
                async with asyncio.timeout(0.3):
                    chunk = await client.chunk()
                if not chunk:
                    break
                for block in filter(None, chunk.decode().split("\n\n")):
                    self._took(reader, block)
        except TimeoutError:
            pass
        finally:
            client.reset()

    def _took(self, reader: Reader, block: str) -> None:
        said = dict(line.partition(": ")[::2] for line in block.splitlines() if line)
        name, data = said.get("event"), json.loads(said.get("data", "{}"))
        if name == "hello" and not data["recovered"]:
            reader.gaps += 1
            reader.excused |= set(self.published)  # all that was published by now may be among it
        elif name is not None and name.startswith("note."):
            self._check(reader, said["id"], data["by"], data["n"])
        reader.last = said.get("id", reader.last)

    def _check(self, reader: Reader, id: str, by: int, n: int) -> None:
        place = parsed(id)
        assert place is not None
        told = f"{reader.tenant}/{reader.user}/{reader.roles}: {by}/{n} at {id}"
        if not reader.may(self.published[by, n]):
            self._wrong("E4", told)
        if any((each[1], each[2]) == (by, n) for each in reader.got):
            self._wrong("E2", told)
        if any(each[1] == by and each[2] > n for each in reader.got):
            self._wrong("E3", told)
        if reader.got and reader.got[-1][0] >= place:
            self._wrong("E3", f"{told} behind {reader.got[-1][0]}")
        reader.got.append((place, by, n))

    def missing(self, reader: Reader) -> set[tuple[int, int]]:
        got = {(by, n) for _, by, n in reader.got}
        return {key for key, event in self.published.items() if reader.may(event)} - got - reader.excused

    def _wrong(self, kind: str, told: str) -> None:
        self.wrong.setdefault(kind, []).append(told)

    async def run(self, publishers: int, count: int, meanwhile: Callable[[], object] | None = None) -> None:
        """Publishers and readers, and what happens meanwhile; then everything that is still due."""
        readers = [asyncio.ensure_future(self.read(reader)) for reader in self.readers]
        await wire.until(lambda: all(reader.last is not None for reader in self.readers))
        publishing = asyncio.gather(*(self.publish(by, count) for by in range(publishers)))
        if meanwhile is not None:
            _ = await meanwhile()  # type: ignore[misc]
        await publishing
        self.ending = True
        await asyncio.wait(readers, timeout=8)
        self.over = True
        await asyncio.gather(*readers)
        for reader in self.readers:
            for key in sorted(self.missing(reader)):
                self._wrong("E1", f"{reader.tenant}/{reader.user}/{reader.roles} never got {key}")


@asynccontextmanager
async def observed(folder: Path, *settings: Mapping[str, str], seed: int = 0) -> AsyncIterator[History]:
    """One sidecar for each of the settings, all on one store."""

    async def created(request: wire.Message, peer: wire.Peer) -> None:
        await peer.send(wire.response(b"{}", "Content-Type: application/json", status="201 Created"))

    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(wire.upstream(created))
        ports = []
        for number, each in enumerate(settings):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            sidecar = await stack.enter_async_context(wire.sidecar(upstream.port, own, RULES, **each))
            ports.append(sidecar.data_port)
        yield History(ports, seed)


# Positive controls


def as_if_nothing_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a simpler way would do: whatever a cursor is of, go on behind it; put back nothing."""
    monkeypatch.setattr(Window, "resume", lambda self, cursor: self.after(cursor))
    monkeypatch.setattr(Window, "holds", lambda self, cursor: True)
    monkeypatch.setattr(Window, "lost_by", lambda self, stored: [])


def one_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Window, "resume", lambda self, cursor: [e for e in self.entries if e.cursor.at >= cursor.at])
