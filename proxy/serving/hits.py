"""Which requests are answered in the very call that brings their bytes? Fresh hits in memory, and nothing else.

Four ways, each taken only where it gives the bytes that the ordinary path would give (a test compares them):

    the same head      the bytes of a whole request head were answered before: they hold credentials, path and every
                       field, so they would be decided alike
    the same choice    the bytes are the same but for whole, well-formed lines of fields that no decision reads, and
                       that the parser takes any number of: trace ids, cookies, referers
    the same caller    the bytes are the same but for such lines and the target, which is matched and looked up anew
                       (`callers`): for as long as a prepared answer would hold
    decided anew       after the parser, `AtOnce.at_once`: the ordinary decisions, without waiting

What the last two do not find in memory is looked for in the store without a task (`seek`).

A prepared answer holds only while all of this does; otherwise the last two ways or the ordinary one make it anew:

    serving epoch      no rules, keys, revocations or switches have changed since
    entry              it is still in the first tier, and the same; it was found under the first key, which hangs on
                       no other entry
    epochs             its epochs are those it was stored under, and their copies are trusted now
    time               it is fresh, not yet due for an early refresh, the caller's token has not expired; the client
                       said nothing of age that counts, and the clock was not set back
    trust              the peer is trusted as it was then
    rechecked          at most RECHECKED seconds have passed: whatever is not thought of here ends by then

Age, the remaining freshness and the counters are those of each request.
"""

from collections.abc import Callable

from aiohttp.http_parser import RawRequestMessage

from proxy.cache.copies import Known
from proxy.cache.epochs import Epochs
from proxy.cache.memory import Resident
from proxy.cache.tiers import Cache
from proxy.policy.fields import HOP_BY_HOP, for_this_side
from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome
from proxy.policy.reply import ROUNDED_UP
from proxy.policy.reuse import EARLIEST_REFRESH
from proxy.policy.route import Match
from proxy.rules.counting import Counted
from proxy.serving.at_once import AtOnce, Hit, Missed
from proxy.serving.callers import Caller, Callers
from proxy.serving.heads import fields_of
from proxy.serving.reading import Reading
from proxy.serving.reply import Reply, from_entry_now, is_dated
from proxy.serving.response import head_of
from proxy.serving.table import Table
from proxy.serving.unread import IRRELEVANT, MAX_LINES, Choices

CountedOf = Callable[[Request, Match, Identity | None, int], Counted | None]  # of an answer with this status
RequestOf = Callable[[RawRequestMessage, str, bool], Request | None]  # of a head, a peer, and whether it is trusted
IsOwn = Callable[[str], bool]  # of a path: whether it is ours to answer
Tell = Callable[[Request, Reply | None], None]

RECHECKED = 10.0
_OVERHEAD = 600  # bytes that a prepared answer costs beside its head and key
_FEW = 4  # of the bytes for prepared answers: as much is taken by whatever comes first
_DECIDED = 65_536  # choices that were decided about once
_SEEN = 8192  # heads that came once: only one that comes again is worth a place

_AGE, _TTL = "\0age", "\0ttl"  # stand-ins that no field holds


