"""Which setting an error is put down to, and what a connection is made with."""

import socket
import ssl

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.errors import StoreError
from proxy.stores.access import Access, TlsConnection, explained

AT = "cache:6379"


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed certificate"
    return error


def tls_error() -> ssl.SSLError:
    error = ssl.SSLError(1, "wrong version")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        # realistic
        (ConnectionRefusedError(), "REDIS_HOST, REDIS_PORT: nothing listens at cache:6379"),
        (socket.gaierror(-2, "x"), "REDIS_HOST: cache:6379 cannot be resolved"),
        (TimeoutError(), "REDIS_HOST, REDIS_PORT: cache:6379 does not answer in time"),
        (RedisTimeoutError("connecting"), "REDIS_HOST, REDIS_PORT: cache:6379 does not answer in time"),
        (AuthenticationError("WRONGPASS"), "REDIS_USERNAME, REDIS_PASSWORD: cache:6379 refuses them"),
        (certificate_error(), "REDIS_TLS_CA: the certificate of cache:6379 is not accepted: self-signed certificate"),
        (tls_error(), "REDIS_TLS: cache:6379 does not answer with TLS (WRONG_VERSION_NUMBER)"),
        (NoPermissionError("no access to a key"),
         "REDIS_USERNAME: the user may not do this at cache:6379: no access to a key"),
        (BusyLoadingError("x"), "cache:6379: the server is loading its data"),
        (InvalidResponse("x"), "REDIS_PORT: cache:6379 answers with something that is not the Redis protocol"),
        (OutOfMemoryError("command not allowed", status_code="OOM"), "cache:6379: OOM command not allowed"),
        (ClusterDownError("Hash slot not served", status_code="CLUSTERDOWN"),
         "cache:6379: CLUSTERDOWN Hash slot not served"),
        (MovedError("7 other:1"), "REDIS_CLUSTER: cache:6379 is part of a cluster; set it to auto"),
        (RedisConnectionError("lost"), "cache:6379: the connection was lost (ConnectionError)"),
        (ConnectionResetError(), "cache:6379: the connection was lost (ConnectionResetError)"),
        (StoreError("said already"), "said already"),
        # pathological: one line of bounded length whatever a server says
        (ResponseError("a\r\nb\x1b[31m" + "x" * 500), "cache:6379: a  b [31m" + "x" * 151),
    ],
)  # fmt: skip
def test_an_error_names_the_setting_to_look_at(error, line):
    assert str(explained(error, Access("cache"), AT)) == line


def test_what_redis_py_wraps_is_looked_into():
    error = RedisConnectionError("Error 1 connecting")
    error.__context__ = certificate_error()
    assert str(explained(error, Access("cache", tls=True), AT)).startswith("REDIS_TLS_CA: ")


@pytest.mark.parametrize(
    ("tls", "line"),
    [
        (False, "REDIS_TLS: cache:6379 broke off the greeting; does it want TLS?"),
        (True, "REDIS_TLS: cache:6379 broke off the greeting; does it speak plain text only?"),
    ],
)
def test_a_greeting_that_is_broken_off_is_about_tls(tls, line):
    assert str(explained(ConnectionResetError(), Access("cache", tls=tls), AT, greeted=False)) == line


def test_an_iam_user_looks_at_other_settings():
    access = Access("cache", tls=True, credentials=object())
    assert (
        str(explained(AuthenticationError("x"), access, AT))
        == "REDIS_IAM_AUTH, REDIS_USERNAME: cache:6379 refuses them"
    )


def test_errors_that_go_in_circles_end():
    one, other = RedisConnectionError("one"), RedisConnectionError("other")
    one.__cause__, other.__cause__ = other, one
    assert "lost" in str(explained(one, Access("cache"), AT))


def test_a_connection_repeats_nothing_and_says_nothing_of_itself():
    connection = Access("cache", username="u", password="p").connection("node", 7)
    assert (connection.host, connection.port, connection.username, connection.password) == ("node", 7, "u", "p")
    assert (connection.retry.get_retries(), connection.socket_timeout, connection.driver_info) == (0, None, None)
    assert not connection.maint_notifications_config.enabled
    assert not connection.is_clean()  # not open


def test_tls_checks_certificate_and_name_and_reads_the_authorities_once():
    one, other = (Access("cache", tls=True).connection("node", 7) for _ in range(2))
    assert isinstance(one, TlsConnection)
    context = one.ssl_context.get()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert other.ssl_context.get() is context


def test_the_password_is_in_no_representation():
    assert "secret" not in repr(Access("cache", password="secret"))
