"""A pool of connections to one server: which one is used, which one never again, and what is noticed on the way."""

import asyncio

import pytest
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from proxy.errors import StoreError, StoreRefusedError
from proxy.stores.node import Node
from tests.doubles import FakeClock, settle


class Wire:
    """One scripted connection. Replies are what `server` answers; `gate` holds them back."""

    host, port = "h", 1

    def __init__(self, server: "ScriptedServer") -> None:
        self.server = server
        self.replies: list[object] = []
        self.open = False
        self.clean = True

    async def connect(self) -> None:
        if self.server.refusing:
            raise ConnectionRefusedError
        self.open = True

    def is_clean(self) -> bool:
        return self.open and self.clean

    def abandon(self) -> None:
        self.open = False

    async def ask(self, commands):
        for command in commands:
            self.replies.append(self.server.answer(command))
        if self.server.gate is not None:
            await self.server.gate.wait()
        return [self.replies.pop(0) for _ in commands]


class ScriptedServer:
    def __init__(self) -> None:
        self.run_id = "one"
        self.mode = b"standalone"
        self.refusing = False
        self.gate: asyncio.Event | None = None
        self.answers: dict[str, object] = {}
        self.wires: list[Wire] = []

    def answer(self, command):
        match command:
            case ("HELLO",):
                return {b"mode": self.mode, b"role": b"master", b"id": 7}
            case ("INFO", "memory"):
                return self.answers.get("INFO", b"# Memory\r\nmaxmemory_policy:volatile-lru\r\nx:y")
            case ("INFO", _):
                return self.answers.get("INFO", b"# Server\r\nrun_id:%s\r\nx:y" % self.run_id.encode())
            case ("PING", token):
                return token
        return self.answers.get(command[0], b"v")

    def connection(self, host: str, port: int) -> Wire:
        self.wires.append(Wire(self))
        return self.wires[-1]

    @property
    def open(self) -> int:
        return sum(wire.open for wire in self.wires)


class World:
    def __init__(self, size: int = 3, timeout: float = 5.0) -> None:
        self.server = ScriptedServer()
        self.clock = FakeClock()
        self.disturbances: list[str] = []
        self.node = Node(
            _Scripted(self.server), "h", 1, size=size, timeout=timeout, clock=self.clock,
            disturbed=self.disturbances.append, admit=lambda greeting: None,
        )  # fmt: skip


class _Scripted:
    tls = False
    credentials = None

    def __init__(self, server: ScriptedServer) -> None:
        self.connection = server.connection


@pytest.fixture
def world():
    return World()


async def test_one_after_the_other_use_one_connection(world):
    for _ in range(5):
        assert await world.node.execute([("GET", "a"), ("GET", "b")]) == [b"v", b"v"]
    assert len(world.server.wires) == 1


async def test_no_more_connections_than_allowed_and_the_others_wait(world):
    world.server.gate = asyncio.Event()
    calls = [asyncio.ensure_future(world.node.execute([("GET", "a")])) for _ in range(9)]
    await settle()
    assert len(world.server.wires) == 3
    world.server.gate.set()
    assert await asyncio.gather(*calls) == [[b"v"]] * 9
    assert len(world.server.wires) == 3


async def test_a_wait_for_a_connection_has_an_end_and_names_the_setting():
    world = World(size=1, timeout=0.02)
    await world.node.execute([])
    async with world.node._free:  # somebody has it for longer than the other waits
        with pytest.raises(StoreRefusedError, match=r"^SIDECACHE_POOL_SIZE: all 1 connections to h:1 are in use$"):
            await world.node.execute([])
    assert await world.node.execute([]) == []


async def test_a_wait_for_an_answer_has_an_end_and_ends_the_connection():
    world = World(timeout=0.02)
    await world.node.execute([])
    world.server.gate = asyncio.Event()
    with pytest.raises(StoreError, match=r"^REDIS_HOST, REDIS_PORT: h:1 does not answer in time$"):
        await world.node.execute([])
    assert world.server.open == 0


async def test_an_error_that_the_server_answers_is_an_answer_and_the_connection_stays(world):
    world.server.answers["GET"] = ResponseError("WRONGTYPE")
    (answer,) = await world.node.execute([("GET", "a")])
    assert isinstance(answer, ResponseError)
    assert world.server.open == 1


