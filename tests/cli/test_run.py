"""`sidecache run` as a process: what stops it from starting, and how it ends."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.process import (
    ANYWHERE,
    DEVELOPMENT,
    LIMIT,
    RULES,
    SIDECACHE,
    UPSTREAM,
    Sidecar,
    environment,
    running,
    said,
)

pytestmark = pytest.mark.process


def failure(home: Path, *words: str, **environ: str) -> str:
    """The one line with which it does not start."""
    code, out, err = said("run", *words, cwd=home, **environ)
    lines = [line for line in err.splitlines() if not line.startswith("{")]  # what was logged before
    assert (code, out, len(lines)) == (2, "", 1), err
    assert "Traceback" not in err
    return lines[0]


@pytest.mark.parametrize(
    ("words", "environ", "line"),
    [
        # realistic
        (("--profile", "development"), {}, "sidecache: SIDECACHE_UPSTREAM: missing; say where requests go, e.g. "
         "--upstream http://127.0.0.1:3000"),
        ((*DEVELOPMENT, "--listen", "x"), {}, "sidecache: --listen: 'x' is not HOST:PORT such as 0.0.0.0:8080"),
        ((*UPSTREAM, "--profile", "prodution"), {}, "sidecache: --profile: 'prodution' is not one of development, "
         "staging, production (did you mean 'production'?)"),
        (DEVELOPMENT, {"SIDECACHE_DRAIN_S": "soon"}, "sidecache: SIDECACHE_DRAIN_S: 'soon' is not a whole number from "
         "0 to 3600"),
        (UPSTREAM, {"REDIS_PROVIDER": "memory"}, "sidecache: SIDECACHE_NAME_KEY: missing; production needs a secret, "
         "e.g. from `sidecache keygen --name-key`"),
        ((*DEVELOPMENT, "--rules", "nowhere.yaml"), {}, "sidecache: nowhere.yaml: cannot be read: no such file or "
         "directory; --rules FILE says where the rules are"),
        ((*DEVELOPMENT, "--rules", "."), {}, "sidecache: .: cannot be read: is a directory; --rules FILE says where "
         "the rules are"),
        ((*DEVELOPMENT, "--rules", "broken.yaml"), {}, "sidecache: broken.yaml:4:5: error: features.jobs.ttl: "),
        # pathological
        ((*DEVELOPMENT, *ANYWHERE, "--listen", "192.0.2.1:1"), {},
         "sidecache: cannot listen on 192.0.2.1:1: cannot assign requested address;"),
    ],
)  # fmt: skip
def test_what_it_cannot_start_with_is_one_line_and_exit_code_2(home, words, environ, line):
    (home / "broken.yaml").write_text(RULES.replace("15m", "15:00"))
    assert failure(home, *words, **environ).startswith(line)


def test_production_with_a_sensitive_feature_and_no_encryption_key_is_one_line_until_there_is_one(home):
    (home / "rules.yaml").write_text(RULES.replace("15m", "15m\n    sensitive: true"))
    environ = {"REDIS_PROVIDER": "memory", "SIDECACHE_NAME_KEY": "n" * 32}
    assert failure(home, *UPSTREAM, **environ) == (
        "sidecache: rules.yaml:5:5: error: features.jobs.sensitive: sensitive without an encryption key: "
        "set SIDECACHE_ENCRYPTION_KEYS (`sidecache keygen` makes one)"
    )
    code, key, _ = said("keygen", cwd=home)
    assert code == 0
    # with the key it comes as far as the next mistake
    line = failure(home, *UPSTREAM, "--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0",
                   SIDECACHE_ENCRYPTION_KEYS=key.strip(), **environ)  # fmt: skip
    assert line.startswith("sidecache: cannot listen on 192.0.2.1:1")


def test_it_refuses_with_every_problem_of_environment_and_rules_as_check_lists_them(home):
    (home / "rules.yaml").write_text(RULES.replace("15m", "15m\n    sensitive: true"))
    environ = {"REDIS_HOST": "cache", "SIDECACHE_ADMIN_LISTEN": "0.0.0.0:9900", "SIDECACHE_TRUSTED_PEERS": "0.0.0.0/0"}
    code, out, err = said("run", *UPSTREAM, cwd=home, **environ)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "SIDECACHE_NAME_KEY", "REDIS_TLS", "SIDECACHE_ADMIN_LISTEN", "SIDECACHE_TRUSTED_PEERS", "rules.yaml",
    ], err  # fmt: skip
    code, out, _ = said("check", "--profile", "production", cwd=home, SIDECACHE_UPSTREAM=UPSTREAM[1], **environ)
    assert code == 1
    told = [line.replace("error: ", "", 1) for line in out.splitlines() if ": error: " in line]
    assert told == [line.removeprefix("sidecache: ").replace("error: ", "", 1) for line in lines]


def test_a_port_in_use_is_one_line_and_exit_code_2(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert failure(home, *DEVELOPMENT, "--admin", "127.0.0.1:0", "--listen", address) == (
            f"sidecache: cannot listen on {address}: address already in use; --listen HOST:PORT chooses another"
        )


def test_a_file_that_may_not_be_read_is_one_line(home):
    (home / "rules.yaml").chmod(0)
    reason = "permission denied"
    if os.access(home / "rules.yaml", os.R_OK):  # root reads every file, but not a link to itself
        (home / "rules.yaml").unlink()
        (home / "rules.yaml").symlink_to("rules.yaml")
        reason = "too many levels of symbolic links"
    assert failure(home, *DEVELOPMENT).startswith(f"sidecache: rules.yaml: cannot be read: {reason};")


# Running


@pytest.fixture
def sidecar(home: Path) -> Iterator[Sidecar]:
    with running(home, *DEVELOPMENT, *ANYWHERE) as started:
        yield started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_until_a_signal_ends_it_with_exit_code_0(sidecar, number):
    assert sidecar.status("admin", "/livez") == 200
    assert sidecar.status("data", "/.sidecache/livez") == 200
    assert sidecar.status("data", "/api/jobs") == 502  # the upstream is not there
    sidecar.process.send_signal(number)
    assert sidecar.process.wait(LIMIT) == 0
    assert len(sidecar.events("upstream-unreachable")) == 1


def test_sighup_reloads_the_rules_and_does_not_end_it(sidecar, home):
    (home / "rules.yaml").write_text(RULES.replace("15m", "1h"))
    sidecar.process.send_signal(signal.SIGHUP)
    sidecar.until(lambda: len(sidecar.events("rules-loaded")) == 1)
    assert sidecar.status("admin", "/readyz") == 200


def test_a_reader_of_its_output_that_has_stopped_stops_neither_requests_nor_the_end(home):
    """Both pipes fill up: the log with access lines, the audit with accesses to what is sensitive."""
    (home / "rules.yaml").write_text(RULES.replace("15m", "15m\n    sensitive: true"))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [*SIDECACHE, "run", *DEVELOPMENT, "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0"],
        cwd=home, env=environment(SIDECACHE_ACCESS_LOG="1"), stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        asked = 2 * (1 << 20) // 4000  # the target is in each line, and the log may keep 1 MiB
        assert statuses(port, asked, "/api/jobs?" + "x" * 4000) == {502}
        process.terminate()
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.communicate()


def statuses(port: int, count: int, path: str) -> set[int]:
    """Of so many requests on one connection, as soon as it takes one."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
            connection.connect()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    found = set()
    with contextlib.closing(connection):
        for _ in range(count):
            connection.request("GET", path)
            with connection.getresponse() as response:
                response.read()
                found.add(response.status)
    return found


def test_everything_it_says_is_one_json_object_a_line(sidecar, home):
    (home / "rules.yaml").write_text("broken: [")
    sidecar.until(lambda: bool(sidecar.events("rules-refused")))
    sidecar.process.terminate()
    assert sidecar.process.wait(LIMIT) == 0
    for line in (home / "log").read_text().splitlines():
        assert {"event", "level", "timestamp"} <= json.loads(line).keys()
