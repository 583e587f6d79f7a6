"""The manifests of deploy/kubernetes: what a cluster accepts, and what they mean for the sidecar."""

import ipaddress
import json
import re
import shutil
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yamllint.config
import yamllint.linter
from pydantic import BaseModel, ConfigDict

import proxy
from proxy.settings import load
from tests.cli.process import said
from tests.deploy.manifests import (
    FOLDER,
    PROFILES,
    ROOT,
    SECRETS,
    Manifest,
    Rendered,
    build,
    needs_kustomize,
    rendered,
    write_secrets,
)

pytestmark = needs_kustomize

OLDEST = "1.30"  # what the README asks for
VERSIONS = (OLDEST, "1.33", kubernetes_validate.latest_version())
LINT = "{extends: default, rules: {line-length: {max: 180}, document-start: disable, comments: {level: error}}}"
# Resident memory as the README says it was measured: idle, and for each byte of a full first tier of small entries.
IDLE, PER_BYTE, PER_BYTE_EMBEDDED = 85 << 20, 1.75, 2.75
PASSWORD = "proxy-password"
DRAIN_AND_END = 5  # seconds a sidecar takes beside SIDECACHE_DRAIN_S, at most
PORTAL_ENDS = 20  # seconds that the manifests leave to the portal


@pytest.fixture(params=PROFILES)
def profile(request) -> str:
    return request.param


@pytest.fixture
def made(profile) -> Rendered:
    return rendered(profile)


def with_more(tmp_path: Path, kustomization: str, **files: str) -> Rendered:
    """An overlay of a reader's own, beside the shipped ones."""
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    folder = tmp_path / "kubernetes" / "overlays" / "own"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(kustomization)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return build(folder)


def megabytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"([0-9]+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) << (20 if unit == "Mi" else 30)


# Whether they are accepted


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Relabeling(Strict):
    targetLabel: str
    replacement: str


class Endpoint(Strict):
    port: str
    path: str
    interval: str
    scrapeTimeout: str
    relabelings: list[Relabeling]


class Selector(Strict):
    matchLabels: dict[str, str]


class PodMonitorSpec(Strict):
    selector: Selector
    podMetricsEndpoints: list[Endpoint]


