"""What can be said of a read without waiting? The ordinary decisions, for what is in memory, or soon told by the store.

`Exchange` goes on from what was found out here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from proxy.cache.reads import Value
from proxy.cache.stamp import Stamp
from proxy.cache.tiers import Cache, Found, Missing, Standing, Tell
from proxy.identity.sources import IdentityResolver
from proxy.policy import forwarding, lookup, reuse
from proxy.policy.identity import Identity
from proxy.policy.key import Frame, Key, Keyring, identifier, with_selected
from proxy.policy.message import Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.policy.route import Kind, Match, Route, Scope
from proxy.rules.compile import RuleSet
from proxy.serving.callers import Caller, Place
from proxy.serving.fetch import Fetcher
from proxy.serving.naming import Naming
from proxy.serving.reading import Reading
from proxy.serving.unread import IRRELEVANT
from proxy.sessions.telling import Telling, TellsNothing, onward

IsOff = Callable[[str, str | None], bool]  # of a feature and a tenant (None: it is public)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The host names that are served from the cache. None named: all of them, each a variant of its own (SPEC 3)."""

    names: frozenset[str] = frozenset()

    @property
    def home(self) -> str | None:
        """The one name that makes no variant of a key."""
        return next(iter(self.names)) if len(self.names) == 1 else None


class Begun(NamedTuple):
    """A read that was not found in memory: `Exchange.handle`, when it is asked next, goes on from here."""

    request: Request
    rules: RuleSet
    reading: Reading
    found: Found | Missing | None = None  # what `seek` got for it from the store


class Hit(NamedTuple):
    """What `AtOnce` decided: a fresh entry for this reading, and how it is reported."""

    reading: Reading
    outcome: Outcome
    identity_headers: frozenset[str]  # what the caller's identity was looked for in, beside the token


class Missed(NamedTuple):
    """A read that neither tier has an entry for: `Misses` may fetch it, for a caller who is known, or another."""

    reading: Reading
    reason: Reason
    rules: RuleSet
    caller: Caller | None


class Passed(NamedTuple):
    """What `Exchange.passes` decided: the request for the upstream, whose response is of no further concern."""

    request: Request
    outcome: Outcome
    lasting: bool  # whatever has no rule, and is asked like this, is decided alike as long as nothing changes


