"""What is an answer that is ready to be written, and what of it changes from one second to the next?"""

from functools import lru_cache

from proxy.cache.copies import Known
from proxy.cache.memory import Resident
from proxy.policy.message import Fields
from proxy.policy.reply import ROUNDED_UP
from proxy.rules.counting import Counted
from proxy.serving.reply import Reply
from proxy.serving.response import head_of

_OVERHEAD = 600  # bytes that a prepared answer costs beside its head and key

_AGE, _TTL = "\0age", "\0ttl"  # stand-ins that no field holds


class Prepared:
    """One answer, ready but for its Age and its remaining freshness."""

    __slots__ = (
        "after", "before", "bodiless", "cell", "coding", "counted", "entry_age", "fresh_until", "head", "head_from",
        "head_until", "known", "meta", "middle", "number", "resident", "stored_at", "trusted", "valid_until",
    )  # fmt: skip

    number: int
    trusted: bool
    valid_until: float
    resident: Resident
    meta: bytes
    known: Known
    before: bytes
    middle: bytes
    after: bytes
    entry_age: float
    stored_at: float
    fresh_until: float
    head: bytes
    head_from: float
    head_until: float
    coding: str | None
    bodiless: bool
    cell: list[int]
    counted: Counted | None

    def size(self) -> int:
        return _OVERHEAD + len(self.before) + len(self.middle) + len(self.after) + len(self.head)

    def whole(self) -> bytes | None:
        """The body as it is kept; None: not in this encoding."""
        if self.bodiless:
            return b""
        resident = self.resident
        if self.coding is None:
            return resident.body
        return resident.encodings.get(self.coding) if resident.encodings is not None else None

    def of_one(self, cell: list[int], until: float, now: float) -> "Prepared":
        """The same for one caller alone, who is to be asked for again at `until`."""
        own = Prepared()
        own.number, own.trusted, own.valid_until = self.number, self.trusted, min(until, self.valid_until)
        own.resident, own.meta, own.known = self.resident, self.meta, self.known
        own.before, own.middle, own.after = self.before, self.middle, self.after
        own.entry_age, own.stored_at, own.fresh_until = self.entry_age, self.stored_at, self.fresh_until
        own.bodiless, own.coding, own.cell, own.counted = self.bodiless, self.coding, cell, self.counted
        own.render(now)
        return own

    def rendered(self, now: float) -> bytes:
        """The head as of now."""
        age = self.entry_age + max(0.0, now - self.stored_at) + ROUNDED_UP
        return b"%s%d%s%d%s" % (self.before, int(age), self.middle, int(self.fresh_until - now), self.after)

    def render(self, now: float) -> None:
        """Keep that head: it stays as it is until the next whole second of its Age or its freshness."""
        age = self.entry_age + max(0.0, now - self.stored_at) + ROUNDED_UP
        left = self.fresh_until - now
        self.head = b"%s%d%s%d%s" % (self.before, int(age), self.middle, int(left), self.after)
        self.head_from = now
        self.head_until = now + min(int(age) + 1 - age, left - int(left))


def parted(reply: Reply) -> tuple[bytes, bytes, bytes] | None:
    """The head around its Age and its remaining freshness; None where it has another shape."""
    pairs = list(reply.fields)
    places = {name.lower(): place for place, (name, _) in enumerate(pairs)}  # the last of each name
    age, status = places.get("age"), places.get("cache-status")
    if age is None or status is None or age > status or "date" not in places:
        return None
    beginning, ttl, rest = pairs[status][1].partition("; ttl=")
    if not ttl or ";" in rest:
        return None
    pairs[age], pairs[status] = ("Age", _AGE), ("Cache-Status", beginning + ttl + _TTL)
    head = head_of(Reply(reply.status, Fields(pairs), reply.body, reply.outcome, reply.reason))
    before, _, others = head.partition(_AGE.encode())
    middle, _, after = others.partition(_TTL.encode())
    return before, *_endings(middle, after)


@lru_cache(1024)
def _endings(middle: bytes, after: bytes) -> tuple[bytes, bytes]:
    """One object for all that end alike: most do, but for the length of their bodies."""
    return middle, after
