"""Which hits in the shared store are answered in one straight line? Usual ones, of a caller who is known.

Between the bytes of a head and those of its answer no request, reading, entry or reply is made: a key, one question to
the store, and what the record says, as long as all of this holds. Whatever is not proven here takes the plain way
(`AtOnce`, `reply`), with what was found so far; a test compares the two.

    caller      known by all the head but its target and what nobody reads, as of this serving epoch: rules,
                revocations and switches are those of now, when it asks and when the store has answered
    route       a read that is neither `strict`, `critical`, `sensitive` nor counted; the caller may read it
    target      a path with one spelling
    conditions  none: no Range, no validators, no Cache-Control that counts
    key         not in memory, when it asks and when the store has answered: who has seen a newer entry sees no older
    epochs      trusted when it asks and when the store has answered, and those of the record, hard and soft: what was
                purged meanwhile is not served
    record      plain, its MAC ours, of this tenant, key, request, rule and these tags (`record.plain`)
    response    200, fresh, not due for an early refresh, without Vary, of a type that the caller takes, in the encoding
                that the caller gets
"""

from collections.abc import Callable
from time import monotonic

from proxy.cache import pack, record
from proxy.cache.copies import Known
from proxy.cache.epochs import Epochs
from proxy.cache.reads import Value
from proxy.cache.tiers import THREAD_BYTES, Cache
from proxy.policy import reuse
from proxy.policy.key import Key, item, items
from proxy.policy.lookup import PLAINEST_PATH
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.policy.reply import ROUNDED_UP, kept_head
from proxy.policy.reuse import EARLIEST_REFRESH
from proxy.policy.route import Match, Scope
from proxy.rules.compile import RuleSet
from proxy.serving.at_once import AtOnce, Hit
from proxy.serving.callers import Caller, Lane
from proxy.serving.encoding import may_encode
from proxy.serving.reading import Reading
from proxy.serving.reply import VIA, Reply, encoded, wished
from proxy.serving.response import head_of
from proxy.serving.serving_epoch import ServingEpoch

_CONDITIONAL = frozenset({"range", "if-range", "if-none-match", "if-modified-since"})
_HEADS = 1024  # remembered as they are sent
_END = b"%bAge: %d\r\nContent-Length: %d\r\nCache-Status: sidecache; hit; ttl=%d\r\nVia: " + VIA.encode() + b"\r\n\r\n"


Over = Callable[[tuple[bytes, bytes] | None], None]  # head and body; None: it must be looked at anew
Heard = Callable[[Request, Reply | None], None]
Plainly = Callable[[Request, Hit | None, Heard], None]  # makes a reply, and tells it


class Wanted:
    """One such request, from the question on."""

    __slots__ = ("caller", "heard", "key", "known", "lane", "name", "number", "over", "started", "straight", "target")

    # from the question on:
    known: Known
    number: int
    over: Over
    heard: Heard
    started: float

    def __init__(self, straight: "Straight", caller: Caller, lane: Lane, target: str, key: Key) -> None:
        self.straight = straight
        self.caller = caller
        self.lane = lane
        self.target = target
        self.key = key
        self.name = key.full

    def ask(self, over: Over, heard: Heard, started: float) -> bool:
        """Ask the store, unless its epochs have to be asked for as well: that is for the plain way.

        Either `over` is told, or `heard` of what the plain way has found.
        """
        self.over, self.heard, self.started = over, heard, started
        return self.straight.ask(self)

    def reading(self) -> Reading:
        identity = self.caller.identity if self.lane.route.scope is not Scope.PUBLIC else None
        match = self.caller.rules.match("GET", self.target.partition("?")[0])
        assert match is not None, "it was matched before"
        return Reading(self.caller.asks(self.target), match, identity, self.key, self.key)

    def answered(self, value: Value) -> None:
        self.straight.answered(self, value)


