"""What each profile refuses and warns of: every concern in every profile, in an environment that is good otherwise."""

import os

import pytest

from proxy.credentials import new_encryption_key
from proxy.profiles import PROFILES, TABLE, Answer, Concern, answer
from proxy.settings import read

GOOD = {
    "SIDECACHE_UPSTREAM": "http://127.0.0.1:3000",
    "REDIS_PROVIDER": "redis",
    "REDIS_HOST": "cache.internal",
    "REDIS_TLS": "true",
    "SIDECACHE_NAME_KEY": os.urandom(16).hex(),
    "SIDECACHE_ENCRYPTION_KEYS": new_encryption_key("k1", os.urandom).entry(),
    "SIDECACHE_JWT_ISSUER": "https://tenant.eu.auth0.com/",
    "SIDECACHE_JWT_AUDIENCE": "https://api.example.com",
}
NETWORK = {"REDIS_TLS": "false"}
BOTH = {"REDIS_PROVIDER": "", "UPSTASH_REDIS_REST_URL": "https://x.upstash.io", "UPSTASH_REDIS_REST_TOKEN": "t"}

# What brings a concern about, and how its line begins.
CASES = [
    (Concern.PLAIN_REDIS, {"REDIS_TLS": "false"}, "REDIS_TLS: off: entries and passwords would cross the network"),
    (Concern.PLAIN_REDIS, {"REDIS_TLS": ""}, "REDIS_TLS: off: "),
    (Concern.GUESSED_STORE, {"REDIS_PROVIDER": "", "REDIS_HOST": "", "REDIS_TLS": ""}, "REDIS_PROVIDER: missing; say "),
    (Concern.TWO_STORES, BOTH, "REDIS_PROVIDER: missing, and UPSTASH_REDIS_REST_URL and REDIS_HOST are both there"),
    (Concern.KNOWN_NAME_KEY, {"SIDECACHE_NAME_KEY": "development-only-name-key"},
     "SIDECACHE_NAME_KEY: the one for development, which everybody knows; "),
    (Concern.NO_NAME_KEY, {"SIDECACHE_NAME_KEY": "", "REDIS_PROVIDER": "memory", "REDIS_HOST": "", "REDIS_TLS": ""},
     "SIDECACHE_NAME_KEY: missing; "),
    (Concern.PLAIN_SIGNING_KEYS, {"SIDECACHE_JWT_ISSUER": "http://issuer.example/"}, "SIDECACHE_JWT_ISSUER: signing "),
    (Concern.PLAIN_SIGNING_KEYS, {"SIDECACHE_JWKS_URL": "http://issuer/keys"}, "SIDECACHE_JWKS_URL: signing keys "),
    (Concern.EVERYBODY_TRUSTED, {"SIDECACHE_TRUSTED_PEERS": "0.0.0.0/0"}, "SIDECACHE_TRUSTED_PEERS: 0.0.0.0/0 lets "),
    (Concern.EVERYBODY_TRUSTED, {"SIDECACHE_TRUSTED_PEERS": "10.0.0.0/8,::/0"}, "SIDECACHE_TRUSTED_PEERS: ::/0 lets "),
    (Concern.EVERYBODY_TRUSTED, {"SIDECACHE_TRUSTED_PEERS": "0.0.0.0/0", "SIDECACHE_PEER_IDENTITY": "off"},
     "SIDECACHE_TRUSTED_PEERS: 0.0.0.0/0 lets every client say where it is"),
    (Concern.NO_AUDIT, {"SIDECACHE_AUDIT_LOG": "off"}, "SIDECACHE_AUDIT_LOG: off: "),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_concern_has_its_case_and_production_is_never_laxer_than_staging_nor_that_than_development():
    # rules alone show the one that is missing here: tests/test_start.py
    assert {concern for concern, _, _ in CASES} == set(Concern) - {Concern.UNKEYED}
    strictness = [Answer.ALLOWS, Answer.WARNS, Answer.REFUSES]
    for concern, answers in TABLE.items():
        assert list(answers) == sorted(answers, key=strictness.index), concern


@pytest.mark.parametrize("profile", PROFILES)
def test_an_environment_that_is_good_is_good_in_every_profile(profile):
    found = read(GOOD, profile=profile)
    assert (found.problems, found.settings.warnings) == ((), ())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("concern", "changes", "line"), CASES)
