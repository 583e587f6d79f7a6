"""The CloudFormation stack: valid, and it says what the program means."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import settings as settings_module
from proxy.credentials import read_admin_tokens, read_encryption_keys
from proxy.events.stream import Limits as StreamLimits
from proxy.serving.outgoing import Limits as ConnectionLimits
from tests import servers
from tests.deploy.cloudformation import ROOT, Template

PARAMETERS = {
    "Vpc": "vpc-1", "PublicSubnets": "subnet-1,subnet-2", "PrivateSubnets": "subnet-3,subnet-4",
    "Certificate": "arn:aws:acm:eu-central-1:123456789012:certificate/1", "HostName": "api.example.com",
    "SidecarImage": "registry.example.com/portal-sidecar:1", "PortalImage": "registry.example.com/portal:1",
    "JwtIssuer": "https://portal.example.com/", "JwtAudience": "https://api.example.com",
    "SidecarSecrets": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:portal",
}  # fmt: skip
ATTRIBUTES = {
    "Store": "portal-sidecache",
    "Store.ConfigurationEndPoint.Address": "clustercfg.portal-sidecache.abc.euc1.cache.amazonaws.com",
    "Store.ConfigurationEndPoint.Port": "6379",
}
VARIANTS = [
    pytest.param({}, id="password"),
    pytest.param({"StoreLogin": "iam"}, id="iam"),
    pytest.param({"OperatorsSecurityGroup": "sg-1"}, id="operators"),
    pytest.param({"AllowedOrigins": "https://main.d1.amplifyapp.com"}, id="a page elsewhere"),
    pytest.param({"BalancerRanges": "10.0.0.0/24,10.0.1.0/24"}, id="forwarded"),
]


def template(**more: str) -> Template:
    return Template("aws/template.yaml", PARAMETERS | more, ATTRIBUTES)


def container(made: Template, name: str) -> dict:
    containers = {each["Name"]: each for each in made.properties("TaskDefinition")["ContainerDefinitions"]}
    return containers[name]


def keygen(*arguments: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "keygen", "--json", *arguments], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """As step 2 of the README makes them."""
    return {
        "name-key": keygen("--name-key")["name_key"],
        "encryption-keys": keygen()["entry"],
        "admin-tokens": keygen("--admin", "ops", "operator")["entry"],
    }


def environment(made: Template, secrets: dict[str, str]) -> dict[str, str]:
    """What the sidecar's process gets."""
    sidecar = container(made, "sidecache")
    found = {each["Name"]: str(each["Value"]) for each in sidecar["Environment"]}
    for each in sidecar["Secrets"]:
        field = re.fullmatch(re.escape(PARAMETERS["SidecarSecrets"]) + r":([a-z-]+)::", each["ValueFrom"])
        found[each["Name"]] = secrets[field[1]] if field else f"value of {each['ValueFrom']}"
    return found


@pytest.mark.parametrize("name", ["aws/template.yaml", "amplify/template.yaml"])
def test_the_templates_are_what_cloudformation_accepts(name):
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--", ROOT / "deploy" / name], capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("more", VARIANTS)
def test_the_task_passes_the_check_for_production(more, secrets, tmp_path):
    env = environment(template(**more), secrets) | {"PATH": os.environ["PATH"]}
    rules = env.pop("SIDECACHE_RULES")
    assert f"COPY rules.yaml {rules}" in (ROOT / "deploy/aws/Dockerfile").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check", ROOT / "rules.yaml"], env=env, cwd=tmp_path, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = settings_module.load(env)
    assert (made.profile, made.provider, made.redis_tls, made.redis_cluster) == (
        "production", "elasticache", True, "true",
    )  # fmt: skip
    # with operators the admin port is open to them, which is warned of; nothing else is
    assert [each for each in made.warnings if "SIDECACHE_ADMIN_LISTEN" not in each] == []


@pytest.mark.parametrize("more", VARIANTS)
def test_every_variable_of_the_task_is_one_we_read(more, secrets):
    env = environment(template(**more), secrets)
    assert [each for each in settings_module.load(env).warnings if "has no effect" in each] == []
    misspelt = settings_module.load(env | {"SIDECACHE_DRAINS": "25"}).warnings
    assert [each for each in misspelt if "has no effect" in each]


@pytest.mark.isolation
@pytest.mark.parametrize("more", VARIANTS)
def test_the_balancer_may_say_where_clients_are_and_not_who(more, secrets):
    made = settings_module.load(environment(template(**more), secrets))
    assert ",".join(map(str, made.trusted_peers)) == more.get("BalancerRanges", "")
    assert not made.peer_identity


def test_secrets_are_never_in_the_environment_of_the_definition(secrets):
    sidecar = container(template(), "sidecache")
    secret = {"SIDECACHE_NAME_KEY", "SIDECACHE_ENCRYPTION_KEYS", "SIDECACHE_ADMIN_TOKENS", "REDIS_PASSWORD"}
    assert {each["Name"] for each in sidecar["Secrets"]} == secret
    assert secret & {each["Name"] for each in sidecar["Environment"]} == set()
    assert read_encryption_keys(secrets["encryption-keys"])
    assert read_admin_tokens(secrets["admin-tokens"])


