"""What was decided about a request that is not looked up: it bypasses the cache, or becomes another protocol's."""

from dataclasses import dataclass
from typing import NamedTuple

from proxy.policy.identity import Identity, Presented
from proxy.policy.message import Request
from proxy.policy.outcome import Accessed, Forward, Outcome, Reason
from proxy.policy.route import Route
from proxy.serving.upstream import Body
from proxy.sessions.telling import Pairs


class Admitted(NamedTuple):
    """A request for another protocol as it may go on, what goes along, what it hangs on, and what is said of it."""

    request: Request
    told: Pairs
    presented: Presented | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Bypass:
    """A matched read that is not looked up: its request and body as they go on."""

    request: Request
    body: Body
    outcome: Outcome


def bypassed(request: Request, body: Body, route: Route, reason: Reason, identity: Identity | None = None) -> Bypass:
    return Bypass(request, body, past_the_cache(route, reason, Forward.BYPASS, identity))


def past_the_cache(route: Route, reason: Reason, forward: Forward, identity: Identity | None) -> Outcome:
    if not route.sensitive:
        return Outcome(reason, forward=forward, feature=route.feature)
    tenant, user = (identity.tenant, identity.user) if identity is not None else (None, None)
    return Accessed(reason, forward=forward, feature=route.feature, tenant=tenant, user=user)
