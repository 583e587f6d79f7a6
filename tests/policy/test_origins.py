"""Which page a request comes from."""

import pytest

from proxy.policy.origins import Source, source
from tests.builders import request

ALLOWED = frozenset({"https://portal.example.com"})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Source.OWN),
        ({"Host": "api.test"}, Source.OWN),
        ({"Host": "api.test", "Origin": "http://api.test"}, Source.OWN),
        ({"Host": "api.test", "Origin": "https://api.test"}, Source.OWN),  # TLS ended before us
        ({"Host": "API.test", "Origin": "https://api.test"}, Source.OWN),
        ({"Host": "api.test:443", "Origin": "https://api.test"}, Source.OWN),
        ({"Host": "api.test", "Origin": "http://api.test:80"}, Source.OWN),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080"}, Source.OWN),
        ({"Host": "[::1]:8080", "Origin": "http://[::1]:8080"}, Source.OWN),
        ({"Host": "api.test", "Origin": "https://portal.example.com"}, Source.ALLOWED),
        ({"Host": "api.test", "Origin": "https://portal.example.com:8443"}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": "http://portal.example.com"}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": "https://evil.test"}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": "https://api.test.evil.test"}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": "https://api.test:8080"}, Source.FOREIGN),
        ({"Host": "api.test:8080", "Origin": "https://api.test"}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": "null"}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": ""}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": "file://api.test"}, Source.FOREIGN),
        ({"Host": "api.test", "Origin": "https://evil@api.test"}, Source.FOREIGN),
        ({"Origin": "https://api.test"}, Source.FOREIGN),
    ],
)
def test_a_page(headers, expected):
    assert source(request("/", headers), ALLOWED) is expected


def test_two_origins_are_none_of_ours():
    pairs = [("Host", "api.test"), ("Origin", "http://api.test"), ("Origin", "http://api.test")]
    assert source(request("/", pairs), ALLOWED) is Source.FOREIGN


@pytest.mark.parametrize(("trusted", "expected"), [(True, Source.OWN), (False, Source.FOREIGN)])
def test_the_host_that_a_trusted_proxy_was_asked_by_is_ours_too(trusted, expected):
    headers = {"Host": "internal:8080", "X-Forwarded-Host": "portal.test", "Origin": "https://portal.test"}
    assert source(request("/", headers, peer_trusted=trusted), frozenset()) is expected
