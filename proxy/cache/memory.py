"""What does this process keep of the cache itself, and what goes first when room is short? (the first tier)

Two queues (S3-FIFO without its ghosts): what is new waits in one of them, and only what is asked for there moves to the
other. A scan of things nobody asks for twice passes through a fifth of the room. A hit sets a flag and moves nothing.
What another replica has stored gets no room of others' (`wants`) before it is asked for a second time.

An entry is kept as its head, its body and one packed value with the rest: 25 attributes of their own would cost more
than 1 KiB each. `marshal` packs because it is several times faster than anything else; its bytes never leave here.
"""

import marshal
from collections import deque
from dataclasses import dataclass

from proxy.policy.entry import Entry
from proxy.policy.outcome import Reason
from proxy.telemetry.distribution import Distribution

MAX_VARIANTS = 32

_OVERHEAD = 380  # what an entry costs beside the bytes counted: objects, a table slot, its places in two queues
_NEW_SHARE = 5  # a fifth of the room is for what was not asked for again yet
_LARGEST_SHARE = 4  # an entry may have a quarter of the room
# Where the figures of what is put here are told apart: bytes, and seconds of freshness.
_SIZES = tuple(512 << 2 * step for step in range(8))
_LIFETIMES = (1, 10, 60, 300, 900, 3600, 21_600, 86_400, 604_800)
_ASKED = 512  # keys remembered that were asked for once, at least
_SWEPT, _SWEPT_FOR_ROOM = 2, 64  # residents looked at for expiry per entry put, and where a quota is in the way


@dataclass(slots=True, eq=False)
class Account:
    """What one feature of one tenant ("" for public ones) holds."""

    tenant: str
    feature: str
    size: int = 0
    entries: int = 0


class _Queue:
    __slots__ = ("dead", "residents", "size")

    def __init__(self) -> None:
        self.residents: deque[Resident] = deque()
        self.size = 0
        self.dead = 0


class Resident:
    """One entry, packed. `queue` is None once it was removed: what is left in a deque is then skipped."""

    __slots__ = (
        "account",
        "body",
        "encoded",
        "encodings",
        "head",
        "key",
        "meta",
        "policy",
        "queue",
        "touched",
        "until",
    )

    key: str
    account: Account
    policy: bytes
    meta: bytes
    head: bytes
    body: bytes
    encodings: dict[str, bytes] | None
    encoded: int  # bytes of the encodings, as accounted
    until: float
    touched: bool
    queue: _Queue | None

    def size(self) -> int:
        return _OVERHEAD + len(self.key) + len(self.meta) + len(self.head) + len(self.body) + self.encoded