def test_each_profile_says_to_each_concern_what_the_table_says(profile, concern, changes, line):
    found = read(GOOD | changes, profile=profile)
    refused = [each for each in found.problems if each.startswith(line)]
    warned = [each for each in found.settings.warnings if each.startswith(line)]
    expected = answer(profile, concern)
    assert (len(refused), len(warned)) == (expected is Answer.REFUSES, expected is Answer.WARNS)
    others = [each for each in found.problems if not each.startswith(line)]
    assert others == []


# What no profile allows: in each of them it is one line of its own.
NOWHERE = [
    ({"SIDECACHE_ADMIN_LISTEN": "0.0.0.0:9900"}, "SIDECACHE_ADMIN_LISTEN: 0.0.0.0:9900 is reachable from outside and "),
    ({"REDIS_PROVIDER": "memory", "SIDECACHE_WORKERS": "2"}, "SIDECACHE_WORKERS: 2 workers need a store that they "),
    ({"REDIS_IAM_AUTH": "eu-central-1/c", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p"}, "REDIS_IAM_AUTH: needs "),
    ({"SIDECACHE_LISTEN": "127.0.0.1:9900"}, "SIDECACHE_ADMIN_LISTEN: 127.0.0.1:9900 is the data port"),
    ({"SIDECACHE_JWT_AUDIENCE": ""}, "SIDECACHE_JWT_AUDIENCE: missing; "),
    ({"SIDECACHE_DEV_AUTH": "1"}, "SIDECACHE_DEV_AUTH: unsigned tokens are for development on a loopback address"),
    ({"REDIS_PROVIDER": "upstash"}, "UPSTASH_REDIS_REST_URL: missing; "),
    ({"SIDECACHE_NAME_KEY_FILE": "/nowhere"}, "SIDECACHE_NAME_KEY: set both directly and as SIDECACHE_NAME_KEY_FILE"),
]  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("changes", "line"), NOWHERE)
def test_a_contradiction_is_refused_in_every_profile(profile, changes, line):
    assert [each for each in read(GOOD | changes, profile=profile).problems if each.startswith(line)]


@pytest.mark.parametrize("profile", ["staging", "production"])
def test_unsigned_tokens_are_refused_outside_development_on_loopback_too(profile):
    more = {"SIDECACHE_DEV_AUTH": "1", "SIDECACHE_LISTEN": "127.0.0.1:8080"}
    assert len(read(GOOD | more, profile=profile).problems) == 1
    assert read(GOOD | more, profile="development").problems == ()


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        # realistic: what stays on this machine is no network
        ({"SIDECACHE_JWKS_URL": "http://127.0.0.1:9901/jwks"}, 0), ({"SIDECACHE_JWKS_URL": "http://[::1]/jwks"}, 0),
        ({"REDIS_HOST": "127.0.0.1", "SIDECACHE_NAME_KEY": "development-only-name-key"}, 0),
        # pathological: a name that looks like it
        ({"SIDECACHE_JWKS_URL": "http://127.0.0.1.example/jwks"}, 1),
        ({"SIDECACHE_JWKS_URL": "http://localhost.example/"}, 1),
        ({"REDIS_HOST": "127.example", "SIDECACHE_NAME_KEY": "development-only-name-key"}, 1),
    ],
)  # fmt: skip
def test_what_stays_on_this_machine_is_no_concern_of_staging(changes, refused):
    found = read(GOOD | changes, profile="staging")
    said = [*found.problems, *found.settings.warnings]
    assert len(said) == refused, said


def test_all_refusals_of_an_environment_stand_together():
    found = read(
        GOOD
        | {
            "SIDECACHE_NAME_KEY": "", "REDIS_TLS": "false", "SIDECACHE_ADMIN_LISTEN": "0.0.0.0:9900",
            "SIDECACHE_TRUSTED_PEERS": "0.0.0.0/0", "SIDECACHE_JWT_ISSUER": "http://issuer/", "SIDECACHE_DRAIN_S": "x",
        }
    )  # fmt: skip
    assert sorted(line.partition(":")[0] for line in found.problems) == [
        "REDIS_TLS", "SIDECACHE_ADMIN_LISTEN", "SIDECACHE_DRAIN_S", "SIDECACHE_JWT_ISSUER", "SIDECACHE_NAME_KEY",
        "SIDECACHE_TRUSTED_PEERS",
    ]  # fmt: skip
