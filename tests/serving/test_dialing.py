"""proxy.serving.dialing: where the upstream is, and why it cannot be reached."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.errors import UpstreamError
from proxy.policy.message import Fields, Request
from proxy.serving.dialing import Origin, dial
from proxy.serving.upstream import HttpUpstream, Timeouts
from tests.wire import Upstream, response


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "prefix"),
    [
        ("http://portal.test", "portal.test", 80, "portal.test", ""),  # realistic
        ("http://portal.test:3000/", "portal.test", 3000, "portal.test:3000", ""),
        ("https://portal.test", "portal.test", 443, "portal.test", ""),
        ("http://portal.test/base/", "portal.test", 80, "portal.test", "/base"),
        ("http://[::1]:3000", "::1", 3000, "[::1]:3000", ""),  # pathological
    ],
)
def test_a_url_says_where_the_upstream_is(url, host, port, authority, prefix):
    origin = Origin.of(url)
    assert (origin.host, origin.port, origin.authority, origin.prefix) == (host, port, authority, prefix)
    assert (origin.tls is not None) is url.startswith("https")


@pytest.mark.parametrize("url", ["unix:/run/portal.sock", "unix:///run/portal.sock"])
def test_a_unix_socket_is_a_path(url):
    assert Origin.of(url).path == "/run/portal.sock"


def test_certificates_are_verified_and_names_checked():
    tls = Origin.of("https://portal.test").tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_a_socket_that_is_not_there_was_not_delivered_to(tmp_path):
    with pytest.raises(UpstreamError) as failure:
        await dial(Origin.of(f"unix:{tmp_path}/none.sock"), 5.0)
    assert (failure.value.kind, failure.value.delivered) == ("connection_refused", False)


async def test_connecting_takes_no_longer_than_it_may():
    with pytest.raises(UpstreamError) as failure:
        await dial(Origin.of("http://127.0.0.1:9"), 0.0)
    assert (failure.value.kind, failure.value.status, failure.value.delivered) == ("connection_timeout", 504, False)


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for one name, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


@asynccontextmanager
async def secured(file: Path) -> AsyncIterator[tuple[Upstream, int]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    up = Upstream(response(b"x" * 100_000))
    server = await asyncio.start_server(up.serve, "127.0.0.1", 0, ssl=context)
    yield up, server.sockets[0].getsockname()[1]
    server.close()
    await up.stop()


async def test_tls_to_a_name_that_its_certificate_has(tmp_path):
    file = certificate(tmp_path, "localhost")
    async with secured(file) as (up, port):
        upstream = HttpUpstream(
            f"https://localhost:{port}", Timeouts(5, 5, 5), tls=ssl.create_default_context(cafile=str(file))
        )
        for _ in range(3):
            stream = await upstream.fetch(Request("GET", "/", Fields((("Host", "h"),))), None)
            assert b"".join([chunk async for chunk in stream.chunks()]) == b"x" * 100_000
        assert len(up.peers) == 1
        await upstream.close()


@pytest.mark.parametrize(("name", "trusted"), [("localhost", False), ("portal.test", True)])
async def test_a_certificate_that_is_not_trusted_or_another_names_is_refused(tmp_path, name, trusted):
    file = certificate(tmp_path, name)
    async with secured(file) as (up, port):
        tls = ssl.create_default_context(cafile=str(file)) if trusted else None
        with pytest.raises(UpstreamError) as failure:
            await dial(Origin.of(f"https://localhost:{port}", tls), 5.0)
        assert (failure.value.kind, failure.value.delivered, up.requests) == ("tls_certificate_error", False, [])
