"""What does an answer of our own look like? Fixed text (RFC 9457), never the client's bytes, never the upstream's."""

from http import HTTPStatus

import orjson

from proxy.errors import UpstreamError
from proxy.policy.message import Fields
from proxy.policy.outcome import CACHE_NAME

_UPSTREAM_TEXT = {
    "connection_limit_reached": "All connections to the upstream are in use.",
    "connection_refused": "The upstream does not accept connections.",
    "connection_timeout": "The upstream did not accept the connection in time.",
    "connection_terminated": "The upstream closed the connection before it answered.",
    "dns_error": "The upstream's name does not resolve.",
    "http_response_timeout": "The upstream did not answer in time.",
    "tls_certificate_error": "The upstream's certificate is not valid.",
}


def problem(status: int, detail: str, *extra: tuple[str, str]) -> tuple[Fields, bytes]:
    """Head and body of a problem response."""
    body = orjson.dumps({"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail})
    return Fields((*extra, ("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"))), body


def upstream_problem(failure: UpstreamError) -> tuple[Fields, bytes]:
    """The answer to a request the upstream gave none to, with Proxy-Status (RFC 9209)."""
    detail = _UPSTREAM_TEXT.get(failure.kind, "The upstream's response was not valid HTTP.")
    return problem(failure.status, detail, ("Proxy-Status", f"{CACHE_NAME}; error={failure.kind}"))
