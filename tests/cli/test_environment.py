"""What a container, a unit file or a shell can get wrong for `sidecache`: one line and exit code 2, or it goes on."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from proxy.admin.chain import verify
from tests import servers
from tests.cli.process import (
    ANYWHERE,
    DEVELOPMENT,
    LIMIT,
    ROOT,
    SIDECACHE,
    UPSTREAM,
    Sidecar,
    environment,
    running,
)  # fmt: skip

pytestmark = pytest.mark.process

NAME_KEY = "SIDECACHE_NAME_KEY"
REDIS = {"REDIS_PROVIDER": "redis", "REDIS_HOST": "127.0.0.1", "REDIS_TLS": "true"}


def refused(folder: Path, *words: str, **how: object) -> list[str]:
    """The lines with which it does not start: no traceback, nothing on standard output, exit code 2."""
    environ = how.pop("environ", {})
    done = subprocess.run(
        [*how.pop("before", ()), *SIDECACHE, "run", *words], cwd=folder, env=environment(**environ),  # type: ignore[misc, dict-item]
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, **how,  # type: ignore[call-overload]
    )  # fmt: skip
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False), done.stderr
    return [line for line in done.stderr.splitlines() if not line.startswith("{")]


def text(content: bytes) -> Callable[[Path], None]:
    return lambda file: (file.write_bytes(content), None)[1]


SECRET_FILES = [
    # realistic
    ("missing", lambda file: None, "cannot read './secret': no such file or directory"),
    ("directory", Path.mkdir, "cannot read './secret': is a directory"),
    ("empty", text(b""), "'./secret' is empty"),
    ("only a line end", text(b"\r\n"), "'./secret' is empty"),
    ("dangling", lambda file: file.symlink_to("..data/secret"), "cannot read './secret': no such file or directory"),
    # pathological
    ("not text", text(b"\xff\xfes\x00e\x00"), "cannot read './secret': it is not text"),
    ("loop", lambda file: file.symlink_to(file.name), "cannot read './secret': too many levels of symbolic links"),
    ("endless", lambda file: file.symlink_to("/dev/zero"),
     "'./secret' is larger than 65536 bytes, which no setting is"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "line"), [each[1:] for each in SECRET_FILES], ids=[each[0] for each in SECRET_FILES])
def test_a_secret_that_cannot_be_read_is_one_line_with_its_name_and_its_file(home, make, line):
    make(home / "secret")
    assert refused(home, *DEVELOPMENT, environ={f"{NAME_KEY}_FILE": "./secret"}) == [
        f"sidecache: {NAME_KEY}_FILE: {line}"
    ]


@pytest.mark.parametrize("content", [b"n" * 32, b"n" * 32 + b"\n", b"\xef\xbb\xbf" + b"n" * 32 + b"\r\n"])
def test_a_secret_is_the_same_with_and_without_a_line_end_or_a_mark_of_its_encoding(home, content):
    (home / "secret").write_bytes(content)
    rejected = refused(home, *DEVELOPMENT, "--listen", "x", environ={f"{NAME_KEY}_FILE": "secret"})
    assert rejected == ["sidecache: --listen: 'x' is not HOST:PORT such as 0.0.0.0:8080"]
    token = {"SIDECACHE_ADMIN_TOKENS_FILE": "secret"}
    (line,) = refused(home, *DEVELOPMENT, environ=token)
    assert "nnnn" not in line  # what is in such a file is never shown


CONTRADICTIONS: list[tuple[dict[str, str], list[str]]] = [
    # realistic
    ({"SIDECACHE_PROFILE": "production", "REDIS_PROVIDER": "redis"},
     ["REDIS_TLS: off: entries and passwords would cross the network in plain text; set REDIS_TLS=true",
      "REDIS_HOST: missing; say where Redis is, e.g. REDIS_HOST=cache.internal",
      "SIDECACHE_NAME_KEY: missing; production needs a secret, e.g. from `sidecache keygen --name-key`"]),
    ({"SIDECACHE_ADMIN_LISTEN": "0.0.0.0:9900", "SIDECACHE_PROFILE": "development"},
     ["SIDECACHE_ADMIN_LISTEN: 0.0.0.0:9900 is reachable from outside and has no tokens; use 127.0.0.1, or name them "
      "in SIDECACHE_ADMIN_TOKENS"]),
    ({"SIDECACHE_WORKERS": "4", "SIDECACHE_PROFILE": "development"},
     ["SIDECACHE_WORKERS: 4 workers need a store that they share; the embedded one (REDIS_PROVIDER=memory) is for 1"]),
    ({"SIDECACHE_NAME_KEY": "n" * 32, "SIDECACHE_NAME_KEY_FILE": "rules.yaml", "SIDECACHE_PROFILE": "development"},
     ["SIDECACHE_NAME_KEY: set both directly and as SIDECACHE_NAME_KEY_FILE; keep one"]),
    # pathological
    ({"SIDECACHE_PROFILE": "development", "SIDECACHE_L1_BYTES": "64MiB", "SIDECACHE_DRAIN_S": "-1"},
     ["SIDECACHE_L1_BYTES: '64MiB' is not a whole number from 1048576 to 1099511627776",
      "SIDECACHE_DRAIN_S: '-1' is not a whole number from 0 to 3600"]),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "lines"), CONTRADICTIONS)
def test_all_that_is_missing_or_contradicts_itself_is_said_at_once(home, environ, lines):
    assert sorted(refused(home, *UPSTREAM, environ=environ)) == sorted(f"sidecache: {line}" for line in lines)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"not a certificate\n", "REDIS_TLS_CA: 'ca.pem' is no file of certificates in PEM"),
        (b"", "REDIS_TLS_CA: 'ca.pem' is no file of certificates in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "REDIS_TLS_CA: 'ca.pem' is no file of "
         "certificates in PEM"),
        (None, "REDIS_TLS_CA: there is no file 'ca.pem'"),
    ],
)  # fmt: skip
def test_an_authority_that_is_none_is_said_at_the_start(home, content, line):
    if content is not None:
        (home / "ca.pem").write_bytes(content)
    assert refused(home, *DEVELOPMENT, environ={**REDIS, "REDIS_TLS_CA": "ca.pem"}) == [f"sidecache: {line}"]


def test_an_authority_is_read_where_it_is_one(home):
    environ = {**REDIS, "REDIS_TLS_CA": str(servers.authority().ca)}
    (line,) = refused(home, *DEVELOPMENT, "--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0", environ=environ)
    assert line.startswith("sidecache: cannot listen on 192.0.2.1:1")


@pytest.mark.parametrize(
    ("where", "reason"),
    [("away/audit", "no such file or directory"), (".", "is a directory"), ("rules.yaml/x", "not a directory"),
     ("/proc/audit", "no such file or directory")],
)  # fmt: skip
def test_an_audit_log_that_cannot_be_begun_is_one_line(home, where, reason):
    assert refused(home, *DEVELOPMENT, *ANYWHERE, environ={"SIDECACHE_AUDIT_LOG": where}) == [
        f"sidecache: SIDECACHE_AUDIT_LOG: cannot use '{where}': {reason}"
    ]


def test_too_few_open_files_is_one_line(home):
    (line,) = refused(home, *DEVELOPMENT, *ANYWHERE, before=("prlimit", "--nofile=40:40"))
    assert line.startswith("sidecache: the limit on open files is 40: at least 128 are needed")


def test_the_limit_on_open_files_is_raised_as_far_as_it_may_be(home):
    with running(home, *DEVELOPMENT, *ANYWHERE, before=("prlimit", "--nofile=200:1000")) as sidecar:
        limits = Path(f"/proc/{sidecar.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == ["1000", "1000"]


# Where it can go on, it does.


def purge(sidecar: Sidecar) -> int:
    """An action that has to be in the audit log. The status of its answer."""
    return sidecar.read("admin", "/api/cache/invalidate?feature=jobs&confirm=jobs", method="DELETE")[0]


def ends_well(sidecar: Sidecar) -> None:
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.process.wait(LIMIT) == 0


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_it_runs_and_ends_with_its_standard_streams_closed(home, closed):
    before = ("sh", "-c", f'exec "$@" {closed}', "sh")
    with running(home, *DEVELOPMENT, *ANYWHERE, before=before) as sidecar:
        assert purge(sidecar) == 200
        assert sidecar.status("data", "/.sidecache/livez") == 200
        descriptors = Path(f"/proc/{sidecar.process.pid}/fd")
        ours = {number: os.readlink(descriptors / number) for number in ("0", "1")}
        assert "/dev/null" in ours.values()
        assert not any(target.startswith("socket:") for target in ours.values())
        ends_well(sidecar)


def test_it_runs_and_ends_with_nowhere_to_say_anything(home):
    port = servers.free_port()
    command = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *SIDECACHE, "run", *DEVELOPMENT, "--admin", "127.0.0.1:0",
               "--listen", f"127.0.0.1:{port}")  # fmt: skip
    process = subprocess.Popen(command, cwd=home, env=environment())
    try:
        health = (*SIDECACHE, "explain", "GET /api/jobs", "--profile", "development")
        assert subprocess.run(health, cwd=home, env=environment(), capture_output=True, timeout=LIMIT).returncode == 0
        servers.wait_until(lambda: listens(port), LIMIT)
        assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait(LIMIT)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_an_output_without_room_costs_no_request_and_is_said_once_it_is_noticed(home):
    with Path("/dev/full").open("w") as full, running(home, *DEVELOPMENT, *ANYWHERE, stdout=full) as sidecar:
        assert purge(sidecar) == 200
        sidecar.until(lambda: bool(sidecar.events("audit-unwritten")))
        assert sidecar.status("data", "/api/jobs") == 502
        ends_well(sidecar)


def test_an_output_whose_reader_has_gone_costs_no_request(home):
    reads, writes = os.pipe()
    with closing(os.fdopen(writes, "w")) as gone, running(home, *DEVELOPMENT, *ANYWHERE, stdout=gone) as sidecar:
        os.close(reads)
        assert purge(sidecar) == 200
        sidecar.until(lambda: bool(sidecar.events("audit-unwritten")))
        ends_well(sidecar)


def test_a_full_disk_costs_lines_of_the_audit_log_no_request_and_no_chain(home):
    """RLIMIT_FSIZE: files of this process end there, as they would at the end of a disk."""
    log = home / "audit"
    how = {"environ": {"SIDECACHE_AUDIT_LOG": str(log)}, "before": ("prlimit", "--fsize=1500:1500")}
    # what it says itself goes into a pipe: a file would be as full
    with (home / "log").open("w") as kept:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=kept)
    try:
        with running(home, *DEVELOPMENT, *ANYWHERE, stderr=reader.stdin, keep_log=True, **how) as sidecar:
            for _ in range(8):
                assert purge(sidecar) == 200
            sidecar.until(lambda: bool(sidecar.events("audit-unwritten")))
            assert sidecar.status("data", "/.sidecache/livez") == 200
            ends_well(sidecar)
    finally:
        reader.communicate()
    lines = log.read_bytes().splitlines()
    assert len(lines) >= 1
    assert log.read_bytes().endswith(b"\n")
    assert (verify(lines).lines, verify(lines).broken_at) == (len(lines), None)


def test_it_needs_nothing_of_a_shell(home):
    before = ("env", "-i", f"PYTHONPATH={ROOT}", "TMPDIR=/nowhere")
    with running(home, *DEVELOPMENT, *ANYWHERE, before=before) as sidecar:
        ends_well(sidecar)


def test_it_runs_in_a_directory_that_is_gone(home):
    (home / "gone").mkdir()
    before = ("sh", "-c", 'cd gone && rmdir ../gone && exec "$@"', "sh")
    with running(home, *DEVELOPMENT, *ANYWHERE, "--rules", str(home / "rules.yaml"), before=before) as sidecar:
        ends_well(sidecar)


# Commands.


@pytest.mark.parametrize("words", [("check", "rules.yaml", "--rules-only"), ("schema",), ("keygen",), ("--help",)])
def test_a_command_whose_output_has_no_room_says_so_in_a_line(home, words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*SIDECACHE, *words],
            cwd=home,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "sidecache: the output cannot be written: no space left on device"
    assert "Traceback" not in done.stderr


def test_a_command_whose_reader_has_seen_enough_says_nothing(home):
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as gone:
        done = subprocess.run(
            [*SIDECACHE, "schema"], cwd=home, env=environment(), stdout=gone, stderr=subprocess.PIPE, timeout=LIMIT
        )
    assert (done.returncode != 0, done.stderr) == (True, b"")


@pytest.mark.parametrize(("words", "code"), [(("check", "rules.yaml", "--rules-only"), 0), (("check", "no.yaml"), 2)])
def test_a_command_with_closed_streams_still_has_its_exit_code(home, words, code):
    command = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *SIDECACHE, *words)
    assert subprocess.run(command, cwd=home, env=environment(), timeout=LIMIT).returncode == code
