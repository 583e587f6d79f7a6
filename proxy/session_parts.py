"""How is what knows of callers and their sessions put together? A part of the composition, of one process."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp

from proxy.admin.audit import Audit
from proxy.cache.background import Background
from proxy.cache.epochs import Epochs
from proxy.errors import StoreError
from proxy.identity.jwks import Jwks, fetch_document
from proxy.identity.logout_tokens import LogoutTokens
from proxy.identity.sources import IdentityResolver
from proxy.identity.tokens import TokenVerifier
from proxy.live_rules import LiveRules
from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Reason
from proxy.serving.backchannel_page import BackChannelPage
from proxy.serving.reserved import Page
from proxy.serving.session_page import SessionPage
from proxy.serving.upstream import Upstream
from proxy.sessions.assertion import Assertions
from proxy.sessions.auth0 import Account, Auth0Events
from proxy.sessions.backchannel import BackChannel
from proxy.sessions.cookie import CookieOwners
from proxy.sessions.enrich import Enriching
from proxy.sessions.notbefore import Revocation
from proxy.sessions.observer import Observer
from proxy.sessions.open_streams import OpenStreams
from proxy.sessions.record import Records
from proxy.sessions.revocation import Revocations
from proxy.sessions.telling import Telling
from proxy.settings import Settings
from proxy.stores.base import Store
from proxy.telemetry.metrics import Metrics, Sample
from proxy.workers.seat import Seat

Report = Callable[[str, Mapping[str, object]], None]


class SessionParts:
    """Who asks, and whether they still may."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        epochs: Epochs,
        rules: LiveRules,
        background: Background,
        clock: Callable[[], float],
        *,
        upstream: Upstream,
        seat: Seat | None,
        audit: Audit,
        changed: Callable[[], None],
        noted: Callable[[str, Mapping[str, str]], None],
        report: Report,
    ) -> None:
        """`changed`: prepared answers may be wrong from now on."""
        self._settings = settings
        self._clock = clock
        self._store = store
        self._upstream = upstream
        self._background = background
        self.channel: BackChannel | None = None
        self.events: Auth0Events | None = None
        self.owners: CookieOwners | None = None
        self._rules = rules
        self._changed = changed
        self._report = report
        self._audit = audit
        self.streams = OpenStreams(clock)
        self.judged: Callable[[], None] = lambda: None  # called when the standing of some may be another one
        self.revocations = Revocations(
            store,
            epochs.doorbell,
            clock,
            background,
            applied=self._applied,
            siblings=seat,
            keep=lambda: rules.current.session.token_lifetime,
            timeout=settings.store_timeout,
            report=report,
        )
        self.records = Records(store, self.revocations, clock, background)
        self.observer = Observer(
            self.revocations, epochs, self.streams, background, clock,
            personal=lambda: rules.current.session.personal, audited=self._audited, noted=noted,
        )  # fmt: skip
        self.enriching = Enriching(lambda: rules.current.session.enrich, upstream, background, time.monotonic)
        self.assertions = (
            Assertions(settings.assertion_keys, settings.upstream, clock) if settings.assertion_keys else None
        )
        self.telling = Telling(
            lambda: rules.current.session, self.enriching, self.assertions, lambda: rules.current.identity.cookie
        )

    async def open(self, stack: AsyncExitStack, metrics: Metrics) -> IdentityResolver:
        """What was revoked is known when this returns, if the store can be asked."""
        settings = self._settings
        stack.push_async_callback(self.revocations.close)
        await self.revocations.start()
        metrics.watch(self._samples)
        metrics.watch(self._event_samples)
        if (events := self._followed()) is not None:
            stack.callback(self._background.start(events.run(), lasting=True).cancel)
        if self._rules.current.session.assertion is not None and self.assertions is None:
            self._report("assertion-unsigned", {"setting": "SIDECACHE_ASSERTION_KEYS", "what": "no assertion is sent"})
        jwks = None
        if settings.jwks_url is not None:
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            jwks = Jwks(
                settings.jwks_url,
                lambda url: fetch_document(session, url),
                time.monotonic,
                report=self._report,
                changed=self._changed,
            )
            stack.push_async_callback(jwks.close)
            jwks.start()
        issuer, audience = settings.jwt_issuer or "", settings.jwt_audience or ""
        if jwks is not None and settings.oidc_client_id is not None:
            tokens = LogoutTokens(jwks, issuer, settings.oidc_client_id)
            self.channel = BackChannel(tokens, self.observer, self._store, self._clock)
        verifier = TokenVerifier(jwks, issuer, audience, allow_unsigned=settings.dev_auth)
        owners = CookieOwners(
            self._upstream, verifier, self.revocations, self._background, self._clock,
            lambda: self.revocations.version,
        )  # fmt: skip
        self.owners = owners
        self.resolver = IdentityResolver(
            verifier, self.revocations, owners, seen=self._seen, peers_speak=settings.peer_identity
        )
        return self.resolver

    def _followed(self) -> Auth0Events | None:
        """The events of the account in the settings, where there is one."""
        settings = self._settings
        if settings.auth0_domain is None or settings.auth0_client_id is None or settings.auth0_client_secret is None:
            return None
        account = Account(f"https://{settings.auth0_domain}", settings.auth0_client_id, settings.auth0_client_secret)
        self.events = Auth0Events(
            account, self._store, self.observer, self._clock, os.urandom(8).hex(), updated=self.enriching.forget,
            report=self._report,
        )  # fmt: skip
        return self.events

    def pages(self) -> Mapping[str, Page]:
        """What is answered below the reserved prefix."""
        pages: dict[str, Page] = {"session": SessionPage(self._who, self._about)}
        if self.channel is not None:
            pages["backchannel-logout"] = BackChannelPage(self.channel)
        return pages

    def watch_head(self, head: bytes, end: Callable[[], None]) -> Callable[[], None]:
        """End a response that has no end of its own when the credential in its request's head is over."""
        lines = (line.partition(b":") for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])
        pairs = [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, _, value in lines]
        fields = Fields(pair for pair in pairs if pair[0].lower() in ("authorization", "cookie", "host"))
        release: list[Callable[[], None]] = []
        over = False

        async def watch() -> None:
            asked = Request("GET", "/", fields)
            presented = await self.resolver.presented(asked, self._rules.current.identity, self._clock())
            if presented is not None and not over:
                release.append(self.observer.watch(presented, end))

        def stop() -> None:
            nonlocal over
            over = True
            for each in release:
                each()

        _ = self._background.start(watch())
        return stop

    def published_keys(self) -> Mapping[str, Any]:
        """By which the upstream verifies assertions."""
        return self.assertions.jwks() if self.assertions is not None else {"keys": []}

    async def _who(self, request: Request) -> Identity | Reason:
        return await self.resolver.resolve(request, {}, self._rules.current.identity, self._clock())

    async def _about(self, identity: Identity) -> Mapping[str, Any]:
        record = None
        if identity.user is not None and identity.tenant is not None:
            with suppress(StoreError):  # what the token says is known all the same
                record = await self.records.read(identity.user, identity.tenant)
        organisation = self.enriching.document(identity.tenant) if identity.tenant is not None else None
        return {
            "created": record.created if record is not None else None,
            "seen": record.seen if record is not None else None,
            "organisation": organisation,
        }

    def _seen(self, identity: Identity) -> None:
        if self._rules.current.session.on:
            self.records.seen(identity)

    def _event_samples(self) -> Sequence[Sample]:
        events = self.events
        if events is None:
            return ()
        heard = events.heard_at
        return (
            Sample(
                "sidecache_auth0_events_total", "Auth0's events, by what became of them, and connections.",
                events.counts, "result", counter=True,
            ),
            Sample("sidecache_auth0_events_leader", "1 where this one follows for all.", events.leads),
            Sample(
                "sidecache_auth0_events_age_seconds", "Since the leader heard anything of Auth0; -1 elsewhere.",
                self._clock() - heard if heard is not None and events.leads else -1.0, across="most",
            ),
        )  # fmt: skip

    def _samples(self) -> Sequence[Sample]:
        revocations, figures = self.revocations, self.revocations.figures
        age = revocations.age
        return (
            Sample("sidecache_revocations_known", "Revocations that still count.", len(revocations), across="most"),
            Sample(
                "sidecache_revocations_pending", "Revocations that the store has not taken yet; they hold here.",
                revocations.pending, across="most",
            ),
            Sample(
                "sidecache_revocations_age_seconds", "Since the log of revocations was last read; -1 before.",
                age if age != float("inf") else -1.0, across="most",
            ),
            Sample(
                "sidecache_revocations_total", "What became of revocations.",
                {"applied": figures.applied, "refused": figures.refused, "repeated": figures.repeated},
                "event", counter=True,
            ),
            Sample(
                "sidecache_logout_tokens_total", "Logout tokens of the issuer, by what became of them.",
                self.channel.counts if self.channel is not None else {},
                "result", counter=True,
            ),
            Sample(
                "sidecache_enrichment_total", "Answers about organisations, and requests that went on without one.",
                self.enriching.counts, "result", counter=True,
            ),
            Sample(
                "sidecache_cookies_total", "Session cookies, by how their owner was found.",
                self.owners.counts if self.owners is not None else {}, "result", counter=True,
            ),
            Sample("sidecache_sessions_known", "Sessions that passed through this process lately.", len(self.records)),
            Sample(
                "sidecache_sessions_total", "Writes of session records.",
                {"written": self.records.written, "failed": self.records.failed}, "result", counter=True,
            ),
            Sample("sidecache_open_streams", "WebSockets and event streams of known callers.", len(self.streams)),
            Sample(
                "sidecache_streams_ended_total", "Those that were ended: revoked, or the token expired.",
                self.streams.ended, counter=True,
            ),
        )  # fmt: skip

    def _applied(self, news: Sequence[Revocation]) -> None:
        self._changed()
        self.records.forget(news)
        self.streams.judge(self.revocations)
        self.judged()

    def _audited(self, why: str, tenant: str | None, target: Mapping[str, object], accepted: bool) -> None:
        self._audit.record(why, result="done" if accepted else "pending", tenant=tenant, target=target)
