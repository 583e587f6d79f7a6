"""Which node of a Redis Cluster has which name? The slot map, and everything that makes it a new one."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from proxy.errors import StoreError, StoreRefusedError
from proxy.stores.commands import Command
from proxy.stores.conversation import Answer
from proxy.stores.node import Node

_REDIRECTIONS = 4  # a slot on its way between nodes sends a command on twice at most; more is a circle
_PAUSE = 0.25  # seconds between two looks at the map
_STUCK = 10.0  # seconds of failure until everything known is forgotten but the address we were given

_NAMELESS = (None, b"", b"?")  # for "the host you asked"

Numbered = tuple[int, Command]


class Cluster:
    """Batches for a whole cluster. Only primaries are asked: a replica may not have heard of a purge yet."""

    def __init__(
        self,
        seed: Node,
        make_node: Callable[[str, int], Node],
        *,
        clock: Callable[[], float],
        disturbed: Callable[[str], None],
        by_name: bool = False,
    ) -> None:
        """`make_node` is for host and port. `by_name`: a node's host name counts more than its address (TLS)."""
        self._seed = seed
        self._by_name = by_name
        self._make_node = make_node
        self._clock = clock
        self._disturbed = disturbed
        self._nodes: dict[tuple[str, int], Node] = {}
        self._slots: list[Node | None] = []
        self.primaries: list[Node] = []
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -_PAUSE
        self._failing_since: float | None = None
        self._closed = False

    async def execute(self, commands: Sequence[Command]) -> list[Answer]:
        """As `Node.execute`, except that a node's failure is the answer of its commands only."""
        if not self._slots:
            try:
                await self._look()
            except StoreError as error:
                raise StoreRefusedError.of(error) from None
        answers: list[Answer] = [None] * len(commands)
        waiting: list[Numbered] = list(enumerate(commands))
        if any(command[0] == "PING" for command in commands):
            waiting = [(number, command) for number, command in waiting if command[0] != "PING"]
            pong = await self._ping()
            answers = [pong if command[0] == "PING" else None for command in commands]
        if any(command[0] == "SCAN" for command in commands):
            scans = [(number, command) for number, command in waiting if command[0] == "SCAN"]
            waiting = [(number, command) for number, command in waiting if command[0] != "SCAN"]
            for number, command in scans:
                answers[number] = await self._scan(command)
        asked: list[tuple[Node, list[Numbered], bool]] = self._grouped(waiting)
        for _ in range(_REDIRECTIONS):
            if not asked:
                break
            parts = await asyncio.gather(*(self._ask(node, group, asking) for node, group, asking in asked))
            again: dict[tuple[Node, bool], list[Numbered]] = {}
            for (node, group, _), part in zip(asked, parts, strict=True):
                for (number, command), answer in zip(group, part, strict=True):
                    answers[number] = answer
                    if isinstance(answer, AskError):
                        again.setdefault(self._sent_on(node, answer), []).append((number, command))
            asked = [(node, group, asking) for (node, asking), group in again.items()]
        self._judge(answers)
        return answers

    async def warm(self, count: int) -> None:
        """`count` connections over all primaries, at least one each."""
        if not self._slots:
            await self._look()
        primaries = self.primaries
        for node in primaries:
            await node.warm(max(1, count // len(primaries)))

    def any_node(self) -> Node:
        """A node that answers, as far as we know; for what any of them can do."""
        known = self.primaries or [self._seed]
        return random.choice([node for node in known if not node.failing] or known)

    def close(self) -> None:
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        self._forget()

    # -- asking

    def _grouped(self, commands: Iterable[Numbered]) -> list[tuple[Node, list[Numbered], bool]]:
        groups: dict[Node, list[Numbered]] = {}
        for number, command in commands:
            groups.setdefault(self._node_for(command), []).append((number, command))
        return [(node, group, False) for node, group in groups.items()]

    def _node_for(self, command: Command) -> Node:
        if command[0] == "PUBLISH":  # always through the same node: what one replica publishes keeps its order
            return next((node for node in self.primaries if not node.failing), self._seed)
        name = command[1]
        assert isinstance(name, str)
        return self._slots[key_slot(name.encode())] or self._seed  # which then says that the slot is not served

    async def _ask(self, node: Node, group: Sequence[Numbered], asking: bool) -> list[Answer]:
        commands = [command for _, command in group]
        if asking:
            commands = [each for command in commands for each in (("ASKING",), command)]
        try:
            answers = await node.execute(commands)
        except StoreError as error:
            return [error] * len(group)
        return answers[1::2] if asking else answers

    async def _ping(self) -> Answer:
        """A cluster answers when all of it does: a tenant's epochs are on one node."""
        answers = await asyncio.gather(*(self._ask(node, [(0, ("PING",))], False) for node in self.primaries))
        self._judge([answer for (answer,) in answers])
        return next((answer for (answer,) in answers if isinstance(answer, Exception)), b"PONG")

    async def _scan(self, command: Command) -> Answer:
        """One primary after the other: a cursor is `address|cursor of that node`. One that has left is passed over."""
        at, _, cursor = str(command[1]).partition("|")
        primaries = sorted(self.primaries, key=lambda node: node.address)
        node = next((node for node in primaries if node.address >= at), None) if cursor else primaries[0]
        if node is None:
            return [b"0", []]
        own = cursor if cursor and node.address == at else "0"
        (answer,) = await self._ask(node, [(0, ("SCAN", own, *command[2:]))], False)
        if isinstance(answer, Exception):
            self._judge([answer])
            return answer
        position, names = answer
        if position != b"0":
            return [f"{node.address}|{_text(position)}".encode(), names]
        following = next((each for each in primaries if each.address > node.address), None)
        return [b"0" if following is None else f"{following.address}|0".encode(), names]

    def _sent_on(self, node: Node, answer: AskError) -> tuple[Node, bool]:
        host = answer.host or node.host  # "": the same host, another port
        target = self._node_at(host, answer.port)
        if not isinstance(answer, MovedError):
            return target, True
        if self._slots and self._slots[answer.slot_id] is not target:
            self._slots[answer.slot_id] = target
            if target not in self.primaries:
                self.primaries.append(target)
            self._disturbed(f"slots moved to {target.address}")
            self._look_soon()
        return target, False

    def _judge(self, answers: Iterable[Answer]) -> None:
        """Failures mean that the map may be old; failures for long, that everything we know may be."""
        answers = list(answers)
        if not any(isinstance(answer, StoreError | ClusterDownError | AskError) for answer in answers):
            if answers:
                self._failing_since = None
            return
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > _STUCK:
            self._failing_since = None
            self._forget()
        self._look_soon()

    # -- the map

    def _node_at(self, host: str, port: int) -> Node:
        node = self._nodes.get((host, port))
        if node is None:
            node = self._nodes[host, port] = self._make_node(host, port)
        return node

    def _known_as(self, host: str, port: int, name: str) -> Node:
        """By its name where it has one and certificates are checked; redirections may give its address instead."""
        node = self._node_at(name if name and self._by_name else host, port)
        self._nodes[host, port] = node
        return node

    def _look_soon(self) -> None:
        if self._looking is None and self._clock() - self._looked_at >= _PAUSE and not self._closed:
            _ = self._start_looking()

    def _start_looking(self) -> asyncio.Task[None]:
        looking = asyncio.get_running_loop().create_task(self._look_everywhere())
        self._looking = looking
        looking.add_done_callback(self._looked)
        return looking

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        self._looked_at = self._clock()
        if not task.cancelled():
            task.exception()  # heard by whoever waited; without one, the next failure starts the next look

    async def _look(self) -> None:
        """Look at the map now; StoreError when nobody shows it."""
        if self._closed:
            raise StoreError("the store is closed")
        await asyncio.shield(self._looking or self._start_looking())

    async def _look_everywhere(self) -> None:
        """Take the first whole map that a node shows. The address we were given is resolved anew each time."""
        known = [node for node in self.primaries if node is not self._seed]
        random.shuffle(known)
        known.sort(key=lambda node: node.failing)
        error = StoreError(f"{self._seed.address}: the cluster does not serve all slots")
        for node in (*known, self._seed):
            try:
                (answer,) = await node.execute([("CLUSTER", "SLOTS")])
            except StoreError as failed:
                error = failed
                continue
            if isinstance(answer, ResponseError):
                error = StoreError(f"REDIS_CLUSTER: {node.address} shows no cluster: {str(answer)[:80]}")
            elif self._accept(answer, node):
                self._seed.disconnect()  # not needed again before the map is lost
                return
        raise error

    def _accept(self, ranges: Sequence[Sequence[Answer]], shown_by: Node) -> bool:
        slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *more), *_ in ranges:
            node = self._known_as(shown_by.host if host in _NAMELESS else _text(host), int(port), _named(more))
            slots[first : last + 1] = [node] * (last + 1 - first)
        if None in slots:
            return False
        changed = bool(self._slots) and slots != self._slots
        self._slots = slots
        serving = set(slots)
        self.primaries = [node for node in dict.fromkeys(slots) if node is not None]
        for at, node in list(self._nodes.items()):
            if node not in serving:
                self._nodes.pop(at).close()
        if changed:
            self._disturbed("the layout of the cluster changed")
        return True

    def _forget(self) -> None:
        self._slots, self.primaries = [], []
        for node in self._nodes.values():
            node.abort()  # whatever waits there has waited in vain
        self._nodes.clear()


def _named(more: Sequence[Answer]) -> str:
    """The host name among what a node says of itself beside address, port and id."""
    for each in more[1:]:
        pairs = each.items() if isinstance(each, dict) else zip(each[::2], each[1::2], strict=False)
        for word, value in pairs:
            if word == b"hostname" and value not in _NAMELESS:
                return _text(value)
    return ""


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")
