"""Which requests are answered in the very call that brings their bytes? Fresh hits in memory, and nothing else.

Three ways, each taken only where it gives the bytes that the ordinary path would give (a test compares them):

    the same head      the bytes of a whole request head were answered before: they hold credentials, path and every
                       field, so they would be decided alike
    the same choice    the bytes are the same but for whole, well-formed lines of fields that no decision reads, and
                       that the parser takes any number of: trace ids, cookies, referers
    decided anew       after the parser, `Exchange.at_once`: the ordinary decisions, without waiting

A prepared answer holds only while all of this does, and is otherwise made anew by the third way or the ordinary one:

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

import re
from collections.abc import Callable

from aiohttp.http_parser import RawRequestMessage

from proxy.cache.copies import Known
from proxy.cache.epochs import Epochs
from proxy.cache.memory import Resident
from proxy.cache.tiers import Cache
from proxy.policy.key import NEUTRAL_HEADERS
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome
from proxy.policy.reply import ROUNDED_UP
from proxy.policy.reuse import EARLIEST_REFRESH
from proxy.serving.decided import Hit
from proxy.serving.reply import Reply, from_entry_now
from proxy.serving.response import head_of
from proxy.serving.table import Table

RequestOf = Callable[[RawRequestMessage, str, bool], Request | None]  # of a head, a peer, and whether it is trusted

RECHECKED = 10.0
_OVERHEAD = 600  # bytes that a prepared answer costs beside its head and key
_SEEN = 8192  # heads that came once: only one that comes again is worth a place

_AGE, _TTL = "\0age", "\0ttl"  # stand-ins that no field holds

# Fields that a decision about a stored response reads, or the parser (it refuses a second User-Agent). They, and every
# name that is not neutral to a key, are part of the choice.
_READ = frozenset(
    """
    accept accept-charset accept-encoding accept-language authorization cache-control connection content-length
    content-type expect host if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive
    max-forwards pragma proxy-authorization proxy-connection range te trailer transfer-encoding user-agent via
    x-forwarded-host x-forwarded-proto forwarded
    """.split()
)
IRRELEVANT = NEUTRAL_HEADERS - _READ


MAX_LINES = 50  # of either kind in a head, together fewer than the parser takes


_ABBREVIATIONS = frozenset("cf ch dnt id ip ray ua".split())


def _any_of(words: list[str]) -> str:
    """A pattern of these words that reads each character once."""
    if words == [""]:
        return ""
    tails: dict[str, list[str]] = {}
    for word in sorted(words):
        tails.setdefault(word[:1], []).append(word[1:])
    optional = tails.pop("", None) is not None
    pattern = "|".join(re.escape(first) + _any_of(rest) for first, rest in tails.items())
    return f"(?:{pattern}){'?' if optional else ''}" if optional or len(tails) > 1 else pattern


def _spellings(name: str) -> set[str]:
    """As HTTP/2 gateways, libraries and people write it."""
    parts = name.split("-")
    capitalized = "-".join(part.capitalize() for part in parts)
    abbreviated = "-".join(part.upper() if part in _ABBREVIATIONS else part.capitalize() for part in parts)
    return {name, capitalized, abbreviated, capitalized.replace("id", "Id")}  # X-B3-TraceId


# Visible ASCII up to the end of the line, with no white space around it but the one space of an ordinary line: a line
# with anything else stays, and then this head is like no other.
_UNREAD = re.compile(
    f"\r\n{_any_of([spelling for name in IRRELEVANT for spelling in _spellings(name)])}: "
    "(?![\t ])[\t\x20-\x7e]*+(?<![\t ])(?=\r\n)".encode()
)


class Choices:
    """A head without the lines that no decision reads, and how many these are; the newest one's is remembered."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        self._newest = b"", b"", 0

    def __call__(self, data: bytes) -> tuple[bytes, int]:
        newest, choice, unread = self._newest
        if newest is not data:
            choice, unread = _UNREAD.subn(b"", data)
            self._newest = data, choice, unread
        return choice, unread


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
        "after", "before", "bodiless", "cell", "coding", "entry_age", "fresh_until", "head", "head_from", "head_until",
        "known", "meta", "middle", "number", "resident", "stored_at", "trusted", "valid_until",
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

    def size(self) -> int:
        return _OVERHEAD + len(self.before) + len(self.middle) + len(self.after) + len(self.head)