class Memory:
    """Entries in this process, by key, up to `max_bytes` with everything they cost."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._table: dict[str, Resident] = {}
        self._new = _Queue()
        self._main = _Queue()
        self._ring: deque[Resident] = deque()  # in the order they are looked at for expiry
        self._accounts: dict[tuple[str, str], Account] = {}
        self._variants: dict[str, list[str]] = {}
        self._asked: set[int] = set()
        self._asked_before: set[int] = set()
        self.tenants: dict[str, int] = {}  # bytes of each
        self.features: dict[str, int] = {}
        self.evictions = 0
        self.sizes = Distribution(_SIZES)
        self.lifetimes = Distribution(_LIFETIMES)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def size(self) -> int:
        return self._new.size + self._main.size

    @property
    def max_entry(self) -> int:
        return self._max_bytes // _LARGEST_SHARE

    def accounts(self) -> tuple[Account, ...]:
        return tuple(self._accounts.values())

    def get(self, key: str) -> Entry | None:
        resident = self._table.get(key)
        if resident is None:
            return None
        resident.touched = True
        return _unpacked(resident)

    def holds(self, key: str) -> bool:
        return key in self._table

    def look(self, key: str) -> Entry | None:
        """The entry, for somebody who only looks: it counts as asked for no more than before."""
        resident = self._table.get(key)
        return None if resident is None else _unpacked(resident)

    def keys(self) -> list[str]:
        """Every key, as of now."""
        return list(self._table)

    def resident(self, entry: Entry) -> "Resident | None":
        """What is kept of this entry, if it is still this one."""
        resident = self._table.get(entry.key)
        return resident if resident is not None and resident.body is entry.body else None

    def wants(self, key: str, size: int) -> bool:
        """Whether something that can be had elsewhere is worth its room: some is free, or it was asked for before.

        Room is made for what comes again. As many keys are remembered as are kept, and as many from before.
        """
        if self._new.size + self._main.size + size + _OVERHEAD <= self._max_bytes or key in self._table:
            return True
        seen = hash(key)
        if seen in self._asked or seen in self._asked_before:
            return True
        if len(self._asked) >= max(_ASKED, len(self._table)):
            self._asked, self._asked_before = set(), self._asked
        self._asked.add(seen)
        return False

    def put(self, entry: Entry, *, until: float, quota: int | None, now: float) -> Reason | None:
        """Keep an entry, unless one of the limits is in the way. `until` is when it is of no more use."""
        self._sweep(_SWEPT, now)
        meta = _packed(entry)
        size = _OVERHEAD + len(meta) + entry.size()
        if size > self.max_entry:
            return Reason.TOO_LARGE
        if quota is not None and self._exceeds(entry, size, quota):
            self._sweep(_SWEPT_FOR_ROOM, now)
            if self._exceeds(entry, size, quota):
                return Reason.QUOTA
        resident = self._table.get(entry.key)
        if resident is None:
            self._make_variant_room(entry.key)
            resident = self._admit(entry, until)
        else:
            self._book(resident, -resident.size())
        resident.policy, resident.meta, resident.head, resident.body = entry.policy, meta, entry.head, entry.body
        resident.encodings = entry.encodings or None
        resident.encoded = sum(map(len, entry.encodings.values()))
        resident.until = until
        self._book(resident, resident.size())
        self._make_room()
        self.sizes.observe(size)
        self.lifetimes.observe(entry.fresh_until - now)
        return None

    def grew(self, entry: Entry) -> None:
        """`entry` has got another encoding of its body: keep that, and count it."""
        resident = self._table.get(entry.key)
        if resident is None or resident.body is not entry.body:
            return  # gone, or another one by now
        encoded = sum(map(len, entry.encodings.values()))
        if resident.size() - resident.encoded + encoded > self.max_entry:
            return
        self._book(resident, encoded - resident.encoded)
        resident.encodings, resident.encoded = entry.encodings, encoded
        self._make_room()

    def drop(self, key: str) -> bool:
        resident = self._table.get(key)
        if resident is None:
            return False
        self._remove(resident)
        self._tidy()
        return True

    def _tidy(self) -> None:
        """Let go of what was removed from the middle of a queue, before there is more of it than of entries."""
        for queue in (self._new, self._main):
            if queue.dead > len(self._table) + 64:
                queue.residents = deque(kept for kept in queue.residents if kept.queue is queue)
                queue.dead = 0

    def _siblings(self, key: str) -> list[str]:
        """The variants kept that share this one's primary key; none when it has no variant part itself."""
        primary, variant, _ = key.partition(".v-")
        return self._variants.get(primary, []) if variant else []

    def _make_variant_room(self, key: str) -> None:
        """The oldest variant that was not asked for again goes: made-up ones must not keep the real one out."""
        siblings = self._siblings(key)
        while len(siblings) >= MAX_VARIANTS:
            oldest = self._table[siblings[0]]
            if oldest.touched:
                oldest.touched = False
                siblings.append(siblings.pop(0))
            else:
                self.evictions += 1
                self.drop(oldest.key)

    def _exceeds(self, entry: Entry, size: int, quota: int) -> bool:
        account = self._accounts.get((entry.tenant, _feature(entry)))
        held = self._table.get(entry.key)
        before = held.size() if held is not None and held.account is account else 0
        return (account.size if account is not None else 0) - before + size > quota

    def _admit(self, entry: Entry, until: float) -> Resident:
        resident = Resident()
        resident.key, resident.until, resident.touched, resident.queue = entry.key, until, False, self._new
        name = (entry.tenant, _feature(entry))
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(*name)
        account.entries += 1
        resident.account = account
        self._table[entry.key] = resident
        self._new.residents.append(resident)
        self._ring.append(resident)
        primary, variant, _ = entry.key.partition(".v-")
        if variant:
            self._variants.setdefault(primary, []).append(entry.key)
        return resident

    def _book(self, resident: Resident, size: int) -> None:
        assert resident.queue is not None
        account = resident.account
        resident.queue.size += size
        account.size += size
        for sums, name in ((self.tenants, account.tenant), (self.features, account.feature)):
            held = sums[name] = sums.get(name, 0) + size
            if not held:
                del sums[name]

    def _remove(self, resident: Resident) -> None:
        queue = resident.queue
        assert queue is not None
        self._book(resident, -resident.size())
        queue.dead += 1
        resident.queue = None
        resident.meta = resident.head = resident.body = b""
        resident.encodings = None
        del self._table[resident.key]
        account = resident.account
        account.entries -= 1
        if not account.entries:
            del self._accounts[account.tenant, account.feature]
        primary, variant, _ = resident.key.partition(".v-")
        if variant:
            keys = self._variants[primary]
            keys.remove(resident.key)
            if not keys:
                del self._variants[primary]

    def _make_room(self) -> None:
        while self.size > self._max_bytes:
            queue = self._new if self._new.size > self._max_bytes // _NEW_SHARE or not self._main.size else self._main
            resident = queue.residents.popleft()
            if resident.queue is not queue:
                queue.dead -= 1
            elif resident.touched:
                self._keep(resident, queue)
            else:
                self.evictions += 1
                self._remove(resident)
                queue.dead -= 1

    def _keep(self, resident: Resident, queue: _Queue) -> None:
        size = resident.size()
        queue.size -= size
        self._main.size += size
        resident.touched = False
        resident.queue = self._main
        self._main.residents.append(resident)

    def _sweep(self, count: int, now: float) -> None:
        for _ in range(min(count, len(self._ring))):
            resident = self._ring.popleft()
            if resident.queue is None:
                continue
            if resident.until <= now:
                self._remove(resident)
            else:
                self._ring.append(resident)
        self._tidy()


