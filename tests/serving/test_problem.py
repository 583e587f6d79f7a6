"""proxy.serving.problem: our own answers, which say what failed and nothing about where."""

import json

import pytest

from proxy.errors import UpstreamError
from proxy.serving.problem import problem, upstream_problem


def test_a_problem_is_json_that_nobody_stores():
    fields, body = problem(404, "Nothing here.", ("X-More", "1"))
    assert json.loads(body) == {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Nothing here."}
    assert fields.pairs == (
        ("X-More", "1"),
        ("Content-Type", "application/problem+json"),
        ("Cache-Control", "no-store"),
    )


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("connection_refused", 502, "does not accept connections"),  # realistic
        ("connection_timeout", 504, "did not accept the connection in time"),
        ("connection_terminated", 502, "closed the connection"),
        ("dns_error", 502, "does not resolve"),
        ("http_response_timeout", 504, "did not answer in time"),
        ("tls_certificate_error", 502, "certificate"),
        ("http_protocol_error", 502, "not valid HTTP"),
        ("something_new", 502, "not valid HTTP"),  # pathological
    ],
)
def test_each_failure_of_the_upstream_has_a_text_and_a_proxy_status(kind, status, text):
    fields, body = upstream_problem(UpstreamError(kind, status=status))
    assert json.loads(body)["status"] == status
    assert text in json.loads(body)["detail"]
    assert fields.get("proxy-status") == f"sidecache; error={kind}"
