"""`sidecache health` against what may stand behind the admin port."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from proxy.cli import health
from proxy.cli.main import app

ALIVE = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"status":"alive"}'
PONG = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"status":"healthy","result":"PONG"}'
DOWN = b'HTTP/1.1 500 X\r\nConnection: close\r\n\r\n{"status":"unhealthy","error":"no answer"}'


class Port:
    """Says the same to whoever connects, and remembers what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                asked = connection.recv(4096)
                if asked == b"stop":
                    return
                self.asked.append(asked)
                if self._answer == b"hang":
                    connection.recv(4096)  # until the client gives up
                else:
                    connection.sendall(self._answer)

    def close(self) -> None:
        with socket.create_connection(self._socket.getsockname()) as last:
            last.sendall(b"stop")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[Port]:
    port = Port(request.param)
    yield port
    port.close()


def ask(address: str, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["health", "--admin", address, *words])
    return result.exit_code, result.stdout


@pytest.mark.parametrize("port", [ALIVE], indirect=True)
def test_alive_is_exit_code_0_and_asks_livez(port):
    assert ask(port.address) == (0, "alive\n")
    assert port.asked[0].startswith(b"GET /livez HTTP/1.1\r\n")


@pytest.mark.parametrize("port", [PONG], indirect=True)
def test_the_store_is_asked_for_only_when_said(port):
    assert ask(port.address, "--store") == (0, "healthy\n")
    assert port.asked[0].startswith(b"GET /api/health HTTP/1.1\r\n")


@pytest.mark.parametrize("port", [DOWN], indirect=True)
def test_a_store_that_is_down_is_exit_code_1_with_its_error(port):
    assert ask(port.address, "--store") == (1, "unhealthy: no answer\n")
    code, out = ask(port.address, "--store", "--json")
    assert (code, json.loads(out)) == (1, {"healthy": False, "status": "unhealthy", "error": "no answer"})


@pytest.mark.parametrize("port", [PONG], indirect=True)
def test_json_has_the_answer_and_the_verdict(port):
    code, out = ask(port.address, "--store", "--json")
    assert (code, json.loads(out)) == (0, {"healthy": True, "status": "healthy", "result": "PONG"})


@pytest.mark.parametrize(
    ("port", "said"),
    [
        # realistic
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>", "unhealthy: not a sidecar's answer"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "unhealthy: status 200"),
        (b"HTTP/1.1 503 X\r\nConnection: close\r\n\r\n{}", "unhealthy: status 503"),
        (b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
         "unhealthy: not a sidecar's answer"),
        (b"-ERR unknown command\r\n", "unhealthy: not a sidecar's answer"),
        (b"", "unhealthy: no answer from "),
        # pathological
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "unhealthy: not a sidecar's answer"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"[" * 16000, "unhealthy: not a sidecar's answer"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[1]", "unhealthy: not a sidecar's answer"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\xff\xfe\x00", "unhealthy: not a sidecar's answer"),
        (b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"status":["alive"]}', "unhealthy: status 200"),
    ],
    indirect=["port"],
)  # fmt: skip
def test_whatever_else_answers_there_is_unhealthy_in_one_line(port, said):
    code, out = ask(port.address)
    assert (code, out.count("\n"), out.startswith(said)) == (1, 1, True), out


@pytest.mark.parametrize("port", [b"hang"], indirect=True)
def test_no_answer_in_time_is_unhealthy(port, monkeypatch):
    monkeypatch.setattr(health, "TIMEOUT", 0.05)
    assert ask(port.address) == (1, f"unhealthy: no answer from {port.address}: timed out\n")


def test_nobody_there_is_unhealthy():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        assert ask(address) == (1, f"unhealthy: no answer from {address}: Connection refused\n")
        code, out = ask(address, "--json")
    assert (code, json.loads(out)["healthy"]) == (1, False)


@pytest.mark.parametrize("port", [ALIVE], indirect=True)
def test_the_environment_says_where_the_admin_port_is_and_no_proxy_is_asked(port, monkeypatch):
    monkeypatch.setenv("SIDECACHE_ADMIN_LISTEN", port.address)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    result = CliRunner().invoke(app, ["health"])
    assert (result.exit_code, result.stdout) == (0, "alive\n")
