"""What is shipped for Amplify: rewrites to the sidecar's service, and a function that tells no secret."""

import json
import shutil
import subprocess

import pytest
import yaml

from proxy import settings as settings_module
from tests.deploy.cloudformation import ROOT, Template

NODE = shutil.which("node") or "nodejs"
AMPLIFY = ROOT / "deploy" / "amplify"
PARAMETERS = {
    "Repository": "https://git.example.com/portal", "ApiHost": "api.example.com", "StagingApiHost": "api.example.net"
}  # fmt: skip
ELASTICACHE = {
    "REDIS_PROVIDER": "elasticache", "REDIS_HOST": "cache.internal", "REDIS_USERNAME": "portal-sidecache",
    "REDIS_PASSWORD": "/amplify/d1/main/AMPLIFY_redis-config_REDIS_PASSWORD", "REDIS_TLS": "true",
}  # fmt: skip
UPSTASH = {
    "UPSTASH_REDIS_REST_URL": "https://name-12345.upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "/amplify/d1/dev/AMPLIFY_redis-config_UPSTASH_REDIS_REST_TOKEN",
}


def invoked(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    source = AMPLIFY / "backend/function/redis-config/src/index.js"
    program = (
        f"require({json.dumps(str(source))}).handler({{}}).then("
        "config => console.log(JSON.stringify(config)), error => {console.error(error.message); process.exit(2)})"
    )
    return subprocess.run([NODE, "-e", program], env=environ, capture_output=True, text=True, timeout=60)


def test_rewrites_lead_to_the_host_of_each_stage_and_events_are_not_among_them():
    made = Template("amplify/template.yaml", PARAMETERS)
    by_hand = json.loads((AMPLIFY / "rewrites.json").read_text())
    for app, host in (("ProductionApp", "api.example.com"), ("StagingApp", "api.example.net")):
        rules = made.properties(app)["CustomRules"]
        assert [{name.lower(): value for name, value in rule.items()} for rule in rules] == [
            {**rule, "target": rule["target"].replace("API_HOST", host)} for rule in by_hand
        ]
        assert {"Name": "API_BASE_URL", "Value": f"https://{host}"} in made.properties(app)["EnvironmentVariables"]
    sources = [rule["source"] for rule in by_hand]
    assert sources[0] == "/api/<*>"
    assert not [source for source in sources if source.startswith("/.sidecache/events") or source == "/.sidecache/<*>"]


def test_the_build_hands_over_one_name_and_no_secret():
    phases = yaml.safe_load((AMPLIFY / "amplify.yml").read_text())["frontend"]["phases"]
    (written,) = [each for each in phases["build"]["commands"] if ".env.production" in each]
    done = subprocess.run(
        ["/bin/sh", "-c", written.replace(">> .env.production", "")], capture_output=True, text=True, timeout=60,
        env={"PATH": "/usr/bin:/bin", "API_BASE_URL": "https://api.example.com", "REDIS_PASSWORD": "hunter2"},
    )  # fmt: skip
    assert done.stdout == "API_BASE_URL=https://api.example.com\n"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param(
            ELASTICACHE,
            {
                "provider": "elasticache", "api": None,
                "elasticache": {
                    "host": "cache.internal", "port": 6379, "username": "portal-sidecache", "tls": True,
                    "password": {"parameter": ELASTICACHE["REDIS_PASSWORD"]},
                },
            },
            id="elasticache",
        ),
        pytest.param(
            UPSTASH | {"API_BASE_URL": "https://api.example.com"},
            {
                "provider": "upstash", "api": "https://api.example.com",
                "upstash": {
                    "url": UPSTASH["UPSTASH_REDIS_REST_URL"],
                    "token": {"parameter": UPSTASH["UPSTASH_REDIS_REST_TOKEN"]},
                },
            },
            id="upstash, by what is there",
        ),
    ],
)  # fmt: skip
def test_redis_config_says_where_the_store_is_and_where_its_secret_is_kept(environ, expected):
    done = invoked(environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        pytest.param({}, ["REDIS_PROVIDER"], id="nothing"),
        pytest.param({"REDIS_PROVIDER": "memcached"}, ["REDIS_PROVIDER"], id="another provider"),
        pytest.param(
            UPSTASH | {name: value for name, value in ELASTICACHE.items() if name != "REDIS_PROVIDER"},
            ["REDIS_PROVIDER"],
            id="both",
        ),
        pytest.param(ELASTICACHE | {"REDIS_PASSWORD": "hunter2"}, ["REDIS_PASSWORD"], id="the secret itself"),
        pytest.param(
            {"REDIS_PROVIDER": "redis"}, ["REDIS_HOST", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_TLS"], id="all"
        ),
        pytest.param(ELASTICACHE | {"REDIS_PORT": "hunter"}, ["REDIS_PORT"], id="no port"),
        pytest.param({"REDIS_PROVIDER": "upstash"}, list(UPSTASH), id="no upstash"),
    ],
)
def test_redis_config_names_every_problem_at_once_and_no_secret(environ, names):
    done = invoked(environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == names
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("profile", "variables"),
    [
        ("development", UPSTASH), ("production", UPSTASH), ("development", ELASTICACHE), ("production", ELASTICACHE),
        ("development", UPSTASH | ELASTICACHE),
    ],
)  # fmt: skip
def test_redis_config_chooses_the_provider_that_the_sidecar_chooses(profile, variables):
    environ = {name: value for name, value in variables.items() if name != "REDIS_PROVIDER"}
    environ |= {"SIDECACHE_PROFILE": profile, "REDIS_USERNAME": "portal-sidecache", "REDIS_TLS": "true"}
    ours = settings_module.load(
        environ | {"SIDECACHE_UPSTREAM": "http://127.0.0.1:3000", "SIDECACHE_NAME_KEY": "x" * 44}
    ).provider  # fmt: skip
    assert json.loads(invoked(environ).stdout)["provider"] == ours


def test_the_containers_of_gen_1_share_loopback_and_every_variable_is_one_we_read():
    services = yaml.safe_load((AMPLIFY / "containers/docker-compose.yml").read_text())["services"]
    assert services["portal"]["environment"] == {"HOST": "127.0.0.1", "PORT": "3000"}
    assert "ports" not in services["portal"]
    environ = dict(services["sidecache"]["environment"])
    assert environ["SIDECACHE_UPSTREAM"] == "http://127.0.0.1:3000"
    filled = {"SIDECACHE_JWT_ISSUER": "https://portal.example.com/", "REDIS_HOST": "cache.internal"}
    environ = {name: filled.get(name, value) for name, value in environ.items()}
    secrets = services["sidecache"]["secrets"]
    given = {"SIDECACHE_NAME_KEY": "n" * 44, "REDIS_PASSWORD": "p"}
    loaded = settings_module.load(environ | {name: given[name] for name in secrets if name in given})
    assert (loaded.profile, loaded.provider, loaded.warnings) == ("production", "elasticache", ())
    assert set(secrets) == {*given, "SIDECACHE_ENCRYPTION_KEYS", "SIDECACHE_ADMIN_TOKENS"}