class ServingEpoch:
    """A number that grows whenever something changes that prepared answers do not look at themselves."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def advance(self) -> None:
        self.number += 1


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


class Hits:
    """The short way of one listener. `at_once` decides, `request_of` parses, `cell_of` counts by outcome."""

    def __init__(
        self,
        cache: Cache,
        epochs: Epochs,
        *,
        prompt: AtOnce,
        request_of: RequestOf,
        is_own: IsOwn,
        cell_of: Callable[[Outcome], list[int]],
        logged: Callable[[Request, Reply], None] | None,
        serving: ServingEpoch,
        clock: Callable[[], float],
        max_bytes: int,
        choices: Choices | None = None,
        noted: Callable[[Request, Reply], None] = lambda request, reply: None,
        counted_of: CountedOf = lambda request, match, identity, status: None,
        count: Callable[[Counted], None] = lambda counted: None,
    ) -> None:
        self._cache = cache
        self._epochs = epochs
        self._prompt = prompt
        self._request_of = request_of
        self._is_own = is_own
        self._cell_of = cell_of
        self._counted_of = counted_of
        self._count = count
        self._noted = noted  # is told of those that were decided anew
        self._logged = logged  # where each request is to be told of, none is prepared
        self._serving = serving
        self._clock = clock
        self._heads = Table[Prepared](max_bytes // 2)
        self._choices = Table[Prepared](max_bytes // 2)
        self._callers = Callers(max_bytes // 8)
        self._unfound: tuple[Caller, Reading] | None = None  # what `known` was asked for last, by a caller it knows
        self._missed: Missed | None = None
        self._choice_of = choices or Choices()
        self._seen: dict[int, None] = {}
        self._few = max_bytes // _FEW
        self._decided: set[int] = set()
        self._closed = False
        self.repeated = 0
        self.chosen = 0
        self.decided = 0
        self.sought = 0

    @property
    def size(self) -> int:
        """Bytes that prepared answers and what asks for them take, beside the bodies."""
        return self._heads.size + self._choices.size + self._callers.size

    def close(self) -> None:
        """From now on every request takes the ordinary way."""
        self._serving.advance()
        self._closed = True

    def known(self, data: bytes, trusted: bool) -> tuple[bytes, bytes] | None:
        """Head and body for a whole request head like one that was answered before; None: parse it."""
        self._unfound = None
        prepared = self._heads.get(data)
        if prepared is not None:
            answer = self._answer(prepared, trusted)
            if answer is not None:
                self.repeated += 1
                return answer
            self._heads.drop(data)
        choice, unread = self._choice_of(data)
        if unread > MAX_LINES:
            return None
        prepared = self._choices.get(choice)
        if prepared is not None:
            answer = self._answer(prepared, trusted)
            if answer is not None:
                self.chosen += 1
                self._remember_head(data, prepared)
                return answer
            self._choices.drop(choice)
        return self._by_caller(choice, trusted)

    def _by_caller(self, choice: bytes, trusted: bool) -> tuple[bytes, bytes] | None:
        known = self._callers.find(choice, self._serving.number, self._clock(), trusted)
        if known is None or self._closed or self._logged is not None:
            return None
        caller, target = known
        if self._is_own(target.partition("?")[0]):
            return None
        found = self._prompt.at_once_by(caller, target)
        if not isinstance(found, Hit):
            self._unfound = (caller, found) if found is not None else None
            return None
        return self._made(choice, found)

    def parsed(self, data: bytes, message: RawRequestMessage, peer: str, trusted: bool) -> tuple[bytes, bytes] | None:
        """The same for a head that the parser took: `data` is nothing but this head. None: the ordinary way."""
        if self._closed or message.should_close or message.upgrade or message.chunked or message.version != (1, 1):
            return None
        return self._anew(data, message, peer, trusted)

    def seek(self, request: Request, tell: Tell) -> bool:
        """Look in the store for what `parsed` has just not found; False: there is no way to it but the ordinary one.

        `tell` hears in a later turn of the loop; None: the ordinary way, which goes on from what was found.
        """
        # where each is told of in full (`logged`), the ordinary way does that for what it waits for
        may = not self._closed and self._logged is None
        return may and self._prompt.seek(request, self._telling(request, tell))

    def seek_known(self, tell: Tell) -> bool:
        """The same for what `known` has just not found."""
        unfound, self._unfound = self._unfound, None
        return unfound is not None and self._prompt.seek_by(*unfound, self._telling(unfound[1].request, tell))

    @property
    def missed(self) -> Missed | None:
        """What neither tier has, while whoever sought for it is told, and nothing else has changed meanwhile."""
        return self._missed

    def _telling(self, request: Request, tell: Tell) -> Callable[[Hit | None], None]:
        number = self._serving.number

        def heard(hit: Hit | None) -> None:
            reply = None
            try:
                if number == self._serving.number:
                    reply = self._from_store(hit) if hit is not None else None
                    self._missed = self._prompt.missed
            finally:
                try:
                    tell(request, reply)
                finally:
                    self._missed = None

        return heard

    def _from_store(self, hit: Hit) -> Reply | None:
        reading = hit.reading
        entry = reading.entry
        assert entry is not None, "a hit has an entry"
        now = self._clock()
        reply = from_entry_now(entry, reading.request, reading.route, hit.outcome, now)
        if isinstance(reply, str):
            coding, packed = entry.packed
            if coding != reply:
                return None  # its encoding is not made yet
            entry.encodings[coding] = packed
            self._cache.grew(entry)
            reply = from_entry_now(entry, reading.request, reading.route, hit.outcome, now)
        if isinstance(reply, str) or reply.status == 204 or not is_dated(entry, reading.route):
            return None
        self.sought += 1
        return reply

    def _answer(self, prepared: Prepared, trusted: bool) -> tuple[bytes, bytes] | None:
        now = self._clock()
        resident = prepared.resident
        if (
            prepared.number != self._serving.number
            or not prepared.head_from <= now < prepared.valid_until
            or resident.meta is not prepared.meta
            or prepared.trusted is not trusted
            or not self._epochs.holds(prepared.known)
        ):
            return None
        if prepared.bodiless:
            body: bytes | None = b""
        elif prepared.coding is None:
            body = resident.body
        else:
            body = resident.encodings.get(prepared.coding) if resident.encodings is not None else None
        if body is None:
            return None
        resident.touched = True
        cell = prepared.cell
        cell[1] += 1
        cell[2] += len(body)
        if prepared.counted is not None:
            self._count(prepared.counted)
        if now >= prepared.head_until:
            _render(prepared, now)
        return prepared.head, body

    def _anew(self, data: bytes, message: RawRequestMessage, peer: str, trusted: bool) -> tuple[bytes, bytes] | None:
        request = self._request_of(message, peer, trusted)
        if request is None:
            return None
        hit = self._prompt.at_once(request)
        choice, _ = self._choice_of(data)
        # an empty line before the request line would make a field of what comes between them
        if data[0] in b"\r\n" or choice.count(b"\r\n") > MAX_LINES:
            choice = b""
        elif self._callers.is_worth_keeping(choice) and (caller := self._prompt.caller()) is not None:
            caller.legible = _is_legible(data, request.fields)
            self._callers.keep(choice, caller, self._serving.number, self._clock(), RECHECKED)
        return self._made(choice, hit) if hit is not None else None

    def _made(self, choice: bytes, hit: Hit) -> tuple[bytes, bytes] | None:
        """The answer, which is prepared for those who make the same choice, if they are any."""
        reading = hit.reading
        entry = reading.entry
        assert entry is not None, "a hit has an entry"
        now = self._clock()
        reply = from_entry_now(entry, reading.request, reading.route, hit.outcome, now)
        if isinstance(reply, str) or reply.status == 204 or not is_dated(entry, reading.route):
            return None  # its encoding is not made yet, or the head is not whole without more ado
        body = reply.body
        assert isinstance(body, bytes), "a stored body is whole"
        self.decided += 1
        cell = self._cell_of(hit.outcome)
        cell[1] += 1
        cell[2] += len(body)
        counted = self._counted_of(reading.request, reading.match, reading.identity, reply.status)
        if counted is not None:
            self._count(counted)
        self._noted(reading.request, reply)
        if self._logged is not None:
            self._logged(reading.request, reply)
        elif (
            choice
            and reply.status in (entry.status, 304)
            and (counted is not None or reading.route.count is None)
            and self._is_worth_preparing(choice)
        ):
            prepared = self._prepared(hit, reply, cell, counted, now)
            if prepared is not None:
                self._choices.put(choice, prepared, prepared.size() + len(choice))
        return head_of(reply), body

    def _is_worth_preparing(self, choice: bytes) -> bool:
        """Preparing costs as much as answering: of very many, only what comes again is worth it."""
        if self._choices.size < self._few:
            return True
        seen = hash(choice)
        if seen in self._decided:
            return True
        if len(self._decided) >= _DECIDED:
            self._decided.clear()
        self._decided.add(seen)
        return False

    def _prepared(
        self, hit: Hit, reply: Reply, cell: list[int], counted: Counted | None, now: float
    ) -> Prepared | None:
        reading = hit.reading
        entry = reading.entry
        assert entry is not None
        selecting = {name for name, _ in entry.vary}
        if not IRRELEVANT.isdisjoint(selecting | hit.identity_headers | set(reading.route.vary)):
            return None
        if reading.key is not reading.first_key:
            return None  # what stands under the first key leads to it, and may be purged, replaced or gone by itself
        if reading.route.client_control and "cache-control" in reading.request.fields:
            return None  # max-age and min-fresh
        resident, known = self._cache.resident(entry), self._epochs.known(entry.tenant, reading.bound)
        parts = _parted(reply)
        if resident is None or known is None or parts is None:
            return None
        expires = reading.identity.expires if reading.identity is not None else float("inf")
        early = entry.fresh_until - EARLIEST_REFRESH * entry.fetch_seconds
        valid_until = min(early, expires, now + RECHECKED)
        if valid_until <= now:
            return None
        prepared = Prepared()
        prepared.number, prepared.trusted = self._serving.number, reading.request.peer_trusted
        prepared.valid_until = valid_until
        prepared.resident, prepared.meta, prepared.known = resident, resident.meta, known
        prepared.before, prepared.middle, prepared.after = parts
        prepared.entry_age, prepared.stored_at, prepared.fresh_until = entry.age, entry.stored_at, entry.fresh_until
        prepared.bodiless = not reply.body
        prepared.coding = None if prepared.bodiless else reply.fields.get("content-encoding")
        if prepared.coding is not None and prepared.coding not in entry.encodings:
            prepared.coding = None  # the origin's own, stored as it came
        prepared.cell, prepared.counted = cell, counted
        _render(prepared, now)
        return prepared

    def _remember_head(self, data: bytes, prepared: Prepared) -> None:
        """Heads that come again and again have a place of their own; most never come twice."""
        seen = hash(data)
        if seen in self._seen:
            self._heads.put(data, prepared, prepared.size() + len(data))  # its choice may go before it
        else:
            if len(self._seen) >= _SEEN:
                self._seen.clear()
            self._seen[seen] = None


def _is_legible(head: bytes, fields: Fields) -> bool:
    """Whether `fields_of` reads heads like this one as the parser does, and the upstream is to get all fields."""
    return fields_of(head) == fields.pairs and for_this_side(fields) is HOP_BY_HOP


def _render(prepared: Prepared, now: float) -> None:
    """The head as of now; it stays as it is until the next whole second of its Age or its freshness."""
    age = prepared.entry_age + max(0.0, now - prepared.stored_at) + ROUNDED_UP
    left = prepared.fresh_until - now
    prepared.head = b"%s%d%s%d%s" % (prepared.before, int(age), prepared.middle, int(left), prepared.after)
    prepared.head_from = now
    prepared.head_until = now + min(int(age) + 1 - age, left - int(left))


def _parted(reply: Reply) -> tuple[bytes, bytes, bytes] | None:
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
    return before, middle, after
