"""How do replicas hear of each other's purges before their copies run out? By a message that names fields, no values.

It only shortens the wait: nothing depends on its arrival, its order, or its coming once (DESIGN 4).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

import orjson

from proxy.cache.binding import EVERYTHING
from proxy.errors import StoreError
from proxy.stores.base import Store

CHANNEL = "shared:doorbell"
_MOST_FIELDS = 512  # of one hash in a message; more are told as all of it
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_IN_A_ROW = 2  # failures until one of the two ways is called lost: one may be a connection that was cut

Report = Callable[[str, Mapping[str, object]], None]
Heard = Callable[[str, Sequence[str]], None]  # a hash, and its fields that were purged


class Doorbell:
    """Rings for what this replica purged; `heard` is called for what others did, `deaf` when some may be missed."""

    def __init__(
        self,
        store: Store,
        writer: str,
        *,
        heard: Heard,
        deaf: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]],
        report: Report = lambda event, details: None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._heard = heard
        self._deaf = deaf
        self._sleep = sleep
        self._report = report
        self.revoked: Callable[[object], None] = _nobody_asks  # hears what other replicas revoked
        self._failures = {"publish": 0, "subscribe": 0}
        self._lost: set[str] = set()
        self.rung = 0
        self.answered = 0

    async def ring(self, purged: Mapping[str, Sequence[str]], *, revoked: Sequence[object] = ()) -> None:
        """Tell of fields that were purged, and of revocations: these in full, each says itself when it counts."""
        fields = {
            hashed: list(names) if len(names) <= _MOST_FIELDS else [EVERYTHING] for hashed, names in purged.items()
        }
        message = orjson.dumps({"writer": self._writer, "purged": fields} | ({"revoked": revoked} if revoked else {}))
        self.rung += 1
        try:
            await self._store.publish(CHANNEL, message)
        except StoreError as error:
            await self._failed("publish", error)  # they notice by themselves, within the time their copies are trusted
        else:
            self._works("publish")

    async def listen(self) -> None:
        """Answer the doorbell until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with aclosing(self._store.listen((CHANNEL,))) as messages:
                    async for each in messages:
                        if each is None:
                            pause = _FIRST_PAUSE
                            self._works("subscribe")
                            self._deaf()  # what was rung before now was not heard
                        else:
                            self._answer(each.message)
            except StoreError as error:
                await self._failed("subscribe", error)
                await self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _failed(self, way: str, error: StoreError) -> None:
        """Say once that one way does not work while the store does; of a store that is lost others tell."""
        self._failures[way] += 1
        if self._failures[way] < _IN_A_ROW or way in self._lost:
            return
        try:
            await self._store.ping()
        except StoreError:
            return
        if way not in self._lost:
            self._lost.add(way)
            self._report("doorbell-lost", {"way": way, "error": str(error)})

    def _works(self, way: str) -> None:
        self._failures[way] = 0
        if way in self._lost:
            self._lost.remove(way)
            self._report("doorbell-works", {"way": way})

    def _answer(self, message: bytes) -> None:
        rung = _parsed(message)
        if rung is None:
            self._deaf()  # whatever it meant, distrusting every copy covers it
            return
        writer, purged, revoked = rung
        if writer == self._writer:
            return
        self.answered += 1
        for hashed, names in purged.items():
            self._heard(hashed, names)
        if revoked is not None:
            self.revoked(revoked)


def _nobody_asks(revoked: object) -> None:
    pass


def _parsed(message: bytes) -> tuple[str, Mapping[str, list[str]], object] | None:
    """What a message says; None for what is no message of ours."""
    try:
        said = orjson.loads(message)
        writer, purged = said["writer"], said["purged"]
        well_formed = (
            isinstance(writer, str)
            and all(isinstance(names, list) for names in purged.values())
            and all(isinstance(name, str) for names in purged.values() for name in names)
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return (writer, purged, said.get("revoked")) if well_formed else None