class Hits:
    """The short way of one listener. `at_once` decides, `request_of` parses, `cell_of` counts by outcome."""

    def __init__(
        self,
        cache: Cache,
        epochs: Epochs,
        *,
        at_once: Callable[[Request], Hit | None],
        request_of: RequestOf,
        cell_of: Callable[[Outcome], list[int]],
        logged: Callable[[Request, Reply], None] | None,
        serving: ServingEpoch,
        clock: Callable[[], float],
        max_bytes: int,
        choices: Choices | None = None,
        noted: Callable[[Request, Reply], None] = lambda request, reply: None,
    ) -> None:
        self._cache = cache
        self._epochs = epochs
        self._at_once = at_once
        self._request_of = request_of
        self._cell_of = cell_of
        self._noted = noted  # is told of those that were decided anew
        self._logged = logged  # where each request is to be told of, none is prepared
        self._serving = serving
        self._clock = clock
        self._heads = Table[Prepared](max_bytes // 2)
        self._choices = Table[Prepared](max_bytes // 2)
        self._choice_of = choices or Choices()
        self._seen: dict[int, None] = {}
        self._closed = False
        self.repeated = 0
        self.chosen = 0
        self.decided = 0

    @property
    def size(self) -> int:
        """Bytes that prepared answers and what asks for them take, beside the bodies."""
        return self._heads.size + self._choices.size

    def close(self) -> None:
        """From now on every request takes the ordinary way."""
        self._serving.advance()
        self._closed = True

    def known(self, data: bytes, trusted: bool) -> tuple[bytes, bytes] | None:
        """Head and body for a whole request head like one that was answered before; None: parse it."""
        prepared = self._heads.get(data)
        if prepared is not None:
            answer = self._answer(prepared, trusted)
            if answer is not None:
                self.repeated += 1
                return answer
            self._heads.drop(data)
        choice, unread = self._choice_of(data)
        prepared = self._choices.get(choice)
        if prepared is None or unread > MAX_LINES:
            return None
        answer = self._answer(prepared, trusted)
        if answer is None:
            self._choices.drop(choice)
            return None
        self.chosen += 1
        self._remember_head(data, prepared)
        return answer

    def parsed(self, data: bytes, message: RawRequestMessage, peer: str, trusted: bool) -> tuple[bytes, bytes] | None:
        """The same for a head that the parser took: `data` is nothing but this head. None: the ordinary way."""
        if self._closed or message.should_close or message.upgrade or message.chunked or message.version != (1, 1):
            return None
        return self._anew(data, message, peer, trusted)

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
        if now >= prepared.head_until:
            _render(prepared, now)
        return prepared.head, body

    def _anew(self, data: bytes, message: RawRequestMessage, peer: str, trusted: bool) -> tuple[bytes, bytes] | None:
        request = self._request_of(message, peer, trusted)
        hit = self._at_once(request) if request is not None else None
        if hit is None:
            return None
        reading = hit.reading
        entry = reading.entry
        assert entry is not None, "a hit has an entry"
        now = self._clock()
        reply = from_entry_now(entry, reading.request, reading.route, hit.outcome, now)
        if isinstance(reply, str) or reply.status == 204 or "date" not in reply.fields:
            return None  # its encoding is not made yet, or the head is not whole without more ado
        body = reply.body
        assert isinstance(body, bytes), "a stored body is whole"
        self.decided += 1
        cell = self._cell_of(hit.outcome)
        cell[1] += 1
        cell[2] += len(body)
        self._noted(reading.request, reply)
        if self._logged is not None:
            self._logged(reading.request, reply)
        elif reply.status in (entry.status, 304):
            prepared = self._prepared(hit, reply, cell, now)
            choice, _ = self._choice_of(data)
            # an empty line before the request line would make a field of what comes between them
            if prepared is not None and data[0] not in b"\r\n" and choice.count(b"\r\n") <= MAX_LINES:
                self._choices.put(choice, prepared, prepared.size() + len(choice))
        return head_of(reply), body

    def _prepared(self, hit: Hit, reply: Reply, cell: list[int], now: float) -> Prepared | None:
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
        prepared.cell = cell
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
