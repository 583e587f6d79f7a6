"""The cookie's name: one for each port, and never what a Host field makes up."""

import pytest

from proxy.admin.cookie import cookie_name


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1:9900", "sidecache-9900"), ("localhost:9901", "sidecache-9901"), ("[::1]:9900", "sidecache-9900"),
        ("admin.example", "sidecache-session"), ("", "sidecache-session"), ("x:; Path=/", "sidecache-session"),
        ("x:123456", "sidecache-session"), ("x:٣", "sidecache-session"),
    ],
)  # fmt: skip
def test_two_sidecars_of_one_host_have_two_cookies(host, name):
    assert cookie_name(host) == name
