"""What does sidecache need of a store? A handful of operations on bytes; every store passes the same contract suite."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from proxy.errors import StoreError

EPOCH_BYTES = 16  # random; a field is either a hard epoch or a soft one


class Heard(NamedTuple):
    """One published message."""

    channel: str
    message: bytes


class Item(NamedTuple):
    """One item of a stream. Ids grow from item to item; see `proxy.stores.streams` for what they look like."""

    id: str
    fields: Mapping[str, bytes]


class Addition(NamedTuple):
    """So much more in this field of a hash of whole numbers, which is kept for `ttl` seconds after a new field."""

    name: str
    field: str
    by: int
    ttl: float


class Names(NamedTuple):
    """Some names of a store. `next` "": that was all; else where to go on."""

    names: list[str]
    next: str


class Store(Protocol):
    """Bytes in, bytes out. Failures are `StoreError`; a missing value is None. Names follow DESIGN 4 and 7.

    A name is printable ASCII, shorter than 250 characters. TTLs are seconds, > 0.
    """

    name: str  # memory | redis | upstash
    shared: bool  # other processes use it too

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        """The values of these names, in their order."""

    async def get_each(self, names: Sequence[str]) -> list[bytes | StoreError | None]:
        """The same for names that have nothing to do with each other: what could not be read is its own StoreError."""

    async def set(self, name: str, value: bytes, ttl: float) -> None:
        """Keep a value for at most `ttl` seconds. A store may forget earlier, never later."""

    async def claim(self, name: str, value: bytes, ttl: float) -> bool:
        """Set a value where there is none: of all who claim a name at the same time one hears True (a lease)."""

    async def replace(self, name: str, value: bytes, ttl: float) -> bool:
        """Set a value where there is one already; False where there is none, which then stays so."""

    async def delete(self, names: Sequence[str]) -> int:
        """Forget these names; how many there were."""

    async def epochs(self, space: str, fields: Sequence[str]) -> list[bytes | None]:
        """The epochs of these fields of one space's hash, in their order, as of one moment."""

    async def create_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        """Set each field that has no value yet; never replaces one."""

    async def advance_epochs(self, space: str, values: Mapping[str, bytes]) -> None:
        """Replace these fields in one write. When it returns, the store has acknowledged all of them."""

    async def append(self, stream: str, fields: Mapping[str, bytes], max_length: int, ttl: float) -> str:
        """Add an item at a stream's end; its id. Beyond `max_length` the oldest go, and all `ttl` after the last.

        StoreError leaves open whether it was added: a second attempt may add it twice.
        """

    async def restore(self, stream: str, item: Item, ttl: float) -> bool:
        """Add an item under the id that it had, which the stream has lost. False: the stream has gone beyond it."""

    async def trim(self, stream: str, oldest: str) -> None:
        """Forget the items of a stream before this id."""

    async def range(self, stream: str, after: str, count: int) -> list[Item]:
        """The first `count` items behind this id, the oldest first; after "" those of the beginning."""

    async def latest(self, stream: str, before: str, count: int) -> list[Item]:
        """The last `count` items before this id, the newest first; before "" those of the end."""

    async def add(self, additions: Sequence[Addition]) -> list[int | StoreError]:
        """Add to numbers; what each of them is then, or why not.

        After StoreRefusedError, raised or in the list, nothing was added; after any other StoreError nobody knows: a
        second attempt may add twice.
        """

    async def counts(self, names: Sequence[str]) -> list[Mapping[str, int]]:
        """The numbers of these hashes, by field; empty where there is no such hash."""

    async def observe(self, name: str, values: Sequence[str], ttl: float) -> None:
        """Take these values into a set of which nothing but its size can be told. Once more changes nothing."""

    async def distinct(self, names: Sequence[str]) -> int:
        """About how many values were taken into any of these sets: the standard error is 0.81 %.

        In a cluster the names are of one slot: what stands in their braces is the same.
        """

    async def names(self, prefix: str, cursor: str, count: int) -> Names:
        """About `count` of the names there are, of them those that begin so; from "" on, page by page.

        For people who look, never for a request: it goes through everything. What was there all along is in some page,
        perhaps in two; a page may be empty and yet not the last. What is no cursor of this store leads to nothing.
        """

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell whoever listens now. At most once: a message may be lost, and nothing may depend on it."""

    def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        """What is published from now on. The first item is None: subscribed. StoreError when that ends: listen again.

        Whoever stops early closes the iterator (`contextlib.aclosing`).
        """

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        """Call `report` with a few words whenever the store may have lost what it had acknowledged.

        It was reached again after it could not be, it has another primary, or the layout of its cluster changed.
        """

    async def ping(self) -> str:
        """The store's own answer (`PONG`); StoreError when it does not answer."""

    async def close(self) -> None:
        """Release connections. Further calls raise StoreError."""