def _feature(entry: Entry) -> str:
    return entry.tags[0].partition(":")[0] if entry.tags else ""


def _packed(entry: Entry) -> bytes:
    return marshal.dumps(
        (
            entry.request,
            entry.status,
            entry.stored_at,
            entry.age,
            entry.fresh_until,
            entry.grace_until,
            entry.error_until,
            entry.etag,
            entry.last_modified,
            entry.content_type,
            entry.vary,
            entry.must_revalidate,
            entry.no_cache,
            entry.tags,
            entry.epochs_hard,
            entry.epochs_soft,
            entry.fetch_seconds,
            entry.compress,
            entry.sensitive,
            entry.gzip,
            entry.encrypt,
        )
    )


def _unpacked(resident: Resident) -> Entry:
    # on the way of every hit: what `_packed` packed is in the order of Entry's attributes, so nothing is named
    # fmt: off
    (
        request, status, stored, age, fresh, grace, error, etag, modified, media,
        vary, must_revalidate, no_cache, tags, hard, soft, seconds, compress, sensitive, gzip,
        encrypt,
    ) = marshal.loads(resident.meta)
    # fmt: on
    return Entry(
        resident.key,
        resident.account.tenant,
        request,
        resident.policy,
        status,
        resident.head,
        resident.body,
        stored,
        age,
        fresh,
        grace,
        error,
        etag,
        modified,
        media,
        vary,
        must_revalidate,
        no_cache,
        tags,
        hard,
        soft,
        seconds,
        compress,
        sensitive,
        gzip,
        encrypt,
        {} if resident.encodings is None else resident.encodings,
    )
