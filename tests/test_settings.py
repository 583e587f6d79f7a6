"""What comes out of an environment: settings, one line for each mistake, warnings for the rest."""

import ipaddress
import os
from pathlib import Path

import pytest

from proxy.addresses import Address
from proxy.credentials import new_admin_token, new_encryption_key
from proxy.errors import ConfigError
from proxy.settings import Settings, admin_address, admin_token, load

KEY = "k" * 32
DEVELOPMENT = {"SIDECACHE_PROFILE": "development", "SIDECACHE_UPSTREAM": "http://127.0.0.1:3000"}
PRODUCTION = {
    "SIDECACHE_UPSTREAM": "http://127.0.0.1:3000",
    "REDIS_PROVIDER": "memory",
    "SIDECACHE_NAME_KEY": KEY,
    "SIDECACHE_JWT_ISSUER": "https://tenant.eu.auth0.com/",
    "SIDECACHE_JWT_AUDIENCE": "https://api.example.com",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No test reads a `.env.local` it did not write."""
    monkeypatch.chdir(tmp_path)


def settings(**more: str) -> Settings:
    return load(DEVELOPMENT | more)


def problems(environ: dict[str, str], **flags: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ, **flags)
    return list(caught.value.problems)


def test_production_needs_five_values_and_then_has_the_documented_defaults():
    made = load(PRODUCTION)
    assert made == Settings(
        upstream="http://127.0.0.1:3000",
        rules=Path("rules.yaml"),
        profile="production",
        provider="memory",
        listen=Address("0.0.0.0", 8080),
        admin=Address("127.0.0.1", 9900),
        prefix="/.sidecache",
        jwt_issuer="https://tenant.eu.auth0.com/",
        jwt_audience="https://api.example.com",
        jwks_url="https://tenant.eu.auth0.com/.well-known/jwks.json",
        name_key=KEY,
        pool_size=50,
        sole_replica=True,
        store_timeout=0.1,
        l1_bytes=64 * 1024 * 1024,
        connect_timeout=1.0,
        first_byte_timeout=30.0,
        idle_timeout=60.0,
        drain=25.0,
    )
    assert made.warnings == ()


def test_development_needs_an_upstream_only_and_says_what_it_does_without_tokens():
    made = settings()
    assert made.provider == "memory"
    assert made.warnings == (
        "SIDECACHE_JWT_ISSUER: missing; no token can be verified, so only public features are cached",
    )


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        # realistic
        ("SIDECACHE_UPSTREAM", "https://api.internal/", "upstream", "https://api.internal"),
        ("SIDECACHE_UPSTREAM", "http://[::1]:3000", "upstream", "http://[::1]:3000"),
        ("SIDECACHE_UPSTREAM", "unix:/run/portal.sock", "upstream", "unix:/run/portal.sock"),
        ("SIDECACHE_UPSTREAM", "unix:///run/portal.sock", "upstream", "unix:///run/portal.sock"),
        ("SIDECACHE_LISTEN", "[::]:8080", "listen", Address("::", 8080)),
        ("SIDECACHE_LISTEN", "localhost:0", "listen", Address("localhost", 0)),
        ("SIDECACHE_ADMIN_LISTEN", "127.0.0.2:99", "admin", Address("127.0.0.2", 99)),
        ("SIDECACHE_PREFIX", "/internal/cache", "prefix", "/internal/cache"),
        ("SIDECACHE_PREFIX", "off", "prefix", ""),
        ("SIDECACHE_PREFIX", "", "prefix", ""),
        ("SIDECACHE_HOSTS", "API.example.com, www.example.com", "hosts", {"api.example.com", "www.example.com"}),
        ("SIDECACHE_TRUSTED_PEERS", "10.0.0.0/8 ::1", "trusted_peers",
         (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))),
        ("SIDECACHE_PEER_IDENTITY", "off", "peer_identity", False),
        ("SIDECACHE_ALLOWED_ORIGINS", "https://portal.example.com, http://localhost:3000", "allowed_origins",
         {"https://portal.example.com", "http://localhost:3000"}),
        ("SIDECACHE_L1_BYTES", "1048576", "l1_bytes", 1 << 20),
        ("SIDECACHE_WORKERS", "1", "workers", 1),
        ("SIDECACHE_CONNECT_TIMEOUT_MS", "250", "connect_timeout", 0.25),
        ("SIDECACHE_FIRST_BYTE_TIMEOUT_MS", "1", "first_byte_timeout", 0.001),
        ("SIDECACHE_IDLE_TIMEOUT_MS", "3600000", "idle_timeout", 3600.0),
        ("SIDECACHE_DRAIN_S", "0", "drain", 0.0),
        ("SIDECACHE_EVENTS_KEPT", "4000", "events_kept", 4000),
        ("SIDECACHE_EVENTS_KEPT_H", "720", "events_kept_for", 720 * 3600.0),
        ("SIDECACHE_EVENT_BYTES", "1024", "event_bytes", 1024),
        ("SIDECACHE_EVENT_STREAMS", "20000", "event_streams", 20_000),
        ("SIDECACHE_EVENT_STREAMS", "100", "event_streams_tenant", 100),
        ("SIDECACHE_EVENT_STREAMS", "3", "event_streams_user", 3),
        ("SIDECACHE_EVENT_STREAMS_TENANT", "5000", "event_streams_tenant", 5000),
        ("SIDECACHE_EVENT_STREAMS_USER", "500", "event_streams_user", 500),
        ("SIDECACHE_ACCESS_LOG", "on", "access_log", True),
        ("SIDECACHE_ACCESS_LOG", "True", "access_log", True),
        ("SIDECACHE_ACCESS_LOG", "off", "access_log", False),
        ("SIDECACHE_RULES", "/etc/sidecache/rules.yaml", "rules", Path("/etc/sidecache/rules.yaml")),
        ("REDIS_PROVIDER", "MEMORY", "provider", "memory"),
        # pathological: an empty value is none, blanks around one do not count
        ("SIDECACHE_LISTEN", "", "listen", Address("0.0.0.0", 8080)),
        ("SIDECACHE_L1_BYTES", " 2097152\n", "l1_bytes", 2 << 20),
        ("SIDECACHE_HOSTS", " , ", "hosts", set()),
    ],
)  # fmt: skip
def test_a_good_value_is_understood(name, value, attribute, expected):
    assert getattr(settings(**{name: value}), attribute) == expected


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        # realistic
        ("SIDECACHE_PROFILE", "prod", "SIDECACHE_PROFILE: 'prod' is not one of development, staging, production"
         " (did you mean 'production'?)"),
        ("SIDECACHE_PROFILE", "qa", "SIDECACHE_PROFILE: 'qa' is not one of development, staging, production"),
        ("SIDECACHE_UPSTREAM", "127.0.0.1:3000", "SIDECACHE_UPSTREAM: '127.0.0.1:3000' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://portal/api", "SIDECACHE_UPSTREAM: 'http://portal/api' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://portal?x", "SIDECACHE_UPSTREAM: 'http://portal?x' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "ftp://portal", "SIDECACHE_UPSTREAM: 'ftp://portal' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://me:pw@portal", "SIDECACHE_UPSTREAM: 'http://***@portal' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://portal:99999", "SIDECACHE_UPSTREAM: 'http://portal:99999' is not a URL"),
        ("SIDECACHE_EVENTS_KEPT", "0", "SIDECACHE_EVENTS_KEPT: '0' is not a whole number from 10 to 10000"),
        ("SIDECACHE_EVENTS_KEPT", "5000", "SIDECACHE_EVENTS_KEPT: 5000 events of 8192 bytes are more than the 32 MiB of"
         " a tenant; keep fewer, or smaller ones (SIDECACHE_EVENT_BYTES)"),
        ("SIDECACHE_EVENTS_KEPT_H", "72h", "SIDECACHE_EVENTS_KEPT_H: '72h' is not a whole number from 1 to 720"),
        ("SIDECACHE_EVENT_BYTES", "65536", "SIDECACHE_EVENT_BYTES: '65536' is not a whole number from 256 to 32768"),
        ("SIDECACHE_EVENT_STREAMS", "-1", "SIDECACHE_EVENT_STREAMS: '-1' is not a whole number from 1 to 100000"),
        ("SIDECACHE_EVENT_STREAMS_TENANT", "5001", "SIDECACHE_EVENT_STREAMS_TENANT: 5001 is more than"
         " SIDECACHE_EVENT_STREAMS (5000) lets in; lower it, or raise SIDECACHE_EVENT_STREAMS"),
        ("SIDECACHE_EVENT_STREAMS_USER", "501", "SIDECACHE_EVENT_STREAMS_USER: 501 is more than"
         " SIDECACHE_EVENT_STREAMS_TENANT (500) lets in; lower it, or raise SIDECACHE_EVENT_STREAMS_TENANT"),
        ("SIDECACHE_LISTEN", "8080", "SIDECACHE_LISTEN: '8080' is not HOST:PORT such as 0.0.0.0:8080"),
        ("SIDECACHE_LISTEN", "::1:8080", "SIDECACHE_LISTEN: '::1:8080' is not HOST:PORT such as 0.0.0.0:8080"),
        ("SIDECACHE_LISTEN", "127.0.0.1:70000", "SIDECACHE_LISTEN: '127.0.0.1:70000' is not HOST:PORT"),
        ("SIDECACHE_ADMIN_LISTEN", "0.0.0.0:9900",
         "SIDECACHE_ADMIN_LISTEN: 0.0.0.0:9900 is reachable from outside and has no tokens; use 127.0.0.1, "
         "or name them in SIDECACHE_ADMIN_TOKENS"),
        ("SIDECACHE_ADMIN_LISTEN", "0.0.0.0:8080", "SIDECACHE_ADMIN_LISTEN: 0.0.0.0:8080 is reachable from outside"),
        ("SIDECACHE_ADMIN_LISTEN", "[::]:9900", "SIDECACHE_ADMIN_LISTEN: [::]:9900 is reachable from outside"),
        ("SIDECACHE_WORKERS", "0", "SIDECACHE_WORKERS: '0' is not a whole number from 1 to 64"),
        ("SIDECACHE_L1_BYTES", "64MiB", "SIDECACHE_L1_BYTES: '64MiB' is not a whole number from 1048576 to "),
        ("SIDECACHE_L1_BYTES", "5", "SIDECACHE_L1_BYTES: '5' is not a whole number from 1048576 to "),
        ("SIDECACHE_DRAIN_S", "-1", "SIDECACHE_DRAIN_S: '-1' is not a whole number from 0 to 3600"),
        ("SIDECACHE_IDLE_TIMEOUT_MS", "0", "SIDECACHE_IDLE_TIMEOUT_MS: '0' is not a whole number from 1 to 3600000"),
        ("SIDECACHE_ACCESS_LOG", "yes", "SIDECACHE_ACCESS_LOG: 'yes' is not one of 0, 1, false, true, off, on"),
        ("SIDECACHE_PREFIX", "sidecache", "SIDECACHE_PREFIX: 'sidecache' is not a path such as /.sidecache (or off)"),
        ("SIDECACHE_PREFIX", "/", "SIDECACHE_PREFIX: '/' is not a path such as /.sidecache (or off)"),
        ("SIDECACHE_HOSTS", "http://portal", "SIDECACHE_HOSTS: 'http://portal' is not a host name such as"),
        ("SIDECACHE_TRUSTED_PEERS", "10.0.0.1/8", "SIDECACHE_TRUSTED_PEERS: '10.0.0.1/8' is not an address range"),
        ("SIDECACHE_TRUSTED_PEERS", "proxy.local", "SIDECACHE_TRUSTED_PEERS: 'proxy.local' is not an address range"),
        ("SIDECACHE_ALLOWED_ORIGINS", "*", "SIDECACHE_ALLOWED_ORIGINS: '*' is not an origin such as https://portal."),
        ("SIDECACHE_ALLOWED_ORIGINS", "https://a.test/", "SIDECACHE_ALLOWED_ORIGINS: 'https://a.test/' is not an"),
        ("SIDECACHE_JWT_ISSUER", "tenant.eu.auth0.com", "SIDECACHE_JWT_ISSUER: 'tenant.eu.auth0.com' is not a URL"),
        ("SIDECACHE_JWT_ISSUER", "https://issuer/", "SIDECACHE_JWT_AUDIENCE: missing; tokens are checked for issuer "
         "and audience"),
        ("SIDECACHE_JWKS_URL", "https://issuer/jwks", "SIDECACHE_JWT_ISSUER: missing; SIDECACHE_JWKS_URL does not say "
         "whose tokens count"),
        ("SIDECACHE_OIDC_CLIENT_ID", "c", "SIDECACHE_JWT_ISSUER: missing; SIDECACHE_OIDC_CLIENT_ID does not say whose"),
        ("AUTH0_DOMAIN", "https://tenant.auth0.com", "AUTH0_DOMAIN: 'https://tenant.auth0.com' is not a host name"),
        ("AUTH0_M2M_CLIENT_ID", "c", "AUTH0_DOMAIN: missing; the Events API needs the domain, a client and its secret"),
        ("AUTH0_M2M_CLIENT_SECRET", "s3cret", "AUTH0_M2M_CLIENT_ID: missing; the Events API needs"),
        ("SIDECACHE_ASSERTION_KEYS", "x", "SIDECACHE_ASSERTION_KEYS: entry 1: has no key id: write KEYID:BASE64"),
        ("SIDECACHE_NAME_KEY", "short", "SIDECACHE_NAME_KEY: a name key has 16 to 1024 characters"),
        ("SIDECACHE_DEV_AUTH", "1", "SIDECACHE_DEV_AUTH: unsigned tokens are for development on a loopback address "
         "only"),
        ("REDIS_PROVIDER", "upstach", "REDIS_PROVIDER: 'upstach' is not one of memory, elasticache, redis, upstash "
         "(did you mean 'upstash'?)"),
        ("REDIS_PROVIDER", "upstash", "UPSTASH_REDIS_REST_URL: missing; the console of the database shows it"),
        ("REDIS_PROVIDER", "redis", "REDIS_HOST: missing; say where Redis is, e.g. REDIS_HOST=cache.internal"),
        ("UPSTASH_REDIS_REST_URL", "https://x.upstash.io", "UPSTASH_REDIS_REST_TOKEN: missing; the console of"),
        ("UPSTASH_REDIS_REST_URL", "x.upstash.io", "UPSTASH_REDIS_REST_URL: 'x.upstash.io' is not a URL such as"),
        ("UPSTASH_REDIS_REST_URL", "http://x.upstash.io", "UPSTASH_REDIS_REST_URL: 'http://x.upstash.io' would send"),
        ("REDIS_HOST", "redis://cache:6379", "REDIS_HOST: 'redis://cache:6379' is not a host name or an address"),
        ("REDIS_HOST", "cache:6379", "REDIS_HOST: 'cache:6379' is not a host name or an address"),
        ("SIDECACHE_POOL_SIZE", "0", "SIDECACHE_POOL_SIZE: '0' is not a whole number from 1 to 1000"),
        ("SIDECACHE_STORE_TIMEOUT_MS", "0.1", "SIDECACHE_STORE_TIMEOUT_MS: '0.1' is not a whole number from 1 to"),
        ("SIDECACHE_SOLE_REPLICA", "yes", "SIDECACHE_SOLE_REPLICA: 'yes' is not one of 0, 1, false, true, off, on"),
        # pathological: one line whatever the value, no credentials, no name that someone else resolves
        ("SIDECACHE_UPSTREAM", "http://[::1", "SIDECACHE_UPSTREAM: 'http://[::1' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://portal:0", "SIDECACHE_UPSTREAM: 'http://portal:0' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://a b", "SIDECACHE_UPSTREAM: 'http://a b' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://a\nb", "SIDECACHE_UPSTREAM: 'http://a\\nb' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "http://", "SIDECACHE_UPSTREAM: 'http://' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "unix:relative.sock", "SIDECACHE_UPSTREAM: 'unix:relative.sock' is not a URL such as"),
        ("SIDECACHE_UPSTREAM", "unix:/", "SIDECACHE_UPSTREAM: 'unix:/' is not a URL such as"),
        ("SIDECACHE_PROFILE", "a\x1b[31m\nb", "SIDECACHE_PROFILE: 'a\\x1b[31m\\nb' is not one of development,"),
        ("SIDECACHE_PROFILE", "x" * 9999, f"SIDECACHE_PROFILE: '{'x' * 120}' is not one of development,"),
        ("SIDECACHE_LISTEN", "[zz]:80", "SIDECACHE_LISTEN: '[zz]:80' is not HOST:PORT such as 0.0.0.0:8080"),
        ("SIDECACHE_LISTEN", "[:80", "SIDECACHE_LISTEN: '[:80' is not HOST:PORT such as 0.0.0.0:8080"),
        ("SIDECACHE_LISTEN", f"{'a' * 64}:80", f"SIDECACHE_LISTEN: '{'a' * 64}:80' is not HOST:PORT such as"),
        ("SIDECACHE_LISTEN", "127.0.0.1:８０", "SIDECACHE_LISTEN: '127.0.0.1:８０' is not HOST:PORT such as"),
        ("SIDECACHE_L1_BYTES", "９９９９９９９", "SIDECACHE_L1_BYTES: '９９９９９９９' is not a whole number from"),
        ("SIDECACHE_ADMIN_LISTEN", "127.evil.example:9900",
         "SIDECACHE_ADMIN_LISTEN: 127.evil.example:9900 is reachable from outside"),
        ("SIDECACHE_JWKS_URL", "http://[", "SIDECACHE_JWKS_URL: 'http://[' is not a URL such as"),
        ("SIDECACHE_JWT_ISSUER", "https://u:secret@issuer/ y", "SIDECACHE_JWT_ISSUER: 'https://***@issuer/ y' is not"),
        ("SIDECACHE_PREFIX", "/a/../b", "SIDECACHE_PREFIX: '/a/../b' is not a path such as /.sidecache (or off)"),
        ("SIDECACHE_PREFIX", "/.", "SIDECACHE_PREFIX: '/.' is not a path such as /.sidecache (or off)"),
        ("SIDECACHE_NAME_KEY", "k" * 1025, "SIDECACHE_NAME_KEY: a name key has 16 to 1024 characters"),
        ("SIDECACHE_HOSTS", "a..b", "SIDECACHE_HOSTS: 'a..b' is not a host name such as"),
    ],
)  # fmt: skip
def test_a_bad_value_gives_a_line_that_names_it(name, value, line):
    found = problems(DEVELOPMENT | {name: value})
    assert [each for each in found if each.startswith(line)], found
    assert all(each.isprintable() for each in found)
    assert len({each.partition(":")[0] for each in found} - {name, line.partition(":")[0]}) <= 1


def test_a_plain_mistake_gives_exactly_one_line():
    assert len(problems(DEVELOPMENT | {"SIDECACHE_DRAIN_S": "soon"})) == 1


def test_every_mistake_is_told_at_once():
    found = problems({"SIDECACHE_LISTEN": "x", "SIDECACHE_DRAIN_S": "y"})
    assert [line.partition(":")[0] for line in found] == [
        "REDIS_PROVIDER", "SIDECACHE_UPSTREAM", "SIDECACHE_LISTEN", "SIDECACHE_NAME_KEY", "SIDECACHE_DRAIN_S",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("without", "line"),
    [
        (
            "SIDECACHE_NAME_KEY",
            "SIDECACHE_NAME_KEY: missing; production needs a secret, e.g. from `sidecache keygen --name-key`",
        ),
        (
            "REDIS_PROVIDER",
            "REDIS_PROVIDER: missing; say memory if everything is to be kept in this process alone",
        ),
        (
            "SIDECACHE_UPSTREAM",
            "SIDECACHE_UPSTREAM: missing; say where requests go, e.g. --upstream http://127.0.0.1:3000",
        ),
    ],
)
def test_production_refuses_to_guess(without, line):
    assert problems(PRODUCTION | {without: ""}) == [line]


def test_staging_needs_neither_a_name_key_nor_a_provider():
    assert load(DEVELOPMENT | {"SIDECACHE_PROFILE": "staging"}).provider == "memory"


# The store

REDIS = PRODUCTION | {"REDIS_PROVIDER": "redis", "REDIS_HOST": "cache.internal", "REDIS_TLS": "true"}
IAM = REDIS | {"REDIS_USERNAME": "portal", "REDIS_IAM_AUTH": "eu-central-1/portal-cache"}
UPSTASH = DEVELOPMENT | {
    "UPSTASH_REDIS_REST_URL": "https://x.upstash.io/", "UPSTASH_REDIS_REST_TOKEN": "rest-token"
}  # fmt: skip


def test_redis_needs_a_host_and_in_production_tls():
    made = load(REDIS)
    assert (made.provider, made.redis, made.redis_tls, made.redis_cluster) == (
        "elasticache", Address("cache.internal", 6379), True, "auto",
    )  # fmt: skip
    assert (made.sole_replica, made.pool_size, made.warnings) == (False, 50, ())
    assert problems(REDIS | {"REDIS_TLS": "false"}) == [
        "REDIS_TLS: off: entries and passwords would cross the network in plain text; set REDIS_TLS=true"
    ]
    assert settings(REDIS_HOST="localhost").redis_tls is False


def test_a_development_machine_has_a_small_pool():
    assert settings(REDIS_HOST="localhost").pool_size == 10
    assert settings(REDIS_HOST="localhost", SIDECACHE_POOL_SIZE="3", SIDECACHE_SOLE_REPLICA="1").pool_size == 3


def test_upstash_needs_its_address_and_its_token():
    made = load(UPSTASH)
    assert (made.provider, made.upstash_url, made.upstash_token) == ("upstash", "https://x.upstash.io", "rest-token")
    assert settings(
        UPSTASH_REDIS_REST_URL="http://127.0.0.1:8079", UPSTASH_REDIS_REST_TOKEN="t"
    ).upstash_url == "http://127.0.0.1:8079"  # fmt: skip
    assert problems(UPSTASH | {"UPSTASH_REDIS_REST_TOKEN": "a b"}) == [
        "UPSTASH_REDIS_REST_TOKEN: a token has no blanks in it"
    ]
    assert problems(UPSTASH | {"UPSTASH_REDIS_REST_URL": "https://default:pw@x.upstash.io"}) == [
        "UPSTASH_REDIS_REST_URL: 'https://***@x.upstash.io' is not a URL such as https://name-12345.upstash.io"
    ]


@pytest.mark.parametrize(
    ("environ", "provider"),
    [
        ({}, "memory"),
        ({"REDIS_HOST": "h"}, "elasticache"),
        ({"UPSTASH_REDIS_REST_URL": "https://x", "UPSTASH_REDIS_REST_TOKEN": "t"}, "upstash"),
        ({"UPSTASH_REDIS_REST_URL": "https://x", "UPSTASH_REDIS_REST_TOKEN": "t", "REDIS_HOST": "h"}, "upstash"),
        ({"UPSTASH_REDIS_REST_URL": "https://x", "UPSTASH_REDIS_REST_TOKEN": "t", "REDIS_HOST": "h",
          "SIDECACHE_PROFILE": "staging", "SIDECACHE_NAME_KEY": KEY}, "elasticache"),
        ({"REDIS_HOST": "h", "REDIS_PROVIDER": "memory"}, "memory"),
    ],
)  # fmt: skip
def test_the_variables_that_are_present_say_which_store(environ, provider):
    assert load(DEVELOPMENT | environ).provider == provider


@pytest.mark.parametrize(
    ("more", "address", "warnings"),
    [
        # realistic
        ({"REDIS_PORT": "6380"}, "cache.internal:6380", 0),
        ({"REDIS_HOST": "::1"}, "[::1]:6379", 0),
        ({"REDIS_PORT": "tcp://10.0.0.7:6381"}, "cache.internal:6381", 1),
        ({"REDIS_HOST": "", "REDIS_PORT": "tcp://10.0.0.7:6381"}, "10.0.0.7:6381", 1),
    ],
)
def test_the_port_may_be_what_kubernetes_makes_of_it(more, address, warnings):
    made = load(REDIS | more)
    assert (str(made.redis), len(made.warnings)) == (address, warnings)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        # realistic
        ({"REDIS_PORT": "redis"}, "REDIS_PORT: 'redis' is not a port such as 6379"),
        ({"REDIS_CLUSTER": "yes"}, "REDIS_CLUSTER: 'yes' is not one of auto, true, false"),
        ({"REDIS_TLS_CA": "/no/ca.pem"}, "REDIS_TLS_CA: there is no file '/no/ca.pem'"),
        ({"REDIS_IAM_AUTH": "portal-cache"}, "REDIS_IAM_AUTH: 'portal-cache' is not REGION/CACHE such as "
         "eu-central-1/portal-cache (a serverless cache: REGION/CACHE/serverless)"),
        ({"REDIS_PASSWORD": "x"}, "REDIS_IAM_AUTH: needs REDIS_USERNAME and REDIS_TLS=true, and no REDIS_PASSWORD"),
        ({"REDIS_USERNAME": ""}, "REDIS_IAM_AUTH: needs REDIS_USERNAME and REDIS_TLS=true, and no REDIS_PASSWORD"),
        # pathological
        ({"REDIS_PORT": "0"}, "REDIS_PORT: '0' is not a port such as 6379"),
        ({"REDIS_PORT": "tcp://h:99999"}, "REDIS_PORT: '99999' is not a port such as 6379"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_store_is_one_line(more, line):
    assert problems(IAM | more) == [line]


def test_an_iam_user_needs_no_password():
    assert load(IAM).redis_iam_auth == "eu-central-1/portal-cache"
    assert load(IAM | {"REDIS_IAM_AUTH": "us-gov-west-1/c/serverless"}).redis_iam_auth == "us-gov-west-1/c/serverless"


def test_an_authority_without_tls_is_a_warning(tmp_path):
    (tmp_path / "ca.pem").write_text("")
    made = settings(REDIS_HOST="h", REDIS_TLS_CA=str(tmp_path / "ca.pem"))
    assert "REDIS_TLS_CA: has no effect without REDIS_TLS=true" in made.warnings


def test_every_setting_of_the_store_may_stand_in_a_file(tmp_path):
    values = {
        "REDIS_PROVIDER": "redis", "REDIS_HOST": "h", "REDIS_PORT": "1", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p",
        "REDIS_TLS": "on", "REDIS_CLUSTER": "true", "SIDECACHE_POOL_SIZE": "7", "SIDECACHE_SOLE_REPLICA": "on",
        "SIDECACHE_STORE_TIMEOUT_MS": "20",
    }  # fmt: skip
    environ = {}
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
        environ[f"{name}_FILE"] = str(tmp_path / name)
    made = load(DEVELOPMENT | environ)
    assert (made.redis, made.redis_username, made.redis_password) == (Address("h", 1), "u", "p")
    assert (made.redis_tls, made.redis_cluster, made.pool_size) == (True, "true", 7)
    assert (made.sole_replica, made.store_timeout) == (True, 0.02)


# Flags


def test_flags_stand_over_the_environment():
    made = load(
        DEVELOPMENT | {"SIDECACHE_LISTEN": "nonsense", "SIDECACHE_RULES": "a.yaml"},
        listen="127.0.0.1:1",
        rules=Path("b.yaml"),
        admin=None,
    )
    assert (made.listen, made.rules, made.admin) == (
        Address("127.0.0.1", 1),
        Path("b.yaml"),
        Address("127.0.0.1", 9900),
    )


def test_a_wrong_flag_is_named_as_a_flag():
    assert problems(DEVELOPMENT, admin="0.0.0.0:1", listen="0.0.0.0:1") == [
        "--admin: 0.0.0.0:1 is reachable from outside and has no tokens; use 127.0.0.1, "
        "or name them in SIDECACHE_ADMIN_TOKENS",
        "--admin: 0.0.0.0:1 is the data port; choose another",
    ]
    assert problems(DEVELOPMENT, upstream="") [0].startswith("--upstream: '' is not a URL")  # fmt: skip


def test_two_ports_that_the_system_chooses_are_not_the_same():
    assert load(DEVELOPMENT, listen="127.0.0.1:0", admin="127.0.0.1:0").listen.port == 0


# Files


def test_a_secret_is_read_from_the_file_that_its_name_with_file_names(tmp_path):
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert settings(SIDECACHE_NAME_KEY_FILE=str(tmp_path / "key")).name_key == KEY


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            None,
            "SIDECACHE_NAME_KEY_FILE: cannot read the file that it names (does it begin with /?): no such file or "
            "directory",
        ),
        (b"\xff\xfe\x00", "SIDECACHE_NAME_KEY_FILE: cannot read 'secret': it is not text"),
        (b" \n", "SIDECACHE_NAME_KEY_FILE: 'secret' is empty"),
        (b"short", "SIDECACHE_NAME_KEY_FILE: a name key has 16 to 1024 characters"),
    ],
)
def test_a_secret_file_that_is_none_is_the_one_thing_said(tmp_path, content, line):
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    assert problems(PRODUCTION | {"SIDECACHE_NAME_KEY": "", "SIDECACHE_NAME_KEY_FILE": "secret"}) == [line]


def test_a_path_that_begins_like_one_is_told():
    (line,) = problems(DEVELOPMENT | {"SIDECACHE_NAME_KEY_FILE": "/nowhere/key"})
    assert line == "SIDECACHE_NAME_KEY_FILE: cannot read '/nowhere/key': no such file or directory"


def test_a_value_given_twice_is_refused(tmp_path):
    (tmp_path / "key").write_text(KEY)
    both = {"SIDECACHE_NAME_KEY": KEY, "SIDECACHE_NAME_KEY_FILE": str(tmp_path / "key")}
    assert problems(DEVELOPMENT | both) == [
        "SIDECACHE_NAME_KEY: set both directly and as SIDECACHE_NAME_KEY_FILE; keep one"
    ]
    assert settings(**{**both, "SIDECACHE_NAME_KEY": ""}).name_key == KEY  # empty is as good as not set


# .env.local


def test_the_local_file_stands_behind_the_environment_in_development(tmp_path):
    (tmp_path / ".env.local").write_text(
        "SIDECACHE_UPSTREAM=http://local:1\nSIDECACHE_DRAIN_S='7'\n# a comment\nSIDECACHE_HOSTS=${HOME}\nexport X\n"
        "SIDECACHE_NAME_KEY_FILE=/nowhere\n"
    )
    made = load({"SIDECACHE_PROFILE": "development", "SIDECACHE_HOSTS": "h", "SIDECACHE_NAME_KEY": KEY})
    assert (made.upstream, made.drain, made.hosts, made.name_key) == ("http://local:1", 7.0, {"h"}, KEY)


@pytest.mark.parametrize("profile", ["staging", "production"])
def test_the_local_file_counts_in_no_other_profile(tmp_path, profile):
    (tmp_path / ".env.local").write_text("SIDECACHE_DRAIN_S=7\nSIDECACHE_PROFILE=development\n")
    assert load(PRODUCTION | {"SIDECACHE_PROFILE": profile}).drain == 25.0


def test_the_profile_flag_decides_about_the_local_file(tmp_path):
    (tmp_path / ".env.local").write_text("SIDECACHE_DRAIN_S=7\n")
    assert load(PRODUCTION, profile="development").drain == 7.0


def test_a_local_file_that_is_not_text_is_one_line(tmp_path):
    (tmp_path / ".env.local").write_bytes(b"\xff\xfe=1\n")
    assert problems(DEVELOPMENT) == [".env.local: cannot be read: it is not text"]


def test_a_local_file_that_is_a_directory_is_not_read(tmp_path):
    (tmp_path / ".env.local").mkdir()
    assert settings().drain == 25.0


# What others put into the environment


@pytest.mark.parametrize(
    ("name", "value", "warning"),
    [
        # realistic
        ("SIDECACHE_LISTN", "x", "SIDECACHE_LISTN: has no effect (did you mean 'SIDECACHE_LISTEN'?)"),
        ("SIDECACHE_UPSTREAM_URL_FILE", "x", "SIDECACHE_UPSTREAM_URL_FILE: has no effect "
         "(did you mean 'SIDECACHE_UPSTREAM'?)"),
        ("SIDECACHE_QUX", "x", "SIDECACHE_QUX: has no effect"),
        ("REDIS_PORT", "tcp://10.0.0.7:6379", "REDIS_PORT: ignored; Kubernetes put it there for a service named redis"),
        ("REDIS_HOST", "cache", "REDIS_HOST: has no effect with REDIS_PROVIDER=memory"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_a_warning_and_no_reason_to_stay_down(name, value, warning):
    assert load(PRODUCTION | {name: value}).warnings == (warning,)


@pytest.mark.parametrize(
    "name",
    ["SIDECACHE_PORT", "SIDECACHE_PORT_8080_TCP_ADDR", "SIDECACHE_SERVICE_HOST", "SIDECACHE_SERVICE_PORT_HTTP"],
)
def test_what_kubernetes_sets_for_a_service_of_our_name_is_passed_over(name):
    assert load(PRODUCTION | {name: "tcp://10.0.0.7:8080", "REDIS_PORT": "6379"}).warnings == ()


# Secrets


def test_a_secret_is_in_no_representation(tmp_path):
    made = load(PRODUCTION | {"SIDECACHE_NAME_KEY": "very-secret-name-key"})
    assert "very-secret" not in repr(made) + str(made) + str(list(made.described()))
    for stored in (load(REDIS | {"REDIS_PASSWORD": "very-secret"}),
                   load(UPSTASH | {"UPSTASH_REDIS_REST_TOKEN": "very-secret"})):  # fmt: skip
        assert "very-secret" not in repr(stored) + str(stored) + str(list(stored.described()))
    assert dict(load(REDIS | {"REDIS_PASSWORD": "x"}).described())["redis-password"] == "(set)"
    assert dict(load(REDIS).described())["redis-password"] == "(none)"


def test_the_effective_configuration_is_described_in_words():
    shown = dict(load(PRODUCTION | {"SIDECACHE_HOSTS": "b,a", "SIDECACHE_PREFIX": "off"}).described())
    assert shown["name-key"] == "(set)"
    assert shown["hosts"] == "a, b"
    assert shown["trusted-peers"] == "(none)"
    assert shown["listen"] == "0.0.0.0:8080"
    assert shown["prefix"] == "(none)"
    assert shown["access-log"] == "off"
    assert (shown["events-kept"], shown["events-kept-for"], shown["event-streams-tenant"]) == ("500", "259200.0", "500")
    assert shown["first-byte-timeout"] == "30.0"
    assert "warnings" not in shown


def test_the_key_for_development_is_said_to_be_that():
    shown = dict(settings(SIDECACHE_ACCESS_LOG="1").described())
    assert (shown["name-key"], shown["access-log"]) == ("(the fixed key for development)", "on")
    assert shown["jwt-issuer"] == "(none)"


# Encryption keys

OLD, NEW = (new_encryption_key(key_id, os.urandom) for key_id in ("k1", "k2"))


def test_the_first_encryption_key_writes_and_all_are_there(tmp_path):
    assert settings().encryption_keys == ()
    made = settings(SIDECACHE_ENCRYPTION_KEYS=f"{NEW.entry()},{OLD.entry()}")
    assert made.encryption_keys == (NEW, OLD)
    (tmp_path / "keys").write_text(f"{NEW.entry()}\n{OLD.entry()}\n")
    assert settings(SIDECACHE_ENCRYPTION_KEYS_FILE="keys").encryption_keys == (NEW, OLD)
    assert made.warnings == settings().warnings


def test_a_wrong_encryption_key_is_one_line_that_says_how_to_make_one_and_quotes_none(tmp_path):
    assert problems(DEVELOPMENT | {"SIDECACHE_ENCRYPTION_KEYS": f"{NEW.entry()},k1:c2hvcnQ=,secret"}) == [
        "SIDECACHE_ENCRYPTION_KEYS: entry 2 (k1): the key has 5 bytes instead of 32; `sidecache keygen` makes one",
        "SIDECACHE_ENCRYPTION_KEYS: entry 3: has no key id: write KEYID:BASE64; `sidecache keygen` makes one",
    ]
    (tmp_path / "keys").write_text("k1:?")
    (line,) = problems(DEVELOPMENT | {"SIDECACHE_ENCRYPTION_KEYS_FILE": "keys"})
    assert line.startswith("SIDECACHE_ENCRYPTION_KEYS_FILE: entry 1 (k1): ")


def test_encryption_keys_are_described_by_their_ids_in_their_order():
    made = settings(SIDECACHE_ENCRYPTION_KEYS=f"{NEW.entry()},{OLD.entry()}")
    assert dict(made.described())["encryption-keys"] == "k2, k1"
    assert dict(settings().described())["encryption-keys"] == "(none)"
    shown = repr(made) + str(list(made.described()))
    assert NEW.entry()[3:] not in shown
    assert str(NEW.secret) not in shown


# The admin address alone


def test_the_admin_address_needs_no_other_setting():
    assert admin_address({}, None) == Address("127.0.0.1", 9900)
    assert admin_address({"SIDECACHE_ADMIN_LISTEN": "[::1]:1"}, None) == Address("::1", 1)
    assert admin_address({"SIDECACHE_ADMIN_LISTEN": "[::1]:1"}, "127.0.0.1:2") == Address("127.0.0.1", 2)
    with pytest.raises(ConfigError, match=r"^--admin: 'x' is not HOST:PORT such as 127.0.0.1:9900$"):
        admin_address({}, "x")


def test_the_admin_address_of_a_developer_may_stand_in_the_local_file(tmp_path):
    (tmp_path / ".env.local").write_text("SIDECACHE_ADMIN_LISTEN=127.0.0.1:7\n")
    assert admin_address({"SIDECACHE_PROFILE": "development"}, None).port == 7


ADMIN = new_admin_token("ci", "operator", None, os.urandom)


def test_the_admin_port_may_be_reached_from_outside_only_with_tokens_and_then_warns():
    made = settings(SIDECACHE_ADMIN_LISTEN="0.0.0.0:9900", SIDECACHE_ADMIN_TOKENS=ADMIN.entry)
    assert [str(entry) for entry in made.admin_tokens] == ["ci (operator)"]
    assert any("0.0.0.0:9900 is reachable from outside without TLS" in warning for warning in made.warnings)
    assert ADMIN.entry.rpartition(":")[2] not in str(dict(made.described())) + repr(made)


def test_a_wrong_admin_token_is_named_without_its_text():
    (problem,) = problems(DEVELOPMENT | {"SIDECACHE_ADMIN_TOKENS": "sidecache_secret"})
    assert problem.startswith("SIDECACHE_ADMIN_TOKENS: entry 1: is not NAME:ROLE[:TENANT]:SHA256HEX; `sidecache keygen")
    assert "secret" not in problem


def test_addresses_that_may_ask_are_ranges_and_the_audit_goes_to_standard_output_unless_said():
    made = settings(SIDECACHE_ALLOWED_IPS="10.0.0.0/8, 127.0.0.1")
    assert made.allowed_ips == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.1/32"))
    assert (made.audit_log, made.audit_format) == ("stdout", "native")
    assert settings(SIDECACHE_AUDIT_FORMAT="ocsf").audit_format == "ocsf"
    assert "is not one of native, ocsf" in problems(DEVELOPMENT | {"SIDECACHE_AUDIT_FORMAT": "cef"})[0]
    assert settings(SIDECACHE_AUDIT_LOG="/var/log/audit.jsonl").audit_log == "/var/log/audit.jsonl"
    assert "SIDECACHE_ALLOWED_IPS: 'x'" in problems(DEVELOPMENT | {"SIDECACHE_ALLOWED_IPS": "x"})[0]


def test_a_token_for_the_commands_is_read_alone_and_is_no_setting_of_the_sidecar(tmp_path):
    assert admin_token({"SIDECACHE_TOKEN": "sidecache_x"}) == "sidecache_x"
    assert admin_token({}) is None
    (tmp_path / "token").write_text("sidecache_y\n")
    assert admin_token({"SIDECACHE_TOKEN_FILE": str(tmp_path / "token")}) == "sidecache_y"
    with pytest.raises(ConfigError, match="SIDECACHE_TOKEN: not a token"):
        admin_token({"SIDECACHE_TOKEN": "a\r\nX: b"})
    assert settings(SIDECACHE_TOKEN="x").warnings == settings().warnings


@pytest.mark.parametrize(("flags", "source"), [({}, "SIDECACHE_WORKERS"), ({"workers": 2}, "--workers")])
def test_several_workers_need_a_store_that_they_share(flags, source):
    assert problems(DEVELOPMENT | {"SIDECACHE_WORKERS": "2"}, **flags) == [
        f"{source}: 2 workers need a store that they share; the embedded one (REDIS_PROVIDER=memory) is for 1"
    ]
    assert load(DEVELOPMENT | {"REDIS_PROVIDER": "redis", "REDIS_HOST": "cache", "SIDECACHE_WORKERS": "2"}).workers == 2


# The port of the metrics


def test_metrics_have_no_port_of_their_own_unless_it_is_said():
    assert load(PRODUCTION).metrics is None
    assert load(PRODUCTION | {"SIDECACHE_METRICS_LISTEN": "0.0.0.0:9901"}).metrics == Address("0.0.0.0", 9901)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("9901", "SIDECACHE_METRICS_LISTEN: '9901' is not HOST:PORT such as 0.0.0.0:9901"),
        ("0.0.0.0:8080", "SIDECACHE_METRICS_LISTEN: 0.0.0.0:8080 is the data port; choose another"),
        ("0.0.0.0:9900", "SIDECACHE_METRICS_LISTEN: 0.0.0.0:9900 is the admin port; choose another"),
    ],
)
def test_an_address_of_metrics_that_cannot_be_is_told(value, problem):
    assert problems(PRODUCTION | {"SIDECACHE_METRICS_LISTEN": value}) == [problem]


# Spans

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_SERVICE_NAME": "portal"}, False),
    ],
)
def test_spans_are_sent_when_the_standard_variables_say_where(environ, expected):
    found = load(PRODUCTION | environ)
    assert (found.tracing, found.warnings) == (expected, ())


@pytest.mark.parametrize("more", [{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"OTEL_TRACES_EXPORTER": "console"}])
def test_a_way_of_sending_spans_that_is_not_known_is_one_warning(more):
    found = load(PRODUCTION | ENDPOINT | more)
    assert not found.tracing
    assert found.warnings == (
        "OTEL_EXPORTER_OTLP_ENDPOINT: no spans are sent: only OTLP over http/protobuf is known here",
    )


def test_without_the_extra_it_is_one_warning(monkeypatch):
    monkeypatch.setattr("proxy.settings.find_spec", lambda name: None)
    found = load(PRODUCTION | ENDPOINT)
    assert not found.tracing
    assert found.warnings == (
        'OTEL_EXPORTER_OTLP_ENDPOINT: no spans are sent: install the extra, pip install "sidecache[otel]"',
    )