async def test_what_was_never_sent_is_told_apart_from_what_was_not_answered():
    world = World(timeout=0.02)
    world.server.refusing = True
    with pytest.raises(StoreRefusedError, match="nothing listens"):
        await world.node.execute([("HINCRBY", "a", "b", 1)])
    world.server.refusing = False
    await world.node.execute([])
    world.server.gate = asyncio.Event()
    with pytest.raises(StoreError, match="does not answer in time") as unanswered:
        await world.node.execute([("HINCRBY", "a", "b", 1)])
    assert not isinstance(unanswered.value, StoreRefusedError)


async def test_a_connection_that_is_not_clean_is_not_used_again(world):
    await world.node.execute([])
    world.server.wires[0].clean = False
    await world.node.execute([])
    assert [wire.open for wire in world.server.wires] == [False, True]


@pytest.mark.parametrize("extra", [b"stray", None, ResponseError("stray")], ids=repr)
async def test_one_reply_too_many_spoils_all_of_them(world, extra):
    await world.node.execute([])
    world.server.wires[0].replies.append(extra)
    with pytest.raises(StoreError):
        await world.node.execute([("GET", "a")])
    assert world.server.open == 0
    assert await world.node.execute([("GET", "a")]) == [b"v"]


async def test_an_old_connection_is_replaced_before_the_other_side_cuts_it(world):
    await world.node.execute([])
    world.clock.advance(11 * 3600 - 1)
    await world.node.execute([])
    world.clock.advance(1)
    await world.node.execute([])
    assert [wire.open for wire in world.server.wires] == [False, True]


async def test_a_server_with_another_identity_is_said_and_no_older_connection_used(world):
    await world.node.warm(3)
    world.server.run_id = "two"
    # a batch holds one connection, so that another one must be opened beside those that are idle
    world.server.gate = asyncio.Event()
    calls = [asyncio.ensure_future(world.node.execute([])) for _ in range(2)]
    await settle()
    world.server.wires[0].clean = False
    calls.append(asyncio.ensure_future(world.node.execute([])))
    await settle()
    world.server.gate.set()
    await asyncio.gather(*calls)
    assert world.disturbances == ["h:1 was restarted or is another server now"]
    assert world.server.open == 1


async def test_who_may_not_ask_for_the_identity_works_without(world):
    world.server.answers["INFO"] = NoPermissionError("no")
    assert await world.node.execute([("GET", "a")]) == [b"v"]
    assert world.disturbances == []


async def test_reached_again_is_said_once(world):
    world.server.refusing = True
    for _ in range(3):
        with pytest.raises(StoreError, match="nothing listens"):
            await world.node.execute([])
    assert world.node.failing
    world.server.refusing = False
    for _ in range(3):
        await world.node.execute([])
    assert (world.disturbances, world.node.failing) == (["h:1 is reached again"], False)


async def test_one_that_became_a_replica_is_left_by_everybody(world):
    await world.node.warm(3)
    world.server.answers["SET"] = ReadOnlyError("read only")
    (answer,) = await world.node.execute([("SET", "a", b"v")])
    assert isinstance(answer, ReadOnlyError)
    assert world.disturbances == ["h:1 is no primary any more"]
    assert world.server.open == 0


async def test_a_batch_under_way_when_all_are_disconnected_ends_well_and_its_connection_with_it(world):
    await world.node.execute([])
    world.server.gate = asyncio.Event()
    call = asyncio.ensure_future(world.node.execute([("GET", "a")]))
    await settle()
    world.node.disconnect()
    world.server.gate.set()
    assert await call == [b"v"]
    assert world.server.open == 0


async def test_warming_opens_as_many_as_asked_for_and_allowed(world):
    await world.node.warm(2)
    assert world.server.open == 2
    await world.node.warm(99)
    assert world.server.open == 3
    world.server.refusing = True
    world.node.disconnect()
    with pytest.raises(StoreError, match="nothing listens"):
        await world.node.warm(1)


async def test_closed_is_closed(world):
    await world.node.execute([])
    world.node.close()
    with pytest.raises(StoreError, match="closed"):
        await world.node.execute([])
    assert world.server.open == 0


async def test_a_server_that_is_not_admitted_gets_no_command():
    world = World()

    def refuse(greeting) -> None:
        raise StoreError(f"not a {greeting['mode']}")

    world.node._admit = refuse
    with pytest.raises(StoreError, match="not a standalone"):
        await world.node.execute([("GET", "a")])
    assert world.server.open == 0
