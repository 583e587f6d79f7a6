"""What happens to a request? Read `handle` from top to bottom: this is the product.

    rules.match -> identity.resolve -> key.derive -> cache.find -> reuse.decide
        serve | serve stale and refresh | fetch once for all who wait -> storing.decide -> cache.put
        a write: fetch -> purge BEFORE the reply is released

There is no `if` on a header here: if one is wanted, a function in `policy/` is missing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from proxy.cache.background import Background
from proxy.cache.coalesce import Flight
from proxy.cache.epochs import Epochs
from proxy.cache.tiers import Cache, Found, Missing
from proxy.errors import UpstreamError
from proxy.identity.sources import IdentityResolver
from proxy.policy import invalidation, lookup, reuse
from proxy.policy.identity import Identity, Presented
from proxy.policy.key import Keyring
from proxy.policy.message import Request, Response
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.policy.route import Match, Scope
from proxy.policy.session import Change, Ending, Event, succeeded, user_in
from proxy.rules.compile import RuleSet
from proxy.serving.at_once import AtOnce, Hosts, IsOff, never_looked_up
from proxy.serving.connection import Interim
from proxy.serving.decided import Admitted, Bypass, bypassed, past_the_cache
from proxy.serving.fetch import Fetcher
from proxy.serving.naming import Naming
from proxy.serving.peeking import peeked, with_body
from proxy.serving.problem import problem
from proxy.serving.publishing import Publishing
from proxy.serving.reading import Reading
from proxy.serving.refusing import failed, reason_of_write, unauthorized
from proxy.serving.reply import Reply, from_stream, is_event_stream
from proxy.serving.upstream import Body, Stream, Upstream
from proxy.sessions.observer import NoSessions, Sessions
from proxy.sessions.telling import Telling, TellsNothing

Noted = Callable[[str, Mapping[str, str]], None]
Counts = Callable[[Request, Match, Identity | None, int], None]  # of a write, and what it was answered
PurgedBy = Callable[[str, invalidation.Purge, bool], None]  # a write's route, its tags, whether the store has them


def _never_off(feature: str, tenant: str | None) -> bool:
    return False


def _untold(by: str, purge: invalidation.Purge, accepted: bool) -> None:
    pass


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
        sessions: Sessions | None = None,
        telling: Telling | TellsNothing | None = None,
        counts: Counts = lambda request, match, identity, status: None,
        events: Publishing | None = None,
    ) -> None:
        self._rules = rules
        self._identity = identity
        self._cache = cache
        self._epochs = epochs
        self._fetcher = fetcher
        self._upstream = upstream
        self._background = background
        self._keys = keys
        self._clock = clock
        self._hosts = hosts
        self._purged = purged
        self._telling = telling if telling is not None else TellsNothing()
        self._sessions: Sessions = sessions if sessions is not None else NoSessions()
        self._counts = counts
        self._events = events
        self._noted = noted  # what an operator should hear of: conflicts, unmatched writes, failed assertions
        self.prompt = AtOnce(
            rules=rules, identity=identity, cache=cache, fetcher=fetcher, keys=keys, naming=naming, clock=clock,
            random=random, hosts=hosts, is_off=is_off, telling=telling,
        )  # fmt: skip

    @property
    def fetcher(self) -> Fetcher:
        return self._fetcher

    def handle(self, request: Request, body: Body, interim: Interim | None = None) -> Coroutine[Any, Any, Reply]:
        """The reply to one request; 1xx go to `interim`. Never raises for what client, upstream or store do."""
        begun = self.prompt.begun(request)
        if begun is not None:
            return self._look(begun.reading._replace(interim=interim), begun.found)
        return self._handle(request, body, interim)

    async def _handle(self, request: Request, body: Body, interim: Interim | None) -> Reply:
        request = self._telling.stripped(lookup.as_forwarded(request))
        rules = self._rules()
        match = rules.match(request.method, request.path)
        event = rules.session.event(request)
        if event is not None or lookup.is_write(request, match):
            # by whatever host name: what it changes is the same
            return await self._write(request, body, interim, match, rules, event)
        if not lookup.is_served(request, self._hosts.names):
            outcome = await self._past(request, match, rules, Reason.HOST)
            return await self._pass(request, body, interim, outcome, rules)
        if match is None:
            outcome = await self._past(request, None, rules, Reason.NO_RULE)
            return await self._pass(request, body, interim, outcome, rules)
        return await self._read(request, body, interim, match, rules)

    def is_write(self, request: Request) -> bool:
        """Whether the rules, or the request itself, say that it may change something."""
        return lookup.is_write(request, self._rules().match(request.method, request.path))

    async def admit(self, request: Request) -> Admitted | Reply:
        """Whose connection this will be, which is to be another protocol's; or the refusal."""
        request, rules = self._telling.stripped(request), self._rules()
        who = await self._who(request, None, rules)
        if who is Reason.REVOKED:
            return unauthorized(Outcome(Reason.REVOKED))
        told = self._telling.fields(who if isinstance(who, Identity) else None, request)
        presented = await self._identity.presented(request, rules.identity, self._clock())
        match = rules.match(request.method, request.path)
        return Admitted(request, told, presented, await self._past(request, match, rules, Reason.UPGRADE))

    async def _past(self, request: Request, match: Match | None, rules: RuleSet, reason: Reason) -> Outcome:
        """The outcome of what is not looked up. Who asks for what is sensitive is told, however they ask."""
        route = lookup.sensitive_route(request, match, rules.match)
        if route is None:
            feature = match.route.feature if match is not None and reason is not Reason.HOST else None
            return Outcome(reason, forward=Forward.BYPASS, feature=feature)
        who = await self._who(request, match, rules)
        return past_the_cache(route, reason, Forward.BYPASS, who if isinstance(who, Identity) else None)

    # Reading

    async def _read(self, request: Request, body: Body, interim: Interim | None, match: Match, rules: RuleSet) -> Reply:
        reading = await self._prepared(request, body, match, rules)
        if isinstance(reading, Bypass):
            return await self._pass(reading.request, reading.body, interim, reading.outcome, rules)
        return await self._look(reading._replace(interim=interim))

    async def _look(self, reading: Reading, found: Found | Missing | None = None) -> Reply:
        """The reply from the cache, or through it. `found`: what is under its first key, where that is known."""
        body = reading.request.body  # a keyed body was read whole; any other read has none
        reading, decision = await self._find(reading, found)
        match decision:
            case reuse.Serve():
                if decision.refresh:
                    self._fetcher.refresh(reading, body)
                return await self._fetcher.serve(reading, decision.reason)
            case reuse.ServeStale():
                self._fetcher.refresh(reading, body)
                return await self._fetcher.serve(reading, decision.reason)
            case reuse.Revalidate() | reuse.Fetch():
                return await self.missed(reading, decision.reason)
            case reuse.Unsatisfiable():
                fields, text = problem(504, "Only a stored response was wanted, and there is none.")
                return Reply.own(504, fields, text, reading.outcome(decision.reason))

    async def missed(self, reading: Reading, reason: Reason) -> Reply:
        """The reply to a read for which the upstream is asked."""
        return self._watched(await self._fetcher.fetch(reading, reading.request.body, reason), _shown(reading))

    async def went_on(
        self, reading: Reading, reason: Reason, flight: Flight, answer: Stream | UpstreamError, asked_at: float
    ) -> Reply:
        """The reply to a miss that was begun without this (`misses`)."""
        return self._watched(await self._fetcher.went_on(reading, reason, flight, answer, asked_at), _shown(reading))

    async def _prepared(self, request: Request, body: Body, match: Match, rules: RuleSet) -> "Reading | Bypass":
        """Everything that is known before the cache is asked; or why it is not asked."""
        route = match.route
        reason = never_looked_up(request, match, rules)
        if reason is not None:
            return Bypass(request, body, await self._past(request, match, rules, reason))
        identity = await self._who(request, match, rules) if route.scope is not Scope.PUBLIC else None
        if isinstance(identity, Reason):
            return bypassed(request, body, route, identity)
        if lookup.is_keyed_by_body(request) and lookup.is_permitted(match.route, identity):
            request, body = await with_body(request, body)
        reading = self.prompt.keyed(request, match, identity)
        return reading if isinstance(reading, Reading) else bypassed(request, body, route, reading, identity)

    async def _who(self, request: Request, match: Match | None, rules: RuleSet) -> Identity | Reason:
        parameters = match.parameters if match is not None else {}
        identity = await self._identity.resolve(request, parameters, rules.identity, self._clock())
        if identity is Reason.TENANT_CONFLICT:
            # the path alone: a query may hold a secret
            self._noted("tenant-conflict", {"request": f"{request.method} {request.path}", "peer": request.peer})
        return identity

    async def _find(self, reading: Reading, found: Found | Missing | None) -> tuple[Reading, reuse.Decision]:
        """Look under the first key; where what is there was selected by other fields, once more under the second."""
        if found is None:
            found = await self._look_up(reading)
        if isinstance(found, Found) and (names := reuse.second_key_names(found.entry, reading.request)) is not None:
            reading = self.prompt.second(reading, names)
            found = await self._look_up(reading)
            if (isinstance(found, Found) and reuse.second_key_names(found.entry, reading.request) is not None) or (
                isinstance(found, Missing) and found.reason is Reason.COLD
            ):
                found = Missing(Reason.VARIANT, found.stamp)
        reading = reading._replace(stamp=found.stamp)
        if isinstance(found, Missing):
            return reading, reuse.decide_without(reading.request, reading.route, found.reason)
        reading = reading._replace(entry=found.entry)
        return reading, self.prompt.decided(reading, found)

    async def _look_up(self, reading: Reading) -> Found | Missing:
        route = reading.route
        return await self._cache.find(reading.key, route.digest, strict=route.strict, critical=route.critical)

    # Writing

    async def _write(
        self,
        request: Request,
        body: Body,
        interim: Interim | None,
        match: Match | None,
        rules: RuleSet,
        event: Event | None,
    ) -> Reply:
        """Forward a request that may change something, and purge what it may have changed before the reply leaves.

        Runs in a task of its own: it outlives its client (SPEC 4).
        """
        reason, forward = reason_of_write(request, match)
        if reason is Reason.UNMATCHED_WRITE:
            self._noted("unmatched-write", {"request": f"{request.method} {request.path}"})
        written, identity = await asyncio.shield(
            self._background.start(self._forward_and_purge(request, body, interim, match, rules, event))
        )
        route = lookup.sensitive_route(request, match, rules.match) or (match.route if match is not None else None)
        if route is None:
            outcome = Outcome(reason, forward=forward)
        else:
            outcome = past_the_cache(route, reason, forward, identity)
        if written is None:
            return unauthorized(outcome)
        if isinstance(written, UpstreamError):
            return failed(written, outcome)
        return from_stream(written, request, None, outcome)

    async def _forward_and_purge(
        self,
        request: Request,
        body: Body,
        interim: Interim | None,
        match: Match | None,
        rules: RuleSet,
        event: Event | None,
    ) -> tuple[Stream | UpstreamError | None, Identity | None]:
        """None: the caller's credential has been revoked. Whoever logs out once more is not refused that."""
        who = await self._who(request, match, rules)
        if who is Reason.REVOKED and not isinstance(event, Ending):
            return None, None
        identity = None if isinstance(who, Reason) else who
        # asked before the upstream, which may not know the cookie afterwards
        presented = await self._identity.presented(request, rules.identity, self._clock()) if event else None
        publication = self._events.begun(request, match, rules, body) if self._events is not None else None
        onward = self.prompt.onward(request, identity)
        if publication is not None:
            onward, body = publication.passing(onward), publication.body
        try:
            stream: Stream = await self._upstream.fetch(onward, body, interim=interim)
        except UpstreamError as failure:
            if failure.delivered:  # it may have acted: an unknown outcome counts as a change
                await self._purge(request, match, None, identity, rules)
            return failure, identity
        await self._purge(request, match, stream.response, identity, rules)
        if match is not None:
            self._counts(request, match, identity, stream.response.status)
        if event is not None and succeeded(event, stream.response.status):
            user = None
            if isinstance(event, Change) and event.body_path is not None:
                stream, document = await peeked(stream)
                user = user_in(document, event.body_path)
            await self._sessions.observed(event, presented, identity, user)
        if publication is not None and self._events is not None:
            stream = await self._events.answered(publication, stream, identity)
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

    async def _pass(
        self, request: Request, body: Body, interim: Interim | None, outcome: Outcome, rules: RuleSet
    ) -> Reply:
        """Forward unchanged, store nothing; unless whoever asks has been logged out."""
        if outcome.reason is Reason.REVOKED or await self._identity.is_revoked(request, rules.identity, self._clock()):
            return unauthorized(outcome)
        # who asks was noted, where that had a say
        who = await self._identity.resolve(request, {}, rules.identity, self._clock()) if self._telling.on else None
        try:
            stream = await self._upstream.fetch(
                self.prompt.onward(request, who if isinstance(who, Identity) else None), body, interim=interim
            )
        except UpstreamError as failure:
            return failed(failure, outcome)
        reply = from_stream(stream, request, None, outcome)
        if not is_event_stream(reply.fields):
            return reply
        return self._watched(reply, await self._identity.presented(request, rules.identity, self._clock()))

    def _watched(self, reply: Reply, presented: Presented | None) -> Reply:
        """A stream of events has no end of its own: it ends with what its reader has shown."""
        if presented is not None and is_event_stream(reply.fields):
            end = reply.close
            release = self._sessions.watch(presented, end)

            def close() -> None:
                release()
                end()

            reply.close = close
        return reply


def _shown(reading: Reading) -> Presented | None:
    return reading.identity.presented if reading.identity is not None else None