class AtOnce:
    """Decides reads, one after the other, in the call that asks."""

    def __init__(
        self,
        *,
        rules: Callable[[], RuleSet],
        identity: IdentityResolver,
        cache: Cache,
        fetcher: Fetcher,
        keys: Keyring,
        naming: Naming,
        clock: Callable[[], float],
        random: Callable[[], float],
        hosts: Hosts,
        is_off: IsOff,
        telling: Telling | TellsNothing | None = None,
    ) -> None:
        self._telling = telling if telling is not None else TellsNothing()
        self._rules = rules
        self._identity = identity
        self._cache = cache
        self._fetcher = fetcher
        self._keys = keys
        self.naming = naming
        self._clock = clock
        self._random = random  # at least 0, below 1
        self._hosts = hosts
        self._is_off = is_off
        self._begun: Begun | None = None
        self._latest: Reading | None = None  # of `at_once`
        self.missed: Missed | None = None  # while whoever sought for it is told
        self._sought: tuple[Key, Found | Missing] | None = None  # while whoever sought for it is told

    def begun(self, request: Request) -> Begun | None:
        """What was found out about this request, if it was asked for just now and the rules are still the same."""
        begun, self._begun = self._begun, None
        return begun if begun is not None and begun.request is request and begun.rules is self._rules() else None

    def at_once(self, asked: Request) -> Hit | None:
        """A fresh hit in memory, decided without waiting for anything. None: `handle` decides."""
        rules = self._rules()
        reading = self._latest = self._readable(self._telling.stripped(lookup.as_forwarded(asked)), rules)
        if reading is None:
            return None
        hit = self._hit(reading)
        self._begun = Begun(asked, rules, reading) if hit is None else None
        return hit

    def _readable(self, request: Request, rules: RuleSet) -> Reading | None:
        """What this request reads, if nothing more need be known before it is looked up."""
        match = rules.match(request.method, request.path)
        if match is None or lookup.is_write(request, match) or not lookup.is_served(request, self._hosts.names):
            return None
        if lookup.is_keyed_by_body(request) or _is_watched(match.route):
            return None
        if rules.session.event(request) is not None:
            return None
        if never_looked_up(request, match, rules) is not None:
            return None
        identity = None
        if match.route.scope is not Scope.PUBLIC:
            who = self._identity.resolve_now(request, match.parameters, rules.identity, self._clock())
            if not isinstance(who, Identity):
                return None
            identity = who
        reading = self.keyed(request, match, identity)
        return reading if isinstance(reading, Reading) else None

    def caller(self) -> Caller | None:
        """Whoever sent what `at_once` was asked last, for `at_once_by`."""
        reading = self._latest
        if reading is None or not IRRELEVANT.isdisjoint(self._identity.headers):
            return None
        caller = Caller(reading.request, self._rules(), reading.identity, self._identity.parameters)
        return caller if caller.is_known_on(reading.route, reading.match.parameters) else None

    def is_still(self, caller: Caller) -> bool:
        """Whether the credentials of a caller say now what they said: also whoever watches callers hears of it."""
        rules, before = self._rules(), caller.identity
        if before is None or caller.rules is not rules:
            return False
        now = self._identity.resolve_now(caller.asks("/"), {}, rules.identity, self._clock())
        return isinstance(now, Identity) and now == before and now.standing is before.standing

    def at_once_by(self, caller: Caller, target: str) -> Hit | Reading | None:
        """The same for another target of a caller who is known; a reading: what `seek_by` may look for."""
        rules = self._rules()
        path, _, _ = target.partition("?")
        match = rules.match("GET", path)
        if match is None or caller.rules is not rules:
            return None
        route = match.route
        if route.kind is not Kind.READ or _is_watched(route) or not caller.is_known_on(route, match.parameters):
            return None
        request = caller.asks(target)
        if rules.session.event(request) is not None or never_looked_up(request, match, rules) is not None:
            return None
        identity = caller.identity if route.scope is not Scope.PUBLIC else None
        framed = caller.frames.get(id(route)) or caller.keep(route, self.naming.frame(match, request, identity))
        reading = self.keyed(request, match, identity, framed)
        if not isinstance(reading, Reading):
            return None
        found = self._cache.find_in_memory(reading.key, route.digest)
        return self._plainly_fresh(reading, found) if found is not None else reading

    def place(self, caller: Caller, target: str) -> tuple[str, Outcome] | None:
        """Under which name the answer for this caller is shared, and what it counts as; None: it must be decided.

        Everything that hangs on the route was decided when the place was learnt (`learnt_place`): for these rules, and
        for as long as the caller is known. What hangs on the target is whether it can be read in two ways or ends a
        session; its name is made anew.
        """
        rules = self._rules()
        if caller.rules is not rules or lookup.PLAINEST_PATH.fullmatch(target) is None:
            return None
        match = rules.match("GET", target)
        if match is None or (place := caller.places.get(id(match.route))) is None:
            return None
        if rules.session.events and rules.session.find("GET", target) is not None:
            return None
        route = match.route
        name = identifier(route.identifier, route.feature, match.parameters, target, self._keys)
        return f"{place.beginning}{name}{place.end}", place.outcome

    def learnt_place(self, caller: Caller, hit: Hit) -> str | None:
        """The name under which this hit's answer may be shared with every caller who has a place there, if it may."""
        reading, route = hit.reading, hit.reading.route
        framed = caller.frames.get(id(route))
        if not isinstance(framed, Frame) or not caller.asks_for_the_whole or route.count is not None:
            return None
        if route.identifier.rest or self.naming.hears_origin(route):
            return None
        if lookup.PLAINEST_PATH.fullmatch(reading.request.target) is None:
            return None
        beginning, end = f"{caller.coding} {framed.prefix}", f"{framed.scope}{framed.variant}"
        caller.places[id(route)] = Place(beginning, end, hit.outcome)
        return f"{caller.coding} {reading.key.full}"

    def _plainly_fresh(self, reading: Reading, found: Found) -> Hit | None:
        """A hit that needs nothing of the request which a caller's does not have."""
        if found.entry.vary or reuse.second_key_names(found.entry, reading.request) is not None:
            return None
        return self._fresh(reading, found, refreshing=False)

    def passes(self, asked: Request) -> Passed | None:
        """How a request without a body is forwarded for which nothing else is to be done. None: `handle` decides.

        Asked behind `at_once`.
        """
        if self._begun is not None and self._begun.request is asked:
            return None  # a read that is looked up
        request = self._telling.stripped(lookup.as_forwarded(asked))
        rules = self._rules()
        match = rules.match(request.method, request.path)
        if lookup.is_write(request, match) or rules.session.event(request) is not None:
            return None
        if lookup.sensitive_route(request, match, rules.match) is not None:
            return None  # each access is told in full
        reason, feature = None, None
        if not lookup.is_served(request, self._hosts.names):
            reason = Reason.HOST
        elif match is None:
            reason = Reason.NO_RULE
        elif match.route.count is not None:
            return None
        else:
            feature = match.route.feature
            reason = self._bypassed_now(request, match, rules)
        if reason is None:
            return None
        now = self._clock()
        if reason is Reason.REVOKED or self._identity.is_revoked_now(request, rules.identity, now) is not False:
            return None
        who = self._identity.resolve_now(request, {}, rules.identity, now) if self._telling.on else Reason.NO_TENANT
        if who is None or who is Reason.TENANT_CONFLICT:
            return None
        outcome = Outcome(reason, forward=Forward.BYPASS, feature=feature)
        onward = self.onward(request, who if isinstance(who, Identity) else None)
        # what the upstream is told of a caller may be something else with the next request
        return Passed(onward, outcome, lasting=match is None and not self._telling.on)

    def onward(self, request: Request, identity: Identity | None) -> Request:
        """As it goes on, for this caller alone."""
        return request.with_fields(onward(forwarding.passing(request), self._telling.fields(identity, request)))

    def has_no_rule(self, method: str, path: str) -> bool:
        """Nor is it another spelling of what has one that is to be told of."""
        request, rules = Request(method, path), self._rules()
        return (
            rules.match(method, path) is None
            and rules.session.event(request) is None
            and lookup.sensitive_route(request, None, rules.match) is None
        )

    def _bypassed_now(self, request: Request, match: Match, rules: RuleSet) -> Reason | None:
        """Why a matched read is not looked up, where that can be told without waiting or reporting."""
        if lookup.is_keyed_by_body(request):
            return None
        reason = never_looked_up(request, match, rules)
        if reason is not None:
            return reason
        identity = None
        if match.route.scope is not Scope.PUBLIC:
            identity = self._identity.resolve_now(request, match.parameters, rules.identity, self._clock())
        if isinstance(identity, Reason):
            return identity if identity is not Reason.TENANT_CONFLICT else None
        if identity is None and match.route.scope is not Scope.PUBLIC:
            return None
        reading = self.keyed(request, match, identity)
        return reading if isinstance(reading, Reason) else None

    def seek(self, asked: Request, tell: Callable[[Hit | None], object]) -> bool:
        """Look in the store, without a task, for what `at_once` did not find just now. False: `handle` is the way.

        `tell` hears of a fresh hit; None: `handle`, when it is asked in that very call, goes on from what was found.
        """
        begun = self._begun
        if begun is None or begun.request is not asked:
            return False
        reading = begun.reading
        if self._sought is not None and self._sought[0] == reading.key:
            self._begun = begun._replace(found=self._sought[1])  # it was sought for by its caller
            return False

        def heard(found: Found | Missing | None) -> None:
            hit = None
            try:
                if isinstance(found, Found) and reuse.second_key_names(found.entry, reading.request) is None:
                    hit = self._fresh(reading, found)
                if hit is None:
                    self._begun = begun._replace(found=found)
                    self._note_missed(reading, found, begun.rules, None)
            finally:
                try:
                    tell(hit)
                finally:
                    self.missed = None

        self._begun = None
        return self._cache.seek(reading.key, reading.route.digest, heard)

    def _note_missed(
        self, reading: Reading, found: Found | Missing | None, rules: RuleSet, caller: Caller | None
    ) -> None:
        if isinstance(found, Missing) and rules is self._rules():
            self.missed = Missed(reading._replace(stamp=found.stamp), found.reason, rules, caller)

    def seek_by(self, caller: Caller, reading: Reading, tell: Callable[[Hit | None], object]) -> bool:
        """The same for what `at_once_by` did not find. On None all of the request is needed; what was found counts."""
        return self._cache.seek(reading.key, reading.route.digest, self._heard_by(caller, reading, tell))

    def sought_by(
        self, caller: Caller, reading: Reading, value: Value, stamp: Stamp, tell: Callable[[Hit | None], object]
    ) -> None:
        """The same once the store has answered; `stamp` was that of the epochs when it was asked."""
        self._cache.sought(value, reading.key, reading.route.digest, stamp, self._heard_by(caller, reading, tell))

    def _heard_by(self, caller: Caller, reading: Reading, tell: Callable[[Hit | None], object]) -> Tell:
        def heard(found: Found | Missing | None) -> None:
            hit = None
            try:
                if isinstance(found, Found):
                    hit = self._plainly_fresh(reading, found)
                if hit is None and found is not None:
                    self._sought = (reading.key, found)
                    self._note_missed(reading, found, caller.rules, caller)
            finally:
                try:
                    tell(hit)
                finally:
                    self.missed = self._sought = (
                        None  # it is for the request that asked, and for nobody who comes later
                    )

        return heard

    def framed(self, caller: Caller, match: Match, rules: RuleSet, target: str) -> Frame | None:
        """What this caller's keys on this route have in common. None: not all that is asked for there is looked up."""
        route = match.route
        if route.kind is not Kind.READ or _is_watched(route) or not caller.is_known_on(route, match.parameters):
            return None
        request = caller.asks(target)
        identity = caller.identity if route.scope is not Scope.PUBLIC else None
        if never_looked_up(request, match, rules) is not None or self._barred(route, identity) is not None:
            return None
        framed = self.naming.frame(match, request, identity)
        return framed if isinstance(framed, Frame) else None

    def _hit(self, reading: Reading) -> Hit | None:
        found = self._cache.find_in_memory(reading.key, reading.route.digest)
        if found is not None and (names := reuse.second_key_names(found.entry, reading.request)) is not None:
            reading = self.second(reading, names)
            found = self._cache.find_in_memory(reading.key, reading.route.digest)
            if found is not None and reuse.second_key_names(found.entry, reading.request) is not None:
                return None
        return self._fresh(reading, found) if found is not None else None

    def _fresh(self, reading: Reading, found: Found, *, refreshing: bool = True) -> Hit | None:
        reading = reading._replace(stamp=found.stamp, entry=found.entry)
        decision = self.decided(reading, found)
        if not isinstance(decision, reuse.Serve) or (decision.refresh and not refreshing):
            return None
        if decision.refresh:
            self._fetcher.refresh(reading, None)
        outcome = reading.outcome(decision.reason, hit=True, ttl=found.entry.ttl_at(self._clock()))
        return Hit(reading, outcome, self._identity.headers)

    def keyed(
        self, request: Request, match: Match, identity: Identity | None, framed: Frame | Reason | None = None
    ) -> Reading | Reason:
        """The read of this caller under its key; or why it has none."""
        if (barred := self._barred(match.route, identity)) is not None:
            return barred
        key = self.naming.key(match, request, identity, framed)
        return key if isinstance(key, Reason) else Reading(request, match, identity, key, key)

    def _barred(self, route: Route, identity: Identity | None) -> Reason | None:
        """Why this caller gets nothing from the cache on this route; it changes with the serving epoch alone."""
        if not lookup.is_permitted(route, identity):
            return Reason.PERMISSION
        if (doubt := lookup.doubt(route, identity)) is not None:
            return doubt
        off = self._is_off(route.feature, identity.tenant if identity is not None else None)
        return Reason.SWITCHED_OFF if off else None

    def second(self, reading: Reading, names: tuple[str, ...]) -> Reading:
        key = with_selected(reading.key, reading.request, names, reading.route, self._hosts.home, self._keys)
        return reading._replace(key=key)

    def decided(self, reading: Reading, found: Found) -> reuse.Decision:
        return reuse.decide(
            reading.request, reading.route, found.entry, self._clock(),
            soft_purged=found.standing is Standing.SOFT_PURGED,
            unproven=found.standing is Standing.UNPROVEN,
            chance=1.0 - self._random(),
        )  # fmt: skip


def never_looked_up(request: Request, match: Match, rules: RuleSet) -> Reason | None:
    """Why no request like this is answered from the cache, whoever asks."""
    reason = lookup.bypass_reason(request)
    if reason is None and lookup.is_deceptive(request, match, rules.match):
        return Reason.AMBIGUOUS_PATH
    return reason


def _is_watched(route: Route) -> bool:
    """Whether each read of this route asks the store, or is told of: it is never answered at once."""
    return route.strict or route.critical or route.sensitive
