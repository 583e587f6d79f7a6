"""Addresses, host names and URLs, good ones and those that only look like it."""

import pytest

from proxy.addresses import HOST, Address, is_bracketed, is_origin, is_url, quoted


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0:0:0:0:0:0:0:1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("127.evil.example", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_loopback_is_decided_by_address_not_by_how_a_name_begins(host, loopback):
    assert Address(host, 1).loopback is loopback


def test_an_address_is_written_as_in_a_url():
    assert [str(Address("::1", 1)), str(Address("localhost", 2))] == ["[::1]:1", "localhost:2"]


@pytest.mark.parametrize(
    ("value", "good"),
    [
        # realistic
        ("http://127.0.0.1:3000", True), ("https://api.internal/v1?x=y", True), ("http://[::1]:80", True),
        ("ftp://host", False), ("host:80", False), ("http://", False),
        # pathological
        ("http://[::1", False), ("http://host:0", False), ("http://host:99999", False), ("http://a b", False),
        ("http://a\nb", False), ("http://hôst", False), ("http://a..b", False),
    ],
)  # fmt: skip
def test_a_url_has_a_scheme_that_is_spoken_here_and_a_host(value, good):
    assert is_url(value) is good


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("https://portal.example.com", True), ("http://127.0.0.1:3000", True), ("http://[::1]:80", True),
        ("https://portal.example.com/", False), ("https://Portal.example.com", False), ("*", False), ("null", False),
        ("https://*.example.com", False), ("https://a@b", False), ("https://a?b", False), ("portal.example.com", False),
    ],
)  # fmt: skip
def test_an_origin_is_what_browsers_write(value, good):
    assert is_origin(value) is good


@pytest.mark.parametrize(
    ("value", "good"), [("[::1]", True), ("::1", False), ("[::1", False), ("[127.0.0.1]", False), ("[]", False)]
)
def test_an_address_in_brackets_is_one_of_version_six(value, good):
    assert is_bracketed(value) is good


@pytest.mark.parametrize(
    ("value", "good"),
    [("cache.internal", True), ("a_b-c", True), ("x" * 63, True), ("x" * 64, False), ("a..b", False), ("", False),
     ("hôst", False), ("a\n", False), (".a", False)],
)  # fmt: skip
def test_a_host_name_has_labels_of_letters_digits_and_dashes(value, good):
    assert bool(HOST.fullmatch(value)) is good


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "'plain'"),
        ("https://me:secret@host/x", "'https://***@host/x'"),
        ("a\nb\x1b", "'a\\nb\\x1b'"),
        ("x" * 200, f"'{'x' * 120}'"),
        ("me:pw@host/x", "'***@host/x'"),  # pathological: no scheme, a password of what separates others
        ("http://me:p/w@x@host/y", "'http://***@host/y'"),
        ("//me:pw@host", "'//***@host'"),
        ("http://host/a@b", "'http://***@b'"),  # hides too much rather than too little
    ],
)
def test_a_value_is_shown_in_one_line_without_credentials(value, shown):
    assert quoted(value) == shown
