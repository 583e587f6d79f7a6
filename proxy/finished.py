"""Who is told of a finished request? The counters, the reports' counts, what is recent, the audit, log and trace."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.admin.audit import Audit
from proxy.counting import Counting
from proxy.identity.sources import IdentityResolver
from proxy.live_rules import LiveRules
from proxy.policy.identity import Identity
from proxy.policy.key import Keyring
from proxy.policy.message import Request
from proxy.policy.outcome import Accessed, Outcome
from proxy.serving.reading import Reading
from proxy.serving.relay import Told
from proxy.serving.reply import Reply
from proxy.telemetry.access_line import access_line
from proxy.telemetry.logs import Logger
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent import Recent
from proxy.telemetry.tracing import Tracing
from proxy.telemetry.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Finished:
    """`log`: None without an access log. `spans`: None without tracing."""

    metrics: Metrics
    traffic: Traffic
    counting: Counting
    recent: Recent
    audit: Audit
    rules: LiveRules
    resolver: IdentityResolver
    keys: Keyring
    clock: Callable[[], float]
    log: Logger | None
    spans: Tracing | None

    def replied(self, request: Request, reply: Reply, seconds: float) -> None:
        saved = len(reply.body) if reply.outcome.hit and isinstance(reply.body, bytes) else 0
        self.ended(request, reply.outcome, reply.status, seconds, saved)

    def ended(self, request: Request, outcome: Outcome, status: int, seconds: float = 0.0, saved: int = 0) -> None:
        """`saved`: bytes of a body that came from the cache."""
        self.metrics.count(outcome, seconds, saved)
        self.traffic.note(request, outcome)
        self.counting.finished(request, outcome, status)
        self.recent.note(request, outcome, status, seconds)
        if isinstance(outcome, Accessed):
            self.audit.accessed(request, outcome, status)
        self._log(request, outcome, status, seconds)

    def fetched(self, reading: Reading, reply: Reply, seconds: float) -> None:
        """What `replied` does, for a miss of a route that is known and not sensitive; only without an access log."""
        request, outcome = reading.request, reply.outcome
        self.metrics.count(outcome, seconds)
        self.traffic.fetched(request.method, reading.match, outcome)
        self.counting.read(request, reading.match, outcome, reply.status)
        self.recent.note(request, outcome, reply.status, seconds)

    def told(self, request: Request, outcome: Outcome) -> Told:
        """What `ended` does, for responses to this request that are passed on, as often as it comes."""
        count, cause = self.metrics.counter(outcome), self.traffic.cause(request, outcome)
        note = self.recent.noting(request, outcome)

        def told(status: int, seconds: float) -> None:
            count(seconds)
            self.traffic.caused(cause)
            note(status, seconds)

        return told

    def hit(self, request: Request, reply: Reply) -> None:
        """A hit of the short way, which has counted it; only where `logs_hits`."""
        self._log(request, reply.outcome, reply.status, 0.0)
        if self.spans is not None:
            self.spans.at_once(request, reply.outcome, reply.status)

    @property
    def logs_hits(self) -> bool:
        return self.log is not None or self.spans is not None

    def _log(self, request: Request, outcome: Outcome, status: int, seconds: float) -> None:
        if self.log is None:
            return
        rules = self.rules.current
        match = rules.match(request.method, request.path)
        parameters = match.parameters if match is not None else {}
        who = self.resolver.resolve_now(request, parameters, rules.identity, self.clock())
        identity = who if isinstance(who, Identity) else None
        self.log.info("request", **access_line(request, outcome, status, seconds, identity, self.keys))
