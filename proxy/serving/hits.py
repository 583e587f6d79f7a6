"""Which requests are answered in the very call that brings their bytes? Fresh hits in memory, and nothing else.

Four ways, each taken only where it gives the bytes that the ordinary path would give (a test compares them):

    the same head      the bytes of a whole request head were answered before: they hold credentials, path and every
                       field, so they would be decided alike
    the same choice    the bytes are the same but for whole, well-formed lines of fields that no decision reads, and
                       that the parser takes any number of: trace ids, cookies, referers
    the same caller    the bytes are the same but for such lines and the target, which is matched and named anew
                       (`callers`): for as long as a prepared answer would hold. The answer under that name is prepared
                       once for all callers to whom it is given alike (`AtOnce.place`), or looked up and decided anew
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
    rechecked          at most RECHECKED seconds have passed: whatever is not thought of here ends by then (of what
                       callers share, each of whom is rechecked, LASTS seconds)

Age, the remaining freshness and the counters are those of each request.
"""

from collections.abc import Callable

from aiohttp.http_parser import RawRequestMessage

from proxy.cache.epochs import Epochs
from proxy.cache.tiers import Cache
from proxy.policy.fields import HOP_BY_HOP, for_this_side
from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome
from proxy.policy.reuse import EARLIEST_REFRESH
from proxy.policy.route import Match
from proxy.rules.counting import Counted
from proxy.serving.at_once import AtOnce, Hit, Missed
from proxy.serving.callers import Caller, Callers, target_of
from proxy.serving.heads import fields_of
from proxy.serving.prepared import Prepared, parted
from proxy.serving.reading import Reading
from proxy.serving.reply import Reply, from_entry_now, is_dated
from proxy.serving.response import head_of
from proxy.serving.serving_epoch import ServingEpoch
from proxy.serving.straight import Straight, Wanted
from proxy.serving.table import Seen, Table
from proxy.serving.unread import IRRELEVANT, MAX_LINES, Choice, Choices

CountedOf = Callable[[Request, Match, Identity | None, int], Counted | None]  # of an answer with this status
RequestOf = Callable[[RawRequestMessage, str, bool], Request | None]  # of a head, a peer, and whether it is trusted
IsOwn = Callable[[str], bool]  # of a path: whether it is ours to answer
Tell = Callable[[Request, Reply | None], None]

