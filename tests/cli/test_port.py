"""How commands reach the admin port: what they send, and one clear line for everything that can go wrong."""

import socket

import pytest

from proxy.cli.port import NoAnswerError, Port, plain
from tests.cli.test_health import Port as Listening

OK = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"a": 1}'


@pytest.fixture
def listening(request, monkeypatch):
    monkeypatch.delenv("SIDECACHE_TOKEN", raising=False)
    port = Listening(request.param)
    yield port
    port.close()


@pytest.mark.parametrize("listening", [OK], indirect=True)
def test_the_token_and_the_fields_are_sent_and_nothing_that_was_not_said(listening, monkeypatch):
    monkeypatch.setenv("SIDECACHE_TOKEN", "sidecache_secret")
    assert Port(listening.address).get("/x", a="1 2", b=None) == {"a": 1}
    (read,) = listening.asked
    assert read.startswith(b"GET /x?a=1+2 HTTP/1.1\r\n")
    assert b"Authorization: Bearer sidecache_secret\r\n" in read


@pytest.mark.parametrize("listening", [OK], indirect=True)
def test_a_token_may_stand_in_a_file(listening, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("sidecache_filed\n")
    monkeypatch.setenv("SIDECACHE_TOKEN_FILE", str(tmp_path / "token"))
    Port(listening.address).get("/x")
    assert b"Bearer sidecache_filed\r\n" in listening.asked[0]


def problem(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n" % status + body


@pytest.mark.parametrize(
    ("listening", "said"),
    [
        # realistic
        (problem(400, b'{"detail": "is missing", "field": "for"}'), "for: is missing"),
        (problem(401, b'{"detail": "A token is needed."}'), "A token is needed (SIDECACHE_TOKEN)"),
        (problem(403, b'{"detail": "This needs the role operator."}'), "This needs the role operator."),
        (problem(500, b"{}"), "status 500"),
        # pathological
        (problem(200, b"<html>"), "no sidecar's admin port"), (problem(200, b"[1]"), "no sidecar's admin port"),
        (problem(302, b""), "no sidecar's admin port"), (b"-ERR\r\n", "no sidecar's admin port"),
        (b"", "no answer from the admin port"), (problem(200, b"[" * 100000), "no sidecar's admin port"),
        (problem(400, b'{"detail": "\\u001b[31mred\\u202e"}'), "\\x1b[31mred\\u202e"),
    ],
    indirect=["listening"],
)  # fmt: skip
def test_whatever_is_wrong_is_one_line(listening, said):
    with pytest.raises(NoAnswerError) as caught:
        Port(listening.address).get("/x")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_nobody_there_is_said_with_the_way_to_mend_it():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswerError, match="connection refused; is the sidecar running here"):
            Port(f"127.0.0.1:{sock.getsockname()[1]}").get("/x")


def test_text_of_others_moves_no_cursor():
    assert plain("a\x1b[2J\r\u202e\x9bb") == "a\\x1b[2J\\r\\u202e\\x9bb"
    assert plain("Grüße") == "Grüße"