def test_the_user_of_the_store_has_the_rights_of_the_shipped_list():
    made = template().properties("StoreUser")
    (line,) = [each for each in servers.SHIPPED_ACL.read_text().splitlines() if "user sidecache on" in each]
    rights = line.removeprefix("user sidecache on >change-me ").split()
    assert made["AccessString"].split() == ["on", *rights]
    assert made["UserId"] == made["UserName"]  # IAM asks for it
    default = template().properties("StoreDefaultUser")
    assert (default["UserName"], default["AccessString"].split()[0]) == ("default", "off")


def test_an_iam_user_has_no_password_and_the_task_may_connect():
    made = template(StoreLogin="iam")
    assert made.properties("StoreUser")["AuthenticationMode"] == {"Type": "iam"}
    (statement,) = made.properties("StoreConnect")["PolicyDocument"]["Statement"]
    assert statement["Action"] == "elasticache:Connect"
    assert [each.rpartition(":")[2] for each in statement["Resource"]] == ["portal-sidecache", "portal-sidecache"]
    assert "REDIS_PASSWORD" not in {each["Name"] for each in container(made, "sidecache")["Secrets"]}


def test_the_store_is_encrypted_replicated_and_evicts_entries_only():
    made = template()
    store = made.properties("Store")
    assert (store["TransitEncryptionEnabled"], store["TransitEncryptionMode"]) == (True, "required")
    assert store["AtRestEncryptionEnabled"] is True
    assert (store["AutomaticFailoverEnabled"], store["MultiAZEnabled"]) == (True, True)
    parameters = made.properties("StoreParameters")["Properties"]
    assert parameters == {"cluster-enabled": "yes", "maxmemory-policy": "volatile-lru"}


def test_only_the_balancer_reaches_the_sidecar_and_only_the_sidecar_the_store():
    made = template()
    (task,) = made.properties("TaskSecurityGroup")["SecurityGroupIngress"]
    assert (task["FromPort"], task["SourceSecurityGroupId"]) == (8080, "BalancerSecurityGroup")
    (store,) = made.properties("StoreSecurityGroup")["SecurityGroupIngress"]
    assert (store["FromPort"], store["SourceSecurityGroupId"]) == (6379, "TaskSecurityGroup")
    assert "PortMappings" not in container(made, "portal")
    assert {"Name": "HOST", "Value": "127.0.0.1"} in container(made, "portal")["Environment"]


def test_the_sidecar_is_unprivileged_probed_and_drains_while_the_portal_answers(secrets):
    made = template()
    sidecar, portal = container(made, "sidecache"), container(made, "portal")
    assert (sidecar["User"], sidecar["ReadonlyRootFilesystem"]) == ("10001:10001", True)
    assert sidecar["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert sidecar["HealthCheck"]["Command"] == ["CMD", "sidecache", "health"]
    assert sidecar["DependsOn"] == [{"ContainerName": "portal", "Condition": "START"}]  # so it ends first
    loaded = settings_module.load(environment(made, secrets))
    assert min(sidecar["StopTimeout"], portal["StopTimeout"]) > loaded.drain
    assert loaded.listen.port == sidecar["PortMappings"][0]["ContainerPort"]
    assert loaded.upstream == "http://127.0.0.1:3000"
    assert {"Name": "PORT", "Value": "3000"} in portal["Environment"]


def test_the_balancer_keeps_connections_longer_than_a_heartbeat_and_shorter_than_we_do():
    attributes = {
        each["Key"]: each["Value"] for each in template().properties("Balancer")["LoadBalancerAttributes"]
    }  # fmt: skip
    idle = float(attributes["idle_timeout.timeout_seconds"])
    assert StreamLimits().heartbeat < idle < ConnectionLimits().idle
    targets = template().properties("SidecarTargets")
    assert targets["HealthCheckPath"] == "/.sidecache/readyz"
    (delay,) = targets["TargetGroupAttributes"]
    assert float(delay["Value"]) > settings_module.Settings(upstream="", rules=Path()).drain


def test_the_log_lines_that_alarms_wait_for_are_written_somewhere():
    source = "".join(path.read_text() for path in (ROOT / "proxy").rglob("*.py"))
    filters = template().of_type("AWS::Logs::MetricFilter")
    said = {re.search(r'"(.+)"', made["FilterPattern"])[1] for made in filters.values()}
    assert said == {"store-unavailable", "upstream-unreachable", "audit-unwritten"}
    assert [each for each in said if f'"{each}"' not in source] == []
    counted = {made["MetricTransformations"][0]["MetricName"] for made in filters.values()}
    watched = {made.get("MetricName") for made in template().of_type("AWS::CloudWatch::Alarm").values()}
    assert counted <= watched


def test_every_alarm_tells_the_topic_when_there_is_one():
    topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
    told = template(AlarmTopic=topic).of_type("AWS::CloudWatch::Alarm")
    assert len(told) >= 10
    assert {tuple(made["AlarmActions"]) for made in told.values()} == {(topic,)}
    assert {tuple(made["AlarmActions"]) for made in template().of_type("AWS::CloudWatch::Alarm").values()} == {()}
