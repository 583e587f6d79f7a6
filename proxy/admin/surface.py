"""What does the admin port consist of? Every endpoint, made from the parts of one sidecar."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.admin.audit import Audit
from proxy.admin.contents import Contents
from proxy.admin.endpoint import Endpoint
from proxy.admin.explaining import Explaining
from proxy.admin.health import Health
from proxy.admin.history import History
from proxy.admin.probes import Probes
from proxy.admin.purging import Purging
from proxy.admin.ruling import Ruling
from proxy.admin.sessions import Ends, Sessions
from proxy.admin.status import Status
from proxy.admin.switching import Switching
from proxy.admin.values import Values
from proxy.bypasses import Bypasses
from proxy.cache.epochs import Epochs
from proxy.cache.purges import Purges
from proxy.cache.tiers import Cache
from proxy.live_rules import LiveRules
from proxy.policy.key import Keyring
from proxy.sessions.record import Records
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints look at and act on. `clock` gives unix seconds."""

    health: Health
    metrics: Metrics
    rules: LiveRules
    cache: Cache
    epochs: Epochs
    purges: Purges
    traffic: Traffic
    bypasses: Bypasses
    audit: Audit
    keys: Keyring
    home: str | None
    profile: str
    inside: bool  # the port listens on loopback
    about_store: Callable[[], Mapping[str, object]]
    clock: Callable[[], float]
    exposition: Callable[[], Awaitable[bytes]]  # of all processes of this sidecar
    spread: Callable[[], Awaitable[None]]  # returns when all of them know what is switched off
    records: Records
    ends: Ends  # of sessions
    published_keys: Callable[[], Mapping[str, Any]]  # of assertions


def endpoints(parts: Parts) -> Iterator[Endpoint]:
    p = parts
    reasons = p.profile == "production"
    yield from Probes(p.health, p.exposition, inside=p.inside).endpoints()
    yield from Status(
        p.health, p.cache, p.epochs, p.metrics, p.traffic, p.bypasses, about_store=p.about_store, clock=p.clock
    ).endpoints()
    yield from Purging(p.rules, p.cache, p.epochs, p.purges, p.audit, p.keys, reasons=reasons).endpoints()
    yield from Contents(p.cache, p.audit, p.clock).endpoints()
    yield from Explaining(
        p.rules, p.cache, p.purges, p.traffic, p.bypasses, keys=p.keys, home=p.home, clock=p.clock
    ).endpoints()
    yield from Switching(p.rules, p.bypasses, p.audit, p.spread, reasons=reasons).endpoints()
    yield from Ruling(p.rules, p.audit, editable=p.profile == "development").endpoints()
    yield from Values(p.rules, p.cache, p.epochs, p.purges, p.audit, p.clock).endpoints()
    yield from Sessions(p.records, p.ends, p.audit, p.clock, p.published_keys, reasons=reasons).endpoints()
    yield from History(p.audit, p.purges, p.clock).endpoints()
