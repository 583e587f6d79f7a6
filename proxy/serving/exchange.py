"""What happens to a request? Read `handle` from top to bottom: this is the product.

    rules.match -> identity.resolve -> key.derive -> cache.find -> reuse.decide
        serve | serve stale and refresh | fetch once for all who wait -> storing.decide -> cache.put
        a write: fetch -> purge BEFORE the reply is released

There is no `if` on a header here: if one is wanted, a function in `policy/` is missing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from proxy.cache.background import Background
from proxy.cache.epochs import Epochs
from proxy.cache.tiers import Cache, Found, Missing, Standing
from proxy.errors import UpstreamError
from proxy.identity.sources import IdentityResolver
from proxy.policy import forwarding, invalidation, lookup, reuse
from proxy.policy.identity import Identity
from proxy.policy.key import MAX_KEYED_BODY, Keyring, with_selected
from proxy.policy.message import Request, Response
from proxy.policy.outcome import Accessed, Forward, Outcome, Reason
from proxy.policy.route import Kind, Match, Route, Scope
from proxy.rules.compile import RuleSet
from proxy.serving.connection import Interim
from proxy.serving.fetch import Fetcher, Reading
from proxy.serving.naming import Naming
from proxy.serving.problem import problem, upstream_problem
from proxy.serving.reply import Reply, from_stream
from proxy.serving.upstream import Body, Stream, Upstream

Noted = Callable[[str, Mapping[str, str]], None]
IsOff = Callable[[str, str | None], bool]  # of a feature and a tenant (None: it is public)
PurgedBy = Callable[[str, invalidation.Purge, bool], None]  # a write's route, its tags, whether the store has them


def _never_off(feature: str, tenant: str | None) -> bool:
    return False


def _untold(by: str, purge: invalidation.Purge, accepted: bool) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hosts:
    """The host names that are served from the cache. None named: all of them, each a variant of its own (SPEC 3)."""

    names: frozenset[str] = frozenset()

    @property
    def home(self) -> str | None:
        """The one name that makes no variant of a key."""
        return next(iter(self.names)) if len(self.names) == 1 else None


class _Begun(NamedTuple):
    """A read that `at_once` did not find in memory: `handle`, when it is asked next, goes on from here."""

    request: Request
    rules: RuleSet
    reading: Reading


class Hit(NamedTuple):
    """What `Exchange.at_once` decided: a fresh entry for this reading, and how it is reported."""

    reading: Reading
    outcome: Outcome
    identity_headers: frozenset[str]  # what the caller's identity was looked for in, beside the token


class Passed(NamedTuple):
    """What `Exchange.passes` decided: the request for the upstream, whose response is of no further concern."""

    request: Request
    outcome: Outcome
    lasting: bool  # whatever has no rule, and is asked like this, is decided alike as long as nothing changes


class Exchange:
    """Answers requests from the cache or the upstream. Knows neither the server's framework nor the store's."""

    def __init__(
        self,
        *,
        rules: Callable[[], RuleSet],
        identity: IdentityResolver,
        cache: Cache,
        epochs: Epochs,
        fetcher: Fetcher,
        upstream: Upstream,
        background: Background,
        keys: Keyring,
        naming: Naming,
        clock: Callable[[], float],
        random: Callable[[], float],
        hosts: Hosts,
        noted: Noted,
        is_off: IsOff = _never_off,
        purged: PurgedBy = _untold,
    ) -> None:
        self._rules = rules
        self._identity = identity
        self._cache = cache
        self._epochs = epochs
        self._fetcher = fetcher
        self._upstream = upstream
        self._background = background
        self._keys = keys
        self._naming = naming
        self._clock = clock
        self._random = random  # at least 0, below 1
        self._hosts = hosts
        self._is_off = is_off
        self._purged = purged
        self._noted = noted  # what an operator should hear of: conflicts, unmatched writes, failed assertions
        self._begun: _Begun | None = None

    def handle(self, request: Request, body: Body, interim: Interim | None = None) -> Coroutine[Any, Any, Reply]:
        """The reply to one request; 1xx go to `interim`. Never raises for what client, upstream or store do."""
        begun, self._begun = self._begun, None
        if begun is not None and begun.request is request and begun.rules is self._rules():
            return self._look(begun.reading._replace(interim=interim))
        return self._handle(request, body, interim)

    async def _handle(self, request: Request, body: Body, interim: Interim | None) -> Reply:
        request = lookup.as_forwarded(request)
        rules = self._rules()
        match = rules.match(request.method, request.path)
        if lookup.is_write(request, match):
            # by whatever host name: what it changes is the same
            return await self._write(request, body, interim, match, rules)
        if not lookup.is_served(request, self._hosts.names):
            return await self._pass(request, body, interim, Outcome(Reason.HOST, forward=Forward.BYPASS))
        if match is None:
            return await self._pass(request, body, interim, Outcome(Reason.NO_RULE, forward=Forward.BYPASS))
        return await self._read(request, body, interim, match, rules)

    def at_once(self, asked: Request) -> Hit | None:
        """A fresh hit in memory, decided without waiting for anything. None: `handle` decides."""
        request = lookup.as_forwarded(asked)
        rules = self._rules()
        match = rules.match(request.method, request.path)
        if match is None or lookup.is_write(request, match) or not lookup.is_served(request, self._hosts.names):
            return None
        route = match.route
        if lookup.is_keyed_by_body(request) or route.strict or route.critical or route.sensitive:
            return None
        if _never_looked_up(request, match, rules) is not None:
            return None
        identity = None
        if route.scope is not Scope.PUBLIC:
            who = self._identity.resolve_now(request, match.parameters, rules.identity, self._clock())
            if not isinstance(who, Identity):
                return None
            identity = who
        reading = self._keyed(request, match, identity)
        if not isinstance(reading, Reading):
            return None
        hit = self._hit(reading)
        self._begun = _Begun(asked, rules, reading) if hit is None else None
        return hit

    def _hit(self, reading: Reading) -> Hit | None:
        found = self._cache.find_in_memory(reading.key, reading.route.digest)
        if found is not None and (names := reuse.second_key_names(found.entry, reading.request)) is not None:
            reading = self._second(reading, names)
            found = self._cache.find_in_memory(reading.key, reading.route.digest)
            if found is not None and reuse.second_key_names(found.entry, reading.request) is not None:
                return None
        if found is None:
            return None
        reading = reading._replace(stamp=found.stamp, entry=found.entry)
        decision = self._decided(reading, found)
        if not isinstance(decision, reuse.Serve):
            return None
        if decision.refresh:
            self._fetcher.refresh(reading, None)
        outcome = reading.outcome(decision.reason, hit=True, ttl=found.entry.ttl_at(self._clock()))
        return Hit(reading, outcome, self._identity.headers)

    def passes(self, asked: Request) -> Passed | None:
        """How a request without a body is forwarded for which nothing else is to be done. None: `handle` decides.

        Asked behind `at_once`.
        """
        if self._begun is not None and self._begun.request is asked:
            return None  # a read that is looked up
        request = lookup.as_forwarded(asked)
        rules = self._rules()
        match = rules.match(request.method, request.path)
        if lookup.is_write(request, match):
            return None
        reason, feature = None, None
        if not lookup.is_served(request, self._hosts.names):
            reason = Reason.HOST
        elif match is None:
            reason = Reason.NO_RULE
        elif match.route.sensitive:
            return None  # each access is told in full
        else:
            feature = match.route.feature
            reason = self._bypassed_now(request, match, rules)
        if reason is None:
            return None
        outcome = Outcome(reason, forward=Forward.BYPASS, feature=feature)
        return Passed(_passing(request), outcome, lasting=match is None)

    def has_no_rule(self, method: str, path: str) -> bool:
        return self._rules().match(method, path) is None

    def _bypassed_now(self, request: Request, match: Match, rules: RuleSet) -> Reason | None:
        """Why a matched read is not looked up, where that can be told without waiting or reporting."""
        if lookup.is_keyed_by_body(request):
            return None
        reason = _never_looked_up(request, match, rules)
        if reason is not None:
            return reason
        identity = None
        if match.route.scope is not Scope.PUBLIC:
            identity = self._identity.resolve_now(request, match.parameters, rules.identity, self._clock())
        if isinstance(identity, Reason):
            return identity if identity is not Reason.TENANT_CONFLICT else None
        if identity is None and match.route.scope is not Scope.PUBLIC:
            return None
        reading = self._keyed(request, match, identity)
        return reading if isinstance(reading, Reason) else None

    def is_write(self, request: Request) -> bool:
        """Whether the rules, or the request itself, say that it may change something."""
        return lookup.is_write(request, self._rules().match(request.method, request.path))

    # Reading

    async def _read(self, request: Request, body: Body, interim: Interim | None, match: Match, rules: RuleSet) -> Reply:
        reading = await self._prepared(request, body, match, rules)
        if isinstance(reading, _Bypass):
            return await self._pass(reading.request, reading.body, interim, reading.outcome)
        return await self._look(reading._replace(interim=interim))

    async def _look(self, reading: Reading) -> Reply:
        """The reply from the cache, or through it."""
        body = reading.request.body  # a keyed body was read whole; any other read has none
        reading, decision = await self._find(reading)
        match decision:
            case reuse.Serve():
                if decision.refresh:
                    self._fetcher.refresh(reading, body)
                return await self._fetcher.serve(reading, decision.reason)
            case reuse.ServeStale():
                self._fetcher.refresh(reading, body)
                return await self._fetcher.serve(reading, decision.reason)
            case reuse.Revalidate() | reuse.Fetch():
                return await self._fetcher.fetch(reading, body, decision.reason)
            case reuse.Unsatisfiable():
                fields, text = problem(504, "Only a stored response was wanted, and there is none.")
                return Reply.own(504, fields, text, reading.outcome(decision.reason))

    async def _prepared(self, request: Request, body: Body, match: Match, rules: RuleSet) -> "Reading | _Bypass":
        """Everything that is known before the cache is asked; or why it is not asked."""
        route = match.route
        reason = _never_looked_up(request, match, rules)
        if reason is not None:
            return _bypassed(request, body, route, reason)
        identity = await self._who(request, match, rules) if route.scope is not Scope.PUBLIC else None
        if isinstance(identity, Reason):
            return _bypassed(request, body, route, identity)
        if lookup.is_keyed_by_body(request) and lookup.is_permitted(match.route, identity):
            request, body = await _with_body(request, body)
        reading = self._keyed(request, match, identity)
        return reading if isinstance(reading, Reading) else _bypassed(request, body, route, reading, identity)

    def _keyed(self, request: Request, match: Match, identity: Identity | None) -> Reading | Reason:
        """The read of this caller under its key; or why it has none."""
        if not lookup.is_permitted(match.route, identity):
            return Reason.PERMISSION
        if self._is_off(match.route.feature, identity.tenant if identity is not None else None):
            return Reason.SWITCHED_OFF
        key = self._naming.key(match, request, identity)
        return key if isinstance(key, Reason) else Reading(request, match, identity, key, key)

    async def _who(self, request: Request, match: Match | None, rules: RuleSet) -> Identity | Reason:
        parameters = match.parameters if match is not None else {}
        identity = await self._identity.resolve(request, parameters, rules.identity, self._clock())
        if identity is Reason.TENANT_CONFLICT:
            # the path alone: a query may hold a secret
            self._noted("tenant-conflict", {"request": f"{request.method} {request.path}", "peer": request.peer})
        return identity

    async def _find(self, reading: Reading) -> tuple[Reading, reuse.Decision]:
        """Look under the first key; where what is there was selected by other fields, once more under the second."""
        found = await self._look_up(reading)
        if isinstance(found, Found) and (names := reuse.second_key_names(found.entry, reading.request)) is not None:
            reading = self._second(reading, names)
            found = await self._look_up(reading)
            if (isinstance(found, Found) and reuse.second_key_names(found.entry, reading.request) is not None) or (
                isinstance(found, Missing) and found.reason is Reason.COLD
            ):
                found = Missing(Reason.VARIANT, found.stamp)
        reading = reading._replace(stamp=found.stamp)
        if isinstance(found, Missing):
            return reading, reuse.decide_without(reading.request, reading.route, found.reason)
        reading = reading._replace(entry=found.entry)
        return reading, self._decided(reading, found)

    def _second(self, reading: Reading, names: tuple[str, ...]) -> Reading:
        key = with_selected(reading.key, reading.request, names, reading.route, self._hosts.home, self._keys)
        return reading._replace(key=key)

    def _decided(self, reading: Reading, found: Found) -> reuse.Decision:
        return reuse.decide(
            reading.request, reading.route, found.entry, self._clock(),
            soft_purged=found.standing is Standing.SOFT_PURGED,
            unproven=found.standing is Standing.UNPROVEN,
            chance=1.0 - self._random(),
        )  # fmt: skip

    async def _look_up(self, reading: Reading) -> Found | Missing:
        route = reading.route
        return await self._cache.find(reading.key, route.digest, strict=route.strict, critical=route.critical)

    # Writing

    async def _write(
        self, request: Request, body: Body, interim: Interim | None, match: Match | None, rules: RuleSet
    ) -> Reply:
        """Forward a request that may change something, and purge what it may have changed before the reply leaves.

        Runs in a task of its own: it outlives its client (SPEC 4).
        """
        ruled = match is not None and match.route.kind is Kind.WRITE
        reason = Reason.WRITE if ruled else Reason.UNMATCHED_WRITE
        if not ruled:
            self._noted("unmatched-write", {"request": f"{request.method} {request.path}"})
        written, identity = await asyncio.shield(
            self._background.start(self._forward_and_purge(request, body, interim, match, rules))
        )
        if match is None:
            outcome = Outcome(reason, forward=Forward.METHOD)
        else:
            outcome = _past_the_cache(match.route, reason, Forward.METHOD, identity)
        if isinstance(written, UpstreamError):
            return _failed(written, outcome)
        return from_stream(written, request, None, outcome)

    async def _forward_and_purge(
        self, request: Request, body: Body, interim: Interim | None, match: Match | None, rules: RuleSet
    ) -> tuple[Stream | UpstreamError, Identity | None]:
        who = await self._who(request, match, rules)
        identity = None if isinstance(who, Reason) else who
        try:
            stream = await self._upstream.fetch(_passing(request), body, interim=interim)
        except UpstreamError as failure:
            if failure.delivered:  # it may have acted: an unknown outcome counts as a change
                await self._purge(request, match, None, identity, rules)
            return failure, identity
        await self._purge(request, match, stream.response, identity, rules)
        return stream, identity

    async def _purge(
        self,
        request: Request,
        match: Match | None,
        response: Response | None,
        identity: Identity | None,
        rules: RuleSet,
    ) -> None:
        purge = invalidation.of(request, match, response, identity, rules.match, self._keys)
        if not purge:
            return
        accepted = await self._epochs.advance(purge)
        self._purged(str(match.route) if match is not None else request.method, purge, accepted)
        again = invalidation.settle_after(match, response)
        if again is not None:
            self._background.later(again, lambda: self._epochs.advance(purge))

    # Passing through

    async def _pass(self, request: Request, body: Body, interim: Interim | None, outcome: Outcome) -> Reply:
        """Forward unchanged, store nothing."""
        try:
            stream = await self._upstream.fetch(_passing(request), body, interim=interim)
        except UpstreamError as failure:
            return _failed(failure, outcome)
        return from_stream(stream, request, None, outcome)


def _never_looked_up(request: Request, match: Match, rules: RuleSet) -> Reason | None:
    """Why no request like this is answered from the cache, whoever asks."""
    reason = lookup.bypass_reason(request)
    if reason is None and lookup.is_deceptive(request, match, rules.match):
        return Reason.AMBIGUOUS_PATH
    return reason


@dataclass(frozen=True, slots=True)
class _Bypass:
    """A matched read that is not looked up: its request and body as they go on."""

    request: Request
    body: Body
    outcome: Outcome


def _bypassed(request: Request, body: Body, route: Route, reason: Reason, identity: Identity | None = None) -> _Bypass:
    return _Bypass(request, body, _past_the_cache(route, reason, Forward.BYPASS, identity))


def _past_the_cache(route: Route, reason: Reason, forward: Forward, identity: Identity | None) -> Outcome:
    if not route.sensitive:
        return Outcome(reason, forward=forward, feature=route.feature)
    tenant, user = (identity.tenant, identity.user) if identity is not None else (None, None)
    return Accessed(reason, forward=forward, feature=route.feature, tenant=tenant, user=user)


def _passing(request: Request) -> Request:
    return request.with_fields(forwarding.passing(request))


def _failed(failure: UpstreamError, outcome: Outcome) -> Reply:
    fields, text = upstream_problem(failure)
    return Reply.own(failure.status, fields, text, replace(outcome, reason=Reason.UPSTREAM_FAILED))


async def _with_body(request: Request, body: Body) -> tuple[Request, Body]:
    """Read a body that is part of the key. One too large for that goes on as a stream, unread parts included."""
    if not isinstance(body, AsyncIterator):
        return replace(request, body=body or b""), body
    chunks: list[bytes] = []
    size = 0
    async for chunk in body:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_KEYED_BODY:
            return request, _resumed(chunks, body)
    whole = b"".join(chunks)
    return replace(request, body=whole), whole


async def _resumed(chunks: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    async for chunk in rest:
        yield chunk
