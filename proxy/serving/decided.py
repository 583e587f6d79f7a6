"""What was decided about a request, once and for all who ask: a hit, a passage, a bypass."""

from dataclasses import dataclass
from typing import NamedTuple

from proxy.policy import lookup
from proxy.policy.identity import Identity, Presented
from proxy.policy.message import Request
from proxy.policy.outcome import Accessed, Forward, Outcome, Reason
from proxy.policy.route import Match, Route
from proxy.rules.compile import RuleSet
from proxy.serving.fetch import Reading
from proxy.serving.upstream import Body
from proxy.sessions.telling import Pairs


@dataclass(frozen=True, slots=True)
class Hosts:
    """The host names that are served from the cache. None named: all of them, each a variant of its own (SPEC 3)."""

    names: frozenset[str] = frozenset()

    @property
    def home(self) -> str | None:
        """The one name that makes no variant of a key."""
        return next(iter(self.names)) if len(self.names) == 1 else None


class Hit(NamedTuple):
    """What `Exchange.at_once` decided: a fresh entry for this reading, and how it is reported."""

    reading: Reading
    outcome: Outcome
    identity_headers: frozenset[str]  # what the caller's identity was looked for in, beside the token


class Passed(NamedTuple):
    """What `Exchange.passes` decided: the request for the upstream, whose response is of no further concern."""

    request: Request
    outcome: Outcome
    lasting: bool  # whatever has no rule, and is asked like this, is decided alike as long as nothing changes


class Admitted(NamedTuple):
    """A request for another protocol as it may go on, what goes along, and what it hangs on."""

    request: Request
    told: Pairs
    presented: Presented | None


def never_looked_up(request: Request, match: Match, rules: RuleSet) -> Reason | None:
    """Why no request like this is answered from the cache, whoever asks."""
    reason = lookup.bypass_reason(request)
    if reason is None and lookup.is_deceptive(request, match, rules.match):
        return Reason.AMBIGUOUS_PATH
    return reason


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
