"""What does the exchange say by itself: that the upstream has failed, that a session has ended? And what of a write?"""

from dataclasses import replace

from proxy.errors import UpstreamError
from proxy.policy import lookup
from proxy.policy.message import Request
from proxy.policy.outcome import Forward, Outcome, Reason
from proxy.policy.route import Kind, Match
from proxy.serving.problem import problem, upstream_problem
from proxy.serving.reply import Reply


def reason_of_write(request: Request, match: Match | None) -> tuple[Reason, Forward]:
    """What is said of a request that may change something, or ends a session."""
    if match is not None and match.route.kind is Kind.WRITE:
        return Reason.WRITE, Forward.METHOD
    if lookup.is_write(request, match):
        return Reason.UNMATCHED_WRITE, Forward.METHOD
    return Reason.SESSION_ROUTE, Forward.BYPASS


def unauthorized(outcome: Outcome) -> Reply:
    """RFC 6750 3.1; what becomes of the credential at the upstream nobody asks any more."""
    fields, text = problem(401, "This session has ended.", ("WWW-Authenticate", 'Bearer error="invalid_token"'))
    return Reply.own(401, fields, text, replace(outcome, reason=Reason.REVOKED, forward=None, hit=False, ttl=None))


def failed(failure: UpstreamError, outcome: Outcome) -> Reply:
    fields, text = upstream_problem(failure)
    return Reply.own(failure.status, fields, text, replace(outcome, reason=Reason.UPSTREAM_FAILED))
