"""The image: what the Dockerfile says, and what it makes when its steps are carried out."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.settings import load
from tests.deploy.container import Mount, needs_root
from tests.deploy.dockerfile import Copy, NotUnderstood, read
from tests.deploy.image import MINIMAL, REPOSITORY, answered, in_context
from tests.deploy.names import settings_names, tool

STAGES = read(REPOSITORY / "Dockerfile")
LAST = STAGES[-1]
RULES = Mount("/etc/sidecache/rules.yaml", REPOSITORY / "rules.yaml", read_only=True)
LARGEST = 120e6  # bytes over the base

# The first one builds it, over the network when its packages are in no cache yet.
built = pytest.mark.usefixtures("image")
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_hadolint_has_nothing_to_say():
    done = subprocess.run(
        [tool("hadolint"), "Dockerfile", "deploy/aws/Dockerfile"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_runs_as_a_number_that_is_not_root():
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", LAST.user)


def test_the_base_is_slim_and_a_version_that_we_support():
    python = re.fullmatch(r"python:(3\.\d+)-slim-bookworm", LAST.base)
    assert python is not None
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert f'requires-python = ">={python[1]}"' in project


def test_signals_probes_and_ports_are_those_of_the_sidecar():
    settings = load({**MINIMAL, "SIDECACHE_LISTEN": ""})
    assert LAST.entrypoint == ("sidecache",)
    assert LAST.command == ("run",)
    assert LAST.health == ("sidecache", "health")  # livez: no outage of the store kills anything
    assert LAST.stop_signal == "SIGTERM"
    assert LAST.ports == [str(settings.listen.port)]  # the admin port is on loopback


def test_every_variable_of_ours_is_one_that_the_settings_know():
    ours = {name for name in LAST.environment if name.startswith(("SIDECACHE_", "REDIS_"))}
    assert ours
    assert ours <= settings_names()


def test_labels_say_what_it_is():
    read_with = read(REPOSITORY / "Dockerfile", {"VERSION": "1.2.3", "REVISION": "abc"})[-1].labels
    prefix = "org.opencontainers.image."
    assert {f"{prefix}{name}" for name in ("title", "description", "version", "revision")} <= read_with.keys()
    assert (read_with[f"{prefix}version"], read_with[f"{prefix}revision"]) == ("1.2.3", "abc")
    assert read_with[f"{prefix}base.name"].endswith(LAST.base)


def test_the_context_is_what_is_copied_and_nothing_else():
    copied = {name for stage in STAGES for step in stage.steps if isinstance(step, Copy) and not step.stage
              for name in step.sources}  # fmt: skip
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert all((REPOSITORY / name).exists() for name in copied)
    for name in (".git", ".env.local", ".venv", "tests", "deploy", "proxy/cli/__pycache__"):
        assert not in_context(name)


@pytest.mark.parametrize("line", ["ADD a b", "ONBUILD RUN x", "RUN --mount=type=secret,id=x cat", 'SHELL ["bash"]'])
def test_the_reader_refuses_what_it_does_not_know(tmp_path, line):
    (tmp_path / "Dockerfile").write_text(f"FROM a\n{line}\n")
    with pytest.raises(NotUnderstood):
        read(tmp_path / "Dockerfile")


@needs_root
def test_it_is_small_has_no_pip_and_all_its_bytecode(image):
    print(f"{image.added / 1e6:.1f} MB over the base")
    assert image.added < LARGEST
    (packages,) = (image.root.path / "opt/sidecache/lib").glob("python3.*/site-packages")
    assert not (packages / "pip").exists()
    sources = list(packages.rglob("*.py"))
    assert len(sources) > 1000
    tag = sys.implementation.cache_tag
    compiled = [file.parent / "__pycache__" / f"{file.stem}.{tag}.pyc" for file in sources]
    assert [file for file in compiled if not file.exists()] == []
    # never compared with its source: whatever a registry does to times of change
    assert {file.read_bytes()[4:8] for file in compiled} == {b"\x01\x00\x00\x00"}


@needs_root
def test_nothing_in_it_can_be_changed_by_its_user(image):
    writable = [
        file
        for file in (image.root.path / "opt").rglob("*")
        if not file.is_symlink() and (file.stat().st_mode & 0o022 or file.stat().st_uid != 0)
    ]
    assert writable == []


@needs_root
def test_every_extension_in_it_still_loads(image):
    code = (
        "import importlib, pathlib, sysconfig\n"
        "top = pathlib.Path(sysconfig.get_path('purelib'))\n"
        "found = [file.relative_to(top) for file in top.rglob('*.so')]\n"
        "for file in found: importlib.import_module('.'.join([*file.parent.parts, file.name.partition('.')[0]]))\n"
        "print(len(found))\n"
    )
    done = image.container().run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


@needs_root
def test_botocore_finds_credentials_with_the_data_that_is_left(image):
    """A role of a Kubernetes service account: what asks STS needs its model."""
    code = (
        "from botocore.session import Session\n"
        "made = Session()\n"
        "keys = {'aws_access_key_id': 'a', 'aws_secret_access_key': 'b'}\n"
        "print(made.create_client('sts', region_name='eu-central-1', **keys).meta.service_model)\n"
        "print(made.create_client('sso-oidc', region_name='eu-central-1').meta.endpoint_url)\n"
    )
    done = image.container().run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ServiceModel(sts)\nhttps://oidc.eu-central-1.amazonaws.com\n"


@needs_root
@pytest.mark.parametrize("user", ["10001:10001", "54321:0", "4000000000:4000000000"])
def test_it_starts_answers_and_ends_as_any_user_without_a_place_to_write(image, network, output, user):
    container = image.container(environment=MINIMAL, mounts=[RULES], network=network, user=user)
    with container.running(*image.command(), output=output) as running:
        answered(network, running.said)
        status, headers, _ = network.ask(8080, "/api/jobs")
        assert (status, headers["proxy-status"].partition(";")[0]) == (502, "sidecache")  # nobody is upstream
        health = container.run(*image.stage.health)
        assert (health.returncode, health.stdout, health.stderr) == (0, "alive\n", "")
        assert running.stop() == 0
    lines = [json.loads(line) for line in running.said().splitlines()]  # nothing but what it logs
    assert [line["event"] for line in lines if line.get("log_level") == "error"] == []
    assert container.run(*image.stage.health).returncode == 1


@needs_root
def test_it_ends_while_a_request_is_under_way_and_finishes_that(image, network, output):
    import socket

    def upstream() -> socket.socket:
        return socket.create_server(("127.0.0.1", 3000))

    listening = network.inside(upstream)
    container = image.container(
        environment={**MINIMAL, "SIDECACHE_UPSTREAM": "http://127.0.0.1:3000", "SIDECACHE_DRAIN_S": "20"},
        mounts=[RULES], network=network,
    )  # fmt: skip
    with container.running(*image.command(), output=output) as running, listening:
        answered(network, running.said)
        client = network.inside(lambda: socket.create_connection(("127.0.0.1", 8080), 10))
        with client:
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            asked, _ = listening.accept()
            with asked:
                asked.recv(4096)
                running.signal(signal.SIGTERM)
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
                answer = b""
                while chunk := client.recv(4096):
                    answer += chunk
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"slow")
        assert running.process.wait(30) == 0


@needs_root
def test_several_workers_need_no_place_to_write_either(image, network, output):
    away = {"REDIS_PROVIDER": "redis", "REDIS_HOST": "127.0.0.1", "REDIS_TLS": "true", "SIDECACHE_WORKERS": "2"}
    container = image.container(environment={**MINIMAL, **away}, mounts=[RULES], network=network)
    with container.running(*image.command(), output=output) as running:
        answered(network, running.said)  # the store is not there, which is no reason not to be alive
        assert container.run(*image.stage.health).returncode == 0
        assert container.run(*image.command("health", "--store")).returncode == 1
        assert running.stop() == 0


@needs_root
@pytest.mark.parametrize(
    ("words", "code"),
    [(("check", "--settings"), 0), (("test",), 0), (("keygen",), 0), (("--version",), 0), (("schema",), 0),
     (("explain", "GET /api/jobs/77", "--org", "org_acme"), 0), (("status",), 2), (("demo",), 2), ((), 2)],
)  # fmt: skip
def test_commands_work_in_it_and_say_what_is_wrong_in_a_line(image, network, words, code):
    container = image.container(environment=MINIMAL, mounts=[RULES], network=network)
    done = container.run(*image.stage.entrypoint, *words)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert done.stdout if code == 0 else done.stderr


@needs_root
@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"SIDECACHE_NAME_KEY": "", "SIDECACHE_NAME_KEY_FILE": "/run/secrets/key"},
         "SIDECACHE_NAME_KEY_FILE: cannot read '/run/secrets/key': permission denied"),
        ({"SIDECACHE_RULES": "/run/secrets/key"}, "/run/secrets/key: cannot be read: permission denied; --rules FILE "
         "says where the rules are"),
        ({"SIDECACHE_AUDIT_LOG": "/var/log/audit"}, "SIDECACHE_AUDIT_LOG: cannot use '/var/log/audit': no such file or "
         "directory"),
        ({"SIDECACHE_AUDIT_LOG": "/etc/sidecache/audit"}, "SIDECACHE_AUDIT_LOG: cannot use '/etc/sidecache/audit': "
         "read-only file system"),
        ({"SIDECACHE_AUDIT_LOG": "/logs/audit"}, "SIDECACHE_AUDIT_LOG: cannot use '/logs/audit': permission denied"),
        ({"SIDECACHE_LISTEN": "0.0.0.0:80"}, "cannot listen on 0.0.0.0:80: permission denied; --listen HOST:PORT "
         "chooses another"),
    ],
)  # fmt: skip
def test_what_its_user_may_not_do_is_one_line(image, network, tmp_path, environment, line):
    (tmp_path / "key").write_text("n" * 32)
    (tmp_path / "key").chmod(0o400)
    mounts = [RULES, Mount("/run/secrets/key", tmp_path / "key"), Mount("/logs", options="mode=755")]
    container = image.container(environment={**MINIMAL, **environment}, mounts=mounts, network=network)
    done = container.run(*image.command())
    said = [each for each in done.stderr.splitlines() if not each.startswith("{")]
    assert (done.returncode, said) == (2, [f"sidecache: {line}"])


@needs_root
def test_a_full_disk_below_the_audit_log_is_counted_and_costs_no_request(image, network, output):
    logs = Mount("/logs", size="4k")  # room for one page
    container = image.container(
        environment={**MINIMAL, "SIDECACHE_PROFILE": "development", "SIDECACHE_AUDIT_LOG": "/logs/audit"},
        mounts=[RULES, logs], network=network,
    )  # fmt: skip
    with container.running(*image.command(), output=output) as running:
        answered(network, running.said)
        host = {"Host": "127.0.0.1:9900"}
        for _ in range(20):
            assert (
                network.ask(9900, "/api/cache/invalidate?feature=jobs&confirm=jobs", method="DELETE", headers=host)[0]
                < 300
            )
        assert "audit-unwritten" in running.said()
        assert network.ask(8080, "/.sidecache/livez")[0] == 200
        assert running.stop() == 0


def test_the_bench_command_is_in_the_makefile():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "-m tests.deploy.image" in makefile
