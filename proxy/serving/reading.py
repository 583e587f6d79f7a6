"""One read on its way: what was decided about it so far."""

from dataclasses import replace
from typing import NamedTuple

from proxy.cache.stamp import Stamp
from proxy.cache.tiers import bound
from proxy.policy.entry import Entry
from proxy.policy.identity import Identity
from proxy.policy.key import Key
from proxy.policy.message import Request
from proxy.policy.outcome import Accessed, Forward, Outcome, Reason
from proxy.policy.route import Match, Route
from proxy.serving.connection import Interim


class Reading(NamedTuple):
    """A tuple, because every read makes several."""

    request: Request
    match: Match
    identity: Identity | None
    first_key: Key
    key: Key  # the first key, or the second where other fields select the response too
    stamp: Stamp | None = None  # None: nothing may be stored
    entry: Entry | None = None
    interim: Interim | None = None  # where 1xx responses go
    awaited: bool = True  # by the client that asked: its directives are not for what is fetched without it

    @property
    def route(self) -> Route:
        return self.match.route

    @property
    def bound(self) -> tuple[str, ...]:
        """The tags whose epochs bind the entry that was found."""
        assert self.entry is not None
        return bound(self.entry, self.key)

    def as_get(self) -> "Reading":
        """The same for a response that nobody waits for, and that has a body."""
        request = self.request
        if request.method == "HEAD":
            request = replace(request, method="GET")
        return self._replace(request=request, interim=None, awaited=False)

    def outcome(
        self, reason: Reason, *, hit: bool = False, forward: Forward | None = None, ttl: int | None = None,
        stored: bool = False,
    ) -> Outcome:  # fmt: skip
        key, route = self.key, self.match.route
        if route.sensitive:
            return Accessed(
                reason, hit=hit, forward=forward, ttl=ttl, stored=stored, feature=route.feature, key=key.full,
                tenant=key.space, user=self.identity.user if self.identity is not None else None,
            )  # fmt: skip
        return Outcome(
            reason, hit=hit, forward=forward, ttl=ttl, stored=stored, feature=route.feature, key=key.full,
            tenant=key.space,
        )  # fmt: skip

    def missed(self, told: Reason, missed: Reason, *, stored: bool = False) -> Outcome:
        """It went to the upstream because of `missed`; `told` is what is worth knowing about it."""
        return self.outcome(told, forward=_FORWARDS.get(missed, Forward.URI_MISS), stored=stored)


_FORWARDS = {
    Reason.EXPIRED: Forward.STALE,
    Reason.STALE_WHILE_REVALIDATE: Forward.STALE,
    Reason.VARIANT: Forward.VARY_MISS,
    Reason.REQUEST_CONTROL: Forward.REQUEST,
}
