"""How do commands reach Redis or Valkey over TCP? One node or a Cluster, whichever the server says it is."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Literal

from redis.exceptions import ResponseError

from proxy.errors import StoreError, StoreRefusedError
from proxy.stores.access import FAILURES, Access, PlainConnection, explained
from proxy.stores.base import Heard
from proxy.stores.cluster import Cluster
from proxy.stores.commands import Command, Reply
from proxy.stores.conversation import Answer
from proxy.stores.node import Greeting, Node

Mode = Literal["auto", "true", "false"]
Report = Callable[[str, Mapping[str, object]], None]

_SILENCE = 1.0  # seconds without a message until a listener asks whether anybody is there; twice that, it gives up
_ADVICE = (
    "it removes epochs, and with them all that is kept for a tenant; set maxmemory-policy to volatile-lru "
    "(in ElastiCache: in the parameter group)"
)


class RedisLink:
    """Commands over redis-py's connections, in our own pools: its pools and its cluster client retry, wait and reuse
    connections in ways that a cache cannot afford. Nothing is opened before the first command, or `warm`.
    """

    name = "redis"

    def __init__(
        self,
        access: Access,
        *,
        clock: Callable[[], float],
        cluster: Mode = "auto",
        pool_size: int = 50,
        timeout: float = 1.0,
        report: Report = lambda event, details: None,
    ) -> None:
        """`pool_size` is for each node. `timeout`: of one batch, the wait for a connection included."""
        self._access = access
        self._clock = clock
        self._mode = cluster
        self._pool_size = pool_size
        self._timeout = timeout
        self._report = report
        self._warned_of: set[str] = set()
        self._reports: list[Callable[[str], None]] = []
        self._listening: set[PlainConnection] = set()
        self._seed = self._make_seed()
        self._cluster: Cluster | None = None
        self._asking: asyncio.Task[list[Answer]] | None = None
        self._closed = False

    async def execute(self, commands: Sequence[Command]) -> list[Reply | StoreError]:
        try:
            carrier = await self._carrier()
        except StoreError as error:
            raise StoreRefusedError.of(error) from None
        answers = await carrier.execute(commands)
        return [answer if type(answer) is bytes else self._reply(answer) for answer in answers]  # most are values

    async def warm(self) -> None:
        """Open connections before they are needed. StoreError when that fails: the first command tries again."""
        carrier = await self._carrier()
        await carrier.warm(self._pool_size)

    async def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        """On a connection of its own. In a cluster any node will do: it hears what is published at the others."""
        carrier = await self._carrier()
        node = carrier.any_node() if isinstance(carrier, Cluster) else carrier
        await node.execute([])  # notices a server that was restarted since
        connection = self._access.connection(node.host, node.port)
        self._listening.add(connection)
        try:
            await self._subscribe(connection, channels)
            yield None
            while True:
                if (heard := await self._hear(connection)) is not None:
                    yield heard
        except FAILURES as error:
            closed = StoreError("the store is closed")
            raise closed if self._closed else explained(error, self._access, node.address) from None
        finally:
            self._listening.discard(connection)
            connection.abandon()

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        self._reports.append(report)

    async def close(self) -> None:
        self._closed = True
        for connection in self._listening:
            connection.abandon()
        self._seed.abort()
        if self._cluster is not None:
            self._cluster.close()
        await asyncio.sleep(0)  # what was cut off hears of it in the next turn of the loop

    # -- one node or many

    async def _carrier(self) -> Node | Cluster:
        if self._closed:
            raise StoreError("the store is closed")
        if self._mode == "auto" and not self._seed.greeting:
            await self._ask_what_it_is()
        if self._mode == "true" or self._seed.greeting.get("mode") == "cluster":
            if self._mode == "false":
                return self._seed
            if self._cluster is None:
                self._cluster = Cluster(
                    self._seed, self._make_node, clock=self._clock, disturbed=self._disturbed,
                    by_name=self._access.tls,
                )  # fmt: skip
            return self._cluster
        return self._seed

    async def _ask_what_it_is(self) -> None:
        """By its greeting. However many wait for the answer, it is asked once."""
        if self._asking is None:
            asking = self._asking = asyncio.get_running_loop().create_task(self._seed.execute([]))
            asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    def _asked(self, task: asyncio.Task[list[Answer]]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # heard by whoever waited

    def _make_seed(self) -> Node:
        return self._make_node(self._access.host, self._access.port)

    def _make_node(self, host: str, port: int) -> Node:
        return Node(
            self._access, host, port, size=self._pool_size, timeout=self._timeout, clock=self._clock,
            disturbed=self._disturbed, admit=self._admit,
        )  # fmt: skip

    def _admit(self, greeting: Greeting) -> None:
        mode = greeting.get("mode")
        if self._mode == "true" and mode != "cluster":
            raise StoreError(f"REDIS_CLUSTER: the server is no cluster but {mode}; set it to auto")
        if mode != "cluster" and greeting.get("role") in ("replica", "slave"):
            # what a replica has not heard of yet would be served as if it were current
            raise StoreError("REDIS_HOST: the server is a replica; name the primary's address")
        self._warn_of_eviction(greeting.get("maxmemory_policy", ""))

    def _warn_of_eviction(self, policy: str) -> None:
        """Once for each policy: all nodes of a cluster have the same, and each connection is told of it."""
        if policy.startswith("allkeys-") and policy not in self._warned_of:
            self._warned_of.add(policy)
            self._report("store-evicts", {"store": self.name, "policy": policy, "advice": _ADVICE})

    def _disturbed(self, what: str) -> None:
        for report in self._reports:
            report(what)

    def _reply(self, answer: Answer) -> Reply | StoreError:
        if isinstance(answer, ResponseError):
            address = f"{self._access.host}:{self._access.port}"
            return StoreRefusedError.of(explained(answer, self._access, address))
        reply: Reply | StoreError = answer
        return reply

    # -- listening

    async def _subscribe(self, connection: PlainConnection, channels: Sequence[str]) -> None:
        async with asyncio.timeout(self._timeout):
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("SUBSCRIBE", *channels)
            for _ in channels:
                await connection.read_response(push_request=True)

    async def _hear(self, connection: PlainConnection) -> Heard | None:
        """The next message, or None: something else came. A connection that is silent twice is dead."""
        pushed = await connection.read_response(timeout=_SILENCE, push_request=True)
        if pushed is None:
            await connection.send_command("PING")
            pushed = await connection.read_response(timeout=_SILENCE, push_request=True)
            if pushed is None:
                raise TimeoutError
        if isinstance(pushed, list) and len(pushed) == 3 and pushed[0] == b"message":
            return Heard(pushed[1].decode("ascii", "replace"), pushed[2])
        return None
