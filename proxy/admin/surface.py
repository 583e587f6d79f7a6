"""What does the admin port consist of? Every endpoint, made from the parts of one sidecar."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.admin.access import Gate
from proxy.admin.audit import Audit
from proxy.admin.contents import Contents
from proxy.admin.endpoint import Endpoint
from proxy.admin.events import Events
from proxy.admin.explaining import Explaining
from proxy.admin.health import Health
from proxy.admin.history import History
from proxy.admin.lately import Lately
from proxy.admin.live import Live
from proxy.admin.login import Login
from proxy.admin.pages import Pages
from proxy.admin.probes import Probes
from proxy.admin.purging import Purging
from proxy.admin.ruling import Ruling
from proxy.admin.sessions import Sessions
from proxy.admin.sight import Sight
from proxy.admin.signed_in import Ends, SignedIn
from proxy.admin.status import Status
from proxy.admin.switching import Switching
from proxy.admin.trail import Trail
from proxy.admin.values import Values
from proxy.bypasses import Bypasses
from proxy.cache.epochs import Epochs
from proxy.cache.purges import Purges
from proxy.cache.stored import Stored
from proxy.cache.tiers import Cache
from proxy.events.publish import Publisher
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.sessions.record import Records
from proxy.telemetry.course import Course
from proxy.telemetry.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints look at and act on. `clock` gives unix seconds."""

    health: Health
    rules: LiveRules
    cache: Cache
    epochs: Epochs
    purges: Purges
    traffic: Traffic
    bypasses: Bypasses
    audit: Audit
    trail: Trail
    sight: Sight
    stored: Stored
    keys: Keyring
    home: str | None
    profile: str
    inside: bool  # the port listens on loopback
    about_store: Callable[[], Mapping[str, object]]
    clock: Callable[[], float]
    exposition: Callable[[], Awaitable[bytes]]  # of all processes of this sidecar
    unwritten: Callable[[], int]  # audit lines
    spread: Callable[[], Awaitable[None]]  # returns when all of them know what is switched off
    gate: Gate
    sessions: Sessions
    records: Records
    ends: Ends  # of sessions
    published_keys: Callable[[], Mapping[str, Any]]  # of assertions
    course: Course
    lately: Lately
    publisher: Publisher


def endpoints(parts: Parts) -> Iterator[Endpoint]:
    p = parts
    reasons = p.profile == "production"
    yield from Probes(p.health, p.exposition, inside=p.inside).endpoints()
    status = Status(p.health, p.sight, p.bypasses, about_store=p.about_store, clock=p.clock)
    yield from status.endpoints()
    yield from Purging(p.rules, p.cache, p.epochs, p.purges, p.audit, p.keys, reasons=reasons).endpoints()
    yield from Contents(p.sight, p.stored, p.audit, p.clock).endpoints()
    yield from Explaining(
        p.rules, p.cache, p.sight, p.traffic, p.bypasses, keys=p.keys, home=p.home, clock=p.clock
    ).endpoints()
    yield from Switching(p.rules, p.bypasses, p.audit, p.spread, reasons=reasons).endpoints()
    yield from Ruling(p.rules, p.audit, editable=p.profile == "development").endpoints()
    yield from Values(p.rules, p.cache, p.epochs, p.purges, p.audit, p.clock).endpoints()
    yield from SignedIn(p.records, p.ends, p.audit, p.clock, p.published_keys, reasons=reasons).endpoints()
    yield from Events(p.rules, p.publisher, p.audit, p.keys, p.clock).endpoints()
    yield from History(p.trail, p.sight, p.unwritten, p.clock).endpoints()
    yield from Login(p.gate, p.sessions, p.audit, profile=p.profile, reasons=reasons).endpoints()
    yield from Live(status, p.lately, p.course, p.rules, p.traffic, p.health, p.sessions).endpoints()
    yield from Pages().endpoints()
