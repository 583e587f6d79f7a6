"""The exchange's own answers."""

import json

import pytest

from proxy.errors import UpstreamError
from proxy.policy.outcome import Outcome, Reason
from proxy.policy.route import Kind
from proxy.serving.refusing import failed, reason_of_write, unauthorized
from tests.builders import match, request, route, write_route


def test_an_ended_session_is_401_in_the_words_of_rfc_6750():
    reply = unauthorized(Outcome(Reason.FRESH, hit=True, feature="jobs", tenant="org_a", key="k"))
    assert (reply.status, reply.fields.get("www-authenticate")) == (401, 'Bearer error="invalid_token"')
    assert (reply.outcome.reason, reply.outcome.hit, reply.outcome.feature) == (Reason.REVOKED, False, "jobs")
    assert json.loads(reply.body)["detail"] == "This session has ended."


def test_a_failed_upstream_is_named():
    reply = failed(UpstreamError("dns_error"), Outcome(Reason.NO_RULE))
    assert (reply.status, reply.outcome.reason) == (502, Reason.UPSTREAM_FAILED)
    assert reply.fields.get("proxy-status") == "sidecache; error=dns_error"


@pytest.mark.parametrize(
    ("method", "of", "reason"),
    [("POST", write_route(), Reason.WRITE), ("POST", None, Reason.UNMATCHED_WRITE),
     ("PUT", route(kind=Kind.READ), Reason.UNMATCHED_WRITE), ("GET", None, Reason.SESSION_ROUTE)],
)  # fmt: skip
def test_what_a_write_is_called(method, of, reason):
    found = match(of) if of is not None and (method == "POST") else None
    assert reason_of_write(request(method=method), found)[0] is reason