RECHECKED = 10.0
LASTS = 600.0  # the same for what is prepared for many callers, each of whom is rechecked
_FEW = 0.25  # of the bytes for choices, each of one client: as much is taken by whatever comes first
_MOST = 0.95  # of the bytes for what is shared, the same
_DECIDED = 65_536  # choices that were decided about once
_SEEN = 8192  # heads that came once: only one that comes again is worth a place


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
        took: Callable[[float], None] = lambda seconds: None,
        has_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._cache = cache
        self._epochs = epochs
        self._prompt = prompt
        self._request_of = request_of
        self._is_own = is_own
        self._cell_of = cell_of
        self._counted_of = counted_of
        self._count = count
        self._noted = noted  # is told of those that were decided anew, and of others where it has room
        self._logged = logged  # where each request is to be told of, none is prepared
        self._serving = serving
        self._clock = clock
        self._heads = Table[Prepared](max_bytes // 4)
        self._choices = Table[Prepared](max_bytes // 8)
        self._callers = Callers(max_bytes // 4)
        self._shared = Table[Prepared](max_bytes * 3 // 8)
        self._straight = Straight(
            cache, epochs, prompt, serving, clock=clock, cell_of=cell_of, took=took,
            plain=lambda request, hit, tell: self._telling(request, tell)(hit), has_room=has_room, noted=noted,
        )  # fmt: skip
        self._unfound: Wanted | tuple[Caller, Reading] | None = None  # what `known` was asked for last, by a caller
        self._missed: Missed | None = None
        self._choice_of = choices or Choices()
        self._seen = Seen(_SEEN)
        self._decided = Seen(_DECIDED)
        self._closed = False
        self.repeated = 0
        self.chosen = 0
        self.decided = 0
        self._sought = 0

    @property
    def size(self) -> int:
        """Bytes that prepared answers and what asks for them take, beside the bodies."""
        return self._heads.size + self._choices.size + self._callers.size + self._shared.size

    @property
    def sought(self) -> int:
        """Hits from the store."""
        return self._sought + self.straight

    @property
    def straight(self) -> int:
        """Those of them that were answered in a straight line."""
        return self._straight.answers

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
        return self._by_caller(data, choice, trusted)

    def _by_caller(self, data: bytes, choice: Choice, trusted: bool) -> tuple[bytes, bytes] | None:
        now = self._clock()
        line, rest = choice
        known = self._callers.find(rest, self._serving.number, now, trusted)
        if known is None or self._closed or self._logged is not None:
            return None
        caller, until = known.caller, known.valid_until
        if now >= until:
            renewed = self._callers.renew(rest, known, now, RECHECKED) if self._prompt.is_still(caller) else None
            if renewed is None:
                return None
            until = renewed
        kept = caller.answers.get(line)
        if kept is not None:
            answer = self._shared_answer(data, *kept, until, trusted, now)
            if answer is not None:
                return answer
            del caller.answers[line]
        target = target_of(line)
        if target is None or self._is_own(target.partition("?")[0]):
            return None
        placed = self._prompt.place(caller, target)
        if placed is not None and (prepared := self._shared.get(placed[0])) is not None:
            name, outcome = placed
            cell = self._cell_of(outcome)
            answer = self._shared_answer(data, prepared, cell, until, trusted, now)
            if answer is not None:
                caller.keep_answer(line, prepared, cell)
                return answer
            self._shared.drop(name)
        wanted = self._straight.wanted(caller, target)
        if wanted is not None and not self._cache.holds(wanted.name):
            self._unfound = wanted
            return None
        found = self._prompt.at_once_by(caller, target)
        if not isinstance(found, Hit):
            self._unfound = (caller, found) if found is not None else None
            return None
        return self._made(choice, found, caller)

    def _shared_answer(
        self, data: bytes, prepared: Prepared, cell: list[int], until: float, trusted: bool, now: float
    ) -> tuple[bytes, bytes] | None:
        """What was prepared for any caller who may have it; `until` is when this one is asked about again."""
        body = prepared.whole()
        if body is None or not self._holds(prepared, trusted, now):
            return None
        prepared.resident.touched = True
        cell[1] += 1
        cell[2] += len(body)
        self.chosen += 1
        if self._seen.again(data):
            own = prepared.of_one(cell, min(until, now + RECHECKED), now)
            self._heads.put(data, own, own.size() + len(data))
            return own.head, body
        return prepared.rendered(now), body

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

    def wanted(self) -> Wanted | None:
        """What `known` has just not found, if it can be asked for in a straight line."""
        return self._unfound if isinstance(self._unfound, Wanted) else None

    def seek_known(self, tell: Tell) -> bool:
        """The same for what `known` has just not found."""
        unfound, self._unfound = self._unfound, None
        if unfound is None or isinstance(unfound, Wanted):
            return False
        return self._prompt.seek_by(*unfound, self._telling(unfound[1].request, tell))

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
        self._sought += 1
        return reply

    def _answer(self, prepared: Prepared, trusted: bool) -> tuple[bytes, bytes] | None:
        now = self._clock()
        if not self._holds(prepared, trusted, now):
            return None
        resident = prepared.resident
        if prepared.bodiless:
            body: bytes | None = b""
        elif prepared.coding is None:
            body = resident.body
        else:
            body = prepared.whole()
        if body is None:
            return None
        resident.touched = True
        cell = prepared.cell
        cell[1] += 1
        cell[2] += len(body)
        if prepared.counted is not None:
            self._count(prepared.counted)
        if now >= prepared.head_until:
            prepared.render(now)
        return prepared.head, body

    def _holds(self, prepared: Prepared, trusted: bool, now: float) -> bool:
        return (
            prepared.number == self._serving.number
            and prepared.head_from <= now < prepared.valid_until
            and prepared.resident.meta is prepared.meta
            and prepared.trusted is trusted
            and self._epochs.holds(prepared.known)
        )

    def _anew(self, data: bytes, message: RawRequestMessage, peer: str, trusted: bool) -> tuple[bytes, bytes] | None:
        request = self._request_of(message, peer, trusted)
        if request is None:
            return None
        hit = self._prompt.at_once(request)
        choice, _ = self._choice_of(data)
        line, rest = choice
        # an empty line before the request line would make a field of what comes between them
        if data[0] in b"\r\n" or rest.count(b"\r\n") > MAX_LINES:
            return self._made(None, hit) if hit is not None else None
        if self._callers.is_worth_keeping(line, rest) and (caller := self._prompt.caller()) is not None:
            caller.legible = _is_legible(data, request.fields)
            self._callers.keep(rest, caller, self._serving.number, self._clock(), RECHECKED)
        return self._made(choice, hit) if hit is not None else None

    def _made(self, choice: Choice | None, hit: Hit, caller: Caller | None = None) -> tuple[bytes, bytes] | None:
        """The answer, which is prepared for those who make the same choice, or for all to whom it is given alike."""
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
        elif choice is not None and reply.status in (entry.status, 304) and (counted or reading.route.count is None):
            self._prepare(choice, hit, caller, reply, cell, counted, now)
        return head_of(reply), body

    def _prepare(
        self, choice: Choice, hit: Hit, caller: Caller | None, reply: Reply, cell: list[int],
        counted: Counted | None, now: float,
    ) -> None:  # fmt: skip
        name = self._prompt.learnt_place(caller, hit) if caller is not None and not counted else None
        if name is None:
            if self._is_worth_preparing(self._choices, choice):
                prepared = self._prepared(hit, reply, cell, counted, now)
                if prepared is not None:
                    self._choices.put(choice, prepared, prepared.size() + len(choice[0]) + len(choice[1]))
            return
        held = self._shared.get(name)
        if held is not None and self._holds(held, hit.reading.request.peer_trusted, now):
            return  # this caller has only learnt of it
        if self._is_worth_preparing(self._shared, name):
            prepared = self._prepared(hit, reply, cell, counted, now, shared=True)
            if prepared is not None:
                self._shared.put(name, prepared, prepared.size() + len(name))

    def _is_worth_preparing(self, table: Table[Prepared], key: Choice | str) -> bool:
        """Preparing costs as much as answering: of very many, only what comes again is worth it."""
        if table.size < table.max_bytes * (_FEW if table is self._choices else _MOST):
            return True
        return self._decided.again(key)

    def _prepared(
        self, hit: Hit, reply: Reply, cell: list[int], counted: Counted | None, now: float, *, shared: bool = False
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
        parts = parted(reply)
        if resident is None or known is None or parts is None:
            return None
        valid_until = entry.fresh_until - EARLIEST_REFRESH * entry.fetch_seconds
        if shared:
            valid_until = min(valid_until, now + LASTS)  # whether a caller's token has expired is asked of the caller
        else:
            expires = reading.identity.expires if reading.identity is not None else float("inf")
            valid_until = min(valid_until, expires, now + RECHECKED)
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
        if shared:
            prepared.head, prepared.head_from, prepared.head_until = b"", now, now
        else:
            prepared.render(now)
        return prepared

    def _remember_head(self, data: bytes, prepared: Prepared) -> None:
        """Heads that come again and again have a place of their own; most never come twice."""
        if self._seen.again(data):
            self._heads.put(data, prepared, prepared.size() + len(data))  # its choice may go before it


def _is_legible(head: bytes, fields: Fields) -> bool:
    """Whether `fields_of` reads heads like this one as the parser does, and the upstream is to get all fields."""
    return fields_of(head) == fields.pairs and for_this_side(fields) is HOP_BY_HOP
