"""Of what is the admin port put together? The parts of one sidecar, and what it asks the other workers."""

import os
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy import figures
from proxy.admin import lately, sight
from proxy.admin.access import Gate
from proxy.admin.api import application
from proxy.admin.health import Health
from proxy.admin.lately import Lately
from proxy.admin.sessions import Sessions
from proxy.admin.sight import Sight
from proxy.admin.surface import Parts, endpoints
from proxy.auditing import Auditing
from proxy.bypasses import Bypasses
from proxy.cache.epochs import Epochs
from proxy.cache.purges import Purges
from proxy.cache.seal import Sealer
from proxy.cache.stored import Stored
from proxy.cache.tiers import Cache
from proxy.events.publish import Publisher
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.session_parts import SessionParts
from proxy.settings import Settings
from proxy.stores.base import Store
from proxy.telemetry.course import Course, State
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent import Recent
from proxy.telemetry.traffic import Traffic
from proxy.workers.seat import Seat


def admin_port(
    settings: Settings, seat: Seat | None, *, health: Health, rules: LiveRules, cache: Cache, epochs: Epochs,
    store: Store, sealer: Sealer, purges: Purges, traffic: Traffic, metrics: Metrics, recent: Recent,
    bypasses: Bypasses, audited: Auditing, keys: Keyring, home: str | None,
    exposition: Callable[[], Awaitable[bytes]], spread: Callable[[], Awaitable[None]], who: SessionParts,
    publisher: Publisher,
) -> tuple[web.Application, Course]:  # fmt: skip
    """Its application, and the course that is to run while it answers."""
    others = seat.others if seat is not None else sight.nobody
    seen = Sight(cache, epochs, metrics, traffic, purges, time.time, others)
    news = Lately(metrics, recent, name=str(seat.number) if seat is not None else "0", others=others)
    if seat is not None:
        seat.answer(sight.QUESTION, seen.answer)
        seat.answer(lately.QUESTION, news.answer)
    course = Course(news.taken, lambda: State(figures.is_up(store), rules.loaded_at), time.time)
    sessions = Sessions(time.time, os.urandom)
    gate = Gate(
        settings.admin_tokens, lenient=settings.profile == "development",
        listens_on_loopback=settings.admin.loopback, allowed=settings.allowed_ips, session=sessions.find,
    )  # fmt: skip
    parts = Parts(
        health=health, rules=rules, cache=cache, epochs=epochs, purges=purges, traffic=traffic, bypasses=bypasses,
        audit=audited.audit, trail=audited.trail, sight=seen,
        stored=Stored(store, sealer, max_body=settings.l1_bytes, clock=time.monotonic),
        keys=keys, home=home, profile=settings.profile, inside=settings.admin.loopback,
        about_store=lambda: figures.about(store), clock=time.time, exposition=exposition, unwritten=audited.lost,
        spread=spread, gate=gate, sessions=sessions, course=course, lately=news,
        records=who.records, ends=who.observer, published_keys=who.published_keys, publisher=publisher,
    )  # fmt: skip
    return application(gate, audited.audit, endpoints(parts)), course
