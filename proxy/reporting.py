"""Where does it go when a part reports something? To the log and the counters; some of it to the audit as well."""

from collections.abc import Callable, Mapping

from proxy.admin.audit import Audit
from proxy.serving.serving_epoch import ServingEpoch
from proxy.telemetry.logs import Logger
from proxy.telemetry.metrics import Metrics

Report = Callable[[str, Mapping[str, object]], None]

# What anybody's request may cause: the counter tells.
_COUNTED = frozenset({"unmatched-write", "logout-of-nobody"})

# Reports of a change for the better.
_GOOD_NEWS = frozenset(
    "store-available doorbell-works rules-loaded jwks-available jwks-changed upstream-reachable "
    "auth0-events-heard".split()
)


class Reports:
    """`then` is called after a report, with the event: whoever has more to say of it."""

    def __init__(self, log: Logger, metrics: Metrics, serving: ServingEpoch, then: Callable[[str], None]) -> None:
        self._log = log
        self._metrics = metrics
        self._serving = serving
        self._then = then

    def changed(self, event: str, details: Mapping[str, object]) -> None:
        """Something about this process changed: a store, the rules, the keys of the issuer."""
        self._serving.advance()  # whatever it is: these are rare, and each may change an answer
        self._metrics.note(event)
        (self._log.info if event in _GOOD_NEWS else self._log.warning)(event, **details)
        self._then(event)

    def heard(self, event: str, details: Mapping[str, object]) -> None:
        """Of the rules, in a worker: the parent has reported it."""
        self._serving.advance()

    def noting(self, audit: Audit) -> Report:
        """For what a request showed."""

        def noted(event: str, details: Mapping[str, object]) -> None:
            self._metrics.note(event)
            if event == "tenant-conflict":
                audit.record(event, result="denied", target=details)
            if event not in _COUNTED:
                self._log.warning(event, **details)

        return noted

    def unwritten(self, why: str) -> None:
        self._metrics.note("audit-unwritten")
        self._log.error("audit-unwritten", detail=why)

    def lost(self, error: BaseException) -> None:
        """Work in the background ended by an error that nobody waits for."""
        self._metrics.note("background-failed")
        self._log.error("background-failed", error=type(error).__name__, detail=str(error))