class Straight:
    """`cell_of` and `took` count, `noted` is told of some; `plain` answers with what the plain way has found."""

    def __init__(
        self,
        cache: Cache,
        epochs: Epochs,
        prompt: AtOnce,
        serving: ServingEpoch,
        *,
        clock: Callable[[], float],
        cell_of: Callable[[Outcome], list[int]],
        took: Callable[[float], None],
        plain: Plainly,
        has_room: Callable[[], bool],
        noted: Callable[[Request, Reply], None],
    ) -> None:
        self._cache = cache
        self._epochs = epochs
        self._prompt = prompt
        self._serving = serving
        self._clock = clock
        self._cell_of = cell_of
        self._took = took
        self._plain = plain
        self._has_room = has_room
        self._noted = noted
        self._heads: dict[tuple[object, ...], tuple[bytes, str | None] | None] = {}
        self._heads_of = 0  # the serving epoch
        self.answers = 0

    def wanted(self, caller: Caller, target: str) -> Wanted | None:
        """What this caller wants, if it may be answered this way or from memory. None: the plain way."""
        path, _, query = target.partition("?")
        if PLAINEST_PATH.fullmatch(path) is None:
            return None
        folder, _, value = path.rpartition("/")
        lane = caller.folders.get(folder)
        if lane is not None and lane.items is not None and len(path) == len(target):
            found = item(lane.items, value, path)
            if found is not None:
                return Wanted(self, caller, lane, target, found)
        rules = caller.rules
        match = rules.match("GET", path)
        if match is None or (rules.session.events and rules.session.find("GET", path) is not None):
            return None
        route = match.route
        lanes = caller.lanes
        lane = lanes[id(route)] if id(route) in lanes else self._laid(caller, match, rules, target)
        if lane is None:
            return None
        naming = self._prompt.naming
        if query or len(path) < len(target):
            identity = caller.identity if route.scope is not Scope.PUBLIC else None
            key = naming.key(match, caller.asks(target), identity, lane.framed)
        else:
            key = naming.plain(match, path, lane.framed)
        return Wanted(self, caller, lane, target, key) if isinstance(key, Key) else None

    def _laid(self, caller: Caller, match: Match, rules: RuleSet, target: str) -> Lane | None:
        lane, route = None, match.route
        framed = self._prompt.framed(caller, match, rules, target)
        fields = caller.fields
        if (
            framed is not None
            and route.count is None
            and not route.identifier.rest
            and not self._prompt.naming.hears_origin(route)
            and _CONDITIONAL.isdisjoint(fields.names())
            and not (route.client_control and ("cache-control" in fields or "pragma" in fields))
        ):
            coding, accept = wished(fields), fields.get("accept")
            outcome = Outcome(Reason.FRESH, hit=True, feature=route.feature, tenant=framed.space)
            lane = Lane(
                route, framed, (route.digest, coding, accept), coding, accept, outcome,
                items(route, framed),
            )  # fmt: skip
        _ = caller.lay(route, lane)
        folder = target.partition("?")[0].rpartition("/")[0]
        if lane is not None and not rules.session.events and rules.below("GET", folder) is route:
            caller.folders[folder] = lane
        return lane

    def ask(self, wanted: Wanted) -> bool:
        key = wanted.key
        known = self._epochs.bound(key.space, key.tags)
        if known is None:
            return False
        wanted.known, wanted.number = known, self._serving.number
        self._cache.ask(wanted.name, wanted.answered)
        return True

    def answered(self, wanted: Wanted, value: Value) -> None:
        """What the store has answered, in a turn of its own."""
        answer = None
        try:
            if type(value) is bytes and wanted.number == self._serving.number:
                answer = self._answer(wanted, value)
        finally:
            if answer is not None:
                wanted.over(answer)
            else:
                self._go_on(wanted, value)

    def _go_on(self, wanted: Wanted, value: Value) -> None:
        """The plain way, with what was found, as long as nothing has changed."""
        if wanted.number != self._serving.number or not self._epochs.holds(wanted.known):
            wanted.over(None)
            return
        stamp = wanted.known.stamp.named(wanted.key.tags)
        reading = wanted.reading()
        self._prompt.sought_by(
            wanted.caller, reading, value, stamp, lambda hit: self._plain(reading.request, hit, wanted.heard)
        )

    def _answer(self, wanted: Wanted, data: bytes) -> tuple[bytes, bytes] | None:
        lane, key, known, cache = wanted.lane, wanted.key, wanted.known, self._cache
        if len(data) > THREAD_BYTES or cache.holds(wanted.name):
            return None
        route = lane.route
        found = record.plain(
            data, cache.sealer, record.expected(key.space, wanted.name, key.request, route.digest, key.tags)
        )
        now = self._clock()
        if found is None or found.status != 200 or found.size > cache.max_unpacked:
            return None
        left = found.fresh_until - now
        stamp = known.stamp
        if (
            left <= 0.0
            or left < EARLIEST_REFRESH * found.fetch_seconds
            or found.hard != stamp.hard
            or found.soft != stamp.soft
            or not self._epochs.holds(known)
        ):
            return None
        ready = self._ready(lane, found)
        if ready is None:
            return None
        begin, coding = ready
        if coding is None:
            body = pack.decompress(found.codec, found.packed, found.size)
            if body is None:
                return None
        elif pack.CODINGS.get(found.codec) == coding:
            body = found.packed
        else:
            return None  # its encoding is not made yet
        cell = self._cell_of(lane.outcome)  # asked for anew: a caller may be known for longer than a cell
        cell[0] += 1
        cell[2] += len(body)
        self._took(monotonic() - wanted.started)
        self.answers += 1
        if self._has_room():
            self._note(wanted, int(left))
        cache.keep(data, key, route.digest, found.size + len(found.head))
        age = found.age + max(0.0, now - found.stored_at) + ROUNDED_UP
        return _END % (begin, age, len(body), left), body

    def _note(self, wanted: Wanted, ttl: int) -> None:
        outcome = wanted.reading().outcome(Reason.FRESH, hit=True, ttl=ttl)
        self._noted(wanted.caller.asks(wanted.target), Reply(200, Fields(), b"", outcome))

    def _ready(self, lane: Lane, found: record.Plain) -> tuple[bytes, str | None] | None:
        """The beginning of the answer's head, and its encoding; None where it is not all that a head takes."""
        if self._heads_of != self._serving.number or len(self._heads) >= _HEADS:
            self._heads.clear()
            self._heads_of = self._serving.number
        large = found.size > lane.route.compress
        name = (lane.alike, found.head, found.media, large)
        if name in self._heads:
            return self._heads[name]
        ready = self._heads[name] = _begun(lane, found, large=large)
        return ready


def _begun(lane: Lane, found: record.Plain, *, large: bool) -> tuple[bytes, str | None] | None:
    media = found.media.decode("utf-8", "surrogatepass") if found.media is not None else None
    if lane.accept is not None and media is not None and not reuse.accepts(lane.accept, media):
        return None
    fields, coding = kept_head(found.head, lane.route), None
    if "date" not in fields:
        return None
    if large and may_encode(lane.route, found.status, fields):
        coding = lane.coding
        fields = encoded(fields, coding)
    whole = head_of(Reply(found.status, fields, b"", Outcome(Reason.FRESH, hit=True)))
    return whole[:-2], coding