def accepted(manifest: Manifest, version: str) -> None:
    if manifest["apiVersion"] == "monitoring.coreos.com/v1":
        PodMonitorSpec.model_validate(manifest["spec"])  # the operator's own kind, which Kubernetes has no schema for
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def with_components(tmp_path: Path) -> Rendered:
    """Production with its optional lines."""
    folder = FOLDER / "overlays" / "production"
    text = (folder / "kustomization.yaml").read_text()
    optional = re.sub(r"(?m)^# (?=components:|  - )", "", text)
    assert optional.count("\ncomponents:\n  - ../../components/") == 1
    return with_more(tmp_path, optional, sidecache_env=(folder / "sidecache.env").read_text())


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_what_the_schemas_of_kubernetes_ask_for(made, version):
    for manifest in made.all:
        accepted(manifest, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_those_of_the_optional_components_are_too(tmp_path, version):
    made = with_components(tmp_path)
    assert {"HorizontalPodAutoscaler", "PodMonitor"} <= {manifest["kind"] for manifest in made.all}
    for manifest in made.all:
        accepted(manifest, version)


def test_the_check_sees_a_field_that_there_is_not():
    wrong = json.loads(json.dumps(rendered("production").deployment))
    wrong["spec"]["template"]["spec"]["initContainers"][0]["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartpolicy"):
        accepted(wrong, OLDEST)


def test_the_yaml_is_tidy():
    config = yamllint.config.YamlLintConfig(LINT)
    for file in sorted(FOLDER.rglob("*.yaml")):
        if file.name != "rules.yaml":  # checked by its own command
            assert [str(problem) for problem in yamllint.linter.run(file.read_text(), config)] == [], file


# Ports and probes


def test_the_ports_are_those_the_sidecar_listens_on(made):
    settings = made.environment()
    ports = {port["name"]: port["containerPort"] for port in made.sidecar["ports"]}
    assert settings["SIDECACHE_LISTEN"] == f"0.0.0.0:{ports['http']}"
    assert settings["SIDECACHE_METRICS_LISTEN"] == f"0.0.0.0:{ports['metrics']}"
    assert made.template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
    assert settings["SIDECACHE_ADMIN_LISTEN"].startswith("127.0.0.1:")


def test_the_service_leads_to_the_sidecar_alone_and_by_number(made):
    (service,) = made.of("Service")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [8080]
    labels = made.template["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_portal_listens_for_the_sidecar_only(made):
    env = {each["name"]: each["value"] for each in made.portal["env"]}
    upstream = urlsplit(made.environment()["SIDECACHE_UPSTREAM"])
    assert (env["HOST"], env["PORT"]) == (upstream.hostname, str(upstream.port)) == ("127.0.0.1", "3000")
    assert "ports" not in made.portal


def test_probes_ask_the_data_port_for_what_never_depends_on_the_store(made):
    probes = {name: made.sidecar[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {8080}
    paths = {name: probe["path"] for name, probe in probes.items()}
    assert paths == {"startup": "/.sidecache/livez", "liveness": "/.sidecache/livez", "readiness": "/.sidecache/readyz"}
    assert "SIDECACHE_PREFIX" not in made.environment()


def test_the_portal_is_probed_through_the_sidecar(made):
    assert made.portal["readinessProbe"]["httpGet"]["port"] == 8080
    assert "livenessProbe" not in made.portal  # the sidecar's fault would restart it


# Order and time


def test_the_sidecar_is_a_native_one(made):
    assert (made.sidecar["name"], made.sidecar["restartPolicy"]) == ("sidecache", "Always")


def test_there_is_time_for_everything_that_an_end_takes(made):
    before = made.portal["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = load(made.environment() | dict.fromkeys(secret_variables(made)), profile="development").drain
    assert made.pod["terminationGracePeriodSeconds"] >= before + PORTAL_ENDS + drain + DRAIN_AND_END
    liveness = made.sidecar["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > drain  # a drain is no hang


def secret_variables(made: Rendered) -> set[str]:
    return {name for name in made.environment() if name.endswith("_FILE")}


def test_a_roll_out_never_has_fewer_pods_than_before():
    for profile in ("staging", "production"):
        spec = rendered(profile).deployment["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert spec["replicas"] > 1


def test_with_the_embedded_store_there_is_never_a_second_pod():
    spec = rendered("development").deployment["spec"]
    assert rendered("development").environment()["REDIS_PROVIDER"] == "memory"
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_pods_are_spread_and_a_budget_holds_them(made):
    labels = made.template["metadata"]["labels"]
    (budget,) = made.of("PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    spread = made.pod["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    for selector in [budget["spec"]["selector"], *(each["labelSelector"] for each in spread)]:
        assert selector["matchLabels"].items() <= labels.items()


# Rights


def test_nothing_runs_with_more_rights_than_it_needs(made):
    assert made.pod["automountServiceAccountToken"] is False
    assert made.pod["enableServiceLinks"] is False
    assert made.pod["securityContext"] == {
        "runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert made.sidecar["securityContext"] == {
        "runAsUser": 10001, "runAsGroup": 10001, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert made.portal["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_images_are_named_by_the_overlay_and_ours_is_this_version(made):
    assert made.sidecar["image"] == f"registry.example.com/sidecache:{proxy.__version__}"
    assert made.portal["image"].startswith("registry.example.com/your-portal-api:")
    assert made.sidecar["args"] == ["run"]


def test_the_user_is_that_of_the_image():
    image = (ROOT / "Dockerfile").read_text()
    assert re.search(r"(?m)^USER 10001(:10001)?$", image)
    assert re.search(r'(?m)^ENTRYPOINT \["sidecache"\]$', image)


# Memory


def test_memory_is_enough_for_a_full_first_tier(made):
    settings, resources = made.environment(), made.sidecar["resources"]
    embedded = settings["REDIS_PROVIDER"] == "memory"
    full = IDLE + (PER_BYTE_EMBEDDED if embedded else PER_BYTE) * int(settings["SIDECACHE_L1_BYTES"])
    assert "SIDECACHE_WORKERS" not in settings  # each would have as much
    assert megabytes(resources["limits"]["memory"]) >= 1.4 * full
    assert embedded or megabytes(resources["requests"]["memory"]) >= full
    assert "cpu" not in resources["limits"]


# Settings


def test_every_variable_is_one_that_is_read(made):
    sources = (ROOT / "proxy").glob("*settings.py")
    known = set(re.findall(r'"([A-Z][A-Z0-9_]+)"', "".join(file.read_text() for file in sources)))
    names = {name.removesuffix("_FILE") for name in made.environment()}
    assert names - known == set()
    assert made.environment()["SIDECACHE_PROFILE"] in PROFILES


def test_an_ingress_may_say_where_clients_are_and_not_who(made):
    assert made.environment()["SIDECACHE_PEER_IDENTITY"] == "off"


def test_no_secret_stands_in_the_manifests(made):
    assert made.of("Secret") == []
    secret = {"SIDECACHE_NAME_KEY", "SIDECACHE_ENCRYPTION_KEYS", "SIDECACHE_ADMIN_TOKENS", "SIDECACHE_ASSERTION_KEYS",
              "REDIS_PASSWORD", "UPSTASH_REDIS_REST_TOKEN", "AUTH0_M2M_CLIENT_SECRET"}  # fmt: skip
    assert made.environment().keys() & secret == set()


def test_what_the_settings_name_is_mounted_and_read_only(made):
    volumes = {volume["name"]: volume for volume in made.pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in made.sidecar["volumeMounts"]}
    assert all("subPath" not in mount for mount in mounts.values())
    rules = Path(made.environment()["SIDECACHE_RULES"])
    assert mounts[str(rules.parent)] == {"name": "rules", "mountPath": str(rules.parent), "readOnly": True}
    config = made.named("ConfigMap", volumes["rules"]["configMap"]["name"])
    assert set(config["data"]) == {rules.name}
    if made.secret_keys():
        assert mounts[SECRETS] == {"name": "secrets", "mountPath": SECRETS, "readOnly": True}
        assert volumes["secrets"]["secret"] == {"secretName": "sidecache-secrets", "defaultMode": 0o440}


def test_rules_keep_their_name_and_settings_make_new_pods(made):
    names = {manifest["metadata"]["name"] for manifest in made.of("ConfigMap")}
    (environment,) = names - {"sidecache-rules"}
    assert re.fullmatch(r"sidecache-environment-[a-z0-9]{10}", environment)


def test_the_rules_are_the_shipped_ones():
    assert (FOLDER / "base" / "rules.yaml").read_bytes() == (ROOT / "rules.yaml").read_bytes()


def checked(made: Rendered, folder: Path) -> dict[str, Any]:
    """What `sidecache check` says of the overlay's environment, with the files of the Secret in their place."""
    write_secrets(folder / "secrets", PASSWORD)
    assert made.secret_keys() <= {file.name for file in (folder / "secrets").iterdir()}
    environ = {name: value.replace(SECRETS, str(folder / "secrets")) for name, value in made.environment().items()}
    environ["SIDECACHE_RULES"] = str(FOLDER / "base" / "rules.yaml")
    code, out, err = said("check", "--settings", "--json", cwd=folder, **environ)
    assert code == 0, (out, err)
    assert PASSWORD not in out + err
    return json.loads(out)


@pytest.mark.process
def test_the_environment_is_a_whole_and_right_one_for_its_profile(made, profile, tmp_path):
    found = checked(made, tmp_path)
    assert found["settings"]["profile"] == profile
    assert found["environment"] == {"errors": [], "warnings": []}


# Networks


def open_ports(made: Rendered, direction: str) -> set[tuple[int, str]]:
    labels = made.template["metadata"]["labels"]
    found = set()
    for policy in made.of("NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        for rule in policy["spec"].get(direction, []):
            assert rule.get("from" if direction == "ingress" else "to"), "open for everybody"
            found |= {(port["port"], port["protocol"]) for port in rule["ports"]}
    return found


def test_the_network_lets_in_what_is_served_and_nothing_else(made):
    assert made.named("NetworkPolicy", "portal")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert open_ports(made, "ingress") == {(port["containerPort"], "TCP") for port in made.sidecar["ports"]}


def test_the_network_lets_out_what_the_settings_lead_to_and_nothing_else(made):
    settings = made.environment()
    issuer = urlsplit(settings["SIDECACHE_JWT_ISSUER"])
    needed = {(53, "UDP"), (53, "TCP"), (issuer.port or 443, "TCP")}
    if settings["REDIS_PROVIDER"] != "memory":
        needed.add((int(settings["REDIS_PORT"]), "TCP"))
    assert open_ports(made, "egress") == needed


def test_what_is_open_to_the_internet_is_not_open_to_our_own_networks(made):
    rules = made.named("NetworkPolicy", "portal")["spec"]["egress"]
    blocks = [each["ipBlock"] for each in chain.from_iterable(rule["to"] for rule in rules) if "ipBlock" in each]
    closed = [ipaddress.ip_network(network) for block in blocks for network in block["except"]]
    for address in ("169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00:ec2::254"):
        inside = ipaddress.ip_address(address)
        assert any(inside in network for network in closed if network.version == inside.version)


# What readers add


def test_with_the_autoscaler_the_number_of_pods_is_its_own(tmp_path):
    made = with_components(tmp_path)
    (autoscaler,) = made.of("HorizontalPodAutoscaler")
    assert "replicas" not in made.deployment["spec"]
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == made.deployment["metadata"]["name"]
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["containerResource"]["container"] == made.portal["name"]
    assert metric["containerResource"]["name"] in made.portal["resources"]["requests"]


def test_with_the_monitor_a_scrape_has_the_job_that_the_alerts_ask_for(tmp_path):
    made = with_components(tmp_path)
    (monitor,) = made.of("PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in made.sidecar["ports"]}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "sidecache"}]
    assert 'up{job="sidecache"}' in (ROOT / "deploy" / "monitoring" / "prometheus-rules.yaml").read_text()
    labels = made.template["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert not any(name.startswith("prometheus.io") for name in made.template["metadata"]["annotations"])


OWN_RULES = """
resources: [../production]
configMapGenerator:
  - name: sidecache-rules
    behavior: replace
    files: [rules.yaml]
    options: {disableNameSuffixHash: true}
"""


def test_rules_of_ones_own_take_the_place_of_the_shipped_ones_under_the_same_name(tmp_path):
    made = with_more(tmp_path, OWN_RULES, rules_yaml="version: 1\nfeatures: {}\n")
    assert made.named("ConfigMap", "sidecache-rules")["data"] == {"rules.yaml": "version: 1\nfeatures: {}\n"}


UPSTASH = """
namespace: portal-production
resources: [../../redis]
configMapGenerator:
  - name: sidecache-environment
    behavior: merge
    literals:
      - SIDECACHE_PROFILE=production
      - SIDECACHE_JWT_ISSUER=https://portal.eu.auth0.com/
      - SIDECACHE_JWT_AUDIENCE=https://api.portal.example.com
      - REDIS_PROVIDER=upstash
      - UPSTASH_REDIS_REST_URL=https://name-12345.upstash.io
      - UPSTASH_REDIS_REST_TOKEN_FILE=/etc/sidecache/secrets/redis-password
patches:
  - patch: |
      {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: portal-to-redis}, $patch: delete}
"""


@pytest.mark.process
def test_upstash_takes_the_place_of_redis_as_the_readme_tells(tmp_path):
    made = with_more(tmp_path, UPSTASH)
    found = checked(made, tmp_path)
    assert (found["settings"]["provider"], found["environment"]["warnings"]) == ("upstash", [])
    assert open_ports(made, "egress") == {(53, "UDP"), (53, "TCP"), (443, "TCP")}
