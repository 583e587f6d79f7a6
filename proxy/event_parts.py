"""How are events put together? Mailboxes on the store, those who publish, those who read: one value of a process."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import orjson
from prometheus_client.core import Metric

from proxy.cache.background import Background
from proxy.cache.seal import Sealer
from proxy.events.audience import METRICS, TENANT, roles
from proxy.events.event import Codec, Event
from proxy.events.feed import Feeds
from proxy.events.mailbox import Mailboxes
from proxy.events.poll import Polls
from proxy.events.publish import Publisher
from proxy.events.repair import Repairs
from proxy.events.stream import Limits, Streams
from proxy.events.ticket import Tickets
from proxy.identity.sources import IdentityResolver
from proxy.live_rules import LiveRules
from proxy.policy.identity import Identity, Standing
from proxy.policy.key import Keyring
from proxy.serving.cors import Cors
from proxy.serving.publishing import Publishing
from proxy.serving.realtime import Realtime
from proxy.serving.reserved import Page
from proxy.session_parts import SessionParts
from proxy.settings import Settings
from proxy.stores.base import Store
from proxy.telemetry.metrics import Metrics, Sample

Noted = Callable[[str, Mapping[str, str]], None]


_TOLD = 60.0  # seconds between two lines about the same
_MOST_TOLD = 1000


class EventParts:
    """`noted` is what an operator should hear of. `streams.end` ends the streams of a user, a session, a tenant."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        sealer: Sealer,
        keys: Keyring,
        background: Background,
        clock: Callable[[], float],
        noted: Noted,
        counted: Callable[[str], None],
    ) -> None:
        """`counted` counts what is too frequent to be told each time."""
        self._settings = settings
        noted = _Seldom(noted, counted, clock)
        self._clock = clock
        codec = Codec(sealer, settings.events_kept_for, clock)
        self.mailboxes = Mailboxes(
            store, codec, keys.digest, clock, noted=noted, kept=settings.events_kept, kept_for=settings.events_kept_for
        )
        self.feeds = Feeds(self.mailboxes, store.listen, background)
        repairs = Repairs(self.mailboxes, self.feeds, background, clock)
        store.on_disturbance(repairs.disturbed)
        self.publisher = Publisher(
            self.mailboxes, self.feeds, repairs, background, noted=noted, clock=time.monotonic,
            most_data=settings.event_bytes,
        )  # fmt: skip
        self.publishing = Publishing(
            self.publisher, background, clock, keys.digest, os.urandom,
            seals=codec.can_seal, leaves=store.shared, noted=noted,
        )  # fmt: skip
        limits = Limits(settings.event_streams, settings.event_streams_tenant, settings.event_streams_user)
        self.streams = Streams(self.mailboxes, self.feeds, background, clock, limits=limits)
        self._tickets = Tickets(settings.name_key.encode())
        self._background = background
        self._require: Callable[[], frozenset[str]] = frozenset
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, stack: AsyncExitStack, metrics: Metrics) -> None:
        """Follow mailboxes and streams until `stack` is closed."""
        self._tasks = [*self.feeds.start(), *self.streams.start()]
        stack.push_async_callback(self._close)
        metrics.watch(self._of_readers)
        metrics.watch(self._of_events)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def pages(
        self, identity: IdentityResolver, rules: LiveRules, sessions: SessionParts, cors: Cors
    ) -> Mapping[str, Page]:
        """What is answered below the reserved prefix; from here on, streams end with their sessions."""
        revocations = sessions.revocations

        def is_over(who: Identity, over: Standing) -> bool:
            return who.presented is not None and revocations.of(who.presented) is over

        def judge() -> None:
            self.streams.end(lambda who: is_over(who, Standing.REVOKED), "session.revoked")
            self.streams.end(lambda who: is_over(who, Standing.OUTDATED), "session.changed")

        sessions.judged = judge
        self._require = lambda: rules.current.reports_require
        return Realtime(
            self.streams, Polls(self.mailboxes, self.feeds, self.streams), self._tickets, identity,
            lambda: rules.current, self._clock, cors=cors, standing=revocations.of,
        ).pages()  # fmt: skip

    def announce(self, tenant: str, report: str, figures: Mapping[str, Any]) -> None:
        """The newest figures of a report, for those who watch it now: at most once, and kept nowhere."""
        if self.streams.draining:
            return
        to = roles(self._require()) or TENANT
        data = orjson.dumps({"report": report, **figures})
        event = Event(os.urandom(16).hex(), METRICS, to, self._clock(), data)
        _ = self._background.start(self.mailboxes.show(tenant, event))

    def is_watched(self, tenant: str, report: str) -> bool:
        """Whether anybody, at any replica, reads figures of this tenant as they change."""
        return self.feeds.is_watched(tenant)

    def _of_readers(self) -> Iterator[Sample | Metric]:
        figures = self.streams.figures
        yield Sample("sidecache_event_streams", "Open event streams.", len(self.streams))
        yield Sample("sidecache_event_streams_max", "Event streams that may be open.", self.streams.limits.process)
        yield Sample("sidecache_event_streams_opened_total", "Event streams.", figures.opened, counter=True)
        yield Sample(
            "sidecache_event_streams_refused_total", "Streams and polls over a limit: of the process, tenant, user.",
            dict(figures.refused), "limit", counter=True,
        )  # fmt: skip
        yield Sample(
            "sidecache_event_streams_ended_total", "Streams and polls that ended, by why.", dict(figures.ended), "why",
            counter=True,
        )  # fmt: skip
        yield Sample(
            "sidecache_events_delivered_total", "Events that were written to streams.", figures.delivered, counter=True
        )
        yield Sample(
            "sidecache_event_gaps_told_total", "Readers that were told that something may be missing.", figures.gaps,
            counter=True,
        )  # fmt: skip
        yield self.feeds.delays.metric(
            "sidecache_event_delivery_seconds", "From a write to the last stream here that got its event."
        )

    def _of_events(self) -> Iterator[Sample]:
        published, kept = self.publisher.figures, self.mailboxes.figures
        yield Sample(
            "sidecache_events_published_total", "What became of events that were published here.",
            {
                "stored": published.stored, "repeated": published.repeated, "refused": published.refused,
                "lost": published.lost,
            },
            "result", counter=True,
        )  # fmt: skip
        yield Sample("sidecache_events_waiting", "Events that the store has not taken yet.", self.publisher.waiting)
        yield Sample(
            "sidecache_events_retried_total", "Attempts to store an event that failed.", published.retried, counter=True
        )
        yield Sample(
            "sidecache_event_entries_total", "Entries of mailboxes: restored after a loss, lost for good, unreadable.",
            {"restored": kept.restored, "gaps": kept.gaps, "rejected": kept.rejected}, "what", counter=True,
        )  # fmt: skip
        yield Sample("sidecache_event_mailboxes", "Mailboxes that are followed here.", len(self.feeds))
        yield Sample("sidecache_event_bytes", "Bytes of events in memory.", self.feeds.size)


class _Seldom:
    """What any request may cause is told once a minute for each event, and counted each time."""

    def __init__(self, noted: Noted, counted: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._noted = noted
        self._counted = counted
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def __call__(self, event: str, details: Mapping[str, str]) -> None:
        now, key = self._clock(), (event, details.get("name", ""))
        if abs(now - self._told.get(key, float("-inf"))) < _TOLD:
            self._counted(event)
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[key] = now
        self._noted(event, details)
