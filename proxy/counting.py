"""How is what counts requests put together? Counters on the store, who tells them, and the page that shows them."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proxy.analytics.counters import Announce, Counters
from proxy.analytics.reports import Reports
from proxy.cache.background import Background
from proxy.identity.sources import IdentityResolver
from proxy.policy.identity import Identity
from proxy.policy.key import Keyring
from proxy.policy.message import Request
from proxy.policy.outcome import Outcome, Reason
from proxy.policy.route import Kind, Match
from proxy.rules.compile import RuleSet
from proxy.rules.counting import Counted, counted
from proxy.serving.cors import Cors
from proxy.serving.reports_page import PLACE, ReportsPage
from proxy.serving.reserved import Page
from proxy.stores.base import Store
from proxy.telemetry.metrics import Metrics, Sample

_WRITES = (Reason.WRITE, Reason.UNMATCHED_WRITE)
Lost = Callable[[str, Mapping[str, object]], None]


class Counting:
    """What one process counts. `lost` hears of what could not be kept when it ends."""

    def __init__(
        self,
        store: Store,
        rules: Callable[[], RuleSet],
        identity: IdentityResolver,
        keys: Keyring,
        background: Background,
        clock: Callable[[], float],
        *,
        metrics: Metrics,
        failed: Callable[[BaseException], None],
        lost: Lost,
        announce: Announce | None = None,
        is_watched: Callable[[str, str], bool] = lambda tenant, report: True,
    ) -> None:
        self._rules = rules
        self._background = background
        self._clock = clock
        self._failed = failed
        self._lost = lost
        self._identity = identity
        self._counters = Counters(store, clock, digest=keys.digest, announce=announce, is_watched=is_watched)
        self._reports = Reports(store, self._counters.as_of)
        self.add = self._counters.add
        metrics.watch(self._figures)
        # not in the background: it must not be cut off between an addition and its answer
        self._following = asyncio.get_running_loop().create_task(self._counters.follow())
        self._following.add_done_callback(self._ended)

    async def close(self) -> None:
        """Send what is left, while the store is still there."""
        before = self._counters.figures.lost
        await self._counters.close()
        await asyncio.wait((self._following,))
        if self._counters.figures.lost > before:
            self._lost("counts-lost", {"numbers": self._counters.figures.lost - before})

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    # Who tells

    def of(self, request: Request, match: Match, identity: Identity | None, status: int) -> Counted | None:
        """What is to be counted of this answer. None: nothing, or nothing that is known without waiting."""
        if match.route.count is None:
            return None
        who = identity if identity is not None else self._who(request, match)
        if who is None:
            _ = self._background.start(self._count_later(request, match, status))
        return counted(request, match, who, status) if isinstance(who, Identity) else None

    def written(self, request: Request, match: Match, identity: Identity | None, status: int) -> None:
        """A write, whose client may be gone by now."""
        if match.route.kind is Kind.WRITE:
            self._count(request, match, identity, status)

    def finished(self, request: Request, outcome: Outcome, status: int) -> None:
        """Any other request that was answered the ordinary way."""
        rules = self._rules()
        if not rules.reports or outcome.reason in _WRITES:
            return
        match = rules.match(request.method, request.path)
        if match is not None and match.route.kind is Kind.READ:
            self._count(request, match, None, status)

    def read(self, request: Request, match: Match, outcome: Outcome, status: int) -> None:
        """The same for a read whose match is known."""
        if self._rules().reports and outcome.reason not in _WRITES:
            self._count(request, match, None, status)

    def _count(self, request: Request, match: Match, identity: Identity | None, status: int) -> None:
        if (found := self.of(request, match, identity, status)) is not None:
            self.add(found)

    def _who(self, request: Request, match: Match) -> Identity | Reason | None:
        return self._identity.resolve_now(request, match.parameters, self._rules().identity, self._clock())

    async def _count_later(self, request: Request, match: Match, status: int) -> None:
        """The caller's key must be learnt first: of a public route nobody had to know who asks."""
        who = await self._identity.resolve(request, match.parameters, self._rules().identity, self._clock())
        if isinstance(who, Identity) and (found := counted(request, match, who, status)) is not None:
            self.add(found)

    # Who asks

    def pages(self, prefix: str, cors: Cors) -> dict[str, Page]:
        """By their names below the prefix; one that ends in a slash stands for all that begin so."""
        made = ReportsPage(self._reports, self._identity, self._rules, self._clock, prefix)
        page = cors.page(("GET", "HEAD"), made)
        return {PLACE: page, f"{PLACE}/": page}

    def _figures(self) -> Iterator[Sample]:
        figures, values = self._counters.figures, self._counters.values
        fates: dict[str, Any] = {
            "added": figures.added, "unanswered": figures.unanswered, "lost": figures.lost,
        }  # fmt: skip
        yield Sample(
            "sidecache_count_additions_total",
            "Additions to numbers in the store: made, unanswered (made or not, never repeated), lost.",
            fates, "fate", counter=True,
        )  # fmt: skip
        yield Sample("sidecache_counts_waiting", "Numbers that the store has not taken yet.", self._counters.waiting)
        yield Sample(
            "sidecache_count_values_total", "Times that a value was one too many, and counted among the others.",
            values.turned_away, counter=True,
        )  # fmt: skip
        yield Sample("sidecache_counted_values", "Values that were counted by today.", len(values))
