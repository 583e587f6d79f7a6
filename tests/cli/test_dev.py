"""`sidecache dev upstash` as a person meets it."""

import signal
import subprocess
import urllib.request

import pytest

from proxy.cli.dev import introduction
from tests import servers
from tests.cli.process import LIMIT, SIDECACHE, environment, said


@pytest.fixture(scope="module")
def server():
    with servers.running(servers.valkey_server()) as running:
        yield running


def test_the_introduction_can_be_pasted():
    assert introduction("http://127.0.0.1:9902", "127.0.0.1:6379", "t0k-en").splitlines()[-2:] == [
        "export UPSTASH_REDIS_REST_URL=http://127.0.0.1:9902",
        "export UPSTASH_REDIS_REST_TOKEN=t0k-en",
    ]


@pytest.mark.process
@pytest.mark.parametrize("chosen", [[], ["--token", "a-token"]], ids=["new token", "given token"])
def test_what_it_prints_is_what_a_client_needs(server, tmp_path, chosen):
    words = ["dev", "upstash", "--listen", "127.0.0.1:0", "--redis", f"127.0.0.1:{server.port}", *chosen]
    process = subprocess.Popen([*SIDECACHE, *words], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline().rstrip("\n") for _ in range(4)]
        settings = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
        token = settings["UPSTASH_REDIS_REST_TOKEN"]
        assert token == "a-token" if chosen else len(token) >= 32
        with urllib.request.urlopen(f"{settings['UPSTASH_REDIS_REST_URL']}/ping?_token={token}", timeout=10) as answer:
            assert answer.read() == b'{"result":"PONG"}'
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        assert process.wait(LIMIT) == 0


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["upstash", "--listen", "nonsense"], "--listen: 'nonsense' is not HOST:PORT"),
        (["upstash", "--listen", "127.0.0.1:99999"], "--listen: '127.0.0.1:99999' is not HOST:PORT"),
        (["upstash", "--redis", "6379"], "--redis: '6379' is not HOST:PORT"),
        (["upstash", "--listen", "127.0.0.1:0", "--redis", "127.0.0.1:1"], "no Redis or Valkey server answers there"),
        (["redis"], "'redis' is not one of 'upstash'"),
        ([], "Missing argument"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, words, line):
    code, out, err = said("dev", *words, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert line in err
    assert len(err.splitlines()) == 1


@pytest.mark.process
def test_without_any_server_it_says_what_is_needed(tmp_path):
    code, out, err = said("dev", "upstash", cwd=tmp_path, PATH=str(tmp_path))
    assert (code, out) == (2, "")
    assert "apt install redis-server" in err
    assert "--redis HOST:PORT" in err
