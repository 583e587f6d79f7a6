"""The compose file: what it says is right, and its services run as it says, on this machine instead of in an engine."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.settings import load
from tests import servers
from tests.deploy import compose
from tests.deploy.compose import Topology, document, services, words
from tests.deploy.container import Network, Running, needs_root
from tests.deploy.image import REPOSITORY, answered, base
from tests.deploy.names import settings_names, tool
from tests.deploy.test_image import LAST

FOLDER = compose.FILE.parent
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_it_is_a_compose_file():
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(compose.FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout


def test_yamllint_has_nothing_to_say_about_what_is_deployed():
    done = subprocess.run(
        [tool("yamllint"), "--strict", "deploy"], cwd=REPOSITORY, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", services())
def test_a_service_can_write_nothing_and_do_nothing_beside_its_work(name):
    said = services()[name]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said.get("cap_add", []) == (["CHOWN"] if name == "init" else [])  # it gives files to who reads them
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert (said.get("user", LAST.user) == "0:0") == (name == "init")
    assert said["pids_limit"] > 0
    assert "mem_limit" in said
    assert "privileged" not in said
    assert said.get("healthcheck", {"test": LAST.health}).get("test") or name == "init"


def test_only_the_sidecar_can_be_reached_from_outside_and_only_it_reaches_the_portal_and_the_store():
    published = {name: said["ports"] for name, said in services().items() if "ports" in said}
    assert published == {"sidecar": [f"127.0.0.1:8080:{LAST.ports[0]}"]}
    networks = {name: set(said.get("networks", ())) for name, said in services().items()}
    assert networks == {
        "init": set(),
        "portal": set(),
        "redis": {"store"},
        "sidecar": {"outside", "store"},
    }
    assert services()["init"]["network_mode"] == "none"
    internal = {name for name, said in document()["networks"].items() if said.get("internal")}
    assert internal == {"store"}
    # the loopback that they share, as in a pod: nothing else gets there
    assert services()["portal"]["network_mode"] == "service:sidecar"
    assert "127.0.0.1:9901" in words(services()["portal"]["command"])


def test_every_variable_is_one_that_the_settings_know():
    assert set(services()["sidecar"]["environment"]) <= settings_names()
    assert all("environment" not in said for name, said in services().items() if name != "sidecar")


def test_secrets_are_files_that_the_first_service_makes_for_the_user_who_reads_them():
    environment = services()["sidecar"]["environment"]
    secret = re.compile("PASSWORD|NAME_KEY|ENCRYPTION_KEYS|TOKEN")
    assert [name for name in environment if secret.search(name) and not name.endswith("_FILE")] == []
    made = set(re.findall(r'"(redis|sidecar)/([a-z.-]+)":', (FOLDER / "init.py").read_text()))
    read = {Path(value).name for name, value in environment.items() if str(value).startswith("/run/secrets/")}
    assert read == {file for owner, file in made if owner == "sidecar"}
    asked = set(re.findall(r"/run/secrets/(\S+)", services()["redis"]["command"]))
    assert asked == {file for owner, file in made if owner == "redis"}
    owners = dict(re.findall(r'"(redis|sidecar)": (\d+)', (FOLDER / "init.py").read_text()))
    assert owners == {"redis": services()["redis"]["user"].split(":")[0], "sidecar": LAST.user.split(":")[0]}


def test_the_user_of_the_store_is_the_one_that_is_shipped():
    assert services()["sidecar"]["environment"]["REDIS_USERNAME"] == servers.SHIPPED_USER
    assert f"user {servers.SHIPPED_USER} on >{servers.SHIPPED_PASSWORD} " in servers.SHIPPED_ACL.read_text()
    assert ".acl" in " ".join(services()["init"]["volumes"])


def test_the_store_keeps_what_must_be_kept_and_speaks_tls_only():
    command = words(services()["redis"]["command"])
    said = dict(zip(command[1::2], command[2::2], strict=True))
    assert (said["--port"], said["--tls-port"], said["--maxmemory-policy"]) == ("0", "6379", "volatile-lru")


def test_volumes_and_files_are_there():
    named = set(document()["volumes"])
    for name, said in services().items():
        for each in said.get("volumes", ()):
            source = each.split(":")[0]
            assert source in named or (FOLDER / source).exists()
            assert each.endswith(":ro") or (name == "init" and source in named)


def test_it_is_given_the_time_that_a_drain_takes():
    drain = load({"SIDECACHE_PROFILE": "development", "SIDECACHE_UPSTREAM": "http://a"}).drain
    assert int(services()["sidecar"]["stop_grace_period"].removesuffix("s")) > drain * 1.1 + 5


def test_the_readme_speaks_of_what_there_is():
    readme = (FOLDER / "README.md").read_text()
    for name in services():
        assert f"`{name}`" in readme
    assert set(re.findall(r"`((?:SIDECACHE|REDIS)_[A-Z_]+)`", readme)) <= settings_names() | {"SIDECACHE_IMAGE"}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def topology(image, network, tmp_path_factory) -> Topology:
    folder = tmp_path_factory.mktemp("topology")
    roots = {name: image.root if said["image"].startswith("sidecache") else base(folder / name, python=False)
             for name, said in services().items()}  # fmt: skip
    return Topology(image.stage, roots, folder, network)


@pytest.fixture(scope="module")
def running(topology, network) -> Iterator[dict[str, Running]]:
    """All of them, in the order that the file asks for."""
    made = topology.container("init").run(*topology.command("init"))
    assert (made.returncode, made.stderr) == (0, "")
    with ExitStack() as stack:
        up = {
            name: stack.enter_context(
                topology.container(name).running(*topology.command(name), output=topology.folder / f"{name}.log")
            )
            for name in ("sidecar", "redis", "portal")  # the sidecar is first: it waits for nobody
        }
        answered(network, up["sidecar"].said)
        answered(network, up["portal"].said, 9901, "/_demo/requests")
        servers.wait_until(lambda: topology.container("redis").run(*topology.health("redis")).returncode == 0)
        ask = topology.command("sidecar")[:-1]
        servers.wait_until(lambda: topology.container("sidecar").run(*ask, "health", "--store").returncode == 0)
        yield up


@needs_root
@servers.needs_redis
@pytest.mark.parametrize("name", [name for name, said in services().items() if name != "init"])
def test_every_service_is_healthy_by_its_own_check(running, topology, name):
    assert running[name].process.poll() is None
    done = topology.container(name).run(*topology.health(name))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_root
@servers.needs_redis
def test_what_was_made_is_kept_and_is_for_its_reader_alone(running, topology):
    before = {file: file.read_bytes() for file in topology.folder.glob("*-files/*")}
    again = topology.container("init").run(*topology.command("init"))
    assert (again.returncode, again.stdout) == (0, "init: everything is there\n")
    assert {file: file.read_bytes() for file in topology.folder.glob("*-files/*")} == before
    assert {file.stat().st_mode & 0o777 for file in before} == {0o400}
    password = (topology.folder / "sidecar-files/redis-password").read_text()
    assert password not in (topology.folder / "redis-files/users.acl").read_text()
    assert not (topology.folder / "sidecar-files/server.key").exists()


@needs_root
@servers.needs_redis
def test_the_settings_pass_the_check_for_production(running, topology):
    done = topology.container("sidecar").run("sidecache", "check", "--profile", "production", "--settings")
    assert done.returncode == 0, done.stderr
    assert ", 0 warnings)" in done.stdout
    for name in ("redis-password", "name-key", "encryption-keys"):
        secret = (topology.folder / "sidecar-files" / name).read_text().strip().rpartition(":")[2]
        assert len(secret) > 20
        assert secret not in done.stdout + done.stderr


@needs_root
@servers.needs_redis
def test_a_request_is_a_miss_then_a_hit_and_the_other_tenants_is_its_own(running, network):
    def jobs(organisation: str) -> tuple[str, bytes]:
        _, _, line = network.ask(8080, f"/_demo/{organisation}")  # through the sidecar, like everything
        name, _, value = line.decode().strip().partition(": ")
        status, headers, body = network.ask(8080, "/api/jobs", headers={name: value})
        assert status == 200, running["sidecar"].said()
        return headers["cache-status"], body

    first, body = jobs("acme")
    assert first.startswith("sidecache; fwd=uri-miss")
    again, same = jobs("acme")
    assert again.startswith("sidecache; hit")
    assert same == body
    other, theirs = jobs("globex")
    assert other.startswith("sidecache; fwd=uri-miss")
    assert theirs != body


@needs_root
@servers.needs_redis
def test_an_operator_asks_it_inside_its_container(running, topology):
    done = topology.container("sidecar").run("sidecache", "status", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)


@needs_root
@servers.needs_redis
def test_nobody_says_anything_alarming_and_nobody_shows_a_secret(running, topology):
    logged = [json.loads(line) for line in running["sidecar"].said().splitlines() if line.startswith("{")]
    assert "listening" in {line["event"] for line in logged}
    assert [line for line in logged if line.get("log_level") in ("error", "critical")] == []
    everything = "".join(each.said() for each in running.values())
    secrets = [file.read_text().strip() for file in topology.folder.glob("sidecar-files/*")]
    assert len(secrets) > 3
    assert [secret for secret in secrets if secret in everything] == []
